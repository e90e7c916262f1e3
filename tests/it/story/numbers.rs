//! `/metrics` of a running house: what was done is counted, under its promised name.

use serde_json::json;

use super::backend;
use super::device::Key;
use super::house::{House, Plan};
use super::wire::Wire;
use crate::harness::wait_for;

/// The value of one series; none when it is not exported.
fn value(house: &House, series: &str) -> Option<f64> {
    let text = Wire::plain(house.health, "localhost").unwrap().get("/metrics").unwrap();
    assert_eq!(text.status, 200);
    let text = text.text();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned));
    line.map(|value| value.parse().unwrap())
}

#[test]
fn what_authority_and_console_did_is_counted() {
    let mut house = House::open(&Plan { database: None, more: "", edge: None }, &backend::start());
    let person = house.person("Cleo Martín", "cleo@example.org");
    let issued = |act: &str| format!("wicketgate_ca_certificates_issued_total{{act=\"{act}\"}}");
    let refused = |cause: &str| format!("wicketgate_ca_issuance_refused_total{{cause=\"{cause}\"}}");
    let asked = |operation: &str, status: &str| {
        format!("wicketgate_admin_requests_total{{operation=\"{operation}\",status=\"{status}\"}}")
    };
    assert_eq!(value(&house, &issued("enrolment")), Some(0.0));
    assert_eq!(value(&house, &asked("issueCertificate", "2xx")), None);

    let (certificate, _) = house.enrol(&person, "Laptop");
    let serial = certificate["serial"].as_str().unwrap();
    let body = json!({ "csr": Key::generate().csr() });
    let renewed = house.call("POST", &format!("/certificates/{serial}/renewal"), &[], Some(&body));
    assert!(renewed.status < 300, "{}", renewed.text());
    let body = json!({ "csr": "no request", "device_name": "Broken", "person_id": person });
    assert_eq!(house.call("POST", "/certificates", &[], Some(&body)).status, 422);
    house.revoke(&certificate);
    let body = json!({ "csr": Key::generate().csr() });
    assert_eq!(house.call("POST", &format!("/certificates/{serial}/renewal"), &[], Some(&body)).status, 409);
    assert_eq!(house.call("GET", "/no-such-thing-4711", &[], None).status, 404);

    for (series, expected) in [
        (issued("enrolment"), 1.0),
        (issued("renewal"), 1.0),
        (refused("csr"), 1.0),
        (refused("predecessor"), 1.0),
        (refused("unavailable"), 0.0),
        ("wicketgate_ca_certificates_revoked_total{reason=\"keyCompromise\"}".to_owned(), 1.0),
        ("wicketgate_ca_intents_unresolved".to_owned(), 0.0),
        (asked("issueCertificate", "2xx"), 1.0),
        (asked("issueCertificate", "4xx"), 1.0),
        (asked("revokeCertificate", "2xx"), 1.0),
        (asked("none", "4xx"), 1.0),
    ] {
        assert_eq!(value(&house, &series), Some(expected), "{series}");
    }
    let durations = "http_server_request_duration_seconds_count{role=\"admin\",status=\"2xx\"}";
    assert!(value(&house, durations).is_some_and(|count| count >= 3.0));
    wait_for("the list with the revocation to be counted", || {
        value(&house, "wicketgate_ca_crls_published_total").filter(|count| *count >= 1.0)
    });
    let due = value(&house, "wicketgate_crl_next_update_timestamp_seconds{authority=\"client-issuing-g1\"}");
    assert!(due.is_some_and(|due| due > 1.7e9), "{due:?}");
    assert!(!house.log().contains("4711\"}"), "a path is no label");
}
