//! Lost replies: whoever repeats a request under its key gets the very certificate that the first try made,
//! also when the process died between the commit and the kept answer.

use std::time::Duration;

use serde_json::json;
use wicketgate::store::certificates::CertificateFilter;

use super::Proof;
use super::seed::Seed;
use crate::admin::fixture::{Answer, App, Way, csr};
use crate::harness::database::TestDatabase;
use crate::on_both_databases;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idempotency() {
    let proof = Proof::of("idempotency");
    let n = proof.size(12, 1000);
    let mut wrong = Vec::new();
    let (mut repeated, mut refused, mut kinds) = (0, 0, [0u64; 4]);
    let databases = [Some(TestDatabase::sqlite()), TestDatabase::postgres()];
    for (at, database) in databases.iter().flatten().enumerate() {
        let app = App::over(database).await;
        let (person, token) = app.member("Anna Berg").await;
        let share = n / 2 + n % 2;
        for number in 0..share {
            proof.progress(at as u64 * share + number, n);
            let mut seed = Seed::of(number * 31 + at as u64);
            let key = format!("reply-{number}");
            let body = json!({ "csr": csr(), "device_name": "phone" });
            let send = |body: &serde_json::Value| {
                let call = app.post("/api/v1/certificates", body).through(Way::Door).token(&token);
                call.header("idempotency-key", &key).send()
            };
            let kind = seed.below(4) as usize;
            kinds[kind] += 1;
            let first = match kind {
                // Two at once: one is served; the other waits, or has the same answer.
                3 => {
                    let (a, b) = tokio::join!(send(&body), send(&body));
                    let served: Vec<Answer> = [a, b].into_iter().filter(|one| one.status == 201).collect();
                    if served.windows(2).any(|pair| pair[0].body["pem"] != pair[1].body["pem"]) {
                        wrong.push(format!("{key}: two certificates"));
                    }
                    served.into_iter().next().expect("one of them is served")
                }
                _ => send(&body).await.expect(201),
            };
            if kind == 1 || kind == 2 {
                app.store.lose_kept_answers().await.unwrap();
            }
            if kind == 2 {
                // Long after, when a claim that nothing came of would be forgotten.
                app.clock.advance(Duration::from_secs(301));
            }
            let other = send(&json!({ "csr": csr(), "device_name": "tablet" })).await;
            if (other.status, other.code()) == (409, "idempotency_key_reused") {
                refused += 1;
            } else {
                wrong.push(format!("{key}: another body got {} {}", other.status, other.code()));
            }
            let again = send(&body).await;
            let same = ["pem", "chain_pem", "serial", "device_id", "lineage"]
                .iter()
                .all(|field| again.body[field] == first.body[field]);
            if again.status == 201 && same && again.header("location") == first.header("location") {
                repeated += 1;
            } else {
                wrong.push(format!("{key} ({kind}): {} {}", again.status, again.text));
            }
        }
        let filter = CertificateFilter { person: Some(person), ..Default::default() };
        let made = app.store.certificates(&filter, 100_000, app.clock_now()).await.unwrap().len() as u64;
        if made != share {
            wrong.push(format!("{made} certificates for {share} requests"));
        }
    }
    wrong.truncate(5);
    let ok = wrong.is_empty() && repeated >= n;
    let measured = format!(
        "{repeated} repeated identically ({} by their kept answer, {} after the process died, {} also past \
         the age of claims, {} at once), {refused} other bodies refused; {wrong:?}",
        kinds[0], kinds[1], kinds[2], kinds[3]
    );
    proof.end(repeated, ok, &measured);
}

on_both_databases! {
    async fn a_renewal_whose_answer_died_with_the_process_is_found_again(database) {
        let app = App::over(database).await;
        let (_, token) = app.member("Anna Berg").await;
        let first = app.issue(&token, "phone").await.expect(201);
        let path = format!("/api/v1/certificates/{}/renewal", first.body["serial"].as_str().unwrap());
        let body = json!({ "csr": csr() });
        let send = || app.post(&path, &body).token(&token).header("idempotency-key", "k").send();
        let renewed = send().await.expect(201);
        app.store.lose_kept_answers().await.unwrap();
        let again = send().await.expect(201);
        assert_eq!(again.body["pem"], renewed.body["pem"]);
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        // From now on the answer is kept again.
        assert_eq!(send().await.expect(201).text, again.text);
    }

    async fn what_was_made_once_is_not_made_twice_though_its_answer_is_lost_for_good(database) {
        let app = App::over(database).await;
        let (_, token) = app.administrator().await;
        let new = json!({ "name": "ci", "role": "member", "expires_in_days": 7 });
        let make = || app.post("/api/v1/tokens", &new).token(&token).header("idempotency-key", "k").send();
        make().await.expect(201);
        app.store.lose_kept_answers().await.unwrap();
        app.clock.advance(Duration::from_secs(301));
        make().await.expect_problem(409, "answer_lost");

        // A second revocation changes nothing, so it is simply done again.
        let issued = app.issue(&token, "phone").await.expect(201);
        let path = format!("/api/v1/certificates/{}/revocation", issued.body["serial"].as_str().unwrap());
        let body = json!({ "reason": "superseded" });
        let revoke = || app.post(&path, &body).token(&token).header("idempotency-key", "r").send();
        let revoked = revoke().await.expect(200);
        app.store.lose_kept_answers().await.unwrap();
        let again = revoke().await.expect(200);
        assert_eq!(again.body["revoked_at"], revoked.body["revoked_at"]);
    }
}
