//! The rules of one policy, compiled: values sorted, so that each is found in a few steps.

use std::cell::{Cell, OnceCell};
use std::collections::BTreeSet;
use std::sync::Arc;

use super::Question;
use crate::domain::rule::{self, AccessRule, Effect, When};
use crate::domain::{AccessPolicy, DeviceId, Network, PersonId, RouteIndex, SanKind, SanPattern, Slug};
use crate::live::classify::Identity;
use crate::live::route_table::Readings;
use crate::pki::chain::AlternativeNames;

/// One day, in seconds.
const DAY: u64 = 86_400;

/// Rules in their order. Immutable, and empty for most policies.
#[derive(Clone, Debug, Default)]
pub struct Rules(Box<[Rule]>);

#[derive(Clone, Debug)]
struct Rule {
    name: Arc<str>,
    effect: Effect,
    conditions: Box<[Condition]>,
}

/// One condition; any one of its values is enough.
#[derive(Clone, Debug)]
enum Condition {
    People(Box<[PersonId]>),
    Groups(Box<[Slug]>),
    Profiles(Box<[Slug]>),
    Devices(Box<[DeviceId]>),
    Authorities(Box<[Slug]>),
    Networks(Box<[Network]>),
    Methods(Box<[String]>),
    PathPrefixes(Box<[String]>, RouteIndex),
    MinAge(u64),
    MaxAge(u64),
    Sans(Box<[SanPattern]>),
}

/// Whether something fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// The certificate's names cannot be read.
    Unread,
    /// That depends on how path or method are read.
    Unclear,
}

/// How [`Fit::Unclear`] is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Against the visitor.
    Denies,
    /// In the visitor's favour.
    Allows,
}

/// What one rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// The rule's name.
    pub name: Arc<str>,
    /// What it does where it fits.
    pub effect: Effect,
    /// Whether it does.
    pub fit: Fit,
    /// The first condition because of which it does not, or not for certain: its name in a policy.
    pub condition: Option<&'static str>,
}

/// A question about somebody, with what has been found out on the way.
pub(super) struct Asked<'q, 'a> {
    identity: &'q Identity,
    question: &'q Question<'a>,
    readings: OnceCell<Option<Readings<'q>>>,
    was_in_doubt: Cell<bool>,
}

impl<'q, 'a> Asked<'q, 'a> {
    pub(super) fn of(identity: &'q Identity, question: &'q Question<'a>) -> Self {
        Self { identity, question, readings: OnceCell::new(), was_in_doubt: Cell::new(false) }
    }

    /// Whether an answer so far depended on how something is read.
    pub(super) fn was_in_doubt(&self) -> bool {
        self.was_in_doubt.get()
    }

    /// The path in every reading, made once; none if it cannot be read.
    fn readings(&self) -> Option<&Readings<'q>> {
        self.readings.get_or_init(|| Readings::read(self.question.path).ok()).as_ref()
    }

    /// Seconds since the start of the certificate's validity.
    fn age(&self) -> u64 {
        self.question.now.since(self.identity.not_before()).as_secs()
    }
}

