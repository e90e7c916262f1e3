use super::*;
use crate::domain::RevocationReason;

fn revoked() -> Problem {
    Denied::Refused(Refusal {
        cause: Cause::Revoked(RevocationReason::KeyCompromise),
        serial: "10ff".parse().ok(),
        issuer: None,
    })
    .into()
}

#[test]
fn browsers_get_a_page_with_its_one_style_allowed_by_hash() {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("text/html,*/*;q=0.8"));
    let answer =
        refuse(&revoked(), Version::HTTP_11, wants_page(&headers), Some("https://door.example/?a=\"<b>"));
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(answer.headers()[CONNECTION], "close");
    assert!(answer.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().contains("'sha256-"));
    let page = std::str::from_utf8(answer.body()).unwrap();
    assert!(page.contains("was revoked") && page.contains("10ff"));
    assert!(page.contains("href=\"https://door.example/?a=&quot;&lt;b&gt;\""));
    assert!(!page.contains("<script"));
}

#[test]
fn others_get_a_problem_document() {
    let answer = refuse(&revoked(), Version::HTTP_2, false, Some("https://door.example"));
    assert_eq!(answer.headers()[CONTENT_TYPE], "application/problem+json");
    assert!(!answer.headers().contains_key(CONNECTION));
    let value: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(value["code"], "certificate_revoked");
    assert_eq!(value["status"], 403);
    assert_eq!(value["door"], "https://door.example");
    assert_eq!(value["serial"], "10ff");
}

#[test]
fn the_door_is_named_only_where_it_helps() {
    let answer = refuse(
        &Problem::new(Code::NotFound),
        Version::HTTP_11,
        wants_page(&HeaderMap::new()),
        Some("https://door.example"),
    );
    let value: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
    assert!(value.get("door").is_none());
}

#[test]
fn whom_a_closed_route_keeps_out_reads_what_was_written_for_them() {
    let message = Some("Back at <b>noon</b> & \"well\"".to_owned());
    let told = Maintenance { message, retry_after_seconds: Some(90), ..Maintenance::default() };
    let answer = refuse(&Problem::from(&told), Version::HTTP_11, true, Some("https://door.example"));
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()[RETRY_AFTER], "90");
    assert!(!answer.headers().contains_key(CONNECTION));
    let page = std::str::from_utf8(answer.body()).unwrap();
    assert!(page.contains("<p>Back at &lt;b&gt;noon&lt;/b&gt; &amp; &quot;well&quot;</p>"), "{page}");
    assert!(!page.contains("door.example"));
    let answer = refuse(&Problem::from(&told), Version::HTTP_2, false, None);
    let value: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(value["code"], "maintenance");
    assert_eq!(value["detail"], "Back at <b>noon</b> & \"well\"");
    let untold = Problem::from(&Maintenance::default());
    let answer = refuse(&untold, Version::HTTP_11, false, None);
    assert!(!answer.headers().contains_key(RETRY_AFTER));
    let value: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(value["detail"], Code::Maintenance.advice());
}

#[test]
fn who_comes_too_often_is_told_when_to_come_again() {
    let after = |wait| -> String {
        let problem = Problem::from(Limited { limit: Limit::Device, wait });
        let answer = refuse(&problem, Version::HTTP_11, false, None);
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(!answer.headers().contains_key(CONNECTION), "the connection goes on");
        answer.headers()[RETRY_AFTER].to_str().unwrap().to_owned()
    };
    assert_eq!(after(Duration::ZERO), "1");
    assert_eq!(after(Duration::from_millis(999)), "1");
    assert_eq!(after(Duration::from_millis(1_001)), "2");
    assert_eq!(after(Duration::from_secs(3_600)), "3600");
    let mut problem = Problem::from(Limited { limit: Limit::Route, wait: Duration::ZERO });
    assert_eq!(problem.cause(), Some("route"));
    problem.set_last(true);
    assert!(problem.ends_connection(Version::HTTP_2));
    assert_eq!(refuse(&problem, Version::HTTP_11, false, None).headers()[CONNECTION], "close");
    assert_eq!(
        refuse(&Problem::from(NoWire::Busy), Version::HTTP_2, false, None).headers()[RETRY_AFTER],
        "1"
    );
}
