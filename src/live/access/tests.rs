use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use rustls_pki_types::CertificateDer;
use uuid::Uuid;

use super::*;
use crate::domain::{
    AccessRule, AuthorityKind, AuthorityRecord, AuthorityState, CertificateRecord, Change, Delta, DeviceId,
    Effect, Fingerprint, Network, PersonId, PersonRecord, SanKind, SanPattern, Serial, Slug, When,
};
use crate::live::classify;

const PREFIXES: [&str; 4] = ["/", "/admin", "/admin/keys", "/x"];
/// Paths, and what they may be read as.
const PATHS: [(&str, &[&str]); 10] = [
    ("/", &["/"]),
    ("/admin", &["/admin"]),
    ("/admin/keys/1", &["/admin/keys/1"]),
    ("/administration", &["/administration"]),
    ("/x/admin", &["/x/admin"]),
    ("/ADMIN/x", &["/ADMIN/x", "/admin/x"]),
    ("/admin;x/y", &["/admin;x/y", "/admin/y"]),
    ("/%61dmin/keys", &["/%61dmin/keys", "/admin/keys"]),
    ("/index.php/admin", &["/index.php/admin", "/admin"]),
    ("/index.php/admin;.php/x", &["/index.php/admin;.php/x", "/index.php/x", "/admin/x", "/x"]),
];
const METHODS: [(&str, &[&str]); 3] = [("GET", &["GET"]), ("POST", &["POST"]), ("get", &["get", "GET"])];
const NETWORKS: [&str; 3] = ["10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"];
const SOURCES: [&str; 4] = ["10.1.2.3", "10.2.3.4", "192.0.2.1", "2001:db8::7"];
const SANS: [&str; 3] = ["dns:a.example.com", "dns:*.example.com", "email:*@example.com"];
const GROUPS: [&str; 3] = ["staff", "board", "guests"];
const START: UtcTime = UtcTime::from_unix(1_800_000_000);

fn person(number: usize) -> PersonId {
    PersonId(Uuid::from_u128(number as u128))
}

fn device(number: usize) -> DeviceId {
    DeviceId(Uuid::from_u128(number as u128))
}

