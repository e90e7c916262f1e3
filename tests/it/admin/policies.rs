//! Rules of a policy through the API: faults with their places, what an edge would say, and whom a draft would
//! concern.

use std::time::Duration;

use serde_json::{Value, json};
use wicketgate::domain::{RouteId, Serial, Sighting};

use super::fixture::App;

const HOST: &str = "app.example.com";

/// An app with one site, an upstream, and a route at its root with this policy.
async fn app_with(policy: &Value) -> (App, String, RouteId) {
    let app = App::new().await;
    let (_, token) = app.administrator().await;
    let site = json!({ "host": HOST, "client_auth": "request", "certificate": "local", "hsts_max_age_seconds": 0,
        "enabled": true });
    app.post("/api/v1/sites", &site).token(&token).send().await.expect(201);
    let upstream = json!({ "name": "app", "targets": ["http://127.0.0.1:3000"] });
    app.post("/api/v1/upstreams", &upstream).token(&token).send().await.expect(201);
    let route = json!({ "host": HOST, "path_prefix": "/", "upstream": "app", "policy": policy });
    let made = app.post("/api/v1/routes", &route).token(&token).send().await.expect(201);
    assert_eq!(made.body["policy"]["rules"], policy.get("rules").cloned().unwrap_or_default());
    let id = made.body["id"].as_str().unwrap().parse().unwrap();
    (app, token, id)
}

/// The serial and the device of a new certificate.
async fn issue(app: &App, token: &str, device: &str) -> (String, String) {
    let issued = app.issue(token, device).await.expect(201);
    let text = |field: &str| issued.body[field].as_str().unwrap().to_owned();
    (text("serial"), text("device_id"))
}

#[tokio::test]
async fn each_fault_of_a_rule_is_told_with_its_place() {
    let (app, token, id) = app_with(&json!({ "kind": "known" })).await;
    let path = format!("/api/v1/routes/{id}");
    let edit = async |rules: Value| {
        let call = app.call("PATCH", &path).token(&token).header("if-match", "\"1\"");
        call.json(&json!({ "policy": { "kind": "known", "rules": rules } })).send().await
    };
    let trial = async |rules: Value| {
        let draft = json!({ "policy": { "kind": "known", "rules": rules } });
        app.post(&format!("{path}/policy-trials"), &draft).token(&token).send().await
    };
    let rule = |when: Value| json!({ "name": "x", "effect": "allow", "when": when });
    for (rules, pointer) in [
        (json!([rule(json!({ "networks": ["10.0.0.1/8"] }))]), "/policy/rules/0/when/networks/0"),
        (json!([rule(json!({ "people": ["anna"] }))]), "/policy/rules/0/when/people/0"),
        (json!([rule(json!({ "sans": ["dns:x.test", "x.test"] }))]), "/policy/rules/0/when/sans/1"),
        (json!([rule(json!({ "methods": [] }))]), "/policy/rules/0/when/methods"),
        (json!([rule(json!({ "methods": ["get"] }))]), "/policy/rules/0/when/methods"),
        (json!([rule(json!({ "path_prefixes": ["/a/"] }))]), "/policy/rules/0/when/path_prefixes"),
        (
            json!([rule(json!({ "certificate_age_max_days": 40_000 }))]),
            "/policy/rules/0/when/certificate_age_max_days",
        ),
        (json!([rule(json!({ "profiles": ["devcie"] }))]), "/policy/rules/0/when/profiles"),
        (json!([rule(json!({ "authorities": ["issuing-g2"] }))]), "/policy/rules/0/when/authorities"),
        (json!([rule(json!({ "authorities": ["client-root-g1"] }))]), "/policy/rules/0/when/authorities"),
        (json!([rule(json!({ "regex": ".*" }))]), "/policy/rules/0/when/regex"),
        (json!([{ "name": "x", "effect": "perhaps" }]), "/policy/rules/0/effect"),
        (json!([{ "name": "a\u{202e}b", "effect": "deny" }]), "/policy/rules/0/name"),
        (json!([rule(json!({})), rule(json!({}))]), "/policy/rules/1/name"),
        (json!(vec![rule(json!({})); 65]), "/policy/rules"),
    ] {
        for refused in [edit(rules.clone()).await, trial(rules).await] {
            let refused = refused.expect_problem(422, "invalid_request");
            assert!(refused.pointers().contains(&pointer), "{pointer}: {}", refused.text);
        }
    }
    let public = json!({ "policy": { "kind": "public", "rules": [rule(json!({}))] } });
    let call = app.call("PATCH", &path).token(&token).header("if-match", "\"1\"").json(&public);
    assert_eq!(call.send().await.expect_problem(422, "invalid_request").pointers(), ["/policy"]);
    // A prefix that the route is never asked for.
    let route = json!({ "host": HOST, "path_prefix": "/app", "upstream": "app", "policy": { "kind": "known",
        "rules": [rule(json!({ "path_prefixes": ["/apple"] }))] } });
    let refused = app.post("/api/v1/routes", &route).token(&token).send().await;
    let refused = refused.expect_problem(422, "invalid_request");
    assert_eq!(refused.pointers(), ["/policy/rules/0/when/path_prefixes"]);
}

