//! The same through the authority over a database: whatever the rows say, the key is not used.

use wicketgate::ca::{DeviceChoice, IssueRequest};
use wicketgate::domain::{Actor, DeviceId, PersonId, Role};
use wicketgate::pki::KeyPolicy;
use wicketgate::pki::profile::Rules;
use wicketgate::store::people::Person;

use super::bytes;
use crate::ca::fixture::{World, csr};
use crate::harness::database::TestDatabase;

/// What is wrong with the rules of a profile.
type Spoil = fn(&mut Rules);

/// Profiles whose rules cannot be.
const PROFILES: &[(&str, Spoil)] = &[
    ("a profile without a lifetime", |rules| rules.lifetime_seconds = 0),
    ("a profile for a minute", |rules| rules.lifetime_seconds = 60),
    ("a profile for ten years", |rules| rules.lifetime_seconds = 10 * 365 * 86_400),
    ("a profile that begins a day ago", |rules| rules.back_date_seconds = 86_400),
    ("a profile that takes no key", |rules| {
        rules.keys = KeyPolicy { p256: false, p384: false, ed25519: false, rsa_min_bits: None };
    }),
    ("a profile that takes RSA with 1024 bits", |rules| rules.keys.rsa_min_bits = Some(1024)),
    ("a profile that asks for RSA with 8192 bits", |rules| rules.keys.rsa_min_bits = Some(8192)),
    ("an overlap longer than the life", |rules| rules.renewal.overlap_seconds = Some(91 * 86_400)),
    ("a profile for no device", |rules| rules.devices_per_person = Some(0)),
    ("a profile for a hundred groups", |rules| {
        rules.groups = (0..100).map(|number| format!("group-{number}").parse().unwrap()).collect();
    }),
];

/// How many were tried, and how often the key was used.
pub(super) struct Through {
    pub(super) tried: u64,
    pub(super) signer_calls: u64,
}

pub(super) async fn every_bad_request(wrong: &mut Vec<String>) -> Through {
    let database = TestDatabase::sqlite();
    let world = World::over(&database).await;
    // The first signature opens the key; what follows counts.
    let first = world.issue("first").await.certificate;
    world.revoke(first.serial, "superseded").await.unwrap();
    let before = world.ca.witness().count();
    let mut tried = 0;
    let mut expect = |what: &str, rule: &str, said: Result<(), String>| {
        tried += 1;
        match said {
            Ok(()) => wrong.push(format!("{what}: was issued")),
            Err(said) if !said.contains(rule) => wrong.push(format!("{what}: {said:?} is not {rule:?}")),
            Err(_) => {}
        }
    };
    for (what, name, email, rule) in [
        ("a person of 65 characters", "x".repeat(65), "b@example.com", "must have 1 to 64"),
        ("a person with a line end", "Ben\nroot".to_owned(), "c@example.com", "must have 1 to 64"),
        ("a person who turns directions", "Ben\u{202e}x".to_owned(), "d@example.com", "must have 1 to 64"),
        ("a person without a name", String::new(), "e@example.com", "must have 1 to 64"),
        ("a person with a strange address", "Ben".to_owned(), "b\u{e9}n@example.com", "must be ASCII"),
        ("a person without an address", "Ben".to_owned(), "nobody", "must be ASCII"),
    ] {
        let person = person(&world, &name, email).await;
        expect(what, rule, issue(&world, person, "device", csr()).await);
    }
    let nobody = PersonId::new();
    expect("nobody", "no such person", issue(&world, nobody, "device", csr()).await);
    expect("no profile", "there is no profile", issue(&world, world.anna, "root", csr()).await);
    expect("no request", "was refused", issue(&world, world.anna, "device", String::new()).await);
    let foreign = DeviceChoice::Existing(DeviceId::new());
    expect("no device", "no such device", world.try_issue(foreign).await.map(drop).map_err(text));
    let act = world.act("certificate.renew").await;
    let renewed = world.ca.renew(first.serial, &csr(), &act, world.now()).await;
    expect("a revoked predecessor", "revoked certificate cannot be renewed", renewed.map(drop).map_err(text));

    for (what, spoil) in PROFILES {
        let mut rules = Rules::device();
        spoil(&mut rules);
        let act = world.act("profile.add").await;
        let made = world.ca.create_profile("bad".parse().unwrap(), rules, &act, world.now()).await;
        expect(what, "out of bounds", made.map(drop).map_err(text));
    }

    // An authority's row that somebody changed who has the database in hand.
    let issuing = "client-issuing-g1".parse().unwrap();
    let own = world.store.authority(&issuing).await.unwrap().unwrap().certificate.unwrap();
    let local = world.store.authority(&"local-server-g1".parse().unwrap()).await.unwrap().unwrap();
    for (what, der) in [
        (
            "an authority that may not sign lists",
            bytes::certificate(|p| {
                p.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
            }),
        ),
        ("an authority that is not one", bytes::certificate(|p| p.is_ca = rcgen::IsCa::NoCa)),
        ("an authority that is no certificate", b"nonsense".to_vec()),
        ("an empty authority", Vec::new()),
    ] {
        world.store.forge_authority(&issuing, &der).await.unwrap();
        expect(what, "", issue(&world, world.anna, "device", csr()).await);
    }
    // A real authority of ours, but of another kind and key.
    world.store.forge_authority(&issuing, &local.certificate.unwrap()).await.unwrap();
    expect(
        "another authority's certificate",
        "is not of its key",
        issue(&world, world.anna, "device", csr()).await,
    );
    let used = world.ca.witness().count() - before;
    world.store.forge_authority(&issuing, &own).await.unwrap();
    issue(&world, world.anna, "device", csr()).await.unwrap();
    Through { tried, signer_calls: used }
}

fn text(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

async fn issue(world: &World, person: PersonId, profile: &str, csr_pem: String) -> Result<(), String> {
    let device = DeviceChoice::New { name: "phone".to_owned() };
    let profile = profile.parse().unwrap();
    let request = IssueRequest { person, device, profile, csr_pem, dns_names: Default::default() };
    let act = world.act("certificate.issue").await;
    world.ca.issue(&request, &act, world.now()).await.map(drop).map_err(text)
}

async fn person(world: &World, name: &str, email: &str) -> PersonId {
    let now = world.now();
    let person = Person {
        id: PersonId::new(),
        email: email.to_owned(),
        name: name.to_owned(),
        role: Role::Member,
        groups: Default::default(),
        disabled: false,
        has_password: false,
        created_at: now,
        version: 1,
    };
    let act = world.store.begin_act(Actor::System("test"), "person.create", None, None, now).await.unwrap();
    world.ca.create_person(&person, &act, now).await.unwrap();
    person.id
}
