//! One gate: whatever path a request takes to a certificate, the verdict is the same, and so are the bytes.
//!
//! A path is an entry of [`paths`]; whoever adds a way to a certificate adds one.

mod asked;
mod line;
mod path;
mod verdict;

use asked::{Asked, Pool};
use path::paths;
use verdict::Verdict;

use super::Proof;
use super::seed::Seed;
use crate::admin::fixture::{App, csr};
use crate::harness::database::TestDatabase;

/// What one worker saw.
#[derive(Default)]
struct Seen {
    /// Requests down each path.
    down: Vec<(&'static str, u64)>,
    issued: u64,
    refused: std::collections::BTreeMap<String, u64>,
    differences: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_gate() {
    let proof = Proof::of("one_gate");
    let workers = if super::is_full() { 2 } else { 1 };
    let each = proof.size(30, 20_000).div_ceil(workers);
    let runs = (0..workers).map(|worker| {
        let proof = &proof;
        async move {
            // The fastest that is there; its bytes are the same.
            let database = TestDatabase::postgres().unwrap_or_else(TestDatabase::sqlite);
            Box::pin(compare(proof, &database, each, worker)).await
        }
    });
    let seen = futures_util::future::join_all(runs).await;
    let mut total = Seen::default();
    for one in seen {
        for (path, count) in one.down {
            match total.down.iter_mut().find(|(known, _)| *known == path) {
                Some((_, sum)) => *sum += count,
                None => total.down.push((path, count)),
            }
        }
        total.issued += one.issued;
        one.refused.into_iter().for_each(|(rule, count)| *total.refused.entry(rule).or_default() += count);
        total.differences.extend(one.differences);
    }
    let least = total.down.iter().map(|(_, count)| *count).min().unwrap_or(0);
    let differences = total.differences.len();
    total.differences.truncate(5);
    let measured = format!(
        "{differences} differences in {:?}; {} issued, refused by {:?} {:?}",
        total.down, total.issued, total.refused, total.differences
    );
    let ok = differences == 0 && least >= each * workers && total.issued > 0 && total.refused.len() > 5;
    proof.end(least, ok, &measured);
}

/// A signing request with whose key somebody else has a certificate.
async fn used(app: &App) -> String {
    let (_, token) = app.member("Zoe First").await;
    let csr = csr();
    let body = serde_json::json!({ "csr": csr, "device_name": "phone" });
    app.post("/api/v1/certificates", &body).token(&token).send().await.expect(201);
    csr
}

/// Sends generated requests down every path that can express them until each has had `each`.
async fn compare(proof: &Proof, database: &TestDatabase, each: u64, worker: u64) -> Seen {
    let app = App::over(database).await;
    let mut paths = paths(&app).await;
    let pool = Pool::new(used(&app).await);
    let mut counts = vec![0; paths.len()];
    let mut seen = Seen::default();
    let mut number = 0;
    while counts.iter().any(|count| *count < each) {
        let asked = Asked::choose(&pool, &mut Seed::of(worker << 40 | number));
        number += 1;
        let mut first: Option<(&'static str, Verdict)> = None;
        for (at, (path, count)) in paths.iter_mut().zip(&mut counts).enumerate() {
            let Some(verdict) = path.submit(&asked, at).await else { continue };
            *count += 1;
            match &first {
                None => {
                    match &verdict {
                        Verdict::Issued(_) => seen.issued += 1,
                        Verdict::Refused(rule) => *seen.refused.entry(rule.clone()).or_default() += 1,
                    }
                    first = Some((path.name(), verdict));
                }
                Some((name, other)) if *other != verdict => {
                    let (kind, who, path) = (asked.kind, asked.who, path.name());
                    let more = (asked.profile, asked.device);
                    seen.differences.push(format!(
                        "{kind} of {who:?} {more:?}: {name} says {other:?}, {path} says {verdict:?}"
                    ));
                }
                Some(_) => {}
            }
        }
        proof.progress(*counts.iter().min().unwrap(), each);
    }
    seen.down = paths.iter().map(|path| path.name()).zip(counts).collect();
    seen
}
