//! Setting up, signing in and out, passwords.

use std::time::Duration;

use serde_json::json;
use wicketgate::admin::Allowances;
use wicketgate::ca::EditPersonError;
use wicketgate::domain::{Actor, Role};
use wicketgate::store::people::Person;

use super::fixture::{App, CONSOLE, DOOR, PASSWORD, Way, generous};
use crate::harness::database::TestDatabase;

crate::on_both_databases! {
    async fn the_setup_link_opens_once_and_makes_an_administrator(database) {
        let app = App::over(database).await;
        let shown = app.get("/api/v1/installation").send().await.expect(200);
        assert_eq!(shown.body["setup_required"], true);
        let token = app.setup_token().await;
        let body = |token: &str, password: &str| {
            json!({ "token": token, "email": "Olga@Example.com", "name": "Olga Ops", "password": password })
        };
        let wrong = "A".repeat(43);
        app.post("/api/v1/setup", &body(&wrong, PASSWORD)).send().await.expect_problem(403, "setup_link_invalid");
        let weak = app.post("/api/v1/setup", &body(token.expose(), "password1234")).send().await;
        assert_eq!(weak.expect_problem(422, "invalid_request").pointers(), ["/password"]);

        let made = app.post("/api/v1/setup", &body(token.expose(), PASSWORD)).send().await.expect(201);
        assert_eq!(made.body["person"]["role"], "administrator");
        assert_eq!(made.body["person"]["email"], "olga@example.com");
        let set = made.header("set-cookie").unwrap();
        assert!(set.starts_with("__Host-session="));
        for part in ["; Path=/", "; Secure", "; HttpOnly", "; SameSite=Lax"] {
            assert!(set.contains(part), "{set}");
        }
        app.get("/api/v1/people").cookie(&made.cookie()).send().await.expect(200);
        app.post("/api/v1/setup", &body(token.expose(), PASSWORD)).send().await.expect_problem(410, "setup_done");
        let shown = app.get("/api/v1/installation").send().await;
        assert_eq!(shown.body["setup_required"], false);
    }

    async fn signing_in_takes_the_right_password_of_someone_who_is_not_shut_out(database) {
        let app = App::over(database).await;
        let first = app.set_up().await;
        let unknown = app.sign_in("nobody@example.com", PASSWORD).await.expect_problem(401, "sign_in_failed");
        let wrong = app.sign_in("olga@example.com", "not the password").await.expect_problem(401, "sign_in_failed");
        assert_eq!(unknown.body["detail"], wrong.body["detail"]);

        let answer = app.sign_in(" OLGA@example.com ", PASSWORD).await.expect(201);
        let cookie = answer.cookie();
        assert_ne!(cookie, first, "every sign-in makes a new session");
        let current = app.get("/api/v1/sessions/current").cookie(&cookie).send().await.expect(200);
        assert_eq!((&current.body["kind"], &current.body["current"]), (&json!("password"), &json!(true)));
        let listed = app.get("/api/v1/sessions").cookie(&cookie).send().await.expect(200);
        assert_eq!(listed.body["items"].as_array().unwrap().len(), 2);

        let out = app.call("DELETE", "/api/v1/sessions/current").cookie(&cookie);
        let out = out.header("content-type", "application/json").send().await.expect(204);
        assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
        app.get("/api/v1/sessions/current").cookie(&cookie).send().await.expect_problem(401, "not_signed_in");
        app.get("/api/v1/sessions/current").cookie(&first).send().await.expect(200);
    }
}

#[tokio::test]
async fn the_setup_link_ends_after_a_day_and_a_new_one_replaces_it() {
    let app = App::new().await;
    let old = app.setup_token().await;
    let new = app.setup_token().await;
    let body =
        |token: &str| json!({ "token": token, "email": "a@b.example", "name": "Olga", "password": PASSWORD });
    app.post("/api/v1/setup", &body(old.expose())).send().await.expect_problem(403, "setup_link_invalid");
    app.clock.advance(Duration::from_secs(24 * 3600));
    app.post("/api/v1/setup", &body(new.expose())).send().await.expect_problem(403, "setup_link_invalid");
}

