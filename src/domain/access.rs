//! Who may pass a route, and how a site asks for certificates.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::id::{DeviceId, PersonId};
use super::rule::AccessRule;
use super::slug::Slug;

/// How a site asks for a client certificate in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// Never asks. Only public routes make sense here.
    None,
    /// Asks, takes any answer, and decides in HTTP where a person can read why.
    Request,
    /// Strict: whoever has no known certificate gets a TLS alert.
    Require,
}

impl ClientAuth {
    /// The name in rows and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Request => "request",
            Self::Require => "require",
        }
    }

    /// The mode of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::None, Self::Request, Self::Require].into_iter().find(|mode| mode.name() == name)
    }
}

/// Who may pass a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum AccessPolicy {
    /// Everyone, with or without a certificate.
    Public,
    /// Whoever presents a known client certificate and fits the rules.
    Known(AccessRules),
}

/// Rules, and behind them allow-lists over a known identity. Rules come first, as [`super::rule`] says. If none
/// fits, or there are none, a request passes if any one entry of any list fits it. Four empty lists let every
/// known identity pass, unless there are rules: then nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessRules {
    /// People by id.
    pub people: BTreeSet<PersonId>,
    /// Groups by name.
    pub groups: BTreeSet<Slug>,
    /// Certificate profiles by name.
    pub profiles: BTreeSet<Slug>,
    /// Devices by id.
    pub devices: BTreeSet<DeviceId>,
    /// Asked before the lists, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<AccessRule>,
}

impl AccessRules {
    /// Whether every known identity passes.
    pub fn is_open_to_all_known(&self) -> bool {
        self.rules.is_empty() && self.has_no_lists()
    }

    /// Whether nobody is on a list.
    pub fn has_no_lists(&self) -> bool {
        self.people.is_empty()
            && self.groups.is_empty()
            && self.profiles.is_empty()
            && self.devices.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_without_rules_means_what_it_did() {
        for text in [
            r#"{"kind":"public"}"#,
            r#"{"kind":"known","people":[],"groups":["staff"],"profiles":[],"devices":[]}"#,
        ] {
            let policy: AccessPolicy = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&policy).unwrap(), text);
        }
        let text = r#"{"kind":"known","rules":[{"name":"x","effect":"deny","when":{"networks":["::/0"]}}]}"#;
        let AccessPolicy::Known(known) = serde_json::from_str(text).unwrap() else { panic!("not known") };
        assert!(known.has_no_lists() && !known.is_open_to_all_known());
    }
}
