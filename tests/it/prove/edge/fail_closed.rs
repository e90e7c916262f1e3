//! Whatever is broken, strangers stay outside: each fault is injected for real, and then they ask.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rcgen::ExtendedKeyUsagePurpose;
use wicketgate::clock::{Clock, ForwardOnly, SharedClock};
use wicketgate::domain::{AccessPolicy, AuthorityKind, AuthorityState, ClientAuth, Hostname, Seal};
use wicketgate::keys::{Kek, Purpose, SystemEntropy};
use wicketgate::live::journal::Journal;
use wicketgate::live::probe::{Candidate, Probe, ProbeFault};
use wicketgate::live::{Configuration, Delta, EdgeLink, Holder, Route, TlsPolicy, Update};

use crate::edge::client::{Http, PATIENCE, read, request, shake, tls};
use crate::edge::fixture::{APP, Authority, Device, Parts, STRICT, World};
use crate::prove::Proof;

const DAY: Duration = Duration::from_secs(86_400);

/// What a visitor of a protected route gets.
#[derive(Debug, PartialEq, Eq)]
enum Gets {
    In,
    /// The code of the refusal, or nothing where the handshake was the refusal.
    Refused(String),
    /// Neither; says what.
    Neither(u16),
}

/// All that was asked.
struct Table {
    n: u64,
    wrong: Vec<String>,
}

/// What is expected of somebody known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Passes,
    IsRefused,
}

async fn visit(world: &World, host: &str, device: Option<&Device>, http: Http) -> Gets {
    let asking = ask(world, host, device, http);
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or(Gets::Neither(0))
}

async fn ask(world: &World, host: &str, device: Option<&Device>, http: Http) -> Gets {
    let alpn: &[u8] = if http == Http::Two { b"h2" } else { b"http/1.1" };
    let nobody = || Gets::Refused(String::new());
    let Ok(stream) = shake(world, host, tls(world, device, &[alpn])).await else { return nobody() };
    let request = request(http == Http::Two, http::Method::GET, host, "/");
    let io = hyper_util::rt::TokioIo::new(stream);
    let answer = match http {
        Http::One => {
            let Ok((mut sender, connection)) = hyper::client::conn::http1::handshake(io).await else {
                return nobody();
            };
            tokio::spawn(connection);
            sender.send_request(request).await
        }
        Http::Two => {
            let executor = hyper_util::rt::TokioExecutor::new();
            let Ok((mut sender, connection)) = hyper::client::conn::http2::handshake(executor, io).await
            else {
                return nobody();
            };
            tokio::spawn(connection);
            sender.send_request(request).await
        }
    };
    let Ok(answer) = answer else { return nobody() };
    let answer = read(answer).await;
    match answer.status {
        200 => Gets::In,
        403 | 503 => Gets::Refused(answer.code()),
        other => Gets::Neither(other),
    }
}

impl Table {
    /// Both strangers and somebody known ask, on every kind of site, over both protocols.
    async fn ask(&mut self, fault: &str, world: &World, known: Option<(&Device, Known)>) {
        // Ours in all but the key: name, key id, and the serial of somebody known.
        let twin = Authority::with_key_id(
            world.authority.name.as_str(),
            "Test Client Issuing G1",
            Some(world.authority.key_id()),
        );
        let serial = known.map_or_else(some_serial, |(device, _)| device.serial);
        let foreign = twin.leaf(serial, vec![ExtendedKeyUsagePurpose::ClientAuth], &[]);
        for host in [APP, STRICT] {
            for http in [Http::One, Http::Two] {
                for (who, device) in [("anonymous", None), ("foreign", Some(&foreign))] {
                    let gets = visit(world, host, device, http).await;
                    self.expect(fault, who, host, &gets, Known::IsRefused);
                }
                if let Some((device, expected)) = known {
                    let gets = visit(world, host, Some(device), http).await;
                    self.expect(fault, "known", host, &gets, expected);
                }
            }
        }
    }

    fn expect(&mut self, fault: &str, who: &str, host: &str, gets: &Gets, expected: Known) {
        self.n += 1;
        let is_right = match expected {
            Known::Passes => *gets == Gets::In,
            Known::IsRefused => matches!(gets, Gets::Refused(_)),
        };
        if !is_right {
            self.wrong.push(format!("{fault}: {who} at {host} gets {gets:?}"));
        }
    }

