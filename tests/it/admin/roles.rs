//! Every operation against every kind of caller, generated from the document, and somebody else's id
//! in every path.

use serde_json::{Value, json};
use wicketgate::admin::Access;

use super::fixture::{App, Call, Way};
use super::openapi::operations;

fn access_of(entry: &Value) -> Access {
    match entry["x-access"].as_str().unwrap() {
        "public" => Access::Public,
        "enrolment" => Access::Enrolment,
        "member" => Access::Member,
        "administrator" => Access::Administrator,
        other => panic!("{other}"),
    }
}

/// A path with something in the place of its parameter.
fn fill(path: &str, value: &str) -> String {
    match (path.find('{'), path.find('}')) {
        (Some(from), Some(to)) => format!("{}{value}{}", &path[..from], &path[to + 1..]),
        _ => path.to_owned(),
    }
}

/// A request with a body if the operation takes one; an empty object fits no schema that has a field.
fn call<'a>(app: &'a App, method: &str, path: &str, entry: &Value) -> Call<'a> {
    let call = app.call(method, path);
    if entry["requestBody"].is_object() { call.json(&json!({})) } else { call }
}

#[tokio::test]
async fn deny_by_default_holds_for_every_operation_and_caller() {
    let app = App::new().await;
    let (_, administrator) = app.administrator().await;
    let (ben, member) = app.member("Ben Weak").await;
    let (_, link) = app.invite(&administrator, ben).await;
    let accept = app.post("/api/v1/invitations/acceptance", &json!({ "token": link }));
    let enrolling = accept.send().await.expect(200).cookie();

    for (id, (method, path, entry)) in operations() {
        let access = access_of(&entry);
        let path = fill(&path, "0192f0c1-2345-7abc-8def-0123456789ab");
        let nobody = call(&app, &method, &path, &entry).send().await;
        assert_eq!(
            nobody.status == 401 && nobody.code() == "not_signed_in",
            access != Access::Public,
            "{id}"
        );
        if access == Access::Public {
            continue;
        }
        // Signing out would end the session that the next operations need.
        if id != "signOut" {
            let own = call(&app, &method, &path, &entry).cookie(&enrolling);
            let own = if entry["requestBody"].is_object() {
                own
            } else {
                own.header("content-type", "application/json")
            };
            let answer = own.send().await;
            assert_eq!(answer.status == 403, access > Access::Enrolment, "{id}, enrolling: {}", answer.text);
        }
        let answer = call(&app, &method, &path, &entry).token(&member).send().await;
        assert_eq!(answer.status == 403, access > Access::Member, "{id}, member: {}", answer.text);
        let answer = call(&app, &method, &path, &entry).token(&administrator).through(Way::Door).send().await;
        assert_eq!(answer.status == 403, access > Access::Member, "{id}, at the door: {}", answer.text);
        let answer = call(&app, &method, &path, &entry).token(&administrator).send().await;
        assert_ne!(answer.status, 403, "{id}, administrator: {}", answer.text);
        assert!(answer.status < 500, "{id}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_member_learns_nothing_of_another_member() {
    let app = App::new().await;
    let (_, administrator) = app.administrator().await;
    let (anna, annas) = app.member("Anna Berg").await;
    let (_, bens) = app.member("Ben Weak").await;
    let issued = app.issue(&annas, "Anna's iPhone").await.expect(201);
    let (serial, device) =
        (issued.body["serial"].as_str().unwrap(), issued.body["device_id"].as_str().unwrap());
    let token = app.post("/api/v1/tokens", &json!({ "name": "t", "role": "member", "expires_in_days": 1 }));
    let token = token.token(&annas).send().await.expect(201).body["id"].as_str().unwrap().to_owned();
    let (invitation, _) = app.invite(&administrator, anna).await;
    let id_of = |path: &str| match path.split('/').nth(3).unwrap() {
        "people" => Some(anna.to_string()),
        "devices" => Some(device.to_owned()),
        "certificates" => Some(serial.to_owned()),
        "tokens" => Some(token.clone()),
        "invitations" => Some(invitation.clone()),
        _ => None,
    };
    let mut tried = 0;
    for (id, (method, path, entry)) in operations() {
        let (true, Some(theirs)) = (path.contains('{'), id_of(&path)) else { continue };
        let body = match id.as_str() {
            "revokeCertificate" | "revokeDevice" => json!({ "reason": "keyCompromise" }),
            "renewCertificate" => json!({ "csr": super::fixture::csr() }),
            "editDevice" => json!({ "name": "mine now" }),
            "setPassword" => json!({ "new_password": "seven quiet otters" }),
            _ => json!({}),
        };
        let mut call = app.call(&method, &fill(&path, &theirs)).token(&bens).header("if-match", "\"1\"");
        if entry["requestBody"].is_object() {
            call = call.json(&body);
        }
        let answer = call.send().await;
        let wanted = if access_of(&entry) == Access::Administrator { 403 } else { 404 };
        assert_eq!(answer.status, wanted, "{id}: {}", answer.text);
        tried += 1;
    }
    assert!(tried >= 9, "only {tried} operations take an id");
    for listing in ["devices?person=", "certificates?person_id="] {
        app.get(&format!("/api/v1/{listing}{anna}"))
            .token(&bens)
            .send()
            .await
            .expect_problem(404, "not_found");
    }
    for listing in ["devices", "certificates", "invitations", "tokens"] {
        let listed = app.get(&format!("/api/v1/{listing}")).token(&bens).send().await.expect(200);
        assert!(!listed.text.contains(&anna.to_string()), "{listing}");
    }
    let by_device = format!("/api/v1/certificates?device_id={device}");
    let listed = app.get(&by_device).token(&bens).send().await.expect(200);
    assert_eq!(listed.body["items"], json!([]));
    let for_anna = json!({ "csr": super::fixture::csr(), "device_name": "x", "person_id": anna.to_string() });
    app.post("/api/v1/certificates", &for_anna).token(&bens).send().await.expect_problem(404, "not_found");
    let on_hers = json!({ "csr": super::fixture::csr(), "device_id": device });
    app.post("/api/v1/certificates", &on_hers).token(&bens).send().await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn the_last_administrator_stays_one() {
    let app = App::new().await;
    let (ada, token) = app.administrator().await;
    for edit in [json!({ "role": "member" }), json!({ "disabled": true })] {
        let call = app.call("PATCH", &format!("/api/v1/people/{ada}")).token(&token);
        call.header("if-match", "\"1\"").json(&edit).send().await.expect_problem(409, "last_administrator");
    }
}
