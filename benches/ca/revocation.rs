//! Revocation with a long list on record: how long a caller waits, and how long a list takes.

use anyhow::Result;

use super::house::House;
use super::load::Sample;
use super::number;
use super::report::{Measured, Report};

/// `count` certificates, of the requests from `from` on, are revoked one by one.
pub(crate) fn measure(report: &mut Report, house: &House, from: usize, count: usize) -> Result<()> {
    let on_record: usize = number("BENCH_REVOKED", 100_000)?;
    eprintln!("{}: putting {on_record} revoked certificates on record", house.name);
    house.ask::<()>(&format!("fill-revoked {on_record}"))?;
    let took_ms: Vec<f64> = house.ask("crl")?;
    eprintln!("{}: a list of {on_record} in {took_ms:.0?} ms", house.name);
    let took_ms = sorted(took_ms);
    report.add(
        Measured::List(house.name.clone()),
        Sample { done: took_ms.len() as u64, took_ms, ..Sample::default() },
    );
    let sample: Sample = house.ask(&format!("revoke {from} {count}"))?;
    eprintln!(
        "{}: {:.0} revocations/s, p50 {:.1} ms, p99 {:.1} ms, {} errors",
        house.name,
        sample.per_second(),
        sample.percentile(50.0),
        sample.percentile(99.0),
        sample.errors
    );
    report.add(Measured::Revoked(house.name.clone()), sample);
    Ok(())
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}