    fn holds(&mut self, what: &str, holds: bool) {
        self.n += 1;
        if !holds {
            self.wrong.push(what.to_owned());
        }
    }
}

fn some_serial() -> wicketgate::domain::Serial {
    wicketgate::domain::Serial::random(&SystemEntropy)
}

/// Sites whose handshakes must have been made for what they are.
fn open(configuration: &mut Configuration) {
    for host in [APP, STRICT] {
        let host = Hostname::normalize(host).unwrap();
        let site = Arc::get_mut(configuration.sites.get_mut(&host).unwrap()).unwrap();
        for route in &mut site.routes {
            *route = Arc::new(Route { policy: AccessPolicy::Public, ..Route::clone(route) });
        }
    }
}

/// A configuration that arrives at an edge.
async fn publish(world: &World, change: impl FnOnce(&mut wicketgate::live::ConfigurationData)) -> bool {
    let mut data = world.data.clone();
    change(&mut data);
    data.version = world.holder.snapshot().map_or(1, |snapshot| snapshot.configuration.version + 1);
    world.holder.apply(&Update { configuration: Some(Arc::new(data)), ..Update::default() }).await.is_ok()
}

/// Missing, empty and corrupt trust material.
async fn trust_material(table: &mut Table) {
    let world = World::knowing_nothing(Parts::default(), |_| {}, |_| {}).await;
    table.ask("neither register nor configuration", &world, None).await;
    world.publish(world.data.clone()).await;
    table.ask("an empty register", &world, None).await;

    let world = World::start().await;
    let device = world.enrol().await;
    table.ask("nothing", &world, Some((&device, Known::Passes))).await;
    let issuing = |state, spoil: fn(&mut wicketgate::live::AuthorityRecord)| {
        let ends = world.clock.now().plus(DAY * 3650);
        let mut record = world.authority.record(AuthorityKind::Issuing, state, ends);
        spoil(&mut record);
        vec![Delta::Authority(record)]
    };
    world.apply(issuing(AuthorityState::Issuing, |record| record.certificate = b"garbage".to_vec())).await;
    table.ask("an authority's certificate is garbage", &world, Some((&device, Known::Passes))).await;
    let empty = |record: &mut wicketgate::live::AuthorityRecord| {
        record.certificate.clear();
        record.subject.clear();
        record.spki.clear();
    };
    world.apply(issuing(AuthorityState::Issuing, empty)).await;
    table.ask("an authority without certificate, name and key", &world, Some((&device, Known::Passes))).await;
    world.apply(issuing(AuthorityState::Archived, |_| {})).await;
    table.ask("no authority in force", &world, Some((&device, Known::IsRefused))).await;
}

/// The clock leaps, either way, and the feed falls silent.
async fn clock(table: &mut Table) {
    let world = World::start().await;
    let device = world.enrol().await;
    world.clock.advance(DAY + Duration::from_secs(1));
    table.ask("nobody confirms the register", &world, Some((&device, Known::IsRefused))).await;

    let parts = Parts::default();
    let (wall, start): (SharedClock, _) = (parts.clock.clone(), std::time::Instant::now());
    let edge_clock: SharedClock = ForwardOnly::ticking(wall, move || start.elapsed());
    let world = World::of(Parts { edge_clock, ..parts }, |_| {}, |_| {}).await;
    let (device, short) = (world.enrol().await, world.enrol_for(world.anna.id, DAY / 24).await);
    table.ask("nothing", &world, Some((&short, Known::Passes))).await;
    let before = world.clock.now();
    world.clock.set(before.minus(DAY * 2));
    world.apply(Vec::new()).await;
    table.ask("the clock is set back by two days", &world, Some((&device, Known::IsRefused))).await;
    world.clock.set(before);
    world.apply(Vec::new()).await;
    table.ask("the clock is right again", &world, Some((&device, Known::Passes))).await;
    world.clock.set(before.plus(DAY * 3650));
    world.apply(Vec::new()).await;
    table.ask("the clock leaps ten years ahead", &world, Some((&device, Known::IsRefused))).await;
    world.clock.set(before);
    world.apply(Vec::new()).await;
    table.ask("and back", &world, Some((&device, Known::Passes))).await;
}

