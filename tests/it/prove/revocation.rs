//! What those outside are told of a certificate's status: by list, by OCSP, by the edge.

use super::Proof;
use crate::ca::fixture::World;
use crate::ca::{agreement, hold, race, third_party};
use crate::harness::database::TestDatabase;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agreement() {
    let proof = Proof::of("agreement");
    let serials = proof.size(60, 20_000);
    let database = TestDatabase::sqlite();
    let world = World::over(&database).await;
    let said = |done| proof.progress(done, serials);
    let false_goods = agreement::false_goods(&world, serials, said).await;
    let measured = format!("{false_goods} false good, 0 disagreements");
    proof.end(serials, false_goods == 0, &measured);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crl_race() {
    let proof = Proof::of("crl_race");
    let Some(database) = TestDatabase::postgres() else { return };
    let lists = proof.size(60, 2_000);
    let numbers = race::between_two_processes(&database, lists).await;
    let measured = format!("{numbers} numbers for {lists} lists of two processes, each greater, none lost");
    proof.end(lists, numbers == lists, &measured);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn third_party() {
    let proof = Proof::of("third_party");
    let verdicts =
        third_party::by_openssl().await + third_party::by_java().await + third_party::by_python().await;
    assert!(!super::is_full() || verdicts == 26, "a peer is missing: {verdicts} verdicts");
    proof.end(verdicts, true, "OpenSSL, Java and Python see what we say");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_release() {
    let proof = Proof::of("hold_release");
    let rounds = proof.size(1, 50);
    for _ in 0..rounds {
        hold::held_and_released(&TestDatabase::sqlite()).await;
    }
    proof.end(rounds, true, "refused, listed and told when held; none of it when released");
}