#[tokio::test]
async fn an_unused_session_ends_after_twelve_hours_and_a_used_one_after_seven_days() {
    let app = App::new().await;
    let cookie = app.set_up().await;
    let current = || app.get("/api/v1/sessions/current").cookie(&cookie).send();
    for _ in 0..15 {
        app.clock.advance(Duration::from_secs(11 * 3600));
        current().await.expect(200);
    }
    app.clock.advance(Duration::from_secs(4 * 3600));
    current().await.expect_problem(401, "not_signed_in");
    let fresh = app.sign_in("olga@example.com", PASSWORD).await.expect(201).cookie();
    app.clock.advance(Duration::from_secs(12 * 3600));
    app.get("/api/v1/sessions/current").cookie(&fresh).send().await.expect_problem(401, "not_signed_in");
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions_and_the_old_one_is_needed_for_it() {
    let app = App::new().await;
    let (here, there) = (app.set_up().await, app.sign_in("olga@example.com", PASSWORD).await.cookie());
    let own = app.get("/api/v1/sessions/current").cookie(&here).send().await;
    let id = own.body["person"]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/people/{id}/password");
    let token = app.token(id.parse().unwrap(), Role::Administrator).await;
    app.get("/api/v1/sessions/current").token(&token).send().await.expect(200);
    let change = |current: &str, new: &str| {
        let body = json!({ "current_password": current, "new_password": new });
        app.call("PUT", &path).cookie(&here).json(&body).send()
    };
    let missing = app.call("PUT", &path).cookie(&here).json(&json!({ "new_password": "a lamp for otters" }));
    assert_eq!(missing.send().await.expect(422).pointers(), ["/current_password"]);
    assert_eq!(change("wrong", "a lamp for otters").await.expect(422).pointers(), ["/current_password"]);
    assert_eq!(change(PASSWORD, "short").await.expect(422).pointers(), ["/new_password"]);
    change(PASSWORD, "a lamp for otters").await.expect(204);
    app.get("/api/v1/sessions/current").cookie(&here).send().await.expect(200);
    app.get("/api/v1/sessions/current").cookie(&there).send().await.expect(401);
    app.sign_in("olga@example.com", PASSWORD).await.expect(401);
    app.sign_in("olga@example.com", "a lamp for otters").await.expect(201);
    app.get("/api/v1/sessions/current").token(&token).send().await.expect(401);
}

#[tokio::test]
async fn a_disabled_person_is_out_with_session_and_token_at_once() {
    let app = App::new().await;
    let (_, administrator) = app.administrator().await;
    let (ben, token) = app.member("Ben Weak").await;
    let (_, link) = app.invite(&administrator, ben).await;
    let accept = app.post("/api/v1/invitations/acceptance", &json!({ "token": link }));
    let cookie = accept.send().await.expect(200).cookie();
    let path = format!("/api/v1/people/{ben}");
    let edit = app.call("PATCH", &path).token(&administrator).header("if-match", "\"1\"");
    edit.json(&json!({ "disabled": true })).send().await.expect(200);
    app.get(&path).token(&token).send().await.expect_problem(401, "not_signed_in");
    app.get(&path).cookie(&cookie).send().await.expect_problem(401, "not_signed_in");
    assert!(app.store.sessions(ben, None, 10, app.clock_now()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_change_by_cookie_needs_our_own_origin_and_json() {
    let app = App::new().await;
    let cookie = app.set_up().await;
    let body = json!({ "name": "nas", "targets": ["http://127.0.0.1:3000"] });
    let send = |origin: Option<&'static str>, content_type: &'static str, way: Way| {
        let mut call = app.call("POST", "/api/v1/upstreams").through(way).header("cookie", &cookie);
        if let Some(origin) = origin {
            call = call.header("origin", origin);
        }
        call.bytes(content_type, body.to_string().as_bytes()).send()
    };
    let json = "application/json";
    for foreign in [
        "https://evil.example",
        "https://app.example.com",
        "http://console.example.com",
        "https://console.example.com:8443",
        "https://console.example.com.evil.example",
        "null",
        DOOR,
    ] {
        send(Some(foreign), json, Way::Console).await.expect_problem(403, "foreign_origin");
    }
    send(None, json, Way::Console).await.expect_problem(403, "foreign_origin");
    for form in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        send(Some(CONSOLE), form, Way::Console).await.expect_problem(415, "not_json");
    }
    send(Some(DOOR), json, Way::Door).await.expect_problem(403, "not_allowed");
    send(Some(CONSOLE), json, Way::Console).await.expect(201);
    let foreign = app.post("/api/v1/sessions", &json!({ "email": "olga@example.com", "password": PASSWORD }));
    foreign.header("origin", "https://evil.example").send().await.expect_problem(403, "foreign_origin");
}

#[tokio::test]
async fn guessing_is_slowed_down_by_source_and_by_account() {
    let few = super::fixture::allowance(3);
    let database = TestDatabase::sqlite();
    let by_account = Allowances { sign_in_by_account: few, ..generous() };
    let app = App::with(&database, by_account).await;
    for _ in 0..3 {
        app.sign_in("olga@example.com", "wrong").await.expect(401);
    }
    let denied = app.sign_in("olga@example.com", "wrong").await.expect_problem(429, "rate_limited");
    assert!(denied.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    app.sign_in("ben@example.com", "wrong").await.expect(401);
    // Who guesses at the door shuts nobody out of the console, nor the other way round.
    let body = json!({ "email": "olga@example.com", "password": "wrong" });
    app.post("/api/v1/sessions", &body).through(Way::Door).send().await.expect(401);

    let by_source =
        Allowances { sign_in_by_source: few, setup: few, acceptance: few, bad_tokens: few, ..generous() };
    let app = App::with(&database, by_source).await;
    let token = json!({ "token": "x" });
    let setup = json!({ "token": "x", "email": "a@b.example", "name": "a", "password": "b" });
    let bad = "wkt_0000000000000000000000000000000000000";
    for _ in 0..3 {
        app.sign_in("olga@example.com", "wrong").await.expect(401);
        app.post("/api/v1/invitations/acceptance", &token).send().await.expect(410);
        app.post("/api/v1/setup", &setup).send().await.expect(403);
        app.get("/api/v1/people").token(bad).send().await.expect(401);
    }
    app.sign_in("other@example.com", "wrong").await.expect_problem(429, "rate_limited");
    app.post("/api/v1/invitations/acceptance", &token).send().await.expect_problem(429, "rate_limited");
    app.post("/api/v1/setup", &setup).send().await.expect_problem(429, "rate_limited");
    app.get("/api/v1/people").token(bad).send().await.expect_problem(429, "rate_limited");
    let door = app.post("/api/v1/sessions", &json!({ "email": "x@example.com", "password": "wrong" }));
    door.through(Way::Door).send().await.expect(401);
}

#[tokio::test]
async fn at_the_door_everyone_is_a_member_and_at_the_socket_root_runs_the_house() {
    let app = App::new().await;
    let (_, token) = app.administrator().await;
    app.get("/api/v1/people").token(&token).send().await.expect(200);
    app.get("/api/v1/people")
        .token(&token)
        .through(Way::Door)
        .send()
        .await
        .expect_problem(403, "not_allowed");
    let session =
        app.get("/api/v1/sessions/current").token(&token).through(Way::Door).send().await.expect(200);
    assert_eq!(session.body["person"]["role"], "member");
    app.get("/api/v1/people").through(Way::Socket).send().await.expect(200);
    let person = json!({ "email": "n@example.com", "name": "New", "role": "member", "groups": [] });
    app.post("/api/v1/people", &person).through(Way::Socket).send().await.expect(201);
    let events = app.get("/api/v1/audit-events?action=person.add").token(&token).send().await;
    assert!(events.body["items"][0]["actor"].as_str().unwrap().starts_with("host:"));
}

crate::on_both_databases! {
    async fn two_administrators_cannot_demote_one_another_and_disabling_ends_sessions(database) {
        let app = App::over(database).await;
        let cookie = app.set_up().await;
        let olga = app.store.person_by_email("olga@example.com").await.unwrap().unwrap();
        let ada = app.person("Ada Root", Role::Administrator).await;
        let ada = app.store.person(ada).await.unwrap().unwrap();
        let edit = async |person: Person| {
            let now = app.clock_now();
            let act = app.store.begin_act(Actor::System("test"), "person.edit", None, None, now).await.unwrap();
            app.ca.update_person(&person, &act, now).await
        };
        // Both were decided on while there were two.
        let (first, second) = tokio::join!(
            edit(Person { role: Role::Member, ..ada.clone() }),
            edit(Person { disabled: true, ..olga.clone() }),
        );
        assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
        let refused = first.and(second).unwrap_err();
        assert!(matches!(refused, EditPersonError::LastAdministrator), "{refused:?}");

        let ada = app.store.person(ada.id).await.unwrap().unwrap();
        let olga = app.store.person(olga.id).await.unwrap().unwrap();
        edit(Person { role: Role::Administrator, disabled: false, ..ada }).await.unwrap();
        let (olga, _) = edit(Person { disabled: true, ..olga }).await.unwrap();
        edit(Person { disabled: false, ..olga }).await.unwrap();
        app.get("/api/v1/sessions/current").cookie(&cookie).send().await.expect_problem(401, "not_signed_in");
    }
}
