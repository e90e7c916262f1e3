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

/// Pairs of everything that asks at once at full size: enough to keep two cores busy.
const LANES: u64 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_gate() {
    let proof = Proof::of("one_gate");
    let lanes = if super::is_full() { LANES } else { 1 };
    let each = proof.size(30, 20_000).div_ceil(lanes);
    // The fastest that is there; its bytes are the same.
    let database = TestDatabase::postgres().unwrap_or_else(TestDatabase::sqlite);
    let app = App::over(&database).await;
    let (_, token) = app.administrator().await;
    let pool = Pool::new(used(&app).await);
    let runs = (0..lanes).map(|lane| Box::pin(compare(&proof, &app, &token, &pool, each, lane)));
    let mut total = Seen::default();
    for one in futures_util::future::join_all(runs).await {
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
    let ok = differences == 0 && least >= each * lanes && total.issued > 0 && total.refused.len() > 5;
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

/// Sends generated requests down every path that can express them, all paths at once, until each has had
/// `each`.
async fn compare(proof: &Proof, app: &App, token: &str, pool: &Pool, each: u64, lane: u64) -> Seen {
    let mut paths = paths(app, token, lane).await;
    let mut counts = vec![0; paths.len()];
    let mut seen = Seen::default();
    let mut number = 0;
    while counts.iter().any(|count| *count < each) {
        let asked = Asked::choose(pool, &mut Seed::of(lane << 40 | number));
        number += 1;
        let submitted = paths.iter_mut().enumerate().map(|(at, path)| {
            let asked = &asked;
            async move { path.submit(asked, at).await.map(|verdict| (at, path.name(), verdict)) }
        });
        let verdicts = futures_util::future::join_all(submitted).await;
        let mut verdicts = verdicts.into_iter().flatten();
        // The API has words for everything.
        let (at, first, verdict) = verdicts.next().unwrap();
        counts[at] += 1;
        match &verdict {
            Verdict::Issued(_) => seen.issued += 1,
            Verdict::Refused { rule, .. } => *seen.refused.entry(rule.clone()).or_default() += 1,
            other => panic!("the API answers in full, not {other:?}"),
        }
        for (at, path, other) in verdicts {
            counts[at] += 1;
            if !verdict.agrees(&other) {
                let (kind, who, more) = (asked.kind, asked.who, (asked.profile, asked.device));
                seen.differences.push(format!(
                    "{kind} of {who:?} {more:?}: {first} says {verdict:?}, {path} says {other:?}"
                ));
            }
        }
        proof.progress(*counts.iter().min().unwrap(), each);
    }
    seen.down = paths.iter().map(|path| path.name()).zip(counts).collect();
    seen
}
