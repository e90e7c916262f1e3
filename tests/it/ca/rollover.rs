//! Rolling authorities over: the steps, who breaks, lists of what is gone, and roots that vouch for each other.

use std::path::Path;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use wicketgate::ca::{Moved, RolloverError};
use wicketgate::domain::{AuthorityKind, AuthorityState, AuthorityStep, Slug};
use wicketgate::live::{Cause, Classified, classify};
use wicketgate::pki::pem;
use wicketgate::store::audit::AuditFilter;

use super::fixture::World;
use crate::harness::database::TestDatabase;
use crate::on_both_databases;
use crate::pki::peers::openssl;

const DAY: Duration = Duration::from_secs(86_400);

fn slug(name: &str) -> Slug {
    name.parse().unwrap()
}

async fn world(database: &TestDatabase) -> World {
    World::over(database).await
}

impl World {
    pub(crate) async fn stage(&self, kind: AuthorityKind) -> Slug {
        let act = self.act("authority.stage").await;
        self.ca.stage(kind, &act, self.now()).await.unwrap().name
    }

    pub(crate) async fn step(&self, name: &Slug, step: AuthorityStep) -> Result<Moved, RolloverError> {
        let (act, now) = (self.act("authority.move").await, self.now());
        match step {
            AuthorityStep::Trust => self.ca.trust(name, &act, now).await,
            AuthorityStep::RollBack => self.ca.roll_back(name, &act, now).await,
            AuthorityStep::Issue => self.ca.let_issue(name, &act, now).await,
            AuthorityStep::Retire => self.ca.retire(name, &act, now).await,
            AuthorityStep::Archive => self.ca.archive(name, 0, &act, now).await,
        }
    }

    pub(crate) async fn archive(&self, name: &Slug, acknowledge: u64) -> Result<Moved, RolloverError> {
        let act = self.act("authority.archive").await;
        self.ca.archive(name, acknowledge, &act, self.now()).await
    }

    /// Brings a new generation to issuing.
    pub(crate) async fn roll(&self, kind: AuthorityKind) -> Slug {
        let name = self.stage(kind).await;
        self.step(&name, AuthorityStep::Trust).await.unwrap();
        self.step(&name, AuthorityStep::Issue).await.unwrap();
        name
    }

    pub(crate) async fn state(&self, name: &str) -> AuthorityState {
        self.store.authority(&slug(name)).await.unwrap().unwrap().state
    }

    fn passes(&self, der: &[u8]) -> bool {
        matches!(self.verdict(der), Classified::Known(_))
    }

    fn verdict(&self, der: &[u8]) -> Classified {
        classify(&[CertificateDer::from(der)], self.now(), self.holder.register())
    }

    async fn certificate_of(&self, authority: &Slug) -> Vec<u8> {
        self.store.authority(authority).await.unwrap().unwrap().certificate.unwrap()
    }
}

