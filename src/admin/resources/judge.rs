//! Policies, asked here as an edge asks them: by the same functions, of certificates on record.

use std::net::IpAddr;

use crate::admin::error::{Outcome, Problem};
use crate::admin::services::Services;
use crate::domain::{AccessPolicy, UtcTime};
use crate::live::Classified;
use crate::live::access::{Deciding, Denied, Freshness, Question, Rules, decide};
use crate::pki::chain::{AlternativeNames, alternative_names};
use crate::store::configuration as rows;

/// Whoever would ask.
pub(super) struct Visitor {
    pub(super) who: Classified,
    names: Option<AlternativeNames>,
    now: UtcTime,
}

/// What they would ask for.
pub(super) struct Wanted<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) source: IpAddr,
}

/// A policy, ready to be asked.
pub(super) struct Judge<'a> {
    policy: &'a AccessPolicy,
    pub(super) rules: Rules,
}

impl<'a> Judge<'a> {
    pub(super) fn of(policy: &'a AccessPolicy, route: &rows::Route) -> Outcome<Self> {
        let rules = Rules::of(policy, &route.path_prefix).map_err(|reason| Problem::internal(&reason))?;
        Ok(Self { policy, rules })
    }

    pub(super) fn ask(&self, visitor: &Visitor, wanted: &Wanted<'_>) -> Result<Deciding, Denied> {
        visitor.asking(wanted, |question| {
            decide(self.policy, &self.rules, &visitor.who, Freshness::Fresh, question)
        })
    }

    /// The name of the rule that decided, if one did.
    pub(super) fn rule(&self, verdict: &Result<Deciding, Denied>) -> Option<String> {
        match verdict.as_ref().map_or_else(Denied::deciding, |deciding| Some(*deciding)) {
            Some(Deciding::Rule(at)) => self.rules.name(at).map(ToString::to_string),
            _ => None,
        }
    }
}

impl Visitor {
    pub(super) fn of(services: &Services, der: Option<&[u8]>, now: UtcTime) -> Self {
        let now = services.edge_time(now);
        Self {
            who: der.map_or(Classified::None, |der| services.classify_leaf(der, now)),
            names: der.and_then(|der| alternative_names(der).ok()),
            now,
        }
    }

    /// Puts the question as an edge would.
    pub(super) fn asking<T>(&self, wanted: &Wanted<'_>, ask: impl FnOnce(&Question<'_>) -> T) -> T {
        let names = || self.names.as_ref();
        let Wanted { method, path, source } = *wanted;
        ask(&Question { method, path, source, now: self.now, names: &names })
    }
}
