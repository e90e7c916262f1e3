//! The edge's own client certificate: made once, renewed in time, under an authority that is nobody else's.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use wicketgate::activate::Activation;
use wicketgate::ca::{GateError, RolloverError, UPSTREAM_IDENTITY_LEASE, UpstreamIdentityError};
use wicketgate::domain::{AuthorityKind, AuthorityState, AuthorityStep, Secret, Slug, UtcTime};
use wicketgate::jobs::refresh_live::RefreshLive;
use wicketgate::jobs::rotate_upstream_identity::RotateUpstreamIdentity;
use wicketgate::jobs::{Job, Jobs, RunError};
use wicketgate::keys::{Kek, KeyId, SystemEntropy, Vaults};
use wicketgate::live::configuration::UpstreamIdentityData;
use wicketgate::live::{Ack, Cause, Classified, EdgeError, EdgeLink, Feed, Update, classify};
use wicketgate::pki::{chain, keygen, pem};
use wicketgate::store::authorities::SigningKey;
use wicketgate::store::certificates::IntentPurpose;
use wicketgate::store::leases::{Acquired, Lease, ReplicaId};
use wicketgate::store::settings::{INSTALLATION_ID, UPSTREAM_IDENTITY};
use wicketgate::store::upstream_identity::UpstreamIdentity;
use wicketgate::store::{Store, StoreError};
use wicketgate::telemetry::metrics::JobMetrics;

use super::crash::{DATABASE, DAYS, KEY, crash_in};
use super::fixture::{World, vaults};
use crate::harness::database::TestDatabase;
use crate::on_both_databases;
use crate::pki::peers::openssl;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
const INSTALLATION: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

fn slug(name: &str) -> Slug {
    name.parse().unwrap()
}

fn noon() -> UtcTime {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

/// A world that has its identity, and its key file.
async fn installed(database: &TestDatabase) -> (World, Secret<String>) {
    let key = Kek::fresh_text(&SystemEntropy);
    let store = Store::create(&database.url(), 5).await.unwrap();
    store.migrate(None).await.unwrap();
    let world = World::with(store, &key).await;
    let transaction = world.store.begin().await.unwrap();
    transaction.set_setting(INSTALLATION_ID, INSTALLATION).await.unwrap();
    transaction.commit().await.unwrap();
    (world, key)
}

/// The keys of a process that was given the same key file.
async fn keys_of(world: &World, key: &Secret<String>) -> Arc<Vaults> {
    let vaults = vaults(key);
    world.store.open_vaults(&vaults, &SystemEntropy, world.now()).await.unwrap();
    vaults
}

async fn lease(world: &World) -> Option<Lease> {
    let replica = ReplicaId::new();
    let name = UPSTREAM_IDENTITY_LEASE;
    match world.store.acquire_lease(name, &replica, Duration::from_secs(30), world.now()).await.unwrap() {
        Acquired::Ours(lease) => Some(lease),
        Acquired::Theirs { .. } => None,
    }
}

/// A run of the job, of whoever gets its lease.
async fn try_run(world: &World) -> Result<Option<UpstreamIdentity>, UpstreamIdentityError> {
    let Some(lease) = lease(world).await else { return Ok(None) };
    let made = world.ca.renew_upstream_identity(&lease, world.now()).await;
    world.store.release_lease(&lease).await.unwrap();
    made
}

async fn run(world: &World) -> Option<UpstreamIdentity> {
    try_run(world).await.unwrap()
}

async fn upstream_authorities(world: &World) -> Vec<(String, AuthorityState)> {
    let mut all = world.store.authorities().await.unwrap();
    all.retain(|one| one.kind == AuthorityKind::Upstream && one.certificate.is_some());
    all.into_iter().map(|one| (one.name.to_string(), one.state)).collect()
}

async fn own_certificates(world: &World) -> usize {
    world.store.internal_certificates(&IntentPurpose::UpstreamClient, None).await.unwrap().len()
}

async fn key_is_kept(world: &World, id: Option<&KeyId>) -> bool {
    world.store.signing_key(id.unwrap()).await.is_ok()
}

/// An edge that only keeps what it is shown to upstreams with.
#[derive(Default)]
struct Keeper(Mutex<Option<UpstreamIdentityData>>);

#[async_trait]
impl EdgeLink for Keeper {
    async fn apply(&self, update: &Update) -> Result<Ack, EdgeError> {
        if let Some(data) = &update.configuration {
            *self.0.lock() = data.upstream_identity.clone();
        }
        let epoch = update.changes.last().map_or(0, |change| change.epoch);
        Ok(Ack { version: update.configuration.as_ref().map_or(0, |data| data.version), epoch })
    }
}

/// Not a test of its own: a run of the job that the test below lets crash.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_child() {
    let (Ok(database), Ok(key)) = (std::env::var(DATABASE), std::env::var(KEY)) else { return };
    let days: u32 = std::env::var(DAYS).unwrap().parse().unwrap();
    let store = Store::open(&database, 5).await.unwrap();
    let world = World::at(store, &Secret::new(key), noon().plus(DAY * days)).await;
    run(&world).await.unwrap();
}

