//! Who acts, and what they may do.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::id::{DeviceId, PersonId, TokenId};

/// What a signed-in person or a token may do. Deny by default: an operation names the role it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reaches only their own devices, certificates, invitations and sessions.
    Member,
    /// Runs the house.
    Administrator,
}

impl Role {
    /// The name in rows and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Administrator => "administrator",
        }
    }

    /// The role of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Member, Self::Administrator].into_iter().find(|role| role.name() == name)
    }
}

/// Who is behind an act: the subject of every audit event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A person signed in with a session.
    Person(PersonId),
    /// A token, on behalf of the person who made it.
    Token {
        /// The token.
        token: TokenId,
        /// Its owner.
        person: PersonId,
    },
    /// A device, by its client certificate.
    Device {
        /// The device.
        device: DeviceId,
        /// Whose it is.
        person: PersonId,
    },
    /// A process on this host, through the admin socket, by its user id (SO_PEERCRED).
    Host {
        /// The numeric user id.
        uid: u32,
    },
    /// The program itself: a job, or `init`.
    System(&'static str),
}

impl fmt::Display for Actor {
    /// `person:<id>`, `token:<id>`, `device:<id>`, `host:<uid>` or `system:<name>`; no names or addresses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person(id) => write!(f, "person:{id}"),
            Self::Token { token, .. } => write!(f, "token:{token}"),
            Self::Device { device, .. } => write!(f, "device:{device}"),
            Self::Host { uid } => write!(f, "host:{uid}"),
            Self::System(name) => write!(f, "system:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_names_round_trip() {
        for role in [Role::Member, Role::Administrator] {
            assert_eq!(Role::from_name(role.name()), Some(role));
        }
        assert!(Role::Member < Role::Administrator);
    }
}
