//! The configuration as one document: applied whole or not at all, and read back as it was written.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::fixture::{Answer, App, Way};
use crate::harness::database::TestDatabase;
use crate::harness::peers;

const PATH: &str = "/api/v1/configuration";

fn document() -> Value {
    json!({
        "settings": { "installation_name": "Otters" },
        "upstreams": [{ "name": "app", "targets": ["http://127.0.0.1:3000"] }],
        "sites": [{ "host": "app.example.com", "client_auth": "request", "hsts_max_age_seconds": 60,
            "certificate": "local", "enabled": true }],
        "routes": [
            { "host": "app.example.com", "path_prefix": "/", "upstream": "app",
              "policy": { "kind": "known", "groups": ["staff"] }, "plain_header": "X-WEBAUTH-USER" },
            { "host": "app.example.com", "path_prefix": "/public", "upstream": "app", "policy": { "kind": "public" },
              "options": { "rate": [{ "per": "source", "requests": 10, "seconds": 60, "burst": 20 }] } },
        ],
    })
}

struct Editor<'a> {
    app: &'a App,
    token: String,
}

impl Editor<'_> {
    async fn read(&self) -> (String, Value) {
        let answer = self.app.get(PATH).token(&self.token).send().await.expect(200);
        (answer.header("etag").unwrap().to_owned(), answer.body)
    }

    async fn put_at(&self, etag: &str, query: &str, document: &Value) -> Answer {
        let call = self.app.call("PUT", &format!("{PATH}{query}")).token(&self.token);
        call.header("if-match", etag).json(document).send().await
    }

    async fn put(&self, query: &str, document: &Value) -> Answer {
        let (etag, _) = self.read().await;
        self.put_at(&etag, query, document).await
    }
}

/// The changes of a plan as `action kind name`.
fn changes(answer: &Answer) -> Vec<String> {
    let word = |change: &Value, name: &str| change[name].as_str().unwrap().to_owned();
    let all = answer.body["changes"].as_array().unwrap();
    all.iter()
        .map(|one| format!("{} {} {}", word(one, "action"), word(one, "kind"), word(one, "name")))
        .collect()
}