on_both_databases! {
    async fn it_is_made_once_even_by_two_replicas_at_the_same_moment(database) {
        let (one, key) = installed(database).await;
        // A SQLite file has one process, and that one store.
        let store = match one.store.is_sqlite() {
            true => one.store.clone(),
            false => Store::open(&database.url(), 5).await.unwrap(),
        };
        let two = World::with(store, &key).await;
        let made = tokio::join!(run(&one), run(&two));
        assert!(made.0.is_some() != made.1.is_some(), "{made:?}");
        assert_eq!(run(&one).await, None);
        assert_eq!(run(&two).await, None);
        let now = one.store.upstream_identity().await.unwrap().unwrap();
        assert_eq!(now.generation, 1);
        assert_eq!(own_certificates(&one).await, 1);
        assert_eq!(upstream_authorities(&one).await, [("upstream-g1".to_owned(), AuthorityState::Issuing)]);
    }

    async fn whoever_lost_the_lease_puts_nothing_into_use(database) {
        let (world, _) = installed(database).await;
        let late = lease(&world).await.unwrap();
        world.clock.advance(Duration::from_secs(31));
        let holder = lease(&world).await.unwrap();
        let refused = world.ca.renew_upstream_identity(&late, world.now()).await.unwrap_err();
        assert!(matches!(refused, UpstreamIdentityError::Store(StoreError::Conflict { .. })), "{refused}");
        assert_eq!(world.store.upstream_identity().await.unwrap(), None);
        let made = world.ca.renew_upstream_identity(&holder, world.now()).await.unwrap().unwrap();
        assert_eq!(made.generation, 1);
        let refused = world.ca.renew_upstream_identity(&late, world.now().plus(DAY * 4)).await;
        assert!(refused.is_err(), "{refused:?}");
        assert_eq!(world.store.upstream_identity().await.unwrap(), Some(made));
    }

    async fn the_job_runs_under_the_lease_that_boot_takes(database) {
        let (world, _) = installed(database).await;
        let job: Arc<dyn Job> = Arc::new(RotateUpstreamIdentity::new(world.ca.clone()));
        let all = vec![(Activation::new(job.name()), job)];
        let metrics = Arc::new(JobMetrics::default());
        let jobs = Jobs::idle(world.store.clone(), world.clock.clone(), ReplicaId::new(), metrics, all);
        let boot = lease(&world).await.unwrap();
        let refused = jobs.run_now("rotate_upstream_identity").await;
        assert!(matches!(refused, Err(RunError::Elsewhere { .. })), "{refused:?}");
        world.store.release_lease(&boot).await.unwrap();
        assert_eq!(jobs.run_now("rotate_upstream_identity").await.unwrap().done, 1);
        assert_eq!(jobs.run_now("rotate_upstream_identity").await.unwrap().done, 0);
    }

    async fn a_crash_anywhere_leaves_nothing_that_is_used_and_the_next_run_goes_on(database) {
        let (world, key) = installed(database).await;
        let child = "ca::upstream_identity::running_child";
        let points = [
            ("authority.after_record", 0, 0),
            ("authority.after_signing", 0, 0),
            ("ca.after_intent", 1, 1),
            ("ca.after_signing", 1, 1),
            ("upstream_identity.before_commit", 1, 1),
        ];
        for (days, (point, authorities, intents)) in (1..).zip(points) {
            assert!(crash_in(child, point, &database.url(), &key, days), "{point} was not reached");
            world.clock.set(noon().plus(DAY * days).plus(Duration::from_secs(60)));
            assert_eq!(world.store.upstream_identity().await.unwrap(), None, "{point}");
            assert_eq!(own_certificates(&world).await, 0, "{point}");
            assert_eq!(upstream_authorities(&world).await.len(), authorities, "{point}");
            let open = world.store.unresolved_intents(UtcTime::MAX).await.unwrap();
            assert_eq!(open.len(), intents, "{point}");
            assert!(open.iter().all(|intent| intent.purpose == IntentPurpose::UpstreamClient), "{point}");
            assert_eq!(world.ca.resolve_intents(world.now()).await.unwrap(), intents as u64, "{point}");
        }
        let made = run(&world).await.unwrap();
        assert_eq!((made.generation, own_certificates(&world).await), (1, 1));
        // The two that no signature is on record of keep their numbers.
        assert_eq!(made.certificate.authority, slug("upstream-g3"));
    }

    async fn it_is_renewed_at_half_of_its_life_and_what_was_before_stays_on_record(database) {
        let (world, _) = installed(database).await;
        let first = run(&world).await.unwrap();
        let mut last = first.clone();
        for generation in 2..5 {
            let certificate = &last.certificate;
            let half = certificate.not_after.since(certificate.not_before) / 2;
            world.clock.set(certificate.not_before.plus(half).minus(SECOND));
            assert_eq!(run(&world).await, None);
            world.clock.advance(SECOND);
            let next = run(&world).await.unwrap();
            assert_eq!((next.generation, &next.certificate.authority), (generation, &certificate.authority));
            assert_ne!(next.certificate.key_id, certificate.key_id, "its key is new, too");
            assert!(certificate.not_after > world.now(), "they overlap");
            last = next;
        }
        assert_eq!(own_certificates(&world).await, 4);
        // A key that has nothing to sign any more is not kept.
        assert!(!key_is_kept(&world, first.certificate.key_id.as_ref()).await);
        assert!(key_is_kept(&world, last.certificate.key_id.as_ref()).await);
        let kept = world.store.internal_certificate(first.certificate.serial).await.unwrap().unwrap();
        assert_eq!((kept.key_id, kept.der), (None, first.certificate.der));
    }

    async fn a_clock_that_jumps_neither_takes_it_away_nor_takes_its_number_back(database) {
        let (world, _) = installed(database).await;
        let first = run(&world).await.unwrap();
        world.clock.set(noon().minus(DAY));
        let refused = try_run(&world).await.unwrap_err();
        assert!(matches!(refused, UpstreamIdentityError::Gate(GateError::ClockWentBack { .. })), "{refused}");
        assert_eq!(world.store.upstream_identity().await.unwrap(), Some(first));
        world.clock.set(noon().plus(DAY * 400));
        let ahead = run(&world).await.unwrap();
        assert_eq!(ahead.generation, 2);
        assert!(ahead.certificate.not_before <= world.now() && world.now() < ahead.certificate.not_after);
        world.clock.set(noon());
        assert!(try_run(&world).await.is_err());
        assert_eq!(world.store.upstream_identity().await.unwrap(), Some(ahead));
    }

    async fn its_key_is_under_the_server_key_and_its_authoritys_under_the_authority_key(database) {
        let (world, key) = installed(database).await;
        let made = run(&world).await.unwrap();
        let vaults = keys_of(&world, &key).await;
        let id = made.certificate.key_id.unwrap();
        let own = world.store.signing_key(&id).await.unwrap();
        assert!(vaults.authority.open(SigningKey::place(&id), &own.sealed).is_err());
        let opened = vaults.server.open(SigningKey::place(&id), &own.sealed).unwrap();
        let leaf = chain::read_leaf(&made.certificate.der).unwrap();
        assert_eq!(keygen::public_key(opened.expose()).unwrap(), leaf.spki_der);
        let authority = world.store.authority(&made.certificate.authority).await.unwrap().unwrap();
        let above = world.store.signing_key(&authority.key_id).await.unwrap();
        assert!(vaults.server.open(SigningKey::place(&authority.key_id), &above.sealed).is_err());
        assert!(vaults.authority.open(SigningKey::place(&authority.key_id), &above.sealed).is_ok());
    }

    async fn edges_get_it_with_their_configuration(database) {
        let (world, key) = installed(database).await;
        let (feed, edge) = (Feed::new(), Arc::new(Keeper::default()));
        feed.connect(edge.clone());
        let vaults = keys_of(&world, &key).await;
        let refresh = RefreshLive::new(world.store.clone(), vaults, feed, world.clock.clone(), None, 0);
        refresh.refresh().await.unwrap();
        assert!(edge.0.lock().is_none());
        for generation in 1..3 {
            let made = run(&world).await.unwrap();
            refresh.refresh().await.unwrap();
            let shown = edge.0.lock().take().unwrap();
            assert_eq!((made.generation, shown.generation), (generation, generation));
            assert_eq!(shown.chain.len(), 1, "who trusts the authority has it");
            assert_eq!(shown.chain[0].0, made.certificate.der);
            let leaf = chain::read_leaf(&shown.chain[0].0).unwrap();
            assert_eq!(keygen::public_key(shown.key.0.expose()).unwrap(), leaf.spki_der);
            world.clock.advance(DAY * 4);
        }
    }

    async fn one_that_cannot_be_read_stops_no_configuration_and_the_job_makes_another(database) {
        let (world, key) = installed(database).await;
        let (feed, edge) = (Feed::new(), Arc::new(Keeper::default()));
        feed.connect(edge.clone());
        let vaults = keys_of(&world, &key).await;
        let refresh = RefreshLive::new(world.store.clone(), vaults, feed, world.clock.clone(), None, 0);
        assert_eq!(run(&world).await.unwrap().generation, 1);
        refresh.refresh().await.unwrap();
        assert!(edge.0.lock().is_some());
        // The certificates tell the number where the setting does not.
        for (broken, next) in [("", 2), ("x 0a0b", 3), ("7 nothing", 8), ("9 0a0b", 10)] {
            let transaction = world.store.begin().await.unwrap();
            transaction.set_setting(UPSTREAM_IDENTITY, broken).await.unwrap();
            transaction.touch_configuration().await.unwrap();
            transaction.commit().await.unwrap();
            refresh.refresh().await.unwrap();
            assert!(edge.0.lock().is_none(), "{broken:?}: it is published, without one");
            assert_eq!(run(&world).await.unwrap().generation, next, "{broken:?}");
            refresh.refresh().await.unwrap();
            let shown = edge.0.lock().as_ref().map(|shown| shown.generation);
            assert_eq!(shown, Some(next), "{broken:?}");
            assert_eq!(run(&world).await, None);
        }
    }

    async fn it_passes_no_edge_and_its_authority_is_in_nobodys_trust(database) {
        let (world, _) = installed(database).await;
        let made = run(&world).await.unwrap();
        let presented = [CertificateDer::from(&made.certificate.der[..])];
        let Classified::Refused(refusal) = classify(&presented, world.now(), world.holder.register()) else {
            panic!("it passes");
        };
        assert_eq!((refusal.cause, refusal.cause.code()), (Cause::UnknownAuthority, "certificate_untrusted"));
        let known = world.holder.register().authorities();
        assert!(!known.is_empty() && known.iter().all(|one| one.kind != AuthorityKind::Upstream));
        let authority = world.store.authority(&made.certificate.authority).await.unwrap().unwrap();
        assert_eq!(world.holder.document("upstream-g1.cer").unwrap().body, authority.certificate.unwrap());
        assert_eq!(world.ca.publish_crls(world.now()).await.unwrap(), 2, "root and issuing authority, as ever");
        for step in AuthorityStep::ALL {
            let refused = world.step(&authority.name, step).await;
            assert!(matches!(refused, Err(RolloverError::Kind)), "{step:?}: {refused:?}");
        }
        let act = world.act("authority.stage").await;
        let refused = world.ca.stage(AuthorityKind::Upstream, &act, world.now()).await;
        assert!(matches!(refused, Err(RolloverError::Kind)), "{refused:?}");
    }

    async fn its_authority_is_followed_by_one_that_was_published_years_before(database) {
        let (world, _) = installed(database).await;
        run(&world).await.unwrap();
        let first = world.store.authority(&slug("upstream-g1")).await.unwrap().unwrap();
        let g1 = |state| ("upstream-g1".to_owned(), state);
        let g2 = |state| ("upstream-g2".to_owned(), state);
        let third = first.not_after.since(first.not_before) / 3;
        world.clock.set(first.not_after.minus(third).minus(SECOND));
        run(&world).await.unwrap();
        assert_eq!(upstream_authorities(&world).await, [g1(AuthorityState::Issuing)]);
        world.clock.advance(SECOND * 2);
        assert_eq!(run(&world).await, None, "its successor signs nothing yet");
        assert_eq!(upstream_authorities(&world).await, [g1(AuthorityState::Issuing), g2(AuthorityState::Trusted)]);
        for name in ["upstream-g1.cer", "upstream-g2.cer"] {
            assert!(world.holder.document(name).is_some(), "{name} is not published");
        }
        assert_eq!(run(&world).await, None);
        world.clock.set(first.not_after.minus(DAY * 7));
        let last = run(&world).await.unwrap();
        assert_eq!((&last.certificate.authority, last.certificate.not_after), (&first.name, first.not_after));
        world.clock.advance(SECOND);
        let next = run(&world).await.unwrap();
        assert_eq!((next.generation, &next.certificate.authority), (last.generation + 1, &slug("upstream-g2")));
        assert_eq!(upstream_authorities(&world).await, [g1(AuthorityState::Retiring), g2(AuthorityState::Issuing)]);
        world.clock.set(first.not_after.plus(SECOND));
        run(&world).await.unwrap();
        assert_eq!(upstream_authorities(&world).await, [g1(AuthorityState::Archived), g2(AuthorityState::Issuing)]);
    }

    async fn openssl_takes_it_for_a_client_under_its_authority_and_no_device_there(database) {
        let Some(openssl) = openssl() else { return };
        let (world, _) = installed(database).await;
        let made = run(&world).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, der: &[u8]| {
            std::fs::write(folder.path().join(name), pem::block("CERTIFICATE", der)).unwrap();
        };
        for (file, name) in [("upstream.pem", "upstream-g1"), ("issuing.pem", "client-issuing-g1"), ("root.pem", "client-root-g1")] {
            let authority = world.store.authority(&slug(name)).await.unwrap().unwrap();
            write(file, &authority.certificate.unwrap());
        }
        write("edge.pem", &made.certificate.der);
        write("device.pem", &world.issue("phone").await.certificate.der);
        let at = world.now().as_unix().to_string();
        let verify = |more: &[&'static str]| {
            let strictly: Vec<&str> = vec!["verify", "-x509_strict", "-attime", &at, "-purpose"];
            [&strictly[..], more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let ask = |more: &[&'static str]| -> bool {
            let arguments = verify(more);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            openssl.run(folder.path(), &arguments).status.success()
        };
        assert!(ask(&["sslclient", "-CAfile", "upstream.pem", "edge.pem"]));
        assert!(!ask(&["sslserver", "-CAfile", "upstream.pem", "edge.pem"]), "it is no server's");
        assert!(!ask(&["sslclient", "-CAfile", "upstream.pem", "-untrusted", "issuing.pem", "device.pem"]));
        assert!(ask(&["sslclient", "-CAfile", "root.pem", "-untrusted", "issuing.pem", "device.pem"]));
        assert!(!ask(&["sslclient", "-CAfile", "root.pem", "-untrusted", "issuing.pem", "edge.pem"]));
        let text = openssl.ok(folder.path(), &["x509", "-noout", "-text", "-in", "edge.pem"]);
        for line in [
            "CN = wicketgate edge",
            "X509v3 Extended Key Usage: \n                TLS Web Client Authentication\n",
            &format!("URI:urn:wicketgate:edge:{INSTALLATION}\n"),
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