#[tokio::test]
async fn a_document_is_told_of_each_fault_of_a_rule_once() {
    let (app, token, _) = app_with(&json!({ "kind": "known" })).await;
    for (rule, place) in [
        (json!({ "name": "a\u{202e}b", "effect": "deny" }), "name"),
        (json!({ "name": "x", "effect": "deny", "when": { "methods": ["get"] } }), "when/methods"),
        (json!({ "name": "x", "effect": "deny", "when": { "profiles": ["devcie"] } }), "when/profiles"),
        (json!({ "name": "x", "effect": "deny", "when": { "authorities": ["old"] } }), "when/authorities"),
    ] {
        let document = json!({ "routes": [{ "host": HOST, "path_prefix": "/", "upstream": "app",
            "policy": { "kind": "known", "rules": [rule] } }] });
        let call = app.call("PUT", "/api/v1/configuration").token(&token).header("if-match", "*");
        let refused = call.json(&document).send().await.expect_problem(422, "invalid_request");
        assert_eq!(refused.pointers(), [format!("/routes/0/policy/rules/0/{place}")]);
    }
}

#[tokio::test]
async fn an_explanation_names_route_rule_and_the_condition_that_failed() {
    let policy = json!({ "kind": "known", "rules": [
        { "name": "not from the lab", "effect": "deny", "when": { "networks": ["10.0.0.0/8"] } },
        { "name": "no admin", "effect": "deny", "when": { "path_prefixes": ["/admin"] } },
        { "name": "readers", "effect": "allow", "when": { "methods": ["GET", "HEAD"], "profiles": ["device"] } },
    ] });
    let (app, token, id) = app_with(&policy).await;
    let (_, annas) = app.member("Anna Berg").await;
    let (serial, device) = issue(&app, &annas, "Anna's iPhone").await;
    let ask = async |path: &str, method: &str, source: &str, who: Value| {
        let mut body = json!({ "host": HOST, "path": path, "method": method, "source": source });
        body.as_object_mut().unwrap().extend(who.as_object().unwrap().clone());
        app.post("/api/v1/routes/explanations", &body).token(&token).send().await
    };
    let (by_serial, by_device) = (json!({ "serial": serial }), json!({ "device_id": device }));

    let read = ask("/x", "GET", "192.0.2.1", by_serial.clone()).await.expect(200).body;
    assert_eq!(
        (&read["admits"], &read["decided_by"], &read["rule"]),
        (&json!(true), &json!("rule"), &json!("readers"))
    );
    assert_eq!((&read["route_id"], &read["device_id"]), (&json!(id.to_string()), &json!(device)));
    assert_eq!(read["policy"], policy);
    assert_eq!(
        read["rules"],
        json!([
            { "name": "not from the lab", "effect": "deny", "fits": "no", "condition": "networks" },
            { "name": "no admin", "effect": "deny", "fits": "no", "condition": "path_prefixes" },
            { "name": "readers", "effect": "allow", "fits": "yes" },
        ])
    );
    for (path, method, source, who, decided_by, rule, code) in [
        ("/x", "GET", "10.1.1.1", &by_device, "rule", json!("not from the lab"), "access_denied"),
        ("/x", "POST", "192.0.2.1", &by_serial, "nobody", Value::Null, "access_denied"),
        ("/admin/x", "GET", "192.0.2.1", &by_serial, "rule", json!("no admin"), "access_denied"),
        ("/%61dmin", "GET", "192.0.2.1", &by_serial, "unclear", Value::Null, "bad_request"),
        ("/a/../x", "GET", "192.0.2.1", &by_serial, "path", Value::Null, "bad_request"),
        ("/index.php/admin;.php/x", "GET", "192.0.2.1", &by_serial, "unclear", Value::Null, "bad_request"),
        ("/x", "TRACE", "192.0.2.1", &by_serial, "method", Value::Null, "bad_request"),
        ("/x", "CONNECT", "192.0.2.1", &json!({}), "method", Value::Null, "bad_request"),
        ("/x", "GET", "192.0.2.1", &json!({}), "certificate", Value::Null, "certificate_required"),
    ] {
        let said = ask(path, method, source, who.clone()).await.expect(200).body;
        assert_eq!(said["admits"], json!(false), "{path} {method} {source}");
        assert_eq!(
            (&said["decided_by"], &said["rule"]),
            (&json!(decided_by), &rule),
            "{path} {method} {source}"
        );
        assert_eq!(said["code"], json!(code), "{path} {method} {source}");
    }
    let revocation = format!("/api/v1/certificates/{serial}/revocation");
    let reason = json!({ "reason": "keyCompromise" });
    app.post(&revocation, &reason).token(&annas).send().await.expect(200);
    let revoked = ask("/x", "GET", "192.0.2.1", by_device).await.expect(200).body;
    assert_eq!((&revoked["code"], &revoked["cause"]), (&json!("certificate_revoked"), &json!("revoked")));

    for (who, pointer) in [
        (json!({ "serial": "00ff" }), "/serial"),
        (json!({ "serial": "10ff" }), "/serial"),
        (json!({ "device_id": "0192f0c1-2345-7abc-8def-0123456789ab" }), "/device_id"),
        (json!({ "serial": serial, "device_id": device }), "/device_id"),
        (json!({ "host": "elsewhere.example.com" }), "/host"),
        (json!({ "path": "/x?y" }), "/path"),
        (json!({ "source": "somewhere" }), "/source"),
        (json!({ "method": "GE T" }), "/method"),
    ] {
        let refused = ask("/x", "GET", "192.0.2.1", who).await.expect_problem(422, "invalid_request");
        assert_eq!(refused.pointers(), [pointer]);
    }
}

