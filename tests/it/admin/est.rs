//! EST at the door, without the network in between: what a secret and a certificate open, once.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use wicketgate::domain::PersonId;
use wicketgate::pki::{chain, cms, continuity, keygen, pem, transfer};
use wicketgate::store::certificates::CertificateFilter;

use super::by_certificate::der;
use super::fixture::{Answer, App, Call, DOOR, Way, allowance, generous};
use crate::harness::database::TestDatabase;
use crate::on_both_databases;

const ENROL: &str = "/.well-known/est/simpleenroll";
const REENROL: &str = "/.well-known/est/simplereenroll";

/// A signing request in DER, with a fresh key.
fn request() -> Vec<u8> {
    keygen::client_csr(keygen::generate_p256().0.expose(), "a machine").unwrap()
}

fn post<'a>(app: &'a App, path: &str, request: &[u8]) -> Call<'a> {
    let call = app.call("POST", path).through(Way::Door);
    call.bytes("application/pkcs10", transfer::encode(request).as_bytes())
}

fn with_secret<'a>(call: Call<'a>, user: &str, secret: &str) -> Call<'a> {
    call.header("authorization", &format!("Basic {}", STANDARD.encode(format!("{user}:{secret}"))))
}

/// The only certificate of an answer.
fn certificate(answer: &Answer) -> Vec<u8> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    let kind = "application/pkcs7-mime; smime-type=certs-only";
    assert_eq!(answer.header("content-type"), Some(kind));
    let mut all = cms::certificates(&transfer::decode(answer.text.as_bytes()).unwrap()).unwrap();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn refused(answer: &Answer, status: u16, word: &str) {
    assert_eq!(answer.status, status, "{}", answer.text);
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(answer.text.contains(word), "{word}: {}", answer.text);
}

async fn issued(app: &App) -> usize {
    let all = app.store.certificates(&CertificateFilter::default(), 100, app.clock_now()).await.unwrap();
    all.len()
}

async fn invited(app: &App) -> (PersonId, String, String) {
    let (_, administrator) = app.administrator().await;
    let (person, _) = app.member("Ben Weak").await;
    let (_, secret) = app.invite(&administrator, person).await;
    (person, administrator, secret)
}

on_both_databases! {
    async fn a_secret_gives_one_certificate_even_to_many_at_once(database) {
        let app = App::over(database).await;
        let (_, _, secret) = invited(&app).await;
        let requests: Vec<_> = (0..6).map(|_| request()).collect();
        let calls = requests.iter().map(|request| with_secret(post(&app, ENROL, request), "pump 1", &secret).send());
        let answers = futures_util::future::join_all(calls).await;
        let given: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
        assert_eq!(given.len(), 1);
        certificate(given[0]);
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            refused(answer, 401, "works once");
            assert!(answer.header("www-authenticate").unwrap().starts_with("Basic "));
        }
        assert_eq!(issued(&app).await, 1);
    }

    async fn a_secret_is_given_back_when_nothing_was_issued(database) {
        let app = App::over(database).await;
        let (person, administrator, secret) = invited(&app).await;
        let disable = async |version: u32, disabled: bool| {
            let call = app.call("PATCH", &format!("/api/v1/people/{person}")).token(&administrator);
            let call = call.header("if-match", &format!("\"{version}\"")).json(&json!({ "disabled": disabled }));
            call.send().await.expect(200);
        };
        disable(1, true).await;
        refused(&with_secret(post(&app, ENROL, &request()), "pump 1", &secret).send().await, 403, "disabled");
        disable(2, false).await;
        assert_eq!(issued(&app).await, 0);
        certificate(&with_secret(post(&app, ENROL, &request()), "pump 1", &secret).send().await);
    }
}

#[tokio::test]
async fn a_repetition_that_says_so_gets_the_same_certificate_and_only_with_the_same_key() {
    let app = App::new().await;
    let (_, _, secret) = invited(&app).await;
    let own = request();
    let first = certificate(&with_secret(post(&app, ENROL, &own), "pump 1", &secret).send().await);
    let again = |request: &[u8]| with_secret(post(&app, ENROL, request), "pump 1", &secret);
    let repeated = again(&own).header("idempotency-key", "1").send().await;
    assert_eq!(certificate(&repeated), first);
    refused(&again(&own).send().await, 401, "works once");
    refused(&again(&request()).header("idempotency-key", "1").send().await, 401, "works once");
    assert_eq!(issued(&app).await, 1);
}

#[tokio::test]
async fn a_certificate_re_enrols_under_its_own_names_and_a_repetition_issues_nothing() {
    let app = App::new().await;
    let (_, token) = app.member("Anna Berg").await;
    let phone = der(&app.issue(&token, "phone").await.expect(201).body);
    let (key, spki) = keygen::generate_p256();
    let wanted = continuity::renewal_request(key.expose(), &phone).unwrap();
    let renewed = certificate(&post(&app, REENROL, &wanted).certificate(&phone).send().await);
    assert_eq!(chain::read_leaf(&renewed).unwrap().spki_der, spki);
    assert_eq!(certificate(&post(&app, REENROL, &wanted).certificate(&phone).send().await), renewed);
    assert_eq!(issued(&app).await, 2);
    // The names of another are not had by asking.
    refused(&post(&app, REENROL, &request()).certificate(&phone).send().await, 400, "subject");
    // The same key again is a renewal without a new key (RFC 7030 §4.2.2).
    let next = continuity::renewal_request(key.expose(), &renewed).unwrap();
    let next = certificate(&post(&app, REENROL, &next).certificate(&renewed).send().await);
    assert_ne!(next, renewed);
    assert_eq!(issued(&app).await, 3);
}

