//! Sites, routes, upstreams and settings: what an administrator edits reaches the edges.

use serde_json::{Value, json};

use super::fixture::App;

crate::on_both_databases! {
    async fn what_an_administrator_edits_reaches_the_edges(database) {
        let app = App::over(database).await;
        let (_, token) = app.administrator().await;
        let post = |path: &str, body: Value| app.post(&format!("/api/v1/{path}"), &body).token(&token).send();
        let upstream = post("upstreams", json!({ "name": "app", "targets": ["http://127.0.0.1:3000"] })).await.expect(201);
        assert_eq!(upstream.body["enforced"], json!({ "edges": 1, "acknowledged": 1 }));
        let site = json!({ "host": "App.Example.com", "client_auth": "request", "hsts_max_age_seconds": 3600,
            "certificate": "local", "enabled": true });
        let site = post("sites", site).await.expect(201);
        assert_eq!((&site.body["host"], &site.body["certificate"]["source"]), (&json!("app.example.com"), &json!("local")));
        assert_eq!(site.header("etag"), Some("\"1\""));
        let route = json!({ "host": "app.example.com", "path_prefix": "/", "upstream": "app",
            "policy": { "kind": "known", "groups": ["staff"] }, "plain_header": "X-WEBAUTH-USER" });
        let made = post("routes", route.clone()).await.expect(201);
        assert_eq!(made.body["policy"]["groups"], json!(["staff"]));
        post("routes", route).await.expect_problem(409, "conflict");
        let live = app.holder.snapshot().unwrap().configuration;
        let live = live.site("app.example.com").expect("the edge serves the site");
        assert_eq!(live.routes.len(), 1);

        let path = format!("/api/v1/routes/{}", made.body["id"].as_str().unwrap());
        let edit = |tag: &str, body: Value| {
            app.call("PATCH", &path).token(&token).header("if-match", tag).json(&body).send()
        };
        let edited = edit("\"1\"", json!({ "policy": { "kind": "public" }, "plain_header": "" })).await.expect(200);
        assert_eq!((&edited.body["version"], &edited.body["plain_header"]), (&json!(2), &Value::Null));
        edit("\"1\"", json!({ "path_prefix": "/x" })).await.expect_problem(412, "precondition_failed");
        let shown = app.get(&path).token(&token).send().await.expect(200);
        assert_eq!(shown.header("etag"), Some("\"2\""));
        let options = json!({ "rate": [{ "per": "person", "requests": 5, "seconds": 60 }], "max_body_mib": 4 });
        let limited = edit("\"2\"", json!({ "options": options })).await.expect(200);
        assert_eq!(limited.body["options"], options);
        let live = app.holder.snapshot().unwrap().configuration;
        assert_eq!(live.site("app.example.com").unwrap().routes[0].options.max_body(), Some(4 << 20));
        let kept = edit("\"3\"", json!({ "path_prefix": "/x" })).await.expect(200);
        assert_eq!(kept.body["options"], options, "what is not named stays");
        let options = json!({
            "headers": {
                "hsts": { "max_age_seconds": 31_536_000, "include_subdomains": true, "preload": true },
                "content_security_policy": "default-src 'self'", "frame_options": "sameorigin",
                "content_type_options": true, "referrer_policy": "strict-origin-when-cross-origin",
                "permissions_policy": "camera=()", "override": true,
            },
            "cookies": { "secure": true, "http_only": true, "same_site": "lax" },
            "compression": true,
            "maintenance": { "enabled": false, "message": "Until noon.", "retry_after_seconds": 60,
                "allow": { "groups": ["staff"] } },
        });
        let adding = edit("\"4\"", json!({ "options": options })).await.expect(200);
        assert_eq!(adding.body["options"], options);
        let closed = edit("\"5\"", json!({ "maintenance_enabled": true })).await.expect(200);
        assert_eq!(closed.body["options"]["maintenance"]["enabled"], true);
        assert_eq!(closed.body["options"]["maintenance"]["message"], "Until noon.", "and nothing else changes");
        assert_eq!(closed.body["options"]["cookies"], options["cookies"]);
        let live = app.holder.snapshot().unwrap().configuration;
        let route = &live.site("app.example.com").unwrap().routes[0];
        assert!(route.options.maintenance.as_ref().is_some_and(|maintenance| maintenance.keeps_out(None)));
        let none = edit("\"6\"", json!({ "options": {} })).await.expect(200);
        assert_eq!(none.body["options"], json!({}));

        app.call("DELETE", "/api/v1/upstreams/app").token(&token).send().await.expect_problem(409, "upstream_in_use");
        app.call("DELETE", &path).token(&token).send().await.expect(204);
        app.call("DELETE", "/api/v1/upstreams/app").token(&token).send().await.expect(204);
        let delete = app.call("DELETE", "/api/v1/sites/app.example.com").token(&token);
        delete.header("if-match", "\"9\"").send().await.expect_problem(412, "precondition_failed");
        app.call("DELETE", "/api/v1/sites/app.example.com").token(&token).send().await.expect(204);
        assert!(app.holder.snapshot().unwrap().configuration.site("app.example.com").is_none());
    }

    async fn what_an_upstream_does_with_its_targets_reaches_the_edges(database) {
        let app = App::over(database).await;
        let (_, token) = app.administrator().await;
        let targets = json!(["http://127.0.0.1:3000", "http://127.0.0.1:3001"]);
        let check = json!({ "kind": "http", "path": "/healthz", "interval_ms": 1000 });
        let body = json!({ "name": "app", "targets": targets, "options": { "balance": "round_robin", "health_check": check } });
        let made = app.post("/api/v1/upstreams", &body).token(&token).send().await.expect(201);
        let options = &made.body["options"];
        assert_eq!((&options["balance"], &options["retry_percent"]), (&json!("round_robin"), &json!(20)));
        assert_eq!((&options["health_check"]["timeout_ms"], &made.body["state"]), (&json!(2000), &Value::Null));
        let path = "/api/v1/upstreams/app";
        let edit = |tag: &str, body: Value| app.call("PATCH", path).token(&token).header("if-match", tag).json(&body).send();
        let forced = json!([{ "target": "http://127.0.0.1:3001", "breaker": "open" }]);
        let edited = edit("\"1\"", json!({ "options": { "forced": forced } })).await.expect(200);
        assert_eq!((&edited.body["options"]["balance"], &edited.body["options"]["forced"]), (&json!("least_loaded"), &forced));
        // What was decided about a target goes with it.
        let fewer = edit("\"2\"", json!({ "targets": ["http://127.0.0.1:3000"] })).await.expect(200);
        assert_eq!(fewer.body["options"]["forced"], Value::Null);
        let bad = json!({ "options": { "failures_to_open": 0, "health_check": { "kind": "http", "path": "x y" },
            "forced": [{ "target": "http://127.0.0.1:3001", "breaker": "open" }] } });
        let refused = edit("\"3\"", bad).await.expect_problem(422, "invalid_request");
        assert_eq!(refused.pointers(), ["/options/failures_to_open", "/options/health_check/path", "/options/forced"]);
    }

    async fn settings_are_edited_by_one_at_a_time(database) {
        let app = App::over(database).await;
        let (_, token) = app.administrator().await;
        let edit = |tag: &str, name: &str| {
            let call = app.call("PATCH", "/api/v1/settings").token(&token).header("if-match", tag);
            call.json(&json!({ "installation_name": name })).send()
        };
        let first = edit("\"1\"", "Otters").await.expect(200);
        edit("\"1\"", "Beavers").await.expect_problem(412, "precondition_failed");
        edit(first.header("etag").unwrap(), "Beavers").await.expect(200);
        assert_eq!(app.get("/api/v1/installation").send().await.body["name"], "Beavers");
    }
}

