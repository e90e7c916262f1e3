//! What a policy says to whoever asks: decided here and nowhere else, for edges, and for who wants to know what
//! an edge would say. Pure: everything that is asked about comes with the question.
//!
//! What rules mean is written in [`crate::domain::rule`].

mod rules;

use std::net::IpAddr;
use std::time::Duration;

pub use rules::{Fit, Rules, Ruling};

use super::classify::{Classified, Identity, Refusal};
use super::register::Register;
use crate::domain::{AccessPolicy, AccessRules, UtcTime};
use crate::pki::chain::AlternativeNames;
use rules::{Asked, Doubt};

/// Whether the register can still be believed (design, decision 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Confirmed within `max_stale`.
    Fresh,
    /// Not confirmed for too long: nobody is known.
    Stale,
}

impl Freshness {
    /// How fresh `register` is at `now`.
    pub fn of(register: &Register, now: UtcTime, max_stale: Duration) -> Self {
        if register.is_fresh(now, max_stale) { Self::Fresh } else { Self::Stale }
    }
}

/// What is asked for, and from where.
pub struct Question<'a> {
    /// As the request has it.
    pub method: &'a str,
    /// As the request has it, without the query.
    pub path: &'a str,
    /// The visitor's address.
    pub source: IpAddr,
    /// When.
    pub now: UtcTime,
    /// The names in the certificate, read when a rule asks for them; none if they cannot be read.
    pub names: &'a dyn Fn() -> Option<&'a AlternativeNames>,
}

/// What decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deciding {
    /// The route is public.
    Public,
    /// Everyone known may pass.
    Everyone,
    /// One of the lists.
    Listed,
    /// A rule, by its place.
    Rule(usize),
    /// No rule fits, and no list.
    Nobody,
}

/// Why nobody passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The register is stale and the route protected.
    Stale,
    /// No certificate was presented.
    CertificateRequired,
    /// The presented certificate does not pass.
    Refused(Refusal),
    /// The identity is known, and the policy does not let it have this.
    NotAllowed(Deciding),
    /// Path or method can be read in another way, to which the policy would say something else.
    Unclear,
}

impl Denied {
    /// The stable code a visitor reads (design, section 4, "Refusals at the edge").
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Stale => "policy_stale",
            Self::CertificateRequired => "certificate_required",
            Self::Refused(refusal) => refusal.cause.code(),
            Self::NotAllowed(_) => "access_denied",
            Self::Unclear => "bad_request",
        }
    }

    /// What in the policy decided, if that is why.
    pub const fn deciding(&self) -> Option<Deciding> {
        match self {
            Self::NotAllowed(deciding) => Some(*deciding),
            _ => None,
        }
    }
}

/// Asks `policy`, whose rules `rules` are, about whoever is behind a connection.
///
/// # Errors
/// As [`Denied`] says. A public route denies nobody.
pub fn decide(
    policy: &AccessPolicy,
    rules: &Rules,
    who: &Classified,
    freshness: Freshness,
    question: &Question<'_>,
) -> Result<Deciding, Denied> {
    let lists = match policy {
        AccessPolicy::Public => return Ok(Deciding::Public),
        AccessPolicy::Known(lists) => lists,
    };
    if freshness == Freshness::Stale {
        return Err(Denied::Stale);
    }
    match who {
        Classified::None => Err(Denied::CertificateRequired),
        Classified::Refused(refusal) => Err(Denied::Refused(refusal.clone())),
        Classified::Known(identity) if rules.is_empty() => by_lists(lists, rules, identity),
        Classified::Known(identity) => by_rules(lists, rules, identity, question),
    }
}

/// What each rule says to somebody known, in order; [`decide`] goes by the same.
pub fn explain(rules: &Rules, identity: &Identity, question: &Question<'_>) -> Vec<Ruling> {
    let asked = Asked::of(identity, question);
    rules.rulings(&asked)
}

/// Reads whatever is in doubt against the visitor first: who passes then passes however it is read.
fn by_rules(
    lists: &AccessRules,
    rules: &Rules,
    identity: &Identity,
    question: &Question<'_>,
) -> Result<Deciding, Denied> {
    let asked = Asked::of(identity, question);
    let verdict = |doubt| match rules.first(&asked, doubt) {
        Some((at, true)) => Ok(Deciding::Rule(at)),
        Some((at, false)) => Err(Denied::NotAllowed(Deciding::Rule(at))),
        None => by_lists(lists, rules, identity),
    };
    let against = verdict(Doubt::Denies);
    if against.is_err() && asked.was_in_doubt() && verdict(Doubt::Allows).is_ok() {
        return Err(Denied::Unclear);
    }
    against
}

/// Any one entry of any list lets the identity pass; four empty lists let everyone known pass, if there are no
/// rules either.
fn by_lists(lists: &AccessRules, rules: &Rules, identity: &Identity) -> Result<Deciding, Denied> {
    let person = identity.person();
    if lists.has_no_lists() {
        return match rules.is_empty() {
            true => Ok(Deciding::Everyone),
            false => Err(Denied::NotAllowed(Deciding::Nobody)),
        };
    }
    let is_listed = lists.people.contains(&person.id)
        || !lists.groups.is_disjoint(&person.groups)
        || lists.profiles.contains(identity.profile())
        || lists.devices.contains(&identity.device());
    if is_listed { Ok(Deciding::Listed) } else { Err(Denied::NotAllowed(Deciding::Nobody)) }
}

#[cfg(test)]
mod tests;
