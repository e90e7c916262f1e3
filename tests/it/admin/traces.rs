//! What belongs to one request can be found by one id: in the answer, in the log and in the audit.

use serde_json::json;

use super::fixture::{App, csr};
use crate::harness::log::Captured;

const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test]
async fn an_issuance_and_its_revocation_are_logged_under_their_callers_traces() {
    let log = Captured::start("info");
    let app = App::new().await;
    let (_, token) = app.administrator().await;
    let body = json!({ "csr": csr(), "device_name": "Laptop" });
    let issue = app.post("/api/v1/certificates", &body).token(&token).header("traceparent", CALLER);
    let issued = issue.send().await.expect(201);
    assert_eq!(issued.header("x-request-id"), Some(TRACE));
    let line = &log.saying("Issued a client certificate")[0];
    assert_eq!(line["trace_id"], TRACE, "{line}");
    assert_eq!(line["cert.serial"], issued.body["serial"]);
    assert_ne!(line["span_id"], "00f067aa0ba902b7", "a span of our own");

    let path = format!("/api/v1/certificates/{}/revocation", issued.body["serial"].as_str().unwrap());
    let revoked = app.post(&path, &json!({ "reason": "superseded" })).token(&token).send().await.expect(200);
    let line = &log.saying("Revoked a client certificate")[0];
    assert_eq!(line["trace_id"], revoked.header("x-request-id").unwrap(), "{line}");
    assert_ne!(line["trace_id"], TRACE, "another request, another trace");

    let events = app.get("/api/v1/audit-events?limit=50").token(&token).send().await.expect(200);
    let events = events.body["items"].as_array().unwrap();
    let issues = events.iter().filter(|event| event["action"] == "certificate.issue");
    assert!(issues.clone().count() > 0 && issues.into_iter().all(|event| event["request_id"] == TRACE));
}
