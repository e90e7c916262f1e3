//! Who may pass a route, and how a site asks for certificates.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::id::{DeviceId, PersonId};
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

/// Allow-lists over a known identity. A request passes if any one entry of any list fits it;
/// four empty lists let every known identity pass.
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
}

impl AccessRules {
    /// Whether every known identity passes.
    pub fn is_open_to_all_known(&self) -> bool {
        self.people.is_empty()
            && self.groups.is_empty()
            && self.profiles.is_empty()
            && self.devices.is_empty()
    }
}