crate::on_both_databases! {
    async fn a_document_is_applied_whole_in_force_at_the_edges_and_read_back_the_same(database) {
        let app = App::over(database).await;
        let (_, token) = app.administrator().await;
        let editor = Editor { app: &app, token };
        let (before, _) = editor.read().await;
        let dry = editor.put("?dry_run=true", &document()).await.expect(200);
        assert_eq!((dry.body["applied"].as_bool(), dry.body.get("enforced")), (Some(false), None));
        assert_eq!(editor.read().await.0, before, "a dry run changes nothing");
        assert!(app.holder.snapshot().is_none_or(|live| live.configuration.site("app.example.com").is_none()));

        let applied = editor.put("", &document()).await.expect(200);
        assert_eq!(changes(&applied), changes(&dry));
        assert_eq!(changes(&applied), [
            "create upstream app", "create site app.example.com", "create route app.example.com/",
            "create route app.example.com/public", "change settings settings",
        ]);
        assert_eq!(applied.body["enforced"], json!({ "edges": 1, "acknowledged": 1 }));
        let live = app.holder.snapshot().unwrap().configuration;
        assert_eq!(live.site("app.example.com").expect("the edge serves the site").routes.len(), 2);
        let (etag, read) = editor.read().await;
        assert_eq!(read, document());
        assert!(changes(&editor.put("?prune=true", &read).await.expect(200)).is_empty());
        assert_eq!(editor.read().await.0, etag, "what does not differ is not written");

        // Ids stay with host and prefix; what is not named stays, until it is pruned.
        let routes = app.get("/api/v1/routes").token(&editor.token).send().await.body;
        let mut less = document();
        less["routes"] = json!([{ "host": "app.example.com", "path_prefix": "/", "upstream": "app",
            "policy": { "kind": "known" } }]);
        let changed = editor.put("", &less).await.expect(200);
        assert_eq!(changes(&changed), ["change route app.example.com/"]);
        assert_eq!(changed.body["changes"][0]["fields"], json!(["policy", "plain_header"]));
        let pruned = editor.put("?prune=true", &less).await.expect(200);
        assert_eq!(changes(&pruned), ["delete route app.example.com/public"]);
        let left = app.get("/api/v1/routes").token(&editor.token).send().await.body;
        let ids: Vec<_> = routes["items"].as_array().unwrap().iter().map(|route| &route["id"]).collect();
        assert!(ids.contains(&&left["items"][0]["id"]) && left["items"].as_array().unwrap().len() == 1);
        let empty = json!({ "upstreams": [], "sites": [], "routes": [] });
        let emptied = editor.put("?prune=true", &empty).await.expect(200);
        assert_eq!(changes(&emptied), ["delete site app.example.com", "delete upstream app"]);
        assert!(app.holder.snapshot().unwrap().configuration.site("app.example.com").is_none());
    }

    async fn a_document_that_does_not_fit_is_refused_with_every_fault_and_nothing_of_it_is_done(database) {
        let app = App::over(database).await;
        let (_, token) = app.administrator().await;
        let editor = Editor { app: &app, token };
        editor.put("", &document()).await.expect(200);
        let (etag, before) = editor.read().await;

        let mut values = document();
        values["upstreams"][0]["targets"] = json!(["ftp://x", "http://127.0.0.1:3000/path"]);
        values["sites"][0]["host"] = json!("not a host");
        values["routes"][0]["policy"] = json!({ "kind": "public", "groups": ["staff"] });
        values["routes"][1]["path_prefix"] = json!("/public/../x");
        let refused = editor.put("", &values).await.expect_problem(422, "invalid_request");
        for pointer in ["/upstreams/0/targets/0", "/upstreams/0/targets/1", "/sites/0/host", "/routes/0/policy",
            "/routes/1/path_prefix"] {
            assert!(refused.pointers().contains(&pointer), "{pointer}: {}", refused.text);
        }
        let mut together = document();
        together["sites"][0]["client_auth"] = json!("none");
        together["routes"][1]["upstream"] = json!("nowhere");
        let (route, upstream) = (together["routes"][1].clone(), together["upstreams"][0].clone());
        together["routes"].as_array_mut().unwrap().push(route);
        together["upstreams"].as_array_mut().unwrap().push(upstream);
        let refused = editor.put("", &together).await.expect_problem(422, "invalid_request");
        for pointer in ["/routes/0/policy", "/routes/1/upstream", "/routes/2/path_prefix", "/upstreams/1/name"] {
            assert!(refused.pointers().contains(&pointer), "{pointer}: {}", refused.text);
        }
        let unknown = json!({ "upstream": [] });
        editor.put("", &unknown).await.expect(422);
        // What stays would be left without its upstream.
        editor.put("?prune=true", &json!({ "upstreams": [] })).await.expect_problem(422, "invalid_request");
        assert_eq!(editor.read().await, (etag.clone(), before));

        let call = app.call("PUT", PATH).token(&editor.token).json(&document());
        call.send().await.expect_problem(428, "precondition_required");
        let upstream = json!({ "name": "other", "targets": ["http://127.0.0.1:1"] });
        app.post("/api/v1/upstreams", &upstream).token(&editor.token).send().await.expect(201);
        editor.put_at(&etag, "", &document()).await.expect_problem(412, "precondition_failed");
    }
}

#[tokio::test]
async fn only_administrators_read_and_apply_and_both_are_in_the_audit() {
    let app = App::new().await;
    let (_, token) = app.administrator().await;
    let (_, member) = app.member("Ben Weak").await;
    app.get(PATH).token(&member).send().await.expect_problem(403, "not_allowed");
    let call = app.call("PUT", PATH).token(&member).header("if-match", "*").json(&document());
    call.send().await.expect_problem(403, "not_allowed");
    let door = app.call("PUT", PATH).through(Way::Door).token(&token).header("if-match", "*");
    door.json(&document()).send().await.expect_problem(403, "not_allowed");
    let editor = Editor { app: &app, token };
    editor.put("?dry_run=true", &document()).await.expect(200);
    editor.put("", &document()).await.expect(200);
    let events = app.get("/api/v1/audit-events?action=configuration.apply").token(&editor.token);
    let events = events.send().await.expect(200).body;
    let details: Vec<_> =
        events["items"].as_array().unwrap().iter().filter_map(|event| event["detail"].as_str()).collect();
    assert_eq!(details, ["5 changes", "dry run, 5 changes"]);
}

#[tokio::test]
async fn a_write_that_fails_in_the_middle_leaves_nothing_of_the_document() {
    let Some(python) = peers::peer("python3") else { return };
    let app = App::over(&TestDatabase::sqlite()).await;
    let (_, token) = app.administrator().await;
    let editor = Editor { app: &app, token };
    let (etag, before) = editor.read().await;
    let script = "import sqlite3,sys\nc=sqlite3.connect(sys.argv[1])\nc.executescript(\"CREATE TRIGGER full BEFORE \
                  INSERT ON route WHEN NEW.path_prefix = '/public' BEGIN SELECT RAISE(ABORT, 'full'); END\")";
    let made = std::process::Command::new(python)
        .args(["-c", script])
        .arg(app.directory().join("test.db"))
        .status()
        .unwrap();
    assert!(made.success());
    let failed = editor.put("", &document()).await;
    assert!(failed.status >= 500, "{}", failed.text);
    assert_eq!(editor.read().await, (etag, before));
}

