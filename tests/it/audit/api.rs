//! The chain through the API: places of events, pages of links, checkpoints on demand, keys.

use serde_json::Value;
use wicketgate::domain::audit_chain::{AuditEvent, ChainHead, Checkpoint};
use wicketgate::jobs::chain_audit::Sequencer;
use wicketgate::pki::audit::{Link, check_signature};
use wicketgate::pki::pem;
use wicketgate::store::audit_chain::Look;

use super::fixture::{identify, lease};
use crate::admin::fixture::App;
use crate::harness::database::TestDatabase;
use crate::on_both_databases;

async fn chained(database: &TestDatabase) -> (App, String, Sequencer) {
    let app = App::over(database).await;
    let (_, token) = app.administrator().await;
    identify(&app.store).await;
    let lease = lease(&app.store, app.clock_now()).await.unwrap();
    let mut sequencer = Sequencer::new(app.store.clone(), app.ca.clone(), lease);
    sequencer.chain(Look::Everywhere).await.unwrap();
    (app, token, sequencer)
}

on_both_databases! {
    async fn links_are_read_page_by_page_and_make_the_chain(database) {
        let (app, token, _) = chained(database).await;
        let mut head = ChainHead::START;
        let mut path = "/api/v1/audit-links?limit=3".to_owned();
        loop {
            let mut answer = app.get(&path).token(&token).send().await.expect(200);
            for link in serde_json::from_value::<Vec<Link>>(answer.body["items"].take()).unwrap() {
                head = head.next(link.event.as_ref().unwrap());
                assert_eq!(link.head(), head);
            }
            let Some(cursor) = answer.body["next_cursor"].as_str() else { break };
            path = format!("/api/v1/audit-links?limit=3&cursor={cursor}");
        }
        assert_eq!(head, app.store.audit_head().await.unwrap());
        assert!(head.number > 6, "more than two pages");
        app.get("/api/v1/audit-links?limit=1001").token(&token).send().await.expect_problem(400, "invalid_request");
    }

    async fn a_checkpoint_is_signed_when_asked_by_a_key_that_is_shown(database) {
        let (app, token, _) = chained(database).await;
        let asked = app.call("POST", "/api/v1/audit-checkpoints").token(&token).send().await.expect(200);
        let checkpoint: Checkpoint = serde_json::from_value(asked.body).unwrap();
        assert_eq!(checkpoint.head(), app.store.audit_head().await.unwrap());
        let keys = app.get("/api/v1/audit-keys").token(&token).send().await.expect(200);
        let key = pem::first_block(keys.body["items"][0]["pem"].as_str().unwrap(), &["PUBLIC KEY"]).unwrap();
        check_signature(&checkpoint, &key).unwrap();
        assert!(check_signature(&Checkpoint { number: 1, ..checkpoint.clone() }, &key).is_err());
        let mut listed = app.get("/api/v1/audit-checkpoints").token(&token).send().await.expect(200);
        let listed: Vec<Checkpoint> = serde_json::from_value(listed.body["items"].take()).unwrap();
        assert_eq!(listed, [checkpoint]);
    }

    async fn how_the_chain_stands_is_told_and_nothing_is_signed_for_it(database) {
        let (app, token, mut sequencer) = chained(database).await;
        let ask = async || app.get("/api/v1/audit-chain").token(&token).send().await.expect(200).body;
        let head = app.store.audit_head().await.unwrap();
        let fresh = ask().await;
        assert_eq!((&fresh["number"], &fresh["hash"]), (&head.number.into(), &head.hash.to_string().into()));
        assert_eq!((&fresh["unchained"], &fresh["unchained_since"]), (&0.into(), &Value::Null));
        assert_eq!((&fresh["fault"], &fresh["last_checkpoint"]), (&Value::Null, &Value::Null));

        let signed = app.call("POST", "/api/v1/audit-checkpoints").token(&token).send().await.expect(200).body;
        let later = ask().await;
        // Signing is an act, and so was making the key.
        assert_eq!((&later["last_checkpoint"], &later["unchained"]), (&signed, &4.into()));
        assert_eq!(later["unchained_since"], app.clock_now().to_string());

        sequencer.chain(Look::Everywhere).await.unwrap();
        app.store.allow_changes("audit_event").await.unwrap();
        app.store.tamper("UPDATE audit_event SET actor = 'nobody' WHERE action = 'audit.sign'").await.unwrap();
        let broken = ask().await;
        assert_eq!(broken["fault"]["number"], head.number + 1);
        assert!(broken["fault"]["detail"].as_str().unwrap().contains("does not fit"), "{broken}");
        assert_eq!(broken["number"], app.store.audit_head().await.unwrap().number);
    }

    async fn an_event_tells_its_place_once_it_has_one(database) {
        let (app, token, mut sequencer) = chained(database).await;
        let _ = app.person("Ben Weak", wicketgate::domain::Role::Member).await;
        let newest = app.get("/api/v1/audit-events?limit=1").token(&token).send().await.expect(200);
        assert_eq!(newest.body["items"][0]["number"], Value::Null);
        let mut waiting = app.get("/api/v1/audit-events?chained=false").token(&token).send().await.expect(200);
        let waiting: Vec<AuditEvent> = serde_json::from_value(waiting.body["items"].take()).unwrap();
        assert_eq!(waiting.len(), 2);
        sequencer.chain(Look::Everywhere).await.unwrap();
        let newest = app.get("/api/v1/audit-events?limit=1").token(&token).send().await.expect(200);
        let head = app.store.audit_head().await.unwrap();
        assert_eq!(newest.body["items"][0]["number"], head.number);
        assert_eq!(newest.body["items"][0]["link"], head.hash.to_string());
        let none = app.get("/api/v1/audit-events?chained=false").token(&token).send().await.expect(200);
        assert_eq!(none.body["items"], serde_json::json!([]));
    }
}
