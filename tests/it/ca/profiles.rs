//! Profiles decide who gets what: every rule at the gate, explained before and rehearsed on the past.

use std::time::Duration;

use wicketgate::ca::{DeviceChoice, EditProfileError, GateError, IssueError, IssueRequest, Issued};
use wicketgate::domain::{Actor, RevocationReason};
use wicketgate::live::{Cause, Classified, classify};
use wicketgate::pki::profile::{Outliving, Requesters, Rule, Rules};
use wicketgate::store::StoreError;

use super::fixture::{World, csr};
use crate::harness::database::TestDatabase;
use crate::on_both_databases;

const DAY: Duration = Duration::from_secs(86_400);

async fn world(database: &TestDatabase) -> World {
    World::over(database).await
}

/// Gives the profile `device` changed rules.
async fn edit(world: &World, change: impl FnOnce(&mut Rules)) {
    let profile = world.ca.profile(&"device".parse().unwrap()).await.unwrap().unwrap();
    let mut rules = profile.rules.clone();
    change(&mut rules);
    let act = world.act("profile.edit").await;
    world.ca.edit_profile(&profile, rules, &act, world.now()).await.unwrap();
}

fn request(world: &World, device: &str) -> IssueRequest {
    IssueRequest {
        person: world.anna,
        device: DeviceChoice::New { name: device.to_owned() },
        profile: "device".parse().unwrap(),
        csr_pem: csr(),
        dns_names: Default::default(),
    }
}

async fn ask_as(world: &World, actor: Actor, request: &IssueRequest) -> Result<Issued, IssueError> {
    let act = world.store.begin_act(actor, "certificate.issue", None, None, world.now()).await.unwrap();
    world.ca.issue(request, &act, world.now()).await
}

fn rule(refused: Result<Issued, IssueError>) -> Rule {
    match refused.map(|issued| issued.certificate.serial) {
        Err(IssueError::Gate(GateError::Policy { ruling, .. })) => ruling.rule,
        other => panic!("not refused by a rule: {other:?}"),
    }
}

async fn open_intents(world: &World) -> usize {
    world.store.unresolved_intents(wicketgate::domain::UtcTime::MAX).await.unwrap().len()
}