#[tokio::test]
async fn a_configuration_of_a_thousand_routes_fits() {
    let app = App::new().await;
    let (_, token) = app.administrator().await;
    let editor = Editor { app: &app, token };
    let mut large = document();
    let route = |number: u32| {
        json!({ "host": "app.example.com", "path_prefix": format!("/some/longer/path/{number}"), "upstream": "app",
            "policy": { "kind": "known", "groups": ["staff", "guests"] } })
    };
    large["routes"] = (0..1500).map(route).collect();
    assert!(large.to_string().len() > 150_000);
    editor.put("", &large).await.expect(200);
    let (_, read) = editor.read().await;
    assert_eq!(read["routes"].as_array().unwrap().len(), 1500);
    assert!(changes(&editor.put("?prune=true", &read).await.expect(200)).is_empty());
}

/// Options that are not the defaults, as they are read back.
fn any_options(target: &str, number: u32) -> Value {
    let balance = ["round_robin", "consistent_hash"][number as usize % 2];
    let protocol = ["http1", "http2"][number as usize / 2 % 2];
    let mut options = json!({ "balance": balance, "protocol": protocol,
        "failures_to_open": 1 + number % 1000, "success_percent": number % 101, "may_eject_all": number.is_multiple_of(3),
        "max_queue": number % 100, "queue_timeout_ms": number % 1000, "retry_percent": number % 100 });
    if number.is_multiple_of(3) {
        options["max_in_flight"] = json!(1 + number % 1000);
        options["forced"] = json!([{ "target": target, "breaker": "open" }]);
    }
    if target.starts_with("https:") {
        options["tls"] =
            json!({ "server_name": "app.internal", "present_certificate": number.is_multiple_of(2) });
    }
    if number % 5 < 3 {
        options["health_check"] = json!({ "kind": "http", "path": "/healthz", "interval_ms": 1000,
            "timeout_ms": 500, "healthy_after": 2, "unhealthy_after": 3 });
    }
    if number % 7 < 3 {
        let kind = ["addresses", "srv"][number as usize % 2];
        options["discovery"] = json!({ "kind": kind, "refresh_seconds_min": 1 + number % 60,
            "refresh_seconds_max": 60 + number % 1000 });
    }
    options
}

