//! Invitations, and the certificates that come of them.

use std::time::Duration;

use serde_json::json;
use wicketgate::domain::Role;

use super::fixture::{App, PASSWORD, Way, csr};

crate::on_both_databases! {
    async fn an_invitation_gives_one_certificate_and_a_password(database) {
        let app = App::over(database).await;
        let (_, administrator) = app.administrator().await;
        let ben = app.person("Ben Weak", Role::Member).await;
        let (id, link) = app.invite(&administrator, ben).await;
        assert_eq!(link.len(), 43);
        let listed = app.get("/api/v1/invitations").token(&administrator).send().await.expect(200);
        assert_eq!(listed.body["items"][0]["state"], "open");
        assert!(!listed.text.contains(&link), "the link is shown once");

        let accept = || app.post("/api/v1/invitations/acceptance", &json!({ "token": link })).through(Way::Door);
        let accepted = accept().send().await.expect(200);
        assert_eq!(accepted.body["kind"], "enrolment");
        assert_eq!(accepted.body["invitation"]["id"], id.as_str());
        let cookie = accepted.cookie();
        accept().send().await.expect_problem(410, "invitation_invalid");

        let issue = |body: serde_json::Value| {
            app.call("POST", "/api/v1/certificates").through(Way::Door).cookie(&cookie).json(&body).send()
        };
        let bad = issue(json!({ "csr": "nonsense", "device_name": "Ben's phone" })).await;
        assert_eq!(bad.expect_problem(422, "invalid_request").pointers(), ["/csr"]);
        let issued = issue(json!({ "csr": csr(), "device_name": "Ben's phone" })).await.expect(201);
        assert_eq!(issued.body["state"], "active");
        assert_eq!(issued.body["person_id"], ben.to_string());
        assert_eq!(issued.body["enforced"], json!({ "edges": 1, "acknowledged": 1 }));
        assert!(issued.body["pem"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(issued.body["chain_pem"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
        let path = format!("/api/v1/certificates/{}", issued.body["serial"].as_str().unwrap());
        assert_eq!(issued.header("location"), Some(path.as_str()));
        issue(json!({ "csr": csr(), "device_name": "another" })).await.expect_problem(409, "invitation_used");
        app.get(&path).through(Way::Door).cookie(&cookie).send().await.expect(200);

        let set = app.call("PUT", &format!("/api/v1/people/{ben}/password")).through(Way::Door).cookie(&cookie);
        set.json(&json!({ "new_password": PASSWORD })).send().await.expect(204);
        app.sign_in("ben.weak@example.com", PASSWORD).await.expect(201);
        // From now on the mailed link of somebody else must not be enough to change it.
        let (_, second) = app.invite(&administrator, ben).await;
        let accepted = app.post("/api/v1/invitations/acceptance", &json!({ "token": second })).send().await.expect(200);
        let set = app.call("PUT", &format!("/api/v1/people/{ben}/password")).cookie(&accepted.cookie());
        set.json(&json!({ "new_password": "a lamp for otters" })).send().await.expect_problem(403, "not_allowed");
    }
}

#[tokio::test]
async fn an_invitation_ends_in_time_and_can_be_taken_back_in_the_middle() {
    let app = App::new().await;
    let (_, administrator) = app.administrator().await;
    let ben = app.person("Ben Weak", Role::Member).await;
    let accept = |link: &str| app.post("/api/v1/invitations/acceptance", &json!({ "token": link })).send();
    let (_, late) = app.invite(&administrator, ben).await;
    app.clock.advance(Duration::from_secs(72 * 3600));
    accept(&late).await.expect_problem(410, "invitation_invalid");

    let (id, opened) = app.invite(&administrator, ben).await;
    let cookie = accept(&opened).await.expect(200).cookie();
    let path = format!("/api/v1/invitations/{id}");
    app.call("DELETE", &path).token(&administrator).send().await.expect(204);
    app.get("/api/v1/sessions/current").cookie(&cookie).send().await.expect(401);
    app.call("DELETE", &path).token(&administrator).send().await.expect(204);

    let (id, closed) = app.invite(&administrator, ben).await;
    app.call("DELETE", &format!("/api/v1/invitations/{id}")).token(&administrator).send().await.expect(204);
    accept(&closed).await.expect_problem(410, "invitation_invalid");
    for body in [
        json!({ "person_id": ben.to_string(), "send_mail": false, "expires_in_hours": 73 }),
        json!({ "person_id": ben.to_string(), "send_mail": false, "expires_in_hours": 0 }),
        json!({ "person_id": ben.to_string(), "send_mail": false, "profile": "root" }),
        json!({ "person_id": "nobody", "send_mail": false }),
    ] {
        app.post("/api/v1/invitations", &body)
            .token(&administrator)
            .send()
            .await
            .expect_problem(422, "invalid_request");
    }
    let by_mail = json!({ "person_id": ben.to_string(), "send_mail": true });
    let answer = app.post("/api/v1/invitations", &by_mail).token(&administrator).send().await;
    answer.expect_problem(409, "mail_not_configured");
}

crate::on_both_databases! {
    async fn certificates_are_issued_renewed_and_revoked_for_their_owner(database) {
        let app = App::over(database).await;
        let (_, token) = app.member("Anna Berg").await;
        let first = app.issue(&token, "Anna's iPhone").await.expect(201);
        let serial = first.body["serial"].as_str().unwrap().to_owned();
        let path = format!("/api/v1/certificates/{serial}");
        let renewed = app.post(&format!("{path}/renewal"), &json!({ "csr": csr() })).token(&token).send().await.expect(201);
        assert_eq!(renewed.body["lineage"], first.body["lineage"]);
        assert_ne!(renewed.body["serial"], first.body["serial"]);

        let revoke = |reason: &str| app.post(&format!("{path}/revocation"), &json!({ "reason": reason })).token(&token).send();
        let revoked = revoke("superseded").await.expect(200);
        assert_eq!((&revoked.body["state"], &revoked.body["revocation_reason"]), (&json!("revoked"), &json!("superseded")));
        assert_eq!(revoked.body["enforced"], json!({ "edges": 1, "acknowledged": 1 }));
        revoke("superseded").await.expect(200);
        revoke("cessationOfOperation").await.expect_problem(409, "already_revoked");
        revoke("keyCompromise").await.expect(200);
        assert_eq!(revoke("removeFromCRL").await.expect(422).pointers(), ["/reason"]);
        let again = app.post(&format!("{path}/renewal"), &json!({ "csr": csr() })).token(&token).send().await;
        again.expect_problem(409, "certificate_revoked");

        let states = |state: &str| app.get(&format!("/api/v1/certificates?state={state}")).token(&token).send();
        assert_eq!(states("revoked").await.expect(200).body["items"][0]["serial"], serial.as_str());
        assert_eq!(states("active").await.expect(200).body["items"].as_array().unwrap().len(), 1);
        states("gone").await.expect_problem(400, "invalid_request");

        let device = format!("/api/v1/devices/{}", first.body["device_id"].as_str().unwrap());
        let shown = app.get(&device).token(&token).send().await.expect(200);
        assert_eq!((&shown.body["state"], &shown.body["current_serial"]), (&json!("active"), &renewed.body["serial"]));
        let out = app.post(&format!("{device}/revocation"), &json!({ "reason": "keyCompromise" })).token(&token).send().await.expect(200);
        assert_eq!((&out.body["state"], &out.body["enforced"]["acknowledged"]), (&json!("revoked"), &json!(1)));
        let renamed = app.call("PATCH", &device).token(&token).header("if-match", shown.header("etag").unwrap());
        renamed.json(&json!({ "name": "Old phone" })).send().await.expect(200);
    }
}

crate::on_both_databases! {
    async fn an_owner_holds_a_device_and_only_an_administrator_releases_it(database) {
        let app = App::over(database).await;
        let (_, ada) = app.administrator().await;
        let (_, token) = app.member("Anna Berg").await;
        let issued = app.issue(&token, "Anna's iPhone").await.expect(201).body;
        let device = format!("/api/v1/devices/{}", issued["device_id"].as_str().unwrap());
        let state = async || app.get(&device).token(&token).send().await.expect(200).body["state"].clone();
        let take_back = async |reason: &str| {
            let path = format!("{device}/revocation");
            app.post(&path, &json!({ "reason": reason })).token(&token).send().await.expect(200).body["state"].clone()
        };
        assert_eq!((take_back("certificateHold").await, state().await), (json!("held"), json!("held")));
        let release = format!("/api/v1/certificates/{}/release", issued["serial"].as_str().unwrap());
        app.call("POST", &release).token(&token).send().await.expect_problem(403, "not_allowed");
        app.call("POST", &release).token(&ada).send().await.expect(200);
        assert_eq!(state().await, "active");
        take_back("certificateHold").await;
        assert_eq!(take_back("keyCompromise").await, "revoked", "lost while it was held");
    }
}

crate::on_both_databases! {
    async fn two_invitations_set_one_first_password(database) {
        let app = App::over(database).await;
        let (_, administrator) = app.administrator().await;
        let ben = app.person("Ben Weak", Role::Member).await;
        let mut cookies = Vec::new();
        for _ in 0..2 {
            let (_, link) = app.invite(&administrator, ben).await;
            let accept = app.post("/api/v1/invitations/acceptance", &json!({ "token": link }));
            cookies.push(accept.send().await.expect(200).cookie());
        }
        let passwords = [PASSWORD, "a lamp for otters"];
        let set = |at: usize| {
            let set = app.call("PUT", &format!("/api/v1/people/{ben}/password")).cookie(&cookies[at]);
            set.json(&json!({ "new_password": passwords[at] })).send()
        };
        // Both find that there is none; both take as long to hash.
        let (first, second) = tokio::join!(set(0), set(1));
        let won = usize::from(second.status == 204);
        assert_eq!([&first, &second].iter().filter(|answer| answer.status == 204).count(), 1);
        app.sign_in("ben.weak@example.com", passwords[won]).await.expect(201);
        app.sign_in("ben.weak@example.com", passwords[1 - won]).await.expect(401);
        let events = app.get("/api/v1/audit-events?action=person.set_password").token(&administrator).send().await;
        assert!(events.text.contains("the first password of this member, by invitation"), "{}", events.text);
    }
}

#[tokio::test]
async fn an_idempotency_key_does_not_reach_from_one_invitation_to_the_next() {
    let app = App::new().await;
    let (_, administrator) = app.administrator().await;
    let ben = app.person("Ben Weak", Role::Member).await;
    let body = json!({ "csr": csr(), "device_name": "phone" });
    for round in 0..2 {
        let (_, link) = app.invite(&administrator, ben).await;
        let accept = app.post("/api/v1/invitations/acceptance", &json!({ "token": link }));
        let cookie = accept.send().await.expect(200).cookie();
        let issue = || {
            let issue = app.post("/api/v1/certificates", &body).cookie(&cookie);
            issue.header("idempotency-key", "the-same").send()
        };
        let first = issue().await;
        assert_eq!(first.header("idempotency-replayed"), None, "round {round}: {}", first.text);
        if first.status == 201 {
            assert_eq!(issue().await.expect(201).header("idempotency-replayed"), Some("true"));
        }
    }
}
