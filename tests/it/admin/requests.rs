//! What cannot be read or taken is refused in one envelope, and never with a fault of ours; what is
//! repeated with a key is answered once.

use serde_json::{Value, json};

use super::fixture::{App, Way, csr};

#[tokio::test]
async fn every_kind_of_bad_input_is_a_problem() {
    let app = App::new().await;
    let (ada, token) = app.administrator().await;
    let post =
        |body: &[u8]| app.call("POST", "/api/v1/people").token(&token).bytes("application/json", body).send();
    let huge = format!("{{\"name\":\"{}\"}}", "x".repeat(70_000));
    for (body, status, code) in [
        (&b"{"[..], 400, "invalid_request"),
        (b"", 400, "invalid_request"),
        (b"\xff\xfe", 400, "invalid_request"),
        (b"[]", 422, "invalid_request"),
        (b"null", 422, "invalid_request"),
        (b"{}", 422, "invalid_request"),
        (huge.as_bytes(), 413, "payload_too_large"),
    ] {
        post(body).await.expect_problem(status, code);
    }
    let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
    post(deep.as_bytes()).await.expect_problem(400, "invalid_request");
    let all_wrong = json!({ "email": "x", "name": "", "role": "king", "groups": ["A b", 7], "extra": 1 });
    let answer = post(all_wrong.to_string().as_bytes()).await.expect_problem(422, "invalid_request");
    let pointers = answer.pointers();
    for pointer in ["/role", "/groups/1", "/extra"] {
        assert!(pointers.contains(&pointer), "{pointers:?}");
    }
    let semantic = json!({ "email": "x", "name": " ", "role": "member", "groups": ["A b"] });
    let answer = post(semantic.to_string().as_bytes()).await.expect_problem(422, "invalid_request");
    assert_eq!(answer.pointers(), ["/email", "/name", "/groups/0"]);
    let nul = json!({ "email": "a@b.example", "name": "a\u{0}b", "role": "member", "groups": [] });
    assert_eq!(post(nul.to_string().as_bytes()).await.expect(422).pointers(), ["/name"]);
    let text = app.call("POST", "/api/v1/people").token(&token).bytes("text/plain", b"{}");
    text.send().await.expect_problem(415, "not_json");
    let taken = json!({ "email": "ada.root@example.com", "name": "Ada", "role": "member", "groups": [] });
    post(taken.to_string().as_bytes()).await.expect_problem(409, "conflict");

    let get = |path: &str| app.get(path).token(&token).send();
    get("/api/v1/nothing").await.expect_problem(404, "not_found");
    get("/api/v2/people").await.expect_problem(404, "not_found");
    get("/api/v1/people/").await.expect_problem(404, "not_found");
    for id in ["x", "%00", "%ff", "..%2f..", &"9".repeat(3000)] {
        let answer = get(&format!("/api/v1/people/{id}")).await;
        assert!((400..500).contains(&answer.status), "{id}: {}", answer.text);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
    for query in ["limit=0", "limit=201", "limit=x", "limit=-1", "cursor=%21", "cursor=AAAA", "cursor=%00"] {
        get(&format!("/api/v1/people?{query}")).await.expect_problem(400, "invalid_request");
    }
    let answer = app.call("PUT", "/api/v1/people").token(&token).send().await;
    assert_eq!(answer.expect_problem(405, "method_not_allowed").header("allow"), Some("GET, POST"));
    let edit = || app.call("PATCH", &format!("/api/v1/people/{ada}")).token(&token);
    edit().json(&json!({ "name": "A" })).send().await.expect_problem(428, "precondition_required");
    let stale = edit().header("if-match", "\"7\"").json(&json!({ "name": "A" })).send().await;
    stale.expect_problem(412, "precondition_failed");
    let answer = app.get("/api/v1/people").header("authorization", "Basic eA==").send().await;
    assert_eq!(answer.expect_problem(401, "not_signed_in").header("www-authenticate"), Some("Bearer"));
}

crate::on_both_databases! {
    async fn listings_go_on_where_their_cursor_says(database) {
        let app = App::over(database).await;
        let (_, token) = app.administrator().await;
        for number in 0..6 {
            app.person(&format!("Person {number}"), wicketgate::domain::Role::Member).await;
        }
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = app.get(&format!("/api/v1/people?limit=3{cursor}")).token(&token).send().await.expect(200);
            let items = page.body["items"].as_array().unwrap().clone();
            seen.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
            match page.body["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
        assert_eq!((seen.len(), distinct.len()), (7, 7));
    }

    async fn a_repeated_request_with_the_same_key_gets_the_same_answer(database) {
        let app = App::over(database).await;
        let (_, token) = app.administrator().await;
        let (_, other) = app.member("Ben Weak").await;
        let body = json!({ "csr": csr(), "device_name": "phone" });
        let send = |token: &str, body: &Value, key: &str| {
            app.post("/api/v1/certificates", body).token(token).header("idempotency-key", key).send()
        };
        let first = send(&token, &body, "one").await.expect(201);
        let again = send(&token, &body, "one").await.expect(201);
        assert_eq!((again.text.as_str(), again.header("location")), (first.text.as_str(), first.header("location")));
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        let elsewise = json!({ "csr": csr(), "device_name": "tablet" });
        send(&token, &elsewise, "one").await.expect_problem(409, "idempotency_key_reused");
        // Each with a key pair of its own: a key belongs to one device.
        let fresh = || json!({ "csr": csr(), "device_name": "phone" });
        assert_ne!(send(&other, &fresh(), "one").await.expect(201).body["serial"], first.body["serial"]);
        let serial = |answer: &super::fixture::Answer| answer.body["serial"].as_str().unwrap().to_owned();
        assert_ne!(serial(&send(&token, &fresh(), "two").await.expect(201)), serial(&first));
        send(&token, &body, "").await.expect_problem(400, "invalid_request");

        // What failed did nothing, so it may be repeated.
        let broken = json!({ "csr": "x", "device_name": "phone" });
        send(&token, &broken, "three").await.expect(422);
        send(&token, &fresh(), "three").await.expect(201);

        // At once: one is served, the other is told to wait, or gets the answer.
        let body = fresh();
        let (a, b) = tokio::join!(send(&token, &body, "four"), send(&token, &body, "four"));
        let issued: Vec<_> = [&a, &b].into_iter().filter(|answer| answer.status == 201).map(serial).collect();
        assert!(!issued.is_empty() && issued.iter().all(|one| *one == issued[0]), "{} {}", a.text, b.text);

        // A secret is delivered once.
        let new = json!({ "name": "ci", "role": "member", "expires_in_days": 7 });
        let make = || app.post("/api/v1/tokens", &new).token(&token).header("idempotency-key", "five").send();
        let made = make().await.expect(201);
        let repeated = make().await.expect(201);
        assert!(made.body["token"].is_string() && repeated.body["token"].is_null());
        assert_eq!(repeated.body["secret_already_delivered"], true);
        assert_eq!(repeated.body["id"], made.body["id"]);
    }

    async fn a_token_does_what_its_role_says_until_it_ends(database) {
        let app = App::over(database).await;
        let (_, token) = app.administrator().await;
        let make = |by: &str, role: &str, days: u32| {
            let body = json!({ "name": "ci", "role": role, "expires_in_days": days });
            app.post("/api/v1/tokens", &body).token(by).send()
        };
        let made = make(&token, "member", 7).await.expect(201);
        let member = made.body["token"].as_str().unwrap().to_owned();
        assert!(member.starts_with("wkt_") && member.len() == 40);
        app.get("/api/v1/people").token(&member).send().await.expect_problem(403, "not_allowed");
        assert_eq!(make(&member, "administrator", 7).await.expect(422).pointers(), ["/role"]);
        assert_eq!(make(&token, "member", 366).await.expect(422).pointers(), ["/expires_in_days"]);
        let child = make(&member, "member", 300).await.expect(201);
        assert_eq!(child.body["expires_at"], made.body["expires_at"], "a token's child does not outlive it");
        let session = app.get("/api/v1/sessions/current").token(&member).send().await.expect(200);
        assert_eq!(session.body["kind"], "token");

        let listed = app.get("/api/v1/tokens").token(&member).send().await.expect(200);
        assert!(!listed.text.contains(&member));
        app.clock.advance(std::time::Duration::from_secs(7 * 86_400));
        app.get("/api/v1/devices").token(&member).send().await.expect_problem(401, "not_signed_in");
        let path = format!("/api/v1/tokens/{}", made.body["id"].as_str().unwrap());
        app.call("DELETE", &path).token(&token).send().await.expect(204);
        app.call("DELETE", &path).token(&token).send().await.expect_problem(404, "not_found");
    }
}

#[tokio::test]
async fn every_change_is_in_the_audit_and_without_the_audit_there_is_no_change() {
    let app = App::new().await;
    let (_, token) = app.administrator().await;
    for (id, (method, path, entry)) in super::openapi::operations() {
        let Some(action) = entry["x-audited"].as_str() else { continue };
        let path = path
            .replace("{id}", "nobody")
            .replace("{serial}", "ff")
            .replace("{host}", "nowhere.example")
            .replace("{name}", "nothing");
        let mut call = app.call(&method, &path).token(&token);
        if entry["requestBody"].is_object() {
            call = call.json(&json!({}));
        }
        let answer = call.send().await;
        let request_id = answer.header("x-request-id").unwrap().to_owned();
        assert!((400..500).contains(&answer.status), "{id}: {}", answer.text);
        let events =
            app.get(&format!("/api/v1/audit-events?action={action}&limit=200")).token(&token).send().await;
        let events = events.expect(200).body["items"].as_array().unwrap().clone();
        let own: Vec<_> = events.iter().filter(|event| event["request_id"] == request_id.as_str()).collect();
        let phases: Vec<_> = own.iter().map(|event| event["phase"].as_str().unwrap()).collect();
        assert_eq!(phases, ["finished", "started"], "{id}");
        assert_eq!(own[0]["outcome"], "failed", "{id}");
        assert_eq!(own[0]["act"], own[1]["act"], "{id}");
    }
    let person = json!({ "email": "n@example.com", "name": "New", "role": "member", "groups": [] });
    app.store.clone().close().await;
    let answer = app.post("/api/v1/people", &person).through(Way::Socket).send().await;
    answer.expect_problem(503, "unavailable");
}

#[tokio::test]
async fn a_request_keeps_the_trace_it_came_with() {
    let app = App::new().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let answer = app.get("/api/v1/installation").header("traceparent", trace).send().await.expect(200);
    assert_eq!(answer.header("x-request-id"), Some("0af7651916cd43dd8448eb211c80319c"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn pages_come_with_strict_headers_and_the_document_is_served() {
    let app = App::new().await;
    for way in [Way::Console, Way::Door] {
        let page = app.get("/").through(way).send().await.expect(200);
        assert!(page.header("content-type").unwrap().starts_with("text/html"));
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"));
        assert!(!policy.contains("unsafe"));
        assert_eq!(page.header("cache-control"), Some("no-store"));
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(page.header("strict-transport-security").is_some(), way == Way::Door);
    }
    let document = app.get("/openapi.json").send().await.expect(200);
    assert_eq!(document.text, wicketgate::admin::openapi_document());
    for page in ["/docs", "/docs/docs.js", "/docs/docs.css"] {
        let page = app.get(page).send().await.expect(200);
        assert!(!page.text.contains("style=") && !page.text.contains("http://"));
    }
    for path in ["/../Cargo.toml", "/assets/../../x", "/%2e%2e/Cargo.toml", "/nothing"] {
        app.get(path).send().await.expect_problem(404, "not_found");
    }
}
