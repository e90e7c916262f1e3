//! What is explained and rehearsed is what issuing does.

use std::collections::BTreeSet;

use wicketgate::ca::{DeviceChoice, GateError, IssueError, IssueRequest};
use wicketgate::domain::{Actor, Hostname, PersonId, Slug};
use wicketgate::pki::keygen::{client_csr_pem, generate_p256};
use wicketgate::pki::profile::{Requesters, Rule, Rules, refusal};

use super::Proof;
use super::seed::Seed;
use crate::ca::fixture::World;
use crate::harness::database::TestDatabase;

/// Requests between two edits of the profile.
const BETWEEN: u64 = 20;

fn fresh(p384: bool) -> String {
    if !p384 {
        return client_csr_pem(generate_p256().0.expose(), "a device").unwrap();
    }
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap()
}

/// Rules that differ in everything that decides over who gets a certificate.
fn rules(seed: &mut Seed) -> Rules {
    let mut rules = Rules::device();
    rules.requesters =
        *seed.one_of(&[Requesters::OwnerOrAdministrator, Requesters::Administrator, Requesters::Owner]);
    let group = *seed.one_of(&[None, Some("staff"), Some("admins")]);
    rules.groups = group.map(|name| name.parse().unwrap()).into_iter().collect();
    rules.keys.p384 = seed.below(2) == 0;
    let suffix = *seed.one_of(&[None, Some("example.com")]);
    rules.names.dns_suffixes = suffix.map(|name| name.parse().unwrap()).into_iter().collect();
    rules
}

/// Who asks for what, without its key.
struct Wish {
    actor: Actor,
    p384: bool,
    dns_names: BTreeSet<Hostname>,
}

impl Wish {
    fn choose(world: &World, seed: &mut Seed) -> Self {
        let someone = PersonId::new();
        let actor =
            seed.one_of(&[Actor::Person(world.anna), Actor::Person(someone), Actor::Host { uid: 0 }]).clone();
        let name = *seed.one_of(&[None, None, Some("a.example.com"), Some("a.example.org")]);
        let dns_names = name.map(|name| name.parse().unwrap()).into_iter().collect();
        Self { actor, p384: seed.below(3) == 0, dns_names }
    }

    fn request(&self, world: &World) -> IssueRequest {
        IssueRequest {
            person: world.anna,
            device: DeviceChoice::New { name: "phone".to_owned() },
            profile: "device".parse().unwrap(),
            csr_pem: fresh(self.p384),
            dns_names: self.dns_names.clone(),
        }
    }

    async fn issue(&self, world: &World, request: &IssueRequest) -> Option<Rule> {
        let now = world.now();
        let begun = world.store.begin_act(self.actor.clone(), "certificate.issue", None, None, now).await;
        match world.ca.issue(request, &begun.unwrap(), now).await {
            Ok(_) => None,
            Err(IssueError::Gate(GateError::Policy { ruling, .. })) => Some(ruling.rule),
            Err(other) => panic!("refused by no rule: {other}"),
        }
    }
}

async fn edit(world: &World, name: &Slug, rules: Rules) {
    let read = world.ca.profile(name).await.unwrap().unwrap();
    let act = world.act("profile.edit").await;
    world.ca.edit_profile(&read, rules, &act, world.now()).await.unwrap();
}

#[tokio::test]
async fn explain_dry_run() {
    let proof = Proof::of("explain_dry_run");
    let rounds = proof.size(3, 100);
    let database = TestDatabase::sqlite();
    let world = World::over(&database).await;
    let name: Slug = "device".parse().unwrap();
    let mut seed = Seed::of(0xd0);
    let (mut cases, mut differences) = (0, Vec::new());
    for round in 0..rounds {
        // Requests of before this round are no longer among those that are tried.
        world.clock.advance(std::time::Duration::from_secs(31 * 86_400));
        edit(&world, &name, rules(&mut seed)).await;
        let wishes: Vec<Wish> = (0..BETWEEN).map(|_| Wish::choose(&world, &mut seed)).collect();
        let mut before = Vec::new();
        for wish in &wishes {
            let request = wish.request(&world);
            let said = world.ca.explain(&request, &wish.actor, world.now()).await.unwrap();
            let said = refusal(said.rulings).map(|ruling| ruling.rule);
            let done = wish.issue(&world, &request).await;
            cases += 1;
            if said != done {
                differences.push(format!("round {round}: explained {said:?}, done {done:?}"));
            }
            before.push(done);
        }
        let draft = rules(&mut seed);
        let rehearsed = world.ca.rehearse(&name, draft.clone(), world.now()).await.unwrap();
        assert_eq!(rehearsed.requests, BETWEEN);
        edit(&world, &name, draft).await;
        let (mut refused, mut granted) = (0, 0);
        for (wish, before) in wishes.iter().zip(before) {
            let after = wish.issue(&world, &wish.request(&world)).await;
            cases += 1;
            refused += usize::from(before.is_none() && after.is_some());
            granted += usize::from(before.is_some() && after.is_none());
        }
        let would_refuse = rehearsed.changed.iter().filter(|one| one.would_be_refused_by.is_some()).count();
        let would_grant = rehearsed.changed.len() - would_refuse;
        if (would_refuse, would_grant) != (refused, granted) {
            differences.push(format!(
                "round {round}: rehearsed {would_refuse} refusals and {would_grant} grants, done {refused} and {granted}"
            ));
        }
        proof.progress(round, rounds);
    }
    let measured = format!("{cases} requests, {} differences {differences:?}", differences.len());
    proof.end(cases, differences.is_empty(), &measured);
}
