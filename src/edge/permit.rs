//! Who may pass. A request reaches an upstream only with a [`Permit`] in its hand, and [`permit`]
//! is the only place that makes one. What decides stands in [`crate::live::access`].

use std::sync::Arc;

use crate::live::access::decide;
use crate::live::{Classified, Identity, Route};

pub use crate::live::access::{Deciding, Denied, Freshness, Question};

/// Proof that the policy was asked. Consumed by `forward`.
#[derive(Debug)]
pub struct Permit {
    route: Arc<Route>,
    who: Option<Arc<Classified>>,
    deciding: Deciding,
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

    /// What in the policy decided.
    pub fn deciding(&self) -> Deciding {
        self.deciding
    }
}

/// Asks the route's policy about whoever is behind the connection, and wants this now.
///
/// # Errors
/// As [`Denied`] says. A public route denies nobody: a refused certificate, or any under a stale
/// register, passes there as anonymous.
pub fn permit(
    route: &Arc<Route>,
    who: &Arc<Classified>,
    freshness: Freshness,
    question: &Question<'_>,
) -> Result<Permit, Denied> {
    let deciding = decide(&route.policy, &route.rules, who, freshness, question)?;
    // Under a stale register nobody is known, on public routes neither.
    let known = freshness == Freshness::Fresh && matches!(**who, Classified::Known(_));
    Ok(Permit { route: route.clone(), who: known.then(|| who.clone()), deciding })
}