/// What has ended stays ended when the clock is set back, within what may be stale, too.
async fn ended(table: &mut Table) {
    let parts = Parts::default();
    let ticks = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let ticking = ticks.clone();
    let ticking = move || Duration::from_secs(ticking.load(std::sync::atomic::Ordering::SeqCst));
    let edge_clock: SharedClock = ForwardOnly::ticking(parts.clock.clone(), ticking);
    let world = World::of(Parts { edge_clock, ..parts }, |_| {}, |_| {}).await;
    let short = world.enrol_for(world.anna.id, Duration::from_secs(3_600)).await;
    table.ask("nothing", &world, Some((&short, Known::Passes))).await;
    ticks.store(4_000, std::sync::atomic::Ordering::SeqCst);
    // The wall clock stood still meanwhile: an hour is gone all the same.
    world.apply(Vec::new()).await;
    table.ask("the clock is set back under a certificate", &world, Some((&short, Known::IsRefused))).await;
}

fn seal() -> Arc<dyn Seal> {
    Arc::new(Kek::from_text(Purpose::Server, &Kek::fresh_text(&SystemEntropy), "test").unwrap())
}

fn restore(directory: &Path, edge: &str, seal: &Arc<dyn Seal>, clock: SharedClock) -> Option<Arc<Holder>> {
    Holder::restore(TlsPolicy::modern(), clock, Journal::at(directory, edge, seal.clone())).ok()
}

/// The copy on disk: an edge that cannot read it does not start, and one that can keeps what it knew.
async fn snapshot(table: &mut Table) {
    let (directory, seal, parts) = (tempfile::tempdir().unwrap(), seal(), Parts::default());
    let clock: SharedClock = parts.clock.clone();
    let holder = restore(directory.path(), "local", &seal, clock.clone()).unwrap();
    let world = World::of(Parts { holder, ..parts }, |_| {}, |_| {}).await;
    let (device, revoked) = (world.enrol().await, world.enrol().await);
    world.revoke(&revoked).await;
    table.ask("nothing", &world, Some((&device, Known::Passes))).await;
    let log = directory.path().join("snapshot.0.log");
    let whole = std::fs::read(&log).unwrap();
    for at in (8..whole.len()).step_by(whole.len() / 16) {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        std::fs::write(&log, &changed).unwrap();
        let again = restore(directory.path(), "local", &seal, clock.clone());
        table.holds(&format!("octet {at} of the snapshot is changed, and an edge starts"), again.is_none());
    }
    std::fs::write(&log, &whole).unwrap();
    let others: [(&str, Arc<dyn Seal>); 2] = [("other", seal.clone()), ("local", self::seal())];
    for (edge, seal) in others {
        let again = restore(directory.path(), edge, &seal, clock.clone());
        table.holds("another's snapshot, and an edge starts", again.is_none());
    }
    // Half an update is what was never acknowledged.
    std::fs::write(&log, &whole[..whole.len() - 3]).unwrap();
    let cut = restore(directory.path(), "local", &seal, clock.clone());
    table.holds("an update that was never acknowledged stops the edge", cut.is_some());
    std::fs::write(&log, &whole).unwrap();
    let World { server_ca, authority, .. } = world;
    let parts = Parts::default();
    let holder = restore(directory.path(), "local", &seal, clock).unwrap();
    let mut again = World::knowing_nothing(Parts { holder, ..parts }, |_| {}, |_| {}).await;
    (again.server_ca, again.authority) = (server_ca, authority);
    table.ask("started from the snapshot", &again, Some((&device, Known::Passes))).await;
    table.ask("started from the snapshot", &again, Some((&revoked, Known::IsRefused))).await;
}

