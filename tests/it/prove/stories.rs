//! Items that the program proves as people run it, with clients that are not ours. Their proof lives with
//! the other stories; it is brought to its size here.

use super::Proof;
use crate::story::{agent, ceremony, est};

#[test]
fn ceremony() {
    let proof = Proof::of("ceremony");
    let Some(refused) = ceremony::from_plan_to_leaf() else { return };
    let measured = format!(
        "a leaf that OpenSSL verifies, with lists, to the root that was made elsewhere; {refused} altered \
         steps, all refused"
    );
    proof.end(refused, refused > 20, &measured);
}

#[test]
fn est() {
    let proof = Proof::of("est");
    let (damaged, contests) = (proof.size(8, 400), proof.size(1, 20));
    let Some(tally) = est::with_curl_and_openssl(&proof, damaged, contests) else { return };
    let measured = format!(
        "{} certificates for who may have one, {} wrong requests refused with the right status and sentence, \
         nothing issued for them; {} wrong {:?}",
        tally.issued,
        tally.refused,
        tally.wrong.len(),
        tally.wrong.iter().take(5).collect::<Vec<_>>()
    );
    proof.end(tally.issued + tally.refused, tally.wrong.is_empty(), &measured);
}

#[test]
fn agent_kill() {
    let proof = Proof::of("agent_kill");
    let rounds = proof.size(1, 20);
    let Some(kills) = agent::at_every_step(&proof, rounds) else { return };
    let measured = format!(
        "killed by SIGKILL {kills} times, at every step {rounds} times and at moments between: a usable key and \
         certificate in place each time, and the next run went on"
    );
    proof.end(kills, kills >= rounds * agent::POINTS, &measured);
}
