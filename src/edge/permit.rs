//! Who may pass. A request reaches an upstream only with a [`Permit`] in its hand, and [`permit`]
//! is the only place that makes one.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::{AccessPolicy, AccessRules, UtcTime};
use crate::live::{Classified, Identity, Refusal, Register, Route};

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

/// Proof that the policy was asked. Consumed by `forward`.
#[derive(Debug)]
pub struct Permit {
    route: Arc<Route>,
    who: Option<Arc<Classified>>,
}

impl Permit {
    /// The route that was permitted.
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// Who passes; `None` for an anonymous visitor of a public route.
    pub fn identity(&self) -> Option<&Identity> {
        match self.who.as_deref() {
            Some(Classified::Known(identity)) => Some(identity),
            _ => None,
        }
    }
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
    /// The identity is known and does not fit the route's rules.
    NotAllowed,
}

/// Asks the route's policy about whoever is behind the connection.
///
/// # Errors
/// As [`Denied`] says. A public route denies nobody: a refused certificate, or any under a stale
/// register, passes there as anonymous.
pub fn permit(route: &Arc<Route>, who: &Arc<Classified>, freshness: Freshness) -> Result<Permit, Denied> {
    let rules = match &route.policy {
        AccessPolicy::Public => {
            let known = freshness == Freshness::Fresh && matches!(**who, Classified::Known(_));
            return Ok(Permit { route: route.clone(), who: known.then(|| who.clone()) });
        }
        AccessPolicy::Known(rules) => rules,
    };
    if freshness == Freshness::Stale {
        return Err(Denied::Stale);
    }
    match &**who {
        Classified::None => Err(Denied::CertificateRequired),
        Classified::Refused(refusal) => Err(Denied::Refused(refusal.clone())),
        Classified::Known(identity) if fits(rules, identity) => {
            Ok(Permit { route: route.clone(), who: Some(who.clone()) })
        }
        Classified::Known(_) => Err(Denied::NotAllowed),
    }
}

/// Any one entry of any list lets the identity pass; four empty lists let everyone known pass.
fn fits(rules: &AccessRules, identity: &Identity) -> bool {
    let person = identity.person();
    rules.is_open_to_all_known()
        || rules.people.contains(&person.id)
        || !rules.groups.is_disjoint(&person.groups)
        || rules.profiles.contains(identity.profile())
        || rules.devices.contains(&identity.device())
}