#[tokio::test]
async fn re_enrolment_takes_certificates_only() {
    let app = App::new().await;
    let (_, token) = app.member("Anna Berg").await;
    refused(&post(&app, REENROL, &request()).send().await, 403, "handshake");
    refused(&post(&app, REENROL, &request()).token(&token).send().await, 403, "handshake");
    let phone = der(&app.issue(&token, "phone").await.expect(201).body);
    let call = post(&app, REENROL, &request()).certificate(&phone).header("origin", "https://evil.example");
    refused(&call.send().await, 403, "our own pages");
    app.clock.advance(std::time::Duration::from_secs(91 * 86_400));
    refused(&post(&app, REENROL, &request()).certificate(&phone).send().await, 403, "expired");
    assert_eq!(issued(&app).await, 1);
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_and_leaves_the_secret_open() {
    let app = App::new().await;
    let (_, _, secret) = invited(&app).await;
    let call = |kind: &str, body: &[u8]| {
        let call = app.call("POST", ENROL).through(Way::Door).bytes(kind, body);
        with_secret(call, "pump 1", &secret)
    };
    let good = transfer::encode(&request());
    let armoured = pem::block("CERTIFICATE REQUEST", &request());
    let mut broken = request();
    let last = broken.len() - 1;
    broken[last] ^= 1;
    let broken = transfer::encode(&broken);
    for (kind, body, status, word) in [
        ("application/json", good.as_bytes(), 415, "application/pkcs10"),
        ("application/pkcs10", armoured.as_bytes(), 400, "PEM"),
        ("application/pkcs10", b"", 400, "empty"),
        ("application/pkcs10", b"%%%%", 400, "base64"),
        ("application/pkcs10", b"AAECAwQF", 400, "PKCS#10"),
        ("application/pkcs10", broken.as_bytes(), 400, "prove"),
        ("application/pkcs10", &[b'A'; 16 * 1024], 413, "at most"),
        ("application/pkcs10", &[b'A'; 80 * 1024], 413, "at most"),
    ] {
        refused(&call(kind, body).send().await, status, word);
    }
    let unnamed = app.call("POST", ENROL).through(Way::Door).bytes("application/pkcs10", good.as_bytes());
    refused(&with_secret(unnamed, "", &secret).send().await, 400, "user name");
    assert_eq!(issued(&app).await, 0);
    let parameters = call("application/pkcs10; charset=us-ascii", good.replace("\r\n", "\n").as_bytes());
    certificate(&parameters.send().await);
}

#[tokio::test]
async fn secrets_are_not_guessed_at_leisure() {
    let app = App::with(
        &TestDatabase::sqlite(),
        wicketgate::admin::Allowances { acceptance: allowance(3), ..generous() },
    )
    .await;
    for _ in 0..3 {
        refused(&with_secret(post(&app, ENROL, &request()), "x", "guess").send().await, 401, "unknown");
    }
    let answer = with_secret(post(&app, ENROL, &request()), "x", "guess").send().await;
    refused(&answer, 429, "Wait");
    assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
}

#[tokio::test]
async fn authorities_and_wishes_are_public_and_the_rest_is_not_there() {
    let app = App::new().await;
    let answer = app.get("/.well-known/est/cacerts").through(Way::Door).send().await;
    assert_eq!(answer.status, 200);
    let above = cms::certificates(&transfer::decode(answer.text.as_bytes()).unwrap()).unwrap();
    let known: Vec<_> = app.ca.authorities().await.unwrap();
    assert_eq!(above.len(), 2, "the root and who issues, not the local server authority");
    assert!(above.iter().all(|der| known.iter().any(|one| one.certificate.as_ref() == Some(der))));
    let answer = app.get("/.well-known/est/csrattrs").through(Way::Door).send().await;
    assert_eq!(answer.header("content-type"), Some("application/csrattrs"));
    assert!(!transfer::decode(answer.text.as_bytes()).unwrap().is_empty());
    for (method, path, status) in [
        ("GET", "/.well-known/est/fullcmc", 404),
        ("POST", "/.well-known/est/serverkeygen", 404),
        ("POST", "/.well-known/est/label/simpleenroll", 404),
        ("GET", ENROL, 405),
        ("POST", "/.well-known/est/cacerts", 405),
    ] {
        let answer = app.call(method, path).through(Way::Door).send().await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    }
    // Not at the console.
    assert_eq!(app.get("/.well-known/est/cacerts").send().await.status, 404);
}

#[tokio::test]
async fn every_enrolment_is_two_events_of_the_audit() {
    let app = App::new().await;
    let (_, _, secret) = invited(&app).await;
    let count = async || {
        let all = app.store.audit_events(&Default::default(), 100).await.unwrap();
        all.into_iter().filter(|event| event.action == "certificate.issue").count()
    };
    refused(&with_secret(post(&app, ENROL, &request()), "x", "guess").send().await, 401, "unknown");
    assert_eq!(count().await, 2);
    let own = with_secret(post(&app, ENROL, &request()), "pump 1", &secret).header("origin", DOOR);
    certificate(&own.send().await);
    assert_eq!(count().await, 4);
}
