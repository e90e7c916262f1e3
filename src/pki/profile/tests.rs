use super::rules::{MAX_BACK_DATE_SECONDS, MAX_LIFETIME_SECONDS, MIN_LIFETIME_SECONDS};
use super::*;
use crate::domain::Hostname;

fn facts() -> Facts {
    Facts {
        requester: Requester::Owner,
        groups: ["staff".parse().unwrap()].into(),
        key: KeyFact::P256,
        key_is_blocked: false,
        key_is_used_elsewhere: false,
        renewal: None,
        other_devices: 2,
        dns_names: Default::default(),
    }
}

fn refused_by(profile: &Profile, facts: &Facts) -> Option<Rule> {
    refusal(profile.judge(facts)).map(|ruling| ruling.rule)
}

fn with(change: impl FnOnce(&mut Rules)) -> Profile {
    let mut profile = Profile::device();
    change(&mut profile.rules);
    profile
}

#[test]
fn a_device_certificate_lives_ninety_days_to_the_second_and_starts_a_little_early() {
    let now = UtcTime::from_unix(1_800_000_000);
    let (from, to) = Profile::device().validity(now);
    assert_eq!(now.since(from), Duration::from_secs(300));
    // RFC 5280 §4.1.2.5: notAfter is the last second that counts.
    assert_eq!(to.since(now), Duration::from_secs(90 * 86_400 - 1));
}

#[test]
fn the_first_profile_is_within_its_bounds_and_survives_its_row() {
    let device = Profile::device();
    assert_eq!(device.rules.faults(), []);
    let text = serde_json::to_string(&device).unwrap();
    assert_eq!(serde_json::from_str::<Profile>(&text).unwrap(), device);
    assert!(
        serde_json::from_str::<Rules>("{\"lifetime_seconds\":1}").is_err(),
        "no rule has a silent default"
    );
}

#[test]
fn each_rule_refuses_what_it_is_for_and_nothing_else() {
    let device = Profile::device();
    assert_eq!(refused_by(&device, &facts()), None);
    let cases: [(Rule, Profile, Facts); 9] = [
        (Rule::BlockedKey, device.clone(), Facts { key_is_blocked: true, ..facts() }),
        (Rule::KeyReuse, device.clone(), Facts { key_is_used_elsewhere: true, ..facts() }),
        (Rule::KeyType, device.clone(), Facts { key: KeyFact::Ed25519, ..facts() }),
        (Rule::KeyType, device.clone(), Facts { key: KeyFact::Rsa { bits: 1024 }, ..facts() }),
        (Rule::Requester, with(|rules| rules.requesters = Requesters::Administrator), facts()),
        (Rule::Group, with(|rules| rules.groups = ["admins".parse().unwrap()].into()), facts()),
        (Rule::DevicesPerPerson, with(|rules| rules.devices_per_person = Some(2)), facts()),
        (
            Rule::RenewalKey,
            with(|rules| rules.renewal.new_key = true),
            Facts { renewal: Some(true), ..facts() },
        ),
        (Rule::DnsNames, device, Facts { dns_names: ["a.example.com".parse().unwrap()].into(), ..facts() }),
    ];
    for (rule, profile, facts) in cases {
        assert_eq!(refused_by(&profile, &facts), Some(rule));
        let refusing = profile.judge(&facts).into_iter().filter(|ruling| !ruling.admits).count();
        assert_eq!(refusing, 1, "{rule:?} alone");
    }
    let own = with(|rules| rules.requesters = Requesters::Owner);
    assert_eq!(refused_by(&own, &facts()), None);
    assert_eq!(
        refused_by(&own, &Facts { requester: Requester::Administrator, ..facts() }),
        Some(Rule::Requester)
    );
}

#[test]
fn a_dns_name_is_below_a_suffix_by_whole_labels_only() {
    let profile = with(|rules| rules.names.dns_suffixes = ["example.com".parse().unwrap()].into());
    let ask = |name: &str| {
        let dns_names = [name.parse::<Hostname>().unwrap()].into();
        refused_by(&profile, &Facts { requester: Requester::Administrator, dns_names, ..facts() })
    };
    assert_eq!(ask("printer.example.com"), None);
    assert_eq!(ask("example.com"), None);
    for stranger in ["evilexample.com", "example.com.evil.org", "example.org"] {
        assert_eq!(ask(stranger), Some(Rule::DnsNames), "{stranger}");
    }
}

#[test]
fn every_bound_is_said_at_once() {
    let rules = Rules {
        lifetime_seconds: MIN_LIFETIME_SECONDS - 1,
        back_date_seconds: MAX_BACK_DATE_SECONDS + 1,
        keys: KeyPolicy { p256: false, p384: false, ed25519: false, rsa_min_bits: None },
        devices_per_person: Some(0),
        renewal: RenewalRules { overlap_seconds: Some(MAX_LIFETIME_SECONDS), new_key: false },
        ..Rules::device()
    };
    let pointers: Vec<_> = rules.faults().iter().map(|fault| fault.pointer).collect();
    assert_eq!(
        pointers,
        ["/lifetime_seconds", "/back_date_seconds", "/key_types", "/overlap_seconds", "/devices_per_person"]
    );
    for edge in [MIN_LIFETIME_SECONDS, MAX_LIFETIME_SECONDS] {
        let renewal = RenewalRules { overlap_seconds: Some(edge - 1), new_key: false };
        assert_eq!(Rules { lifetime_seconds: edge, renewal, ..Rules::device() }.faults(), []);
    }
}

#[test]
fn rule_names_round_trip() {
    for rule in Rule::ALL {
        assert_eq!(Rule::from_name(rule.name()), Some(rule));
    }
}
