//! Identities of rows: random-tailed, time-ordered UUIDs (version 7), one type for each kind of thing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new identity, unique without asking anyone.
            #[expect(clippy::new_without_default, reason = "two defaults would not be equal")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                Uuid::try_parse(text).map(Self).map_err(|_| ParseIdError)
            }
        }
    )+};
}

ids! {
    /// A person, human or service account. Never changes; the e-mail address may.
    PersonId,
    /// One thing of a person's that holds one private key.
    DeviceId,
    /// A certificate and its renewals.
    LineageId,
    /// A one-time link to an enrolment.
    InvitationId,
    /// A signed-in browser.
    SessionId,
    /// An API token.
    TokenId,
    /// Site + path prefix -> upstream.
    RouteId,
    /// One line of the audit.
    AuditEventId,
}

/// The text is not a UUID.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a UUID such as 0192f0c1-2345-7abc-8def-0123456789ab")]
pub struct ParseIdError;