on_both_databases! {
    async fn an_issuing_authority_rolls_over_and_leaves_of_both_generations_pass(database) {
        let world = world(database).await;
        let old = world.issue("phone").await.certificate;
        let next = world.stage(AuthorityKind::Issuing).await;
        assert_eq!(next.as_str(), "client-issuing-g2");
        let moved = world.step(&next, AuthorityStep::Trust).await.unwrap();
        assert_eq!((moved.enforced.edges, moved.enforced.acknowledged), (1, 1));
        assert_eq!(world.issue("tablet").await.certificate.authority.as_str(), "client-issuing-g1");
        let moved = world.step(&next, AuthorityStep::Issue).await.unwrap();
        assert_eq!(moved.others.iter().map(|other| other.name.as_str()).collect::<Vec<_>>(), ["client-issuing-g1"]);
        assert_eq!(world.state("client-issuing-g1").await, AuthorityState::Retiring);
        let new = world.issue("laptop").await.certificate;
        assert_eq!(new.authority, next);
        assert!(world.passes(&old.der) && world.passes(&new.der));
        let in_force: Vec<_> = world.holder.register().authorities().iter().map(|a| (a.name.to_string(), a.state)).collect();
        assert!(in_force.contains(&("client-issuing-g2".to_owned(), AuthorityState::Issuing)), "{in_force:?}");
    }

    async fn a_trusted_authority_goes_one_step_back_and_an_issuing_one_does_not(database) {
        let world = world(database).await;
        let next = world.stage(AuthorityKind::Issuing).await;
        world.step(&next, AuthorityStep::Trust).await.unwrap();
        world.step(&next, AuthorityStep::RollBack).await.unwrap();
        assert_eq!(world.state("client-issuing-g2").await, AuthorityState::Staged);
        let register = world.holder.register().authorities();
        assert!(register.iter().all(|a| a.name != next || !a.state.is_in_force()), "out of trust at the edge, too");
        world.step(&next, AuthorityStep::Trust).await.unwrap();
        world.step(&next, AuthorityStep::Issue).await.unwrap();
        for step in [AuthorityStep::RollBack, AuthorityStep::Trust, AuthorityStep::Archive] {
            assert!(matches!(world.step(&next, step).await, Err(RolloverError::Step { .. })), "{step:?}");
        }
        let audit = AuditFilter { action: Some("authority.move".to_owned()), ..Default::default() };
        let events = world.store.audit_events(&audit, 20).await.unwrap();
        assert_eq!(events.iter().filter(|event| event.outcome.as_deref() == Some("succeeded")).count(), 4);
    }

    async fn of_two_administrators_at_the_same_moment_one_is_refused(database) {
        let world = world(database).await;
        let (one, two) = (world.stage(AuthorityKind::Issuing).await, world.stage(AuthorityKind::Issuing).await);
        for name in [&one, &two] {
            world.step(name, AuthorityStep::Trust).await.unwrap();
        }
        let same = tokio::join!(world.step(&one, AuthorityStep::Issue), world.step(&one, AuthorityStep::Issue));
        assert!(same.0.is_ok() != same.1.is_ok(), "{same:?}");
        assert_eq!(world.state(one.as_str()).await, AuthorityState::Issuing);
        let issuing = world.store.authorities().await.unwrap();
        let issuing = issuing.iter().filter(|a| a.kind == AuthorityKind::Issuing && a.state == AuthorityState::Issuing);
        assert_eq!(issuing.count(), 1);
        // What the use case must not rely on, the database holds by itself.
        let transaction = world.store.begin().await.unwrap();
        let second = transaction.move_authority(&two, AuthorityState::Trusted, AuthorityState::Issuing).await;
        assert!(second.is_err());
    }

    async fn who_would_break_is_exact_and_must_be_acknowledged(database) {
        let world = world(database).await;
        let old = slug("client-issuing-g1");
        let (phone, laptop, tablet) = (
            world.issue("phone").await.certificate,
            world.issue("laptop").await.certificate,
            world.issue("tablet").await.certificate,
        );
        world.roll(AuthorityKind::Issuing).await;
        world.revoke(tablet.serial, "superseded").await.unwrap();
        let (dependants, _) = world.ca.dependants(&old, world.now()).await.unwrap();
        assert_eq!((dependants.certificates, dependants.people, dependants.devices), (2, 1, 2));
        let refused = world.archive(&old, 0).await.unwrap_err();
        assert!(matches!(refused, RolloverError::WouldBreak { count: 2, acknowledged: 0 }), "{refused}");
        // Somebody else changes the number in between.
        world.revoke(laptop.serial, "superseded").await.unwrap();
        assert!(matches!(world.archive(&old, 2).await, Err(RolloverError::WouldBreak { count: 1, .. })));
        assert!(world.passes(&phone.der), "nothing changed by being refused");
        world.archive(&old, 1).await.unwrap();
        let Classified::Refused(refusal) = world.verdict(&phone.der) else { panic!("passes") };
        assert_eq!(refusal.cause, Cause::AuthorityRetired);
        assert_eq!(world.ca.dependants(&slug("client-issuing-g2"), world.now()).await.unwrap().0.certificates, 0);
    }

    async fn a_root_takes_what_stands_on_it_alone_and_waits_while_that_issues(database) {
        let world = world(database).await;
        let old = world.issue("phone").await.certificate;
        let root = world.roll(AuthorityKind::Root).await;
        assert_eq!(world.state("client-root-g1").await, AuthorityState::Retiring);
        // The new root vouches for the old one, so nothing stands on the old one alone.
        let (dependants, _) = world.ca.dependants(&slug("client-root-g1"), world.now()).await.unwrap();
        assert_eq!(dependants.certificates, 0);
        let issuing = world.roll(AuthorityKind::Issuing).await;
        let row = world.store.authority(&issuing).await.unwrap().unwrap();
        assert_eq!(row.issuer, Some(root), "the issuing authority follows the new root");
        world.archive(&slug("client-root-g1"), 0).await.unwrap();
        assert!(world.passes(&old.der), "its path leads to the new root");
    }

    async fn a_root_that_nobody_vouches_for_takes_its_issuing_authorities_along(database) {
        let world = world(database).await;
        let old = world.issue("phone").await.certificate;
        let second = world.roll(AuthorityKind::Root).await;
        let third = world.roll(AuthorityKind::Root).await;
        let issuing = world.roll(AuthorityKind::Issuing).await;
        // The third vouches for the second, which is archived at once; the first is vouched for by the second.
        assert_eq!(world.ca.dependants(&second, world.now()).await.unwrap().0.certificates, 0);
        world.archive(&second, 0).await.unwrap();
        let (dependants, authorities) = world.ca.dependants(&slug("client-root-g1"), world.now()).await.unwrap();
        assert_eq!((dependants.certificates, authorities), (1, vec![slug("client-issuing-g1")]));
        assert!(matches!(world.archive(&slug("client-root-g1"), 0).await, Err(RolloverError::WouldBreak { count: 1, .. })));
        let moved = world.archive(&slug("client-root-g1"), 1).await.unwrap();
        assert_eq!(moved.others.len(), 1);
        assert!(!world.passes(&old.der));
        let act = world.act("authority.retire").await;
        world.ca.retire(&third, &act, world.now()).await.unwrap();
        assert!(matches!(world.archive(&third, 0).await, Err(RolloverError::StillIssuing(name)) if name == issuing));
    }

    async fn lists_of_an_archived_authority_go_on_until_one_after_its_last_leaf(database) {
        let world = world(database).await;
        let old = slug("client-issuing-g1");
        let phone = world.issue("phone").await.certificate;
        world.ca.publish_crls(world.now()).await.unwrap();
        world.roll(AuthorityKind::Issuing).await;
        world.archive(&old, 1).await.unwrap();
        let mut numbers = Vec::new();
        while world.now() < phone.not_after.plus(DAY * 20) {
            world.clock.advance(DAY * 4);
            world.ca.publish_crls(world.now()).await.unwrap();
            numbers.push(world.store.latest_crl(&old).await.unwrap().unwrap());
        }
        let last = numbers.last().unwrap();
        assert!(last.this_update > phone.not_after, "one list after the end of the last leaf");
        assert!(last.this_update <= phone.not_after.plus(DAY * 4), "and no more");
        let alive = numbers.iter().filter(|list| list.this_update <= phone.not_after);
        assert!(alive.clone().count() > 10 && alive.clone().all(|list| list.next_update > list.this_update));
        let running = world.store.latest_crl(&slug("client-issuing-g2")).await.unwrap().unwrap();
        assert!(running.this_update > last.this_update.plus(DAY * 4), "the one that issues goes on");
    }

    async fn an_authority_that_cannot_give_a_full_length_leaf_does_not_begin_to_issue(database) {
        let world = world(database).await;
        let next = world.stage(AuthorityKind::Issuing).await;
        world.step(&next, AuthorityStep::Trust).await.unwrap();
        world.clock.advance(DAY * (3650 - 30));
        assert!(matches!(world.step(&next, AuthorityStep::Issue).await, Err(RolloverError::TooShort { .. })));
        // A root that ends before a new issuing authority would has to be rolled over first.
        let act = world.act("authority.stage").await;
        world.clock.advance(DAY * 400);
        assert!(matches!(world.ca.stage(AuthorityKind::Issuing, &act, world.now()).await, Err(RolloverError::Make(_))));
    }

    async fn cross_certificates_carry_both_generations_from_either_root_alone(database) {
        let Some(openssl) = openssl() else { return };
        let world = world(database).await;
        let old = world.issue("phone").await.certificate;
        world.roll(AuthorityKind::Root).await;
        world.roll(AuthorityKind::Issuing).await;
        let new = world.issue("laptop").await.certificate;
        world.ca.publish_crls(world.now()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
        for name in ["client-root-g1", "client-root-g2", "client-issuing-g1", "client-issuing-g2"] {
            write(&format!("{name}.pem"), pem::block("CERTIFICATE", &world.certificate_of(&slug(name)).await));
            let list = world.store.latest_crl(&slug(name)).await.unwrap().unwrap();
            write(&format!("{name}.crl.pem"), pem::block("X509 CRL", &list.der));
        }
        let crosses = world.ca.cross_certificates(&slug("client-root-g1")).await.unwrap();
        assert_eq!(crosses.len(), 2);
        for cross in &crosses {
            write(&format!("{}-by-{}.pem", cross.subject, cross.authority), pem::block("CERTIFICATE", &cross.der));
        }
        write("old.pem", pem::block("CERTIFICATE", &old.der));
        write("new.pem", pem::block("CERTIFICATE", &new.der));
        let at = world.now().as_unix().to_string();
        let lists = concat(folder.path(), "lists.pem", &["client-root-g1.crl.pem", "client-root-g2.crl.pem", "client-issuing-g1.crl.pem", "client-issuing-g2.crl.pem"]);
        // leaf, its issuing authority, the only root that is trusted, the other root's cross-certificate.
        for (leaf, issuing, root, cross) in [
            ("old.pem", "client-issuing-g1.pem", "client-root-g1.pem", None),
            ("new.pem", "client-issuing-g2.pem", "client-root-g2.pem", None),
            ("new.pem", "client-issuing-g2.pem", "client-root-g1.pem", Some("client-root-g2-by-client-root-g1.pem")),
            ("old.pem", "client-issuing-g1.pem", "client-root-g2.pem", Some("client-root-g1-by-client-root-g2.pem")),
        ] {
            let base = ["verify", "-x509_strict", "-attime", &at, "-purpose", "sslclient", "-no-CApath", "-CAfile", root, "-untrusted", issuing];
            let across: Vec<&str> = cross.iter().flat_map(|cross| ["-untrusted", *cross]).collect();
            let status = ["-crl_check_all", "-CRLfile", &lists, leaf];
            openssl.ok(folder.path(), &[&base[..], &across[..], &status[..]].concat());
            if cross.is_some() {
                openssl.fails(folder.path(), &[&base[..], &[leaf]].concat());
            }
        }
    }

    async fn a_step_that_cannot_be_recorded_did_not_happen(database) {
        let world = world(database).await;
        let next = world.stage(AuthorityKind::Issuing).await;
        let act = world.act("authority.trust").await;
        world.ca.trust(&next, &act, world.now()).await.unwrap();
        // The same step again finds nothing to do, and an unknown name nobody.
        assert!(matches!(world.step(&next, AuthorityStep::Trust).await, Err(RolloverError::Step { .. })));
        assert!(matches!(world.step(&slug("nobody"), AuthorityStep::Trust).await, Err(RolloverError::Missing)));
        // Somebody else was faster between reading and writing.
        let transaction = world.store.begin().await.unwrap();
        let late = transaction.move_authority(&next, AuthorityState::Staged, AuthorityState::Trusted).await;
        assert!(late.is_err());
        drop(transaction);
        assert_eq!(world.state(next.as_str()).await, AuthorityState::Trusted);
    }
}

fn concat(folder: &Path, name: &str, parts: &[&str]) -> String {
    let text: String = parts.iter().map(|part| std::fs::read_to_string(folder.join(part)).unwrap()).collect();
    std::fs::write(folder.join(name), text).unwrap();
    name.to_owned()
}
