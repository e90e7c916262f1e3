//! What an authority is for, and where in its life it stands.

use serde::{Deserialize, Serialize};

/// What an authority signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthorityKind {
    /// Signs issuing authorities and its own CRL.
    Root,
    /// Signs client certificates and their CRL.
    Issuing,
    /// Signs bootstrap, fallback and admin server leaves; never in client trust.
    LocalServer,
}

impl AuthorityKind {
    /// The name in rows and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Issuing => "issuing",
            Self::LocalServer => "local_server",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Root, Self::Issuing, Self::LocalServer].into_iter().find(|kind| kind.name() == name)
    }
}

/// Where in its life an authority stands. Moves only forward, but for a roll-back before `Issuing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthorityState {
    /// Made, known to nobody.
    Staged,
    /// In client trust, signs nothing yet.
    Trusted,
    /// Signs.
    Issuing,
    /// Signs CRLs only, its leaves still pass.
    Retiring,
    /// Out of trust.
    Archived,
}

impl AuthorityState {
    /// The name in rows and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Trusted => "trusted",
            Self::Issuing => "issuing",
            Self::Retiring => "retiring",
            Self::Archived => "archived",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Staged, Self::Trusted, Self::Issuing, Self::Retiring, Self::Archived]
            .into_iter()
            .find(|state| state.name() == name)
    }

    /// Whether leaves under an authority in this state pass the edge.
    pub const fn is_in_force(self) -> bool {
        matches!(self, Self::Trusted | Self::Issuing | Self::Retiring)
    }
}
