//! Devices that prove themselves with the client certificate of their connection, and what that opens.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use wicketgate::admin::{Access, OPERATIONS};
use wicketgate::pki::pem;
use wicketgate::store::audit::AuditFilter;

use super::fixture::{App, CONSOLE, Call, DOOR, csr};

/// The certificate of an answer, DER.
pub fn der(certificate: &Value) -> Vec<u8> {
    pem::first_block(certificate["pem"].as_str().unwrap(), &["CERTIFICATE"]).unwrap()
}

fn renewal<'a>(app: &'a App, certificate: &Value) -> Call<'a> {
    let path = format!("/api/v1/certificates/{}/renewal", certificate["serial"].as_str().unwrap());
    app.post(&path, &json!({ "csr": csr() }))
}

#[tokio::test]
async fn a_certificate_renews_itself_at_the_door_and_no_other() {
    let app = App::new().await;
    let (_, token) = app.member("Anna Berg").await;
    let phone = app.issue(&token, "phone").await.expect(201).body;
    let laptop = app.issue(&token, "laptop").await.expect(201).body;
    let renewed = renewal(&app, &phone).certificate(&der(&phone)).send().await.expect(201).body;
    assert_eq!(renewed["lineage"], phone["lineage"]);
    assert_eq!(renewed["device_id"], phone["device_id"]);
    assert_ne!(renewed["serial"], phone["serial"]);
    let other = renewal(&app, &laptop).certificate(&der(&phone)).send().await;
    other.expect_problem(404, "not_found");
    let events = app.store.audit_events(&AuditFilter::default(), 50).await.unwrap();
    let actor = format!("device:{}", phone["device_id"].as_str().unwrap());
    assert!(events.iter().any(|event| event.actor == actor), "{events:?}");
}

#[tokio::test]
async fn a_certificate_opens_nothing_but_its_renewal() {
    let app = App::new().await;
    let (_, token) = app.member("Anna Berg").await;
    let phone = app.issue(&token, "phone").await.expect(201).body;
    for operation in OPERATIONS.iter().filter(|operation| operation.access != Access::Public) {
        let path = operation.path.replace("{serial}", phone["serial"].as_str().unwrap());
        let call = app.call(operation.method.as_str(), &path).json(&json!({ "csr": csr() }));
        let answer = call.certificate(&der(&phone)).send().await;
        let expected = if operation.by_certificate { 201 } else { 401 };
        assert_eq!(answer.status, expected, "{}: {}", operation.id, answer.text);
    }
}

#[tokio::test]
async fn a_foreign_page_cannot_renew_with_the_visitors_certificate() {
    let app = App::new().await;
    let (_, token) = app.member("Anna Berg").await;
    let phone = app.issue(&token, "phone").await.expect(201).body;
    for origin in ["https://evil.example", "null", CONSOLE] {
        let call = renewal(&app, &phone).certificate(&der(&phone)).header("origin", origin);
        call.send().await.expect_problem(403, "foreign_origin");
    }
    renewal(&app, &phone).certificate(&der(&phone)).header("origin", DOOR).send().await.expect(201);
}

#[tokio::test]
async fn a_certificate_revoked_on_an_open_connection_is_no_proof_any_more() {
    let app = App::new().await;
    let (_, token) = app.member("Anna Berg").await;
    let phone = app.issue(&token, "phone").await.expect(201).body;
    let path = format!("/api/v1/certificates/{}", phone["serial"].as_str().unwrap());
    let stream = app.knock_with(der(&phone)).await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for expected in [201, 401] {
        let request = http::Request::post(format!("{path}/renewal"))
            .header("host", "test")
            .header("content-type", "application/json");
        let body = Full::new(Bytes::from(json!({ "csr": csr() }).to_string()));
        let answer = sender.send_request(request.body(body).unwrap()).await.unwrap();
        assert_eq!(answer.status(), expected);
        answer.into_body().collect().await.unwrap();
        let revocation = app.post(&format!("{path}/revocation"), &json!({ "reason": "superseded" }));
        revocation.token(&token).send().await.expect(200);
    }
}

#[tokio::test]
async fn neither_an_expired_certificate_nor_a_disabled_persons_nor_a_strangers_is_proof() {
    let app = App::new().await;
    let (_, administrator) = app.administrator().await;
    let (anna, token) = app.member("Anna Berg").await;
    let phone = app.issue(&token, "phone").await.expect(201).body;
    let stranger = wicketgate::pki::keygen::generate_p256().1;
    renewal(&app, &phone).certificate(&stranger).send().await.expect_problem(401, "not_signed_in");
    app.call("PATCH", &format!("/api/v1/people/{anna}"))
        .token(&administrator)
        .header("if-match", "\"1\"")
        .json(&json!({ "disabled": true }))
        .send()
        .await
        .expect(200);
    renewal(&app, &phone).certificate(&der(&phone)).send().await.expect_problem(401, "not_signed_in");
    app.call("PATCH", &format!("/api/v1/people/{anna}"))
        .token(&administrator)
        .header("if-match", "\"2\"")
        .json(&json!({ "disabled": false }))
        .send()
        .await
        .expect(200);
    renewal(&app, &phone).certificate(&der(&phone)).send().await.expect(201);
    app.clock.advance(std::time::Duration::from_secs(91 * 86_400));
    renewal(&app, &phone).certificate(&der(&phone)).send().await.expect_problem(401, "not_signed_in");
}

#[tokio::test]
async fn the_door_may_ask_for_certificates_but_not_insist() {
    let app = App::new().await;
    let (_, administrator) = app.administrator().await;
    let host = "door.example.com".parse().unwrap();
    let now = app.clock_now();
    let certificate = app.ca.local_certificate(&host, now).await.unwrap();
    let site = wicketgate::store::configuration::Site {
        host,
        kind: wicketgate::store::configuration::SiteKind::Door,
        upstream: None,
        client_auth: wicketgate::domain::ClientAuth::Request,
        hsts_max_age_seconds: 0,
        source: wicketgate::store::configuration::CertificateSource::Local,
        enabled: true,
        server_certificate: Some(certificate.clone()),
        created_at: now,
        version: 1,
    };
    let transaction = app.store.begin().await.unwrap();
    transaction.insert_server_certificate(&certificate).await.unwrap();
    transaction.insert_site(&site).await.unwrap();
    transaction.commit().await.unwrap();
    for (mode, status) in [("require", 422), ("none", 200)] {
        let call = app.call("PATCH", "/api/v1/sites/door.example.com").token(&administrator);
        let edit = json!({ "client_auth": mode });
        call.header("if-match", "\"1\"").json(&edit).send().await.expect(status);
    }
}
