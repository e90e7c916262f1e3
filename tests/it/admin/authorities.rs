//! Rolling authorities over through the API: one answer a step, and refusals that say what to do.

use serde_json::json;
use wicketgate::domain::Role;

use super::fixture::{Answer, App};

async fn step(app: &App, token: &str, name: &str, verb: &str) -> Answer {
    app.call("POST", &format!("/api/v1/authorities/{name}/{verb}")).token(token).send().await
}

#[tokio::test]
async fn an_issuing_authority_is_rolled_over_step_by_step() {
    let app = App::new().await;
    let (_, ada) = app.administrator().await;
    let (_, anna) = app.member("Anna Berg").await;
    app.issue(&anna, "phone").await.expect(201);
    let staged =
        app.post("/api/v1/authorities", &json!({ "kind": "issuing" })).token(&ada).send().await.expect(201);
    let name = staged.body["name"].as_str().unwrap().to_owned();
    assert_eq!((name.as_str(), &staged.body["state"]), ("client-issuing-g2", &json!("staged")));
    assert_eq!((&staged.body["issuer"], &staged.body["key_here"]), (&json!("client-root-g1"), &json!(true)));
    step(&app, &ada, &name, "issuance").await.expect_problem(409, "wrong_state");
    let trusted = step(&app, &ada, &name, "trust").await.expect(200);
    assert_eq!(trusted.body["enforced"], json!({ "edges": 1, "acknowledged": 1 }));
    assert_eq!(step(&app, &ada, &name, "rollback").await.expect(200).body["state"], "staged");
    step(&app, &ada, &name, "trust").await.expect(200);
    assert_eq!(step(&app, &ada, &name, "issuance").await.expect(200).body["state"], "issuing");
    step(&app, &ada, &name, "rollback").await.expect_problem(409, "wrong_state");
    let issued = app.issue(&anna, "laptop").await.expect(201);
    assert_eq!(issued.body["authority"], "client-issuing-g2");

    let path = "/api/v1/authorities/client-issuing-g1/dependants";
    let dependants = app.get(path).token(&ada).send().await.expect(200).body;
    assert_eq!(
        (&dependants["certificates"], &dependants["people"], &dependants["devices"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert_eq!(dependants["items"][0]["device_name"], "phone");
    app.get(path).token(&anna).send().await.expect_problem(403, "not_allowed");
    let archive = async |body| {
        app.post("/api/v1/authorities/client-issuing-g1/archival", &body).token(&ada).send().await
    };
    archive(json!({})).await.expect_problem(409, "would_break");
    archive(json!({ "acknowledge": 2 })).await.expect_problem(409, "would_break");
    assert_eq!(archive(json!({ "acknowledge": 1 })).await.expect(200).body["state"], "archived");
    archive(json!({ "acknowledge": 1 })).await.expect_problem(409, "wrong_state");
}

#[tokio::test]
async fn a_root_shows_whom_it_vouches_for_and_the_server_authority_is_not_rolled_over() {
    let app = App::new().await;
    let (_, ada) = app.administrator().await;
    app.post("/api/v1/authorities", &json!({ "kind": "root" })).token(&ada).send().await.expect(201);
    step(&app, &ada, "client-root-g2", "trust").await.expect(200);
    let root = app.get("/api/v1/authorities/client-root-g1").token(&ada).send().await.expect(200).body;
    let crosses = root["cross_certificates"].as_array().unwrap();
    let mut pairs: Vec<_> = crosses
        .iter()
        .map(|one| (one["issuer"].as_str().unwrap(), one["subject"].as_str().unwrap()))
        .collect();
    pairs.sort_unstable();
    assert_eq!(pairs, [("client-root-g1", "client-root-g2"), ("client-root-g2", "client-root-g1")]);
    let kind = json!({ "kind": "local_server" });
    app.post("/api/v1/authorities", &kind).token(&ada).send().await.expect_problem(422, "invalid_request");
    step(&app, &ada, "nobody", "trust").await.expect_problem(404, "not_found");
    let member = app.person("Ben Weak", Role::Member).await;
    let member = app.token(member, Role::Member).await;
    step(&app, &member, "client-root-g2", "issuance").await.expect_problem(403, "not_allowed");
}