/// Somebody, and how they ask.
#[derive(Clone, Debug)]
struct Asker {
    person: usize,
    device: usize,
    groups: Vec<&'static str>,
    age_days: u64,
    source: &'static str,
    names: Option<AlternativeNames>,
    method: (&'static str, &'static [&'static str]),
    path: (&'static str, &'static [&'static str]),
}

impl Asker {
    fn now(&self) -> UtcTime {
        START.plus(Duration::from_secs(self.age_days * 86_400 + 3600))
    }

    /// As an edge would know them.
    fn known(&self) -> Classified {
        let authority = AuthorityRecord {
            name: "issuing-g1".parse().unwrap(),
            kind: AuthorityKind::Issuing,
            state: AuthorityState::Issuing,
            certificate: Vec::new(),
            subject: Vec::new(),
            spki: Vec::new(),
            not_after: UtcTime::MAX,
        };
        let record = PersonRecord {
            id: person(self.person),
            email: String::new(),
            name: String::new(),
            groups: self.groups.iter().map(|group| group.parse().unwrap()).collect(),
            disabled: false,
        };
        let certificate = CertificateRecord {
            fingerprint: Fingerprint::of(b"leaf"),
            serial: Serial::from_der_octets(&[7; 16]).unwrap(),
            authority: authority.name.clone(),
            profile: "device".parse().unwrap(),
            person: record.id,
            device: device(self.device),
            not_before: START,
            not_after: START.plus(Duration::from_secs(1000 * 86_400)),
            revoked: None,
        };
        let deltas = [Delta::Authority(authority), Delta::Person(record), Delta::Certificate(certificate)];
        let numbered = deltas.into_iter().zip(1..);
        let changes: Vec<_> = numbered.map(|(delta, epoch)| Change { epoch, delta }).collect();
        let register = Register::new();
        register.apply(&changes);
        classify(&[CertificateDer::from(b"leaf".to_vec())], self.now(), &register)
    }

    fn asks(&self, lists: &AccessRules) -> Result<Deciding, Denied> {
        let policy = AccessPolicy::Known(lists.clone());
        let rules = Rules::of(&policy, "/").unwrap();
        let names = || self.names.as_ref();
        let question = Question {
            method: self.method.0,
            path: self.path.0,
            source: self.source.parse().unwrap(),
            now: self.now(),
            names: &names,
        };
        decide(&policy, &rules, &self.known(), Freshness::Fresh, &question)
    }

    /// What the rules say if method and path are read like this, written without regard for cost.
    fn model(&self, lists: &AccessRules, method: &str, path: &str) -> Result<Deciding, Deciding> {
        let fitting = |rule: &&AccessRule| self.fits(&rule.when, rule.effect, method, path);
        if let Some(rule) = lists.rules.iter().find(fitting) {
            let at = Deciding::Rule(lists.rules.iter().position(|one| one.name == rule.name).unwrap());
            return if rule.effect == Effect::Allow { Ok(at) } else { Err(at) };
        }
        let is_in = |groups: &BTreeSet<Slug>| groups.iter().any(|group| self.is_in(group));
        let is_listed = lists.people.contains(&person(self.person))
            || lists.devices.contains(&device(self.device))
            || is_in(&lists.groups);
        match (is_listed, lists.has_no_lists() && lists.rules.is_empty()) {
            (true, _) => Ok(Deciding::Listed),
            (false, true) => Ok(Deciding::Everyone),
            (false, false) => Err(Deciding::Nobody),
        }
    }

    fn is_in(&self, group: &Slug) -> bool {
        self.groups.contains(&group.as_str())
    }

    fn fits(&self, when: &When, effect: Effect, method: &str, path: &str) -> bool {
        let is_below =
            |prefix: &String| prefix == "/" || format!("{path}/").starts_with(&format!("{prefix}/"));
        let is_named = |names: &AlternativeNames| {
            when.sans.iter().any(|pattern| match pattern.kind() {
                SanKind::Dns => names.dns.iter().any(|name| pattern.fits(name)),
                SanKind::Email => names.emails.iter().any(|name| pattern.fits(name)),
                SanKind::Uri => names.uris.iter().any(|name| pattern.fits(name)),
            })
        };
        let source = self.source.parse().unwrap();
        (when.people.is_empty() || when.people.contains(&person(self.person)))
            && (when.devices.is_empty() || when.devices.contains(&device(self.device)))
            && (when.groups.is_empty() || when.groups.iter().any(|group| self.is_in(group)))
            && (when.profiles.is_empty() || when.profiles.iter().any(|profile| profile.as_str() == "device"))
            && (when.authorities.is_empty()
                || when.authorities.iter().any(|one| one.as_str() == "issuing-g1"))
            && when.certificate_age_min_days.is_none_or(|days| self.age_days >= u64::from(days))
            && when.certificate_age_max_days.is_none_or(|days| self.age_days <= u64::from(days))
            && (when.networks.is_empty() || when.networks.iter().any(|network| network.contains(source)))
            && (when.methods.is_empty() || when.methods.contains(method))
            && (when.path_prefixes.is_empty() || when.path_prefixes.iter().any(is_below))
            && (when.sans.is_empty() || self.names.as_ref().map_or(effect == Effect::Deny, is_named))
    }
}

/// Some of these, or no condition.
fn some<T, V>(values: Vec<V>) -> impl Strategy<Value = BTreeSet<T>>
where
    T: std::str::FromStr<Err: std::fmt::Debug> + Ord + std::fmt::Debug,
    V: AsRef<str> + Clone + std::fmt::Debug + 'static,
{
    let most = values.len();
    prop::option::weighted(0.25, subsequence(values, 1..=most)).prop_map(|some| {
        some.unwrap_or_default().iter().map(|value| value.as_ref().parse().unwrap()).collect()
    })
}

fn ids(of: fn(usize) -> String) -> Vec<String> {
    (0..3).map(of).collect()
}

fn when() -> impl Strategy<Value = When> {
    let who = (
        some::<PersonId, _>(ids(|number| person(number).to_string())),
        some::<Slug, _>(GROUPS.to_vec()),
        some::<Slug, _>(vec!["device", "server"]),
        some::<DeviceId, _>(ids(|number| device(number).to_string())),
        some::<Slug, _>(vec!["issuing-g1", "issuing-g2"]),
    );
    let how = (
        some::<SanPattern, _>(SANS.to_vec()),
        prop::option::weighted(0.2, 0..40_u32),
        some::<Network, _>(NETWORKS.to_vec()),
        some::<String, _>(vec!["GET", "POST"]),
        some::<String, _>(PREFIXES.to_vec()),
    );
    (who, how).prop_map(|((people, groups, profiles, devices, authorities), how)| {
        let (sans, age, networks, methods, path_prefixes) = how;
        When {
            people,
            groups,
            profiles,
            devices,
            authorities,
            sans,
            certificate_age_min_days: age.filter(|days| days % 2 == 0),
            certificate_age_max_days: age.filter(|days| days % 2 == 1),
            networks,
            methods,
            path_prefixes,
        }
    })
}

fn policy() -> impl Strategy<Value = AccessRules> {
    let rules = prop::collection::vec((when(), any::<bool>()), 0..6);
    let lists =
        (some::<PersonId, _>(ids(|number| person(number).to_string())), some::<Slug, _>(GROUPS.to_vec()));
    (rules, lists).prop_map(|(rules, (people, groups))| AccessRules {
        people,
        groups,
        rules: rules
            .into_iter()
            .enumerate()
            .map(|(at, (when, allows))| AccessRule {
                name: format!("rule {at}"),
                effect: if allows { Effect::Allow } else { Effect::Deny },
                when,
            })
            .collect(),
        ..AccessRules::default()
    })
}

fn asker() -> impl Strategy<Value = Asker> {
    let names = AlternativeNames {
        dns: vec!["A.example.com".into()],
        emails: vec!["anna@example.org".into()],
        uris: Vec::new(),
    };
    let names = select(vec![None, Some(AlternativeNames::default()), Some(names)]);
    let who = (0..3_usize, 0..3_usize, subsequence(GROUPS.to_vec(), 0..=2), 0..40_u64);
    (who, select(SOURCES.to_vec()), names, select(METHODS.to_vec()), select(PATHS.to_vec())).prop_map(
        |((person, device, groups, age_days), source, names, method, path)| Asker {
            person,
            device,
            groups,
            age_days,
            source,
            names,
            method,
            path,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_judge_agrees_with_the_plain_model_whatever_is_read(lists in policy(), asker in asker()) {
        let said = asker.asks(&lists);
        let readings = asker.method.1.iter().flat_map(|method| asker.path.1.iter().map(move |path| (method, path)));
        let models: Vec<_> = readings.map(|(method, path)| asker.model(&lists, method, path)).collect();
        match &models[..] {
            [only] => match only {
                Ok(by) => prop_assert_eq!(said, Ok(*by)),
                Err(by) => prop_assert_eq!(said, Err(Denied::NotAllowed(*by))),
            },
            _ => {
                let (all, any) = (models.iter().all(Result::is_ok), models.iter().any(Result::is_ok));
                prop_assert!(all || said.is_err(), "{:?} although {:?}", said, models);
                prop_assert!(!any || said.is_ok() || said == Err(Denied::Unclear), "{:?}: {:?}", said, models);
                prop_assert!(!matches!(said, Err(Denied::Stale | Denied::CertificateRequired)));
            }
        }
    }

    #[test]
    fn what_is_explained_is_what_decides(lists in policy(), asker in asker()) {
        let rules = Rules::of(&AccessPolicy::Known(lists.clone()), "/").unwrap();
        let Classified::Known(identity) = asker.known() else { panic!("not known") };
        let names = || asker.names.as_ref();
        let (source, now) = (asker.source.parse().unwrap(), asker.now());
        let (method, path) = (asker.method.0, asker.path.0);
        let rulings = explain(&rules, &identity, &Question { method, path, source, now, names: &names });
        prop_assert_eq!(rulings.len(), lists.rules.len());
        prop_assert!(rulings.iter().all(|ruling| (ruling.fit == Fit::Yes) == ruling.condition.is_none()));
        let first = rulings.iter().position(|ruling| ruling.fit != Fit::No);
        if let Some(at) = first.filter(|at| rulings[*at].fit == Fit::Yes) {
            let by = match asker.asks(&lists) {
                Ok(by) | Err(Denied::NotAllowed(by)) => Some(by),
                Err(_) => None,
            };
            prop_assert_eq!(by, Some(Deciding::Rule(at)));
        }
    }
}

fn anna() -> Asker {
    Asker {
        person: 1,
        device: 1,
        groups: vec!["staff"],
        age_days: 3,
        source: SOURCES[0],
        names: Some(AlternativeNames::default()),
        method: METHODS[0],
        path: PATHS[0],
    }
}

fn rules(rules: Vec<(Effect, When)>) -> AccessRules {
    let named = rules.into_iter().enumerate();
    let rules = named.map(|(at, (effect, when))| AccessRule { name: at.to_string(), effect, when }).collect();
    AccessRules { rules, ..AccessRules::default() }
}

#[test]
fn names_that_cannot_be_read_let_nobody_in_and_keep_everybody_out() {
    let named = || When { sans: ["dns:*.example.com".parse().unwrap()].into(), ..When::default() };
    let unread = Asker { names: None, ..anna() };
    let allowing = rules(vec![(Effect::Allow, named())]);
    assert_eq!(unread.asks(&allowing), Err(Denied::NotAllowed(Deciding::Nobody)));
    let denying = rules(vec![(Effect::Deny, named()), (Effect::Allow, When::default())]);
    assert_eq!(unread.asks(&denying), Err(Denied::NotAllowed(Deciding::Rule(0))));
    assert_eq!(anna().asks(&denying), Ok(Deciding::Rule(1)));
}

#[test]
fn a_path_with_two_readings_is_unclear_only_where_they_end_otherwise() {
    let admin = || When { path_prefixes: ["/admin".to_owned()].into(), ..When::default() };
    let twofold = Asker { path: PATHS[5], ..anna() };
    let guarded = rules(vec![(Effect::Deny, admin()), (Effect::Allow, When::default())]);
    assert_eq!(twofold.asks(&guarded), Err(Denied::Unclear));
    assert_eq!(Asker { path: PATHS[9], ..anna() }.asks(&guarded), Err(Denied::Unclear));
    let open = rules(vec![(Effect::Allow, admin()), (Effect::Allow, When::default())]);
    assert_eq!(twofold.asks(&open), Ok(Deciding::Rule(1)));
    let closed = rules(vec![(Effect::Deny, admin())]);
    assert_eq!(twofold.asks(&closed), Err(Denied::NotAllowed(Deciding::Rule(0))));
}

#[test]
fn rules_without_lists_end_in_nobody_and_nothing_at_all_in_everyone() {
    assert_eq!(anna().asks(&AccessRules::default()), Ok(Deciding::Everyone));
    let elsewhere = When { networks: ["192.0.2.0/24".parse().unwrap()].into(), ..When::default() };
    let mut policy = rules(vec![(Effect::Allow, elsewhere)]);
    assert_eq!(anna().asks(&policy), Err(Denied::NotAllowed(Deciding::Nobody)));
    policy.groups = ["staff".parse().unwrap()].into();
    assert_eq!(anna().asks(&policy), Ok(Deciding::Listed));
}