#[tokio::test]
async fn a_draft_is_tried_on_exactly_those_who_were_seen() {
    let (app, token, id) = app_with(&json!({ "kind": "known", "rules": [
        { "name": "no writing", "effect": "deny", "when": { "methods": ["POST"] } },
        { "name": "all", "effect": "allow" },
    ] }))
    .await;
    let (anna, annas) = app.member("Anna Berg").await;
    let (_, bens) = app.member("Ben Weak").await;
    let (phone, device) = issue(&app, &annas, "Anna's iPhone").await;
    let (laptop, _) = issue(&app, &annas, "Anna's laptop").await;
    let (bens_phone, _) = issue(&app, &bens, "Ben's phone").await;
    let (lost, _) = issue(&app, &bens, "Ben's lost phone").await;
    let mut at = app.clock_now();
    let mut see = |serial: &str, route: RouteId, method: &str, path: &str, source: &str| {
        at = at.plus(Duration::from_secs(1));
        app.edge.sightings.note(Sighting {
            serial: serial.parse::<Serial>().unwrap(),
            route,
            method: method.into(),
            path: path.into(),
            source: source.parse().unwrap(),
            admitted: method != "POST",
            at,
        });
    };
    see(&phone, id, "GET", "/app/anna@example.com", "192.0.2.1");
    see(&laptop, id, "POST", "/app", "192.0.2.1");
    see(&bens_phone, id, "GET", "/app", "10.1.1.1");
    see(&lost, id, "GET", "/app", "10.1.1.1");
    see(&bens_phone, RouteId::new(), "GET", "/app", "192.0.2.1");
    let revocation = format!("/api/v1/certificates/{lost}/revocation");
    app.post(&revocation, &json!({ "reason": "keyCompromise" })).token(&bens).send().await.expect(200);

    let path = format!("/api/v1/routes/{id}/policy-trials");
    let draft = json!({ "policy": { "kind": "known", "rules": [
        { "name": "office", "effect": "allow", "when": { "networks": ["10.0.0.0/8"] } },
        { "name": "writers", "effect": "allow", "when": { "methods": ["POST"] } },
    ] } });
    let tried = app.post(&path, &draft).token(&token).send().await.expect(200).body;
    let counts = ["tried", "gone", "would_be_refused", "would_be_admitted"]
        .map(|field| tried[field].as_u64().unwrap());
    assert_eq!(counts, [3, 1, 1, 1]);
    assert_eq!(tried["since"], json!(app.clock_now().plus(Duration::from_secs(1)).to_string()));
    let [admitted, refused] = &tried["changed"].as_array().unwrap()[..] else { panic!("{tried}") };
    assert_eq!((&admitted["serial"], &admitted["rule"]), (&json!(laptop), &json!("writers")));
    assert_eq!((&admitted["was_admitted"], &admitted["would_be_admitted"]), (&json!(false), &json!(true)));
    assert_eq!((&refused["person_id"], &refused["device_id"]), (&json!(anna.to_string()), &json!(device)));
    assert_eq!(
        (&refused["person_name"], &refused["device_name"]),
        (&json!("Anna Berg"), &json!("Anna's iPhone"))
    );
    assert_eq!((&refused["path"], &refused["source"]), (&json!("[redacted]"), &json!("192.0.2.1")));
    assert!(refused.get("rule").is_none(), "no rule of the draft fits her");

    // Nothing was changed by trying, and the policy in force changes nothing.
    let route = app.get(&format!("/api/v1/routes/{id}")).token(&token).send().await.expect(200).body;
    assert_eq!(route["version"], 1);
    let same =
        app.post(&path, &json!({ "policy": route["policy"] })).token(&token).send().await.expect(200).body;
    assert_eq!((&same["tried"], &same["changed"]), (&json!(3), &json!([])));
    let missing = format!("/api/v1/routes/{}/policy-trials", RouteId::new());
    app.post(&missing, &draft).token(&token).send().await.expect_problem(404, "not_found");
}