/// Rules of a route, as they are read back.
fn any_rules(prefix: &str, number: u32) -> Value {
    let mut first = json!({ "name": "office \"hours\"", "effect": "deny", "when": {
        "networks": ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"], "methods": ["DELETE", "PUT"] } });
    if number.is_multiple_of(2) {
        let below = if prefix == "/" { "/x".to_owned() } else { format!("{prefix}/x") };
        first["when"]["path_prefixes"] = json!([below]);
        first["when"]["certificate_age_max_days"] = json!(number % 36_500);
    }
    let second = json!({ "name": "Ä", "effect": "allow", "when": { "groups": ["staff"], "profiles": ["device"],
        "sans": ["dns:*.example.com", "email:anna@example.com"], "authorities": ["client-issuing-g1"] } });
    match number % 5 {
        0 => json!([second]),
        1 => json!([{ "name": "everybody", "effect": "allow" }]),
        2 => json!([second, first]),
        _ => json!([first, second]),
    }
}

/// Any configuration that fits together.
fn any_document() -> impl Strategy<Value = Value> {
    let names = prop::collection::btree_set("[a-z]{1,8}", 1..4);
    let hosts = prop::collection::btree_set("[a-z]{1,8}\\.example", 0..4);
    let numbers = prop::collection::vec(any::<u32>(), 16);
    (names, hosts, numbers, "[A-Za-zÄ€ '\"\\\\]{0,20}x").prop_map(|(names, hosts, numbers, title)| {
        let names: Vec<_> = names.into_iter().collect();
        let number = |at: usize| numbers[at % numbers.len()];
        let pick = |at: usize| &names[number(at) as usize % names.len()];
        let upstreams: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(at, name)| {
                let scheme = ["http", "https"][number(at + 2) as usize % 2];
                let target = format!("{scheme}://h{}.example:{}", at, 1 + number(at) % 65_535);
                let mut upstream = json!({ "name": name, "targets": [&target] });
                if number(at) % 2 == 0 {
                    upstream["options"] = any_options(&target, number(at + 1));
                }
                upstream
            })
            .collect();
        let mut sites = Vec::new();
        let mut routes = Vec::new();
        for (at, host) in hosts.iter().enumerate() {
            let asks = ["none", "request", "require"][number(at) as usize % 3];
            sites.push(
                json!({ "host": host, "client_auth": asks, "hsts_max_age_seconds": number(at + 1) % 1000,
                "certificate": "local", "enabled": number(at + 2) % 2 == 0 }),
            );
            for (index, prefix) in ["/", "/a", "/a/b"].iter().enumerate().take(number(at + 3) as usize % 4) {
                let mut route = json!({ "host": host, "path_prefix": prefix, "upstream": pick(at + index),
                    "policy": { "kind": "public" } });
                if asks != "none" && number(at + index) % 2 == 0 {
                    route["policy"] = json!({ "kind": "known" });
                    if number(index) % 2 == 0 {
                        route["policy"]["groups"] = json!(["guests", "staff"]);
                        route["plain_header"] = json!("X-User");
                    }
                    if number(index + 2) % 3 != 0 {
                        route["policy"]["rules"] = any_rules(prefix, number(index + 2));
                    }
                }
                if number(index + 5) % 3 == 0 {
                    route["audience"] = json!("https://audience.example");
                }
                if number(index + 3) % 3 == 0 {
                    route["options"] = json!({ "max_body_mib": 7, "compression": true, "cookies": { "secure": true },
                        "headers": { "frame_options": "deny" }, "maintenance": { "enabled": true } });
                }
                routes.push(route);
            }
        }
        json!({ "settings": { "installation_name": title.trim() }, "upstreams": upstreams, "sites": sites,
            "routes": routes })
    })
}

#[tokio::test]
async fn whatever_is_applied_is_read_back_the_same_from_whatever_was_there() {
    let app = App::new().await;
    let (_, token) = app.administrator().await;
    let editor = Editor { app: &app, token };
    let mut runner = TestRunner::deterministic();
    for _ in 0..24 {
        let wanted = any_document().new_tree(&mut runner).unwrap().current();
        editor.put("?prune=true", &wanted).await.expect(200);
        let (_, read) = editor.read().await;
        assert_eq!(read, wanted);
        let again = editor.put("?prune=true", &read).await.expect(200);
        assert!(changes(&again).is_empty(), "{}", again.text);
    }
}

#[tokio::test]
async fn a_site_that_is_passed_through_is_applied_and_read_back_and_has_nothing_of_ours() {
    let app = App::new().await;
    let (_, token) = app.administrator().await;
    let editor = Editor { app: &app, token };
    let mut wanted = document();
    wanted["sites"].as_array_mut().unwrap().push(json!({
        "host": "mail.example.com", "kind": "passthrough", "upstream": "app", "client_auth": "none",
        "hsts_max_age_seconds": 0, "certificate": "local", "enabled": true,
    }));
    editor.put("", &wanted).await.expect(200);
    let live = app.holder.snapshot().unwrap().configuration;
    assert_eq!(live.passthrough("mail.example.com").unwrap().upstream.name.as_str(), "app");
    assert!(live.site("mail.example.com").is_none());
    assert_eq!(editor.read().await.1, wanted);
    let host = "mail.example.com".parse().unwrap();
    assert_eq!(app.store.site(&host).await.unwrap().unwrap().server_certificate, None);

    for (field, value) in [
        ("client_auth", json!("request")),
        ("hsts_max_age_seconds", json!(60)),
        ("certificate", json!("acme")),
        ("upstream", Value::Null),
    ] {
        let mut wrong = wanted.clone();
        wrong["sites"][1][field] = value;
        let refused = editor.put("", &wrong).await.expect_problem(422, "invalid_request");
        assert_eq!(refused.pointers(), [format!("/sites/1/{field}")]);
    }
    let mut other_kind = wanted.clone();
    other_kind["sites"][1]["kind"] = json!("app");
    other_kind["sites"][1]["upstream"] = Value::Null;
    let refused = editor.put("", &other_kind).await.expect_problem(422, "invalid_request");
    assert_eq!(refused.pointers(), ["/sites/1/kind"]);
    let mut routed = wanted.clone();
    let mut route = routed["routes"][1].clone();
    route["host"] = json!("mail.example.com");
    routed["routes"].as_array_mut().unwrap().push(route);
    let refused = editor.put("", &routed).await.expect_problem(422, "invalid_request");
    assert_eq!(refused.pointers(), ["/routes/2/host"]);
    // It goes as it came, and its upstream with it.
    let empty = json!({ "upstreams": [], "sites": [], "routes": [] });
    editor.put("?prune=true", &empty).await.expect(200);
    assert!(app.holder.snapshot().unwrap().configuration.passthroughs.is_empty());
}