#[tokio::test]
async fn a_configuration_that_no_edge_could_serve_is_refused_by_field() {
    let app = App::new().await;
    let (_, token) = app.administrator().await;
    let post = |path: &str, body: Value| app.post(&format!("/api/v1/{path}"), &body).token(&token).send();
    for target in ["https://x/path", "unix:x", "http://x/path", "ftp://x", "x", "http://user@x", "http://x?y"]
    {
        let answer = post("upstreams", json!({ "name": "app", "targets": [target] })).await;
        assert_eq!(answer.expect_problem(422, "invalid_request").pointers(), ["/targets/0"], "{target}");
    }
    let none = post("upstreams", json!({ "name": "app", "targets": [] })).await;
    assert_eq!(none.expect(422).pointers(), ["/targets"]);
    post("upstreams", json!({ "name": "app", "targets": ["http://127.0.0.1:3000"] })).await.expect(201);
    for host in ["", "127.0.0.1", "a_b.example", "-.example", "x:443"] {
        let site = json!({ "host": host, "client_auth": "none", "hsts_max_age_seconds": 0, "certificate": "local", "enabled": true });
        assert_eq!(post("sites", site).await.expect(422).pointers(), ["/host"], "{host}");
    }
    let site = json!({ "host": "a.example", "client_auth": "none", "hsts_max_age_seconds": 0, "certificate": "local", "enabled": true });
    post("sites", site).await.expect(201);
    let route = |change: Value| {
        let mut route = json!({ "host": "a.example", "path_prefix": "/", "upstream": "app", "policy": { "kind": "public" } });
        route.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        route
    };
    for (change, pointer) in [
        (json!({ "policy": { "kind": "known" } }), "/policy"),
        (json!({ "policy": { "kind": "public", "groups": ["x"] } }), "/policy"),
        (json!({ "policy": { "kind": "known", "people": ["x"] } }), "/policy/people/0"),
        (json!({ "policy": { "kind": "all" } }), "/policy/kind"),
        (json!({ "path_prefix": "x" }), "/path_prefix"),
        (json!({ "path_prefix": "/a/" }), "/path_prefix"),
        (json!({ "path_prefix": "/a/../b" }), "/path_prefix"),
        (json!({ "path_prefix": "/a%2fb" }), "/path_prefix"),
        (json!({ "plain_header": "Cookie" }), "/plain_header"),
        (json!({ "plain_header": "Client-Cert" }), "/plain_header"),
        (json!({ "upstream": "nowhere" }), "/upstream"),
        (json!({ "options": { "max_body_mib": 0 } }), "/options/max_body_mib"),
        (
            json!({ "options": { "rate": [{ "per": "person", "requests": 0, "seconds": 1 }] } }),
            "/options/rate/0/requests",
        ),
        (
            json!({ "options": { "headers": { "hsts": { "max_age_seconds": 300, "preload": true } } } }),
            "/options/headers/hsts/preload",
        ),
        (
            json!({ "options": { "headers": { "content_security_policy": "a\r\nset-cookie: b" } } }),
            "/options/headers/content_security_policy",
        ),
        (
            json!({ "options": { "maintenance": { "enabled": true, "message": "" } } }),
            "/options/maintenance/message",
        ),
        (
            json!({ "options": { "maintenance": { "enabled": true, "allow": { "people": ["x"] } } } }),
            "/options/maintenance/allow/people/0",
        ),
        (json!({ "host": "b.example" }), "/host"),
    ] {
        let answer = post("routes", route(change.clone())).await.expect_problem(422, "invalid_request");
        assert_eq!(answer.pointers(), [pointer], "{change}");
    }
}

#[tokio::test]
async fn jobs_authorities_and_profiles_are_shown() {
    let app = App::new().await;
    let (_, token) = app.administrator().await;
    let get = |path: &str| app.get(&format!("/api/v1/{path}")).token(&token).send();
    assert_eq!(get("jobs").await.expect(200).body["items"][0]["name"], "clean_up");
    let run = app.call("POST", "/api/v1/jobs/clean_up/runs").token(&token).send().await;
    run.expect(202);
    get("jobs/clean_up/runs").await.expect(200);
    get("jobs/nothing/runs").await.expect_problem(404, "not_found");
    get("alerts").await.expect(200);
    let names: Vec<_> = get("authorities").await.expect(200).body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|authority| authority["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["client-issuing-g1", "client-root-g1", "local-server-g1"]);
    assert_eq!(get("authorities/client-root-g1").await.expect(200).body["kind"], "root");
    let profile = get("profiles/device").await.expect(200);
    assert_eq!(
        (&profile.body["lifetime_days"], &profile.body["key_types"][0]),
        (&json!(90), &json!("P-256"))
    );
}
