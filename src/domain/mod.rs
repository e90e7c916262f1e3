//! The words of the house as types: values that cannot be wrong once they exist. No I/O, no clock.

pub mod access;
pub mod actor;
pub mod audit;
pub mod audit_chain;
pub mod authority;
pub mod entropy;
pub mod fingerprint;
pub mod hex;
pub mod hostname;
pub mod id;
pub mod register;
pub mod renewal;
pub mod revocation;
pub mod route;
pub mod route_index;
pub mod seal;
pub mod secret;
pub mod serial;
pub mod slug;
pub mod time;
pub mod upstream;

pub use access::{AccessPolicy, AccessRules, ClientAuth};
pub use actor::{Actor, Role};
pub use authority::{AuthorityKind, AuthorityState, AuthorityStep};
pub use entropy::Entropy;
pub use fingerprint::Fingerprint;
pub use hostname::Hostname;
pub use id::{AuditEventId, DeviceId, InvitationId, LineageId, PersonId, RouteId, SessionId, TokenId};
pub use register::{AuthorityRecord, CertificateRecord, Change, Delta, Enforced, PersonRecord};
pub use revocation::RevocationReason;
pub use route_index::RouteIndex;
pub use seal::{Seal, SealBroken};
pub use secret::Secret;
pub use serial::Serial;
pub use slug::Slug;
pub use time::UtcTime;
