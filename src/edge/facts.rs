//! What a policy may ask about a visitor beside who they are; and what is remembered of them, so that a draft of
//! a policy can be tried on those who were here.

use std::cell::{OnceCell, RefCell};
use std::net::IpAddr;
use std::sync::Arc;

use http::Method;

use super::connection::Visit;
use super::permit::{Denied, Permit, Question, permit};
use crate::domain::{RouteId, Sighting, UtcTime};
use crate::live::{Classified, Route};
use crate::pki::chain::{AlternativeNames, alternative_names};

/// Routes at which one connection is remembered, at most.
const MOST_ROUTES: usize = 32;

/// What a visitor wants, and from where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Approach<'a> {
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    /// Behind all proxies that are believed.
    pub(super) source: IpAddr,
}

/// Of one connection, found out when somebody asks.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// None if they cannot be read.
    names: OnceCell<Option<AlternativeNames>>,
    /// Where it has been.
    routes: RefCell<Vec<RouteId>>,
}

impl Facts {
    /// Whether the connection has not been at this route before, and there is room to remember it.
    fn is_first_at(&self, route: RouteId) -> bool {
        let mut routes = self.routes.borrow_mut();
        let is_first = routes.len() < MOST_ROUTES && !routes.contains(&route);
        if is_first {
            routes.push(route);
        }
        is_first
    }
}

impl Visit {
    /// Asks the route's policy about this connection's visitor, and what they want.
    ///
    /// # Errors
    /// As [`Denied`] says.
    pub(super) fn permit(
        &self,
        route: &Arc<Route>,
        who: &Arc<Classified>,
        approach: Approach<'_>,
        now: UtcTime,
    ) -> Result<Permit, Denied> {
        let read = || self.leaf().and_then(|leaf| alternative_names(leaf).ok());
        let names = || self.facts.names.get_or_init(read).as_ref();
        let Approach { method, path, source } = approach;
        let question = Question { method: method.as_str(), path, source, now, names: &names };
        permit(route, who, self.worker.shared.freshness(now), &question)
    }

    /// Remembers that somebody known was at a route: once a connection, so that this costs requests nothing.
    pub(super) fn was_seen(
        &self,
        route: RouteId,
        who: &Classified,
        approach: Approach<'_>,
        admitted: bool,
        now: UtcTime,
    ) {
        let Classified::Known(identity) = who else { return };
        if self.is_own || !self.facts.is_first_at(route) {
            return;
        }
        let Approach { method, path, source } = approach;
        let Some((method, path)) = Sighting::head(method.as_str(), path) else { return };
        let serial = identity.serial();
        let sighting = Sighting { serial, route, method, path, source, admitted, at: now };
        self.worker.shared.metrics.sightings.note(sighting);
    }
}
