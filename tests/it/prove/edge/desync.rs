//! However a request is written, the edge, the backend and the RFC agree where it ends and whom it names, or
//! it goes no further.

mod backends;
mod corpus;
mod judge;
mod place;
mod relay;
mod strict;
mod visitor;

use futures_util::future::join_all;
use wicketgate::domain::AccessPolicy;
use wicketgate::domain::upstream::UpstreamOptions;
use wicketgate::live::{ConfigurationData, UpstreamData};

use self::backends::{Backends, Front};
use self::corpus::{Shape, corpus};
use self::judge::{Try, Verdict, judge};
use self::place::Place;
use self::visitor::{Manner, Visitors};
use crate::edge::fixture::{APP, World, known, route};
use crate::prove::Proof;
use crate::prove::seed::Seed;

/// A way for everybody to each backend, and one for those who are known.
fn configure(data: &mut ConfigurationData, backends: &Backends) {
    for Front { name, relay, .. } in &backends.fronts {
        let targets = vec![format!("http://127.0.0.1:{}", relay.port)];
        data.upstreams.push(UpstreamData {
            name: name.parse().unwrap(),
            targets,
            options: UpstreamOptions::default(),
        });
        for (suffix, policy) in [("", AccessPolicy::Public), ("-private", known())] {
            let mut route = route(APP, &format!("/{name}{suffix}"), policy);
            route.upstream = name.parse().unwrap();
            data.routes.push(route);
        }
    }
}

/// Puts every shape in front of one backend: once as it is, then in any manner.
async fn drive(
    world: &World,
    front: &Front,
    shapes: &[Shape],
    (rounds, seed): (u64, u64),
    proof: &Proof,
) -> Vec<Try> {
    let mut visitors = Visitors::of(world);
    let mut seed = Seed::of(seed);
    let mut tries = Vec::new();
    for round in 0..rounds {
        for shape in shapes {
            let place = Place { front: front.name, number: tries.len() };
            let manner = if round == 0 { Manner::PLAIN } else { Manner::of(&mut seed) };
            let heard = visitors.put(shape, &place, manner, &mut seed).await;
            let after = visitors.ask(&place).await;
            let name = match round {
                0 => format!("{} before {}", shape.name, front.name),
                _ => format!("{} before {}, {manner:?}", shape.name, front.name),
            };
            tries.push(Try { name, heard, after });
            proof.progress(tries.len() as u64, rounds * shapes.len() as u64);
        }
    }
    tries
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn desync() {
    let proof = Proof::of("desync");
    let rounds = proof.size(1, 5);
    let Some(backends) = Backends::start().await else { return };
    // On one thread, so that all visitors share the kept connections to the backends.
    let world = World::with(|settings| settings.threads = 1, |data| configure(data, &backends)).await;
    let shapes = corpus();
    let drives = backends.fronts.iter().zip(20..);
    let drives = drives.map(|(front, seed)| drive(&world, front, &shapes, (rounds, seed), &proof));
    let mut verdict = Verdict::default();
    let mut cases = 0;
    for (front, tries) in backends.fronts.iter().zip(join_all(drives).await) {
        cases += tries.len();
        verdict.add(judge(front, &tries).await);
    }
    let Verdict { desyncs, unsafe_forwards, forwarded, .. } = &verdict;
    // Nothing is shown where nothing passes, or where connections are not used again.
    let is_shown = shapes.len() >= 200
        && verdict.shapes > cases / 5
        && *forwarded > cases
        && verdict.connections < forwarded / 3;
    let measured = format!(
        "{} shapes, {cases} times in front of {} backends, {} of them passed on, {forwarded} requests in all \
         over {} connections; {} desyncs, {} unsafe forwards{}",
        shapes.len(),
        backends.fronts.len(),
        verdict.shapes,
        verdict.connections,
        desyncs.len(),
        unsafe_forwards.len(),
        desyncs.iter().chain(unsafe_forwards).take(8).map(|fault| format!("; {fault}")).collect::<String>(),
    );
    let is_clean = desyncs.is_empty() && unsafe_forwards.is_empty();
    proof.end(cases as u64, is_clean && is_shown, &measured);
}