on_both_databases! {
    async fn every_rule_is_enforced_at_the_gate_before_anything_is_recorded(database) {
        let world = world(database).await;
        let owner = Actor::Person(world.anna);
        edit(&world, |rules| rules.requesters = Requesters::Administrator).await;
        assert_eq!(rule(ask_as(&world, owner.clone(), &request(&world, "x")).await), Rule::Requester);
        edit(&world, |rules| {
            rules.requesters = Requesters::OwnerOrAdministrator;
            rules.groups = ["admins".parse().unwrap()].into();
        }).await;
        assert_eq!(rule(ask_as(&world, owner.clone(), &request(&world, "x")).await), Rule::Group);
        edit(&world, |rules| { rules.groups.clear(); rules.keys.p256 = false; }).await;
        assert_eq!(rule(ask_as(&world, owner.clone(), &request(&world, "x")).await), Rule::KeyType);
        edit(&world, |rules| rules.keys.p256 = true).await;
        let mut named = request(&world, "x");
        named.dns_names = ["printer.example.com".parse().unwrap()].into();
        assert_eq!(rule(ask_as(&world, Actor::System("test"), &named).await), Rule::DnsNames);
        assert_eq!(open_intents(&world).await, 0);

        edit(&world, |rules| rules.names.dns_suffixes = ["example.com".parse().unwrap()].into()).await;
        assert_eq!(rule(ask_as(&world, owner, &named).await), Rule::DnsNames, "not the owner's to give");
        let issued = ask_as(&world, Actor::System("test"), &named).await.unwrap().certificate;
        assert_eq!(wicketgate::pki::chain::dns_names(&issued.der).unwrap(), named.dns_names);
        assert_eq!(issued.profile_version, 6);
        let mut again = request(&world, "other");
        again.csr_pem = named.csr_pem;
        assert_eq!(rule(ask_as(&world, Actor::System("test"), &again).await), Rule::KeyReuse);
    }

    async fn the_last_place_for_a_device_is_given_once(database) {
        let world = world(database).await;
        edit(&world, |rules| rules.devices_per_person = Some(2)).await;
        let first = world.issue("first").await.certificate;
        let act = world.act("certificate.renew").await;
        world.ca.renew(first.serial, &csr(), &act, world.now()).await.unwrap();
        let tries = (0..6).map(|at| world.try_issue(DeviceChoice::New { name: format!("device {at}") }));
        let outcomes = futures_util::future::join_all(tries).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "a renewal takes no place");
        for refused in outcomes.into_iter().filter(Result::is_err) {
            assert_eq!(rule(refused), Rule::DevicesPerPerson);
        }
        world.revoke(first.serial, "superseded").await.unwrap();
        assert_eq!(open_intents(&world).await, 0);
    }

    async fn of_renewals_at_the_same_moment_one_stays(database) {
        let world = world(database).await;
        edit(&world, |rules| rules.renewal.overlap_seconds = Some(7 * 86_400)).await;
        let old = world.issue("phone").await.certificate;
        let renewals = (0..6).map(async |_| {
            let act = world.act("certificate.renew").await;
            world.ca.renew(old.serial, &csr(), &act, world.now()).await.unwrap().certificate.serial
        });
        let mut serials = futures_util::future::join_all(renewals).await;
        serials.push(old.serial);
        let mut staying = 0;
        for serial in serials {
            let found = world.store.certificate(serial).await.unwrap().unwrap();
            staying += usize::from(found.supersede_at.is_none());
        }
        assert_eq!(staying, 1);
    }

    async fn of_requests_with_one_key_at_the_same_moment_one_is_served(database) {
        let world = world(database).await;
        let key = csr();
        let tries = (0..6).map(async |number| {
            let mut request = request(&world, &format!("device {number}"));
            request.csr_pem = key.clone();
            ask_as(&world, Actor::System("test"), &request).await
        });
        let outcomes = futures_util::future::join_all(tries).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        for refused in outcomes.into_iter().filter(Result::is_err) {
            assert_eq!(rule(refused), Rule::KeyReuse);
        }
    }

    async fn renewal_runs_todays_rules(database) {
        let world = world(database).await;
        let old = world.issue("phone").await.certificate;
        edit(&world, |rules| rules.groups = ["admins".parse().unwrap()].into()).await;
        let act = world.act("certificate.renew").await;
        assert_eq!(rule(world.ca.renew(old.serial, &csr(), &act, world.now()).await), Rule::Group);
        edit(&world, |rules| { rules.groups.clear(); rules.lifetime_seconds = 10 * 86_400; }).await;
        let act = world.act("certificate.renew").await;
        let new = world.ca.renew(old.serial, &csr(), &act, world.now()).await.unwrap().certificate;
        assert_eq!(new.not_after.since(world.now()), DAY * 10 - Duration::from_secs(1));
        assert_eq!((old.profile_version, new.profile_version), (1, 3));
    }

    async fn a_predecessor_is_revoked_as_superseded_when_the_overlap_is_over(database) {
        let world = world(database).await;
        edit(&world, |rules| rules.renewal.overlap_seconds = Some(7 * 86_400)).await;
        let old = world.issue("phone").await.certificate;
        let act = world.act("certificate.renew").await;
        let new = world.ca.renew(old.serial, &csr(), &act, world.now()).await.unwrap().certificate;
        let verdict = |der: &[u8]| classify(&[der.into()], world.now(), world.holder.register());
        world.clock.advance(DAY * 7 - Duration::from_secs(1));
        assert_eq!(world.ca.revoke_superseded(world.now()).await.unwrap(), 0);
        assert!(matches!(verdict(&old.der), Classified::Known(_)));
        world.clock.advance(Duration::from_secs(1));
        assert_eq!(world.ca.revoke_superseded(world.now()).await.unwrap(), 1);
        assert_eq!(world.ca.revoke_superseded(world.now()).await.unwrap(), 0);
        let Classified::Refused(refusal) = verdict(&old.der) else { panic!("passes") };
        assert_eq!(refusal.cause, Cause::Revoked(RevocationReason::Superseded));
        assert!(matches!(verdict(&new.der), Classified::Known(_)));
    }

    async fn a_leaf_that_would_outlive_its_issuer_is_capped_only_where_the_profile_says_so(database) {
        let world = world(database).await;
        world.clock.advance(DAY * (10 * 365 - 60));
        let refused = world.try_issue(DeviceChoice::New { name: "x".to_owned() }).await;
        assert!(matches!(refused, Err(IssueError::Gate(GateError::OutlivesAuthority { .. }))));
        edit(&world, |rules| rules.outliving = Outliving::Cap).await;
        let issued = world.issue("x").await;
        assert!(issued.is_capped, "and the answer says so");
        let issuer = world.ca.authorities().await.unwrap().into_iter().find(|a| a.name == issued.certificate.authority);
        assert_eq!(issued.certificate.not_after, issuer.unwrap().not_after);
    }

    async fn nothing_is_signed_while_the_clock_stands_before_what_was_recorded(database) {
        let world = world(database).await;
        world.issue("before").await;
        let now = world.now();
        world.clock.set(now.minus(Duration::from_secs(301)));
        let refused = world.try_issue(DeviceChoice::New { name: "x".to_owned() }).await;
        assert!(matches!(refused, Err(IssueError::Gate(GateError::ClockWentBack { .. }))));
        world.clock.set(now.minus(Duration::from_secs(299)));
        world.issue("replicas' clocks differ a little").await;
    }

    async fn explain_names_the_rule_and_makes_nothing(database) {
        let world = world(database).await;
        edit(&world, |rules| rules.groups = ["admins".parse().unwrap()].into()).await;
        let explained = world.ca.explain(&request(&world, "x"), &Actor::Person(world.anna), world.now()).await.unwrap();
        let refusing: Vec<_> = explained.rulings.iter().filter(|ruling| !ruling.admits).map(|ruling| ruling.rule).collect();
        assert_eq!(refusing, [Rule::Group]);
        assert_eq!(explained.rulings.len(), Rule::ALL.len());
        assert_eq!(open_intents(&world).await, 0);
        let asked = world.store.issuance_requests(&"device".parse().unwrap(), world.now(), 10).await.unwrap();
        assert!(asked.is_empty(), "an explanation is no request");
    }

    async fn a_draft_is_rehearsed_on_exactly_the_last_thirty_days(database) {
        let world = world(database).await;
        let device = "device".parse().unwrap();
        world.issue("too old").await;
        world.clock.advance(DAY * 31);
        for at in 0..3 {
            world.issue(&format!("device {at}")).await;
        }
        edit(&world, |rules| rules.requesters = Requesters::Owner).await;
        assert_eq!(rule(world.try_issue(DeviceChoice::New { name: "x".to_owned() }).await), Rule::Requester);
        let now = world.ca.profile(&device).await.unwrap().unwrap();
        let same = world.ca.rehearse(&device, now.rules.clone(), world.now()).await.unwrap();
        assert_eq!((same.requests, same.changed.len()), (4, 3), "the three were granted under the rules before");
        let draft = Rules { requesters: Requesters::OwnerOrAdministrator, ..now.rules.clone() };
        let loose = world.ca.rehearse(&device, draft.clone(), world.now()).await.unwrap();
        assert_eq!(loose.changed.len(), 1);
        assert_eq!(loose.changed[0].was_refused_by, Some(Rule::Requester));
        assert!(loose.changed[0].would_be_refused_by.is_none());
        let draft = Rules { groups: ["admins".parse().unwrap()].into(), ..draft };
        let strict = world.ca.rehearse(&device, draft, world.now()).await.unwrap();
        assert_eq!(strict.changed.len(), 3);
        assert_eq!(strict.changed[0].would_be_refused_by.as_ref().unwrap().rule, Rule::Group);
        assert_eq!(world.store.sweep_issuance_requests(world.now().minus(DAY * 30)).await.unwrap(), 1);
    }

    async fn versions_are_kept_and_of_two_edits_at_once_one_wins(database) {
        let world = world(database).await;
        let name = "device".parse().unwrap();
        let read = world.ca.profile(&name).await.unwrap().unwrap();
        edit(&world, |rules| rules.lifetime_seconds = 3_600_000).await;
        let act = world.act("profile.edit").await;
        let late = world.ca.edit_profile(&read, Rules::device(), &act, world.now()).await;
        assert!(matches!(late, Err(EditProfileError::Store(StoreError::Conflict { .. }))));
        let bad = Rules { lifetime_seconds: 1, ..Rules::device() };
        let refused = world.ca.edit_profile(&read, bad, &act, world.now()).await;
        assert!(matches!(refused, Err(EditProfileError::Faults(_))));
        let versions = world.ca.profile_versions(&name, 10).await.unwrap();
        let known: Vec<_> = versions.iter().map(|one| (one.version, one.rules.lifetime_seconds)).collect();
        assert_eq!(known, [(2, 3_600_000), (1, 90 * 86_400)]);
        let again = world.ca.create_profile(name, Rules::device(), &act, world.now()).await;
        assert!(matches!(again, Err(EditProfileError::Store(StoreError::Taken { .. }))));
    }
}