/// Configurations that must not be published, whatever is wrong with them.
async fn configuration(table: &mut Table) {
    let world = World::start().await;
    let device = world.enrol().await;
    let known = Some((&device, Known::Passes));
    world.holder.spoil(open);
    table.holds("a table without policies is published", !publish(&world, |_| {}).await);
    table.ask("a table without policies", &world, known).await;
    world.holder.spoil(|configuration| {
        let host = Hostname::normalize(APP).unwrap();
        Arc::get_mut(configuration.sites.get_mut(&host).unwrap()).unwrap().routes.clear();
    });
    table.holds("a table without routes is published", !publish(&world, |_| {}).await);
    table.ask("a table without routes", &world, known).await;
    world.holder.mend();
    let mismatched = publish(&world, |data| data.sites[0].key = data.sites[1].key.clone()).await;
    table.holds("a key of another certificate is published", !mismatched);
    let unasked = publish(&world, |data| data.sites[0].client_auth = ClientAuth::None).await;
    table.holds("a protected site that never asks is published", !unasked);
    table.ask("refused configurations", &world, known).await;
    let emptied = publish(&world, |data| {
        data.sites.clear();
        data.routes.clear();
    });
    table.holds("a configuration without sites is refused", emptied.await);
    table.ask("a configuration without sites", &world, Some((&device, Known::IsRefused))).await;
}

/// Never comes to an end.
struct Stuck;

#[async_trait]
impl Probe for Stuck {
    async fn probe(&self, _: Candidate) -> Result<(), ProbeFault> {
        std::future::pending().await
    }
}

/// A revocation goes through while a configuration is on trial, and after one was refused.
async fn revocation(table: &mut Table) {
    let parts = Parts::default();
    let world = Arc::new(World::knowing_nothing(parts, |_| {}, |_| {}).await);
    world.apply(world.trust()).await;
    world.publish(world.data.clone()).await;
    let devices = [world.enrol().await, world.enrol().await];
    table.ask("nothing", &world, Some((&devices[0], Known::Passes))).await;
    world.holder.spoil(open);
    table.holds("a bad configuration is published", !publish(&world, |_| {}).await);
    world.revoke(&devices[0]).await;
    table.ask("revoked after a refused trial", &world, Some((&devices[0], Known::IsRefused))).await;
    table.ask("revoked after a refused trial", &world, Some((&devices[1], Known::Passes))).await;

    // An edge that has a configuration already, and whose next one is never done with.
    let holder = Holder::of(world.holder.snapshot().unwrap(), world.clock.clone());
    holder.try_with(Arc::new(Stuck));
    let parts = Parts { holder, ..Parts::default() };
    let stuck = Arc::new(World::knowing_nothing(parts, |_| {}, |_| {}).await);
    let trial = tokio::spawn({
        let stuck = stuck.clone();
        async move { publish(&stuck, open_routes).await }
    });
    tokio::task::yield_now().await;
    let epoch = stuck.holder.register().epoch();
    let change = wicketgate::live::Change {
        epoch: epoch + 1,
        delta: Delta::Revoked {
            fingerprint: devices[1].fingerprint,
            at: stuck.clock.now(),
            reason: wicketgate::domain::RevocationReason::KeyCompromise,
        },
    };
    let update = Update { changes: vec![change].into(), ..Update::default() };
    let acknowledged = tokio::time::timeout(Duration::from_secs(1), stuck.holder.apply(&update)).await;
    table.holds("a revocation waits for a trial", acknowledged.is_ok_and(|ack| ack.is_ok()));
    table.holds("a trial that never ends has ended", !trial.is_finished());
    trial.abort();
}

fn open_routes(data: &mut wicketgate::live::ConfigurationData) {
    data.routes.iter_mut().for_each(|route| route.policy = AccessPolicy::Public);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fail_closed() {
    let proof = Proof::of("fail_closed");
    let mut table = Table { n: 0, wrong: Vec::new() };
    let rounds = proof.size(1, 10);
    for round in 0..rounds {
        trust_material(&mut table).await;
        clock(&mut table).await;
        ended(&mut table).await;
        snapshot(&mut table).await;
        configuration(&mut table).await;
        revocation(&mut table).await;
        proof.progress(round, rounds);
    }
    let Table { n, wrong } = table;
    let first: String = wrong.iter().take(5).map(|fault| format!("; {fault}")).collect();
    let measured = format!("{n} questions under faults, {} answered otherwise{first}", wrong.len());
    proof.end(n, wrong.is_empty(), &measured);
}
