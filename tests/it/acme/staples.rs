//! Staples: fetched from a responder, kept in rows, shown by a real edge, and never a lie.

mod fixture;

use std::time::Duration;

use wicketgate::acme::staples::{NOT_STAPLED, REVOKED};
use wicketgate::clock::Clock;
use wicketgate::store::alerts::Severity;

use self::fixture::{LASTS, Says, World};
use crate::harness::peers::peer;
use crate::on_both_databases;

const SECOND: Duration = Duration::from_secs(1);

on_both_databases! {
    async fn a_staple_is_fetched_shown_and_renewed_at_half_of_its_time(database) {
        let world = World::over(database).await;
        assert!(world.shown().await.is_empty());
        assert_eq!(world.run().await.done, 1);
        let first = world.kept().await.unwrap();
        assert_eq!(first.until, world.clock.now().plus(LASTS));
        assert_eq!(world.shown().await, first.der);
        world.clock.advance(LASTS / 2 - SECOND);
        assert_eq!(world.run().await.done, 0);
        assert_eq!(world.asked(), 1);
        world.clock.advance(SECOND);
        assert_eq!(world.run().await.done, 1);
        let second = world.kept().await.unwrap();
        assert!(second.until > first.until);
        assert_eq!(world.shown().await, second.der);
    }

    async fn the_old_one_is_shown_until_its_end_and_then_none(database) {
        let world = World::over(database).await;
        world.run().await;
        let staple = world.kept().await.unwrap();
        world.say(Says::Error);
        world.clock.advance(LASTS / 2);
        let report = world.run().await;
        assert_eq!(report.done, 0);
        assert!(report.detail.contains("503"), "{}", report.detail);
        assert_eq!(world.alert(NOT_STAPLED).await, None, "there is still one");
        world.clock.advance(LASTS / 2 - SECOND);
        assert_eq!(world.shown().await, staple.der);
        world.clock.advance(SECOND);
        assert!(world.shown().await.is_empty(), "nobody published anything");
        world.run().await;
        assert_eq!(world.alert(NOT_STAPLED).await, Some(Severity::Warning));
        world.say(Says::Good);
        assert_eq!(world.run().await.done, 1);
        assert_eq!(world.alert(NOT_STAPLED).await, None);
        assert_eq!(world.shown().await, world.kept().await.unwrap().der);
    }

    async fn a_certificate_that_was_taken_back_loses_its_staple_and_alarms(database) {
        let world = World::over(database).await;
        world.run().await;
        world.say(Says::Revoked);
        world.clock.advance(LASTS / 2);
        let report = world.run().await;
        assert!(report.detail.contains("taken back"), "{}", report.detail);
        assert_eq!(world.kept().await, None);
        assert!(world.shown().await.is_empty());
        assert_eq!(world.alert(REVOKED).await, Some(Severity::Critical));
        world.say(Says::Good);
        world.run().await;
        assert_eq!(world.alert(REVOKED).await, None);
        assert!(!world.shown().await.is_empty());
    }

    async fn lies_are_neither_kept_nor_shown(database) {
        let world = World::over(database).await;
        for lie in [
            Says::OtherSerial,
            Says::OtherIssuer,
            Says::OldGood,
            Says::Unknown,
            Says::Garbage,
            Says::Long,
            Says::Redirect,
        ] {
            world.say(lie);
            let report = world.run().await;
            assert_eq!(report.done, 0, "{lie:?}: {}", report.detail);
            assert_eq!(world.kept().await, None, "{lie:?}");
        }
        assert!(world.shown().await.is_empty());
        world.say(Says::Good);
        assert_eq!(world.run().await.done, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_sees_good() {
    openssl_sees_a_staple().await;
}

/// Before it is there, and by both versions after.
pub(crate) async fn openssl_sees_a_staple() {
    let Some(openssl) = peer("openssl") else { return };
    let database = crate::harness::database::TestDatabase::sqlite();
    let world = World::over(&database).await;
    let address = world.edge.https_addresses()[0].to_string();
    let status = async |version: &str| {
        let mut command = std::process::Command::new(&openssl);
        command
            .args(["s_client", "-connect", &address, "-servername", fixture::HOST, "-status", version])
            .env("LC_ALL", "C")
            .stdin(std::process::Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let before = status("-tls1_3").await;
    assert!(before.contains("OCSP response: no response sent"), "{before}");
    world.run().await;
    for version in ["-tls1_3", "-tls1_2"] {
        let after = status(version).await;
        assert!(after.contains("OCSP Response Status: successful"), "{after}");
        assert!(after.contains("Cert Status: good"), "{after}");
    }
}
