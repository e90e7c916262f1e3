//! A chain over the authority's world: who chains, under which lease.

use std::time::Duration;

use wicketgate::domain::UtcTime;
use wicketgate::domain::audit_chain::{ChainHead, Checkpoint};
use wicketgate::jobs::chain_audit::Sequencer;
use wicketgate::pki::audit::{Export, FORMAT, Header, Key, Line, Link};
use wicketgate::store::Store;
use wicketgate::store::audit_chain::Look;
use wicketgate::store::leases::{Acquired, Lease, ReplicaId};
use wicketgate::store::settings::INSTALLATION_ID;

use crate::ca::fixture::World;
use crate::harness::database::TestDatabase;

/// The installation of these tests.
pub const INSTALLATION: &str = "0192f0c1-0000-7000-8000-000000000001";
/// How long the leases of these tests last.
pub const LEASE: Duration = Duration::from_secs(30);

/// A world with an identity, which checkpoints need.
pub async fn world(database: &TestDatabase) -> World {
    let world = World::over(database).await;
    identify(&world.store).await;
    world
}

pub async fn identify(store: &Store) {
    let transaction = store.begin().await.unwrap();
    transaction.set_setting(INSTALLATION_ID, INSTALLATION).await.unwrap();
    transaction.commit().await.unwrap();
}

/// The lease, if nobody else has it.
pub async fn lease(store: &Store, now: UtcTime) -> Option<Lease> {
    match store.acquire_lease("job:chain_audit", &ReplicaId::new(), LEASE, now).await.unwrap() {
        Acquired::Ours(lease) => Some(lease),
        Acquired::Theirs { .. } => None,
    }
}

/// A sequencer under the lease, which nobody else has.
pub async fn sequencer(world: &World) -> Sequencer {
    let lease = lease(&world.store, world.now()).await.unwrap();
    Sequencer::new(world.store.clone(), world.ca.clone(), lease)
}

/// Chains whatever has no link, once. Returns how many.
pub async fn chain_all(world: &World) -> u64 {
    let lease = lease(&world.store, world.now()).await.unwrap();
    let mut sequencer = Sequencer::new(world.store.clone(), world.ca.clone(), lease.clone());
    let chained = sequencer.chain(Look::Everywhere).await.unwrap();
    world.store.release_lease(&lease).await.unwrap();
    chained
}

/// Reads the whole chain; every number, hash and event is what it must be.
pub async fn check_chain(store: &Store) -> ChainHead {
    let mut head = ChainHead::START;
    for link in store.audit_links(0, u64::from(u32::MAX)).await.unwrap() {
        head = head.next(&link.event.unwrap());
        assert_eq!(link.head, head);
    }
    head
}

/// An export of the store as it is, with the end that belongs to it.
pub async fn export(world: &World) -> Vec<u8> {
    let keys = world.ca.audit_keys(world.now()).await.unwrap();
    let keys = keys.into_iter().map(|key| Key { key_id: key.id.0, spki: key.spki }).collect();
    let header = Header {
        format: FORMAT.to_owned(),
        installation_id: INSTALLATION.to_owned(),
        exported_at: world.now(),
        keys,
    };
    let mut lines = vec![Line::Header(header)];
    let checkpoints: Vec<Checkpoint> = world.store.audit_checkpoints(0, 10_000).await.unwrap();
    for link in world.store.audit_links(0, 10_000).await.unwrap() {
        let ChainHead { number, hash } = link.head;
        lines.push(Line::Link(Link { number, hash, event: link.event }));
        let here = checkpoints.iter().find(|checkpoint| checkpoint.number == number);
        lines.extend(here.cloned().map(Line::Checkpoint));
    }
    let unchained = world.store.unchained_audit_events(Look::Everywhere, None, 10_000).await.unwrap();
    lines.extend(unchained.into_iter().map(Line::Unchained));
    let mut export = Export::default();
    let mut text: String = lines.iter().map(|line| export.write(line).unwrap()).collect();
    text.push_str(&Line::End(export.end()).to_text().unwrap());
    text.into_bytes()
}
