//! What cannot be written into the audit is not done.

use std::time::Duration;

use serde_json::json;
use wicketgate::domain::{Role, UtcTime};
use wicketgate::store::certificates::CertificateFilter;

use crate::admin::fixture::{App, csr};
use crate::on_both_databases;

async fn certificates(app: &App) -> usize {
    app.store.certificates(&CertificateFilter::default(), 100, app.clock_now()).await.unwrap().len()
}

on_both_databases! {
    async fn without_its_audit_event_nothing_is_signed(database) {
        let app = App::over(database).await;
        let anna = app.person("Anna Berg", Role::Member).await;
        let token = app.token(anna, Role::Member).await;
        let serials = app.store.reserved_serials().await.unwrap();
        app.store.refuse_audit_events("started").await.unwrap();
        let request = json!({ "csr": csr(), "device_name": "phone" });
        let refused = app.post("/api/v1/certificates", &request).token(&token).send().await;
        refused.expect_problem(503, "unavailable");
        // The signer needs a serial and a committed intent; neither was made.
        assert_eq!(app.store.reserved_serials().await.unwrap(), serials);
        assert!(app.store.unresolved_intents(UtcTime::MAX).await.unwrap().is_empty());
        assert_eq!(certificates(&app).await, 0);
        app.store.accept_audit_events().await.unwrap();
        app.issue(&token, "phone").await.expect(201);
    }

    async fn what_was_refused_is_not_answered_without_a_trace(database) {
        let app = App::over(database).await;
        let (_, token) = app.administrator().await;
        let never = "/api/v1/certificates/0123456789abcdef0123456789abcdef/revocation";
        let body = json!({ "reason": "superseded" });
        app.post(never, &body).token(&token).send().await.expect(404);
        app.store.refuse_audit_events("started").await.unwrap();
        app.post(never, &body).token(&token).send().await.expect_problem(503, "unavailable");
        app.store.accept_audit_events().await.unwrap();
        app.post(never, &body).token(&token).send().await.expect(404);
    }

    async fn without_its_last_audit_event_nothing_is_issued_and_what_was_signed_is_listed(database) {
        let app = App::over(database).await;
        let anna = app.person("Anna Berg", Role::Member).await;
        let token = app.token(anna, Role::Member).await;
        app.store.refuse_audit_events("finished").await.unwrap();
        let refused = app.issue(&token, "phone").await;
        refused.expect_problem(503, "unavailable");
        assert_eq!(certificates(&app).await, 0, "it is neither on record nor given out");
        app.store.accept_audit_events().await.unwrap();
        let open = app.store.unresolved_intents(UtcTime::MAX).await.unwrap();
        assert_eq!(open.len(), 1);
        app.clock.advance(Duration::from_secs(60));
        assert_eq!(app.ca.resolve_intents(app.clock_now()).await.unwrap(), 1);
        let name = "client-issuing-g1".parse().unwrap();
        let listed = app.store.revocations(&name, UtcTime::EPOCH).await.unwrap();
        assert!(listed.iter().any(|entry| entry.serial == open[0].serial));
        app.issue(&token, "phone").await.expect(201);
    }

    async fn what_the_audit_refuses_changes_nothing(database) {
        let app = App::over(database).await;
        let (_, token) = app.administrator().await;
        app.store.refuse_audit_events("started").await.unwrap();
        let person = json!({ "email": "eve@example.com", "name": "Eve", "role": "member", "groups": [] });
        let refused = app.post("/api/v1/people", &person).token(&token).send().await;
        refused.expect_problem(503, "unavailable");
        assert!(app.store.person_by_email("eve@example.com").await.unwrap().is_none());
    }
}
