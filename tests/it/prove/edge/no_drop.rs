//! Nothing that changes while requests come drops one of them: not a configuration, not a certificate, not an
//! upstream, not the process.

mod visitors;

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::ExtendedKeyUsagePurpose;
use serde_json::json;
use tokio::runtime::Runtime;
use wicketgate::domain::{Secret, Serial};
use wicketgate::live::ConfigurationData;
use wicketgate::live::configuration::{DerData, KeyData};

use self::visitors::{Goal, Tally, Visitors};
use crate::edge::fixture::{APP as WORLD_APP, Authority, Random, World};
use crate::edge::upstream::Backend;
use crate::prove::Proof;
use crate::story::backend;
use crate::story::house::{APP, House, Plan};

/// Of as many swaps one brings a new server certificate.
const CERTIFICATE_EACH: u64 = 10;
/// Swaps while the connections of a process that was replaced go.
const SWAPS_EACH: u64 = 4;
/// Upstream changes at the same time.
const CHANGES_EACH: u64 = 1;

/// How much of what.
struct Size {
    per_second: u64,
    swaps: u64,
    changes: u64,
    hand_overs: u64,
}

/// Gives the app's site a new leaf of `authority`.
fn certify(data: &mut ConfigurationData, authority: &Authority) {
    let leaf =
        authority.leaf(Serial::random(&Random), vec![ExtendedKeyUsagePurpose::ServerAuth], &[WORLD_APP]);
    let site = data.sites.iter_mut().find(|site| site.host.as_str() == WORLD_APP).unwrap();
    site.chain = vec![DerData(leaf.chain[0].to_vec())];
    site.key = KeyData(Secret::new(leaf.key.secret_der().to_vec()));
}

/// Before, both, after: what is under way at the old target ends there.
fn targets(old: &str, new: &str, step: u64) -> Vec<String> {
    match step % 4 {
        0 => vec![old.to_owned()],
        2 => vec![new.to_owned()],
        _ => vec![old.to_owned(), new.to_owned()],
    }
}

/// Versions of the configuration, one after the other: each is another, each tenth has a new server certificate,
/// and as many as asked for have other targets.
async fn snapshots(proof: &Proof, size: &Size) -> Arc<Tally> {
    let own = Authority::new("own-ca", "Own CA");
    let world = World::with(|_| {}, |data| certify(data, &own)).await;
    let device = world.enrol().await;
    let second = Backend::start().await;
    let [old, new] = [&world.backend, &second].map(|backend| format!("http://{}", backend.address));
    let address = world.edge.https_addresses()[0];
    let goal = Goal::new(address, WORLD_APP, &own.der, &device.chain, &device.key);
    let visitors = Visitors::come(&goal, size.per_second);
    visitors.are_answered(size.per_second).await;
    let mut data = world.data.clone();
    let change_each = (size.swaps / size.changes.max(1)).max(1);
    for number in 1..=size.swaps {
        if number % CERTIFICATE_EACH == 0 {
            certify(&mut data, &own);
        }
        if number % change_each == 0 {
            let upstream =
                data.upstreams.iter_mut().find(|upstream| upstream.name.as_str() == "echo").unwrap();
            upstream.targets = targets(&old, &new, number / change_each);
        }
        for site in &mut data.sites {
            site.hsts_max_age_seconds = 3_600 + number;
        }
        world.publish(data.clone()).await;
        // In the middle of traffic, not all at once.
        visitors.are_answered(size.per_second / 100).await;
        proof.progress(number, size.swaps);
    }
    visitors.leave().await
}

/// Processes, one after the other, and changes while the connections of the one before go.
fn processes(proof: &Proof, size: &Size, runtime: &Runtime) -> Arc<Tally> {
    let [old, new] = [(); 2].map(|()| backend::start());
    let mut house = House::open(&Plan { database: None, more: "", edge: None }, &old);
    let anna = house.person("Anna Grün", "anna@example.org");
    let (_, device) = house.enrol(&anna, "Laptop");
    let address = SocketAddr::from(([127, 0, 0, 1], house.https));
    let goal = Goal::new(address, APP, &house.authority, &device.chain(), &device.key());
    let visitors = {
        let _inside = runtime.enter();
        Visitors::come(&goal, size.per_second)
    };
    let mut step = 0;
    for number in 1..=size.hand_overs {
        runtime.block_on(visitors.are_answered(size.per_second));
        let mut before = house.hand_over();
        house.serves_instead(number);
        for swap in 0..SWAPS_EACH {
            let max_age = 600 + number * SWAPS_EACH + swap;
            house.edit(&format!("/sites/{APP}"), &json!({ "hsts_max_age_seconds": max_age }));
        }
        for _ in 0..CHANGES_EACH {
            step += 1;
            house.edit("/upstreams/app", &json!({ "targets": targets(&old, &new, step) }));
        }
        assert!(House::wait_for(&mut before).success(), "the process that was replaced");
        proof.progress(number, size.hand_overs);
    }
    runtime.block_on(visitors.are_answered(size.per_second));
    let tally = runtime.block_on(visitors.leave());
    assert!(house.stop().success());
    tally
}

#[test]
fn no_drop() {
    let proof = Proof::of("no_drop");
    let size = Size {
        per_second: proof.size(100, 1_000),
        swaps: proof.size(50, 1_000),
        changes: proof.size(5, 50),
        hand_overs: proof.size(1, 5),
    };
    let runtime = Runtime::new().unwrap();
    let tallies = [runtime.block_on(snapshots(&proof, &size)), processes(&proof, &size, &runtime)];
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(|tally| of(tally)).sum::<u64>();
    let failures: Vec<_> = tallies.iter().flat_map(|tally| tally.failures()).collect();
    let answered = sum(Tally::answered);
    let measured = format!(
        "{} configurations ({} with a new server certificate), {} changes of targets and {} hand-overs at {} \
         requests/s: {answered} answered over {} connections, {} failed{}; {} found their connection closed before \
         anything went out",
        size.swaps + size.hand_overs * SWAPS_EACH,
        size.swaps / CERTIFICATE_EACH,
        size.changes + size.hand_overs * CHANGES_EACH,
        size.hand_overs,
        size.per_second,
        sum(Tally::connections),
        failures.len(),
        failures.iter().take(5).map(|why| format!("; {why}")).collect::<String>(),
        sum(Tally::came_again),
    );
    proof.end(answered, failures.is_empty() && answered >= 2 * size.per_second, &measured);
}