impl Rules {
    /// The rules of a route with this path prefix.
    ///
    /// # Errors
    /// A sentence about the first that cannot be.
    pub fn of(policy: &AccessPolicy, route_prefix: &str) -> Result<Self, String> {
        let AccessPolicy::Known(known) = policy else { return Ok(Self::default()) };
        match rule::faults(&known.rules, route_prefix).into_iter().next() {
            Some((place, why)) => Err(format!("rules{place} {why}")),
            None => Ok(Self(known.rules.iter().map(Rule::of).collect())),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name of the rule at this place.
    pub fn name(&self, at: usize) -> Option<&Arc<str>> {
        self.0.get(at).map(|rule| &rule.name)
    }

    /// The first rule that fits, by its place, and whether it allows.
    pub(super) fn first(&self, asked: &Asked<'_, '_>, doubt: Doubt) -> Option<(usize, bool)> {
        let fits = |rule: &&Rule| match rule.look(asked).0 {
            Fit::Yes => true,
            Fit::No => false,
            Fit::Unread => rule.effect == Effect::Deny,
            Fit::Unclear => {
                asked.was_in_doubt.set(true);
                (rule.effect == Effect::Deny) == (doubt == Doubt::Denies)
            }
        };
        let (at, rule) = self.0.iter().enumerate().find(|(_, rule)| fits(rule))?;
        Some((at, rule.effect == Effect::Allow))
    }

    /// What each rule says by itself.
    pub(super) fn rulings(&self, asked: &Asked<'_, '_>) -> Vec<Ruling> {
        let ruling = |rule: &Rule| {
            let (fit, condition) = rule.look(asked);
            Ruling { name: rule.name.clone(), effect: rule.effect, fit, condition }
        };
        self.0.iter().map(ruling).collect()
    }
}

impl Rule {
    fn of(rule: &AccessRule) -> Self {
        Self { name: rule.name.as_str().into(), effect: rule.effect, conditions: conditions(&rule.when) }
    }

    /// Whether all conditions fit, and the first that does not, or not for certain.
    fn look(&self, asked: &Asked<'_, '_>) -> (Fit, Option<&'static str>) {
        let mut found = (Fit::Yes, None);
        for condition in &self.conditions {
            match (condition.look(asked), found.0) {
                (Fit::No, _) => return (Fit::No, Some(condition.name())),
                (doubt @ (Fit::Unread | Fit::Unclear), Fit::Yes) => found = (doubt, Some(condition.name())),
                _ => {}
            }
        }
        found
    }
}

/// Those that there are: what costs least to look at comes first.
fn conditions(when: &When) -> Box<[Condition]> {
    fn some<T: Clone>(values: &BTreeSet<T>, make: fn(Box<[T]>) -> Condition) -> Option<Condition> {
        (!values.is_empty()).then(|| make(values.iter().cloned().collect()))
    }
    fn prefixes(prefixes: Box<[String]>) -> Condition {
        let index = RouteIndex::of(prefixes.iter().map(String::as_str));
        Condition::PathPrefixes(prefixes, index)
    }
    let seconds = |days: u32| u64::from(days) * DAY;
    let all = [
        some(&when.people, Condition::People),
        some(&when.groups, Condition::Groups),
        some(&when.profiles, Condition::Profiles),
        some(&when.devices, Condition::Devices),
        some(&when.authorities, Condition::Authorities),
        some(&when.networks, Condition::Networks),
        when.certificate_age_min_days.map(|days| Condition::MinAge(seconds(days))),
        when.certificate_age_max_days.map(|days| Condition::MaxAge(seconds(days) + DAY - 1)),
        some(&when.methods, Condition::Methods),
        some(&when.path_prefixes, prefixes),
        some(&when.sans, Condition::Sans),
    ];
    all.into_iter().flatten().collect()
}

impl Condition {
    /// The name in a policy.
    const fn name(&self) -> &'static str {
        match self {
            Self::People(_) => "people",
            Self::Groups(_) => "groups",
            Self::Profiles(_) => "profiles",
            Self::Devices(_) => "devices",
            Self::Authorities(_) => "authorities",
            Self::Networks(_) => "networks",
            Self::Methods(_) => "methods",
            Self::PathPrefixes(..) => "path_prefixes",
            Self::MinAge(_) => "certificate_age_min_days",
            Self::MaxAge(_) => "certificate_age_max_days",
            Self::Sans(_) => "sans",
        }
    }

    fn look(&self, asked: &Asked<'_, '_>) -> Fit {
        let Asked { identity, question, .. } = asked;
        let fits = match self {
            Self::People(people) => people.binary_search(&identity.person().id).is_ok(),
            Self::Groups(groups) => {
                identity.person().groups.iter().any(|group| groups.binary_search(group).is_ok())
            }
            Self::Profiles(profiles) => profiles.binary_search(identity.profile()).is_ok(),
            Self::Devices(devices) => devices.binary_search(&identity.device()).is_ok(),
            Self::Authorities(authorities) => authorities.binary_search(&identity.authority().name).is_ok(),
            Self::Networks(networks) => networks.iter().any(|network| network.contains(question.source)),
            Self::MinAge(seconds) => asked.age() >= *seconds,
            Self::MaxAge(seconds) => asked.age() <= *seconds,
            Self::Methods(methods) => return method(methods, question.method),
            Self::PathPrefixes(prefixes, index) => return below_any(prefixes, index, asked.readings()),
            Self::Sans(patterns) => match (question.names)() {
                Some(names) => patterns.iter().any(|pattern| is_named(names, pattern)),
                None => return Fit::Unread,
            },
        };
        if fits { Fit::Yes } else { Fit::No }
    }
}

/// Methods are told apart by case (RFC 9110 §9.1), but not by every backend.
fn method(methods: &[String], method: &str) -> Fit {
    match methods.iter().find(|known| known.eq_ignore_ascii_case(method)) {
        Some(known) if known == method => Fit::Yes,
        Some(_) => Fit::Unclear,
        None => Fit::No,
    }
}

fn below_any(prefixes: &[String], index: &RouteIndex, readings: Option<&Readings<'_>>) -> Fit {
    match readings.and_then(|readings| readings.lie_below_any(prefixes, index)) {
        Some(true) => Fit::Yes,
        Some(false) => Fit::No,
        None => Fit::Unclear,
    }
}

fn is_named(names: &AlternativeNames, pattern: &SanPattern) -> bool {
    let of_kind = match pattern.kind() {
        SanKind::Dns => &names.dns,
        SanKind::Email => &names.emails,
        SanKind::Uri => &names.uris,
    };
    of_kind.iter().any(|name| pattern.fits(name))
}
