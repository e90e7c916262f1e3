//! Pages of a full inventory through the API: every filter and order, first, middle and last pages.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::client::{self, Connection};
use super::fill::Filled;
use super::house::House;
use super::number;
use super::report::{Measured, Report};

/// How often each page is asked for.
const TIMES: usize = 20;
/// Pages that are followed by cursor before one counts as a middle one.
const FOLLOWED: usize = 3;

/// Query strings whose pages are measured.
fn queries(filled: &Filled) -> Vec<String> {
    let mut queries: Vec<String> = [
        "",
        "sort=-serial",
        "sort=issued_at",
        "sort=-issued_at",
        "state=active",
        "state=active&sort=-not_after",
        "state=expired",
        "state=expired&sort=not_after",
        "state=revoked",
        "state=revoked&sort=revoked_at",
        "search=anna",
        "search=an",
        "search=petra%20petrov",
        "search=petra.petrov",
        "search=laptop%201",
        "search=4ab",
        "search=4abcdef0",
        "search=nobody",
        "search=anna&state=revoked",
        "search=laptop&state=active",
    ]
    .map(str::to_owned)
    .into();
    for one in [format!("person_id={}", filled.person), format!("device_id={}", filled.device)] {
        queries.push(one.clone());
        queries.push(format!("{one}&state=active"));
        queries.push(format!("{one}&search=laptop"));
    }
    queries
}

/// Where a page in the middle and near the end of an order begins, as cursors hold it.
const PLACES: &[(&str, &str)] = &[
    ("", "serial 48000000000000000000000000000000 "),
    ("", "serial 4ffff000000000000000000000000000 "),
    ("search=anna", "found_subject 48000000000000000000000000000000 anna kim"),
    ("search=an", "found_email 48000000000000000000000000000000 anna.petrov"),
];

pub(crate) fn measure(runtime: &Runtime, report: &mut Report, house: &House) -> Result<()> {
    let rows: usize = number("BENCH_ROWS", 1_000_000)?;
    eprintln!("{}: filling an inventory of {rows}", house.name);
    let filled: Filled = house.ask(&format!("fill {rows}"))?;
    let mut targets = Vec::new();
    for query in queries(&filled) {
        targets.push(format!("/api/v1/certificates?{query}"));
        if let Some(later) = runtime.block_on(later_page(house, &query))? {
            targets.push(later);
        }
    }
    for (query, place) in PLACES {
        targets.push(format!("/api/v1/certificates?{query}&cursor={}", URL_SAFE_NO_PAD.encode(place)));
    }
    // Each alone, to see which is slow.
    for target in &targets {
        let one = runtime.block_on(pages(house, vec![target.clone()], 5))?;
        if one.percentile(50.0) > 20.0 || one.errors > 0 {
            eprintln!("{}: {target}: {:.0} ms, {} errors", house.name, one.percentile(50.0), one.errors);
        }
    }
    let sample = runtime.block_on(pages(house, targets, TIMES))?;
    eprintln!(
        "{}: {:.0} pages/s of {rows}, p50 {:.1} ms, p95 {:.1} ms, {} errors",
        house.name,
        sample.per_second(),
        sample.percentile(50.0),
        sample.percentile(95.0),
        sample.errors
    );
    report.add(Measured::Page(house.name.clone()), sample);
    Ok(())
}

async fn pages(house: &House, targets: Vec<String>, times: usize) -> Result<super::load::Sample> {
    let (token, count) = (house.token.clone(), targets.len() * times);
    client::send_all(&house.place, 200, count, move |index| {
        // Not in a row, so that a client's next page is of another kind.
        client::get(&targets[index * 7 % targets.len()], &token)
    })
    .await
}

/// A page some cursors further on, if there are that many.
async fn later_page(house: &House, query: &str) -> Result<Option<String>> {
    let mut connection = Connection::to(&house.place).await?;
    let first = format!("/api/v1/certificates?{query}");
    let mut target = first.clone();
    for _ in 0..FOLLOWED {
        let body = connection.exchange(client::get(&target, &house.token)?, 200).await;
        let body: Value = serde_json::from_slice(&body.with_context(|| target.clone())?)?;
        let Some(cursor) = body["next_cursor"].as_str() else { return Ok(None) };
        target = format!("{first}&cursor={cursor}");
    }
    Ok(Some(target))
}
