//! What an edge works from: one configuration version and the register, and how both reach it.
//!
//! The **configuration** (sites, routes, upstreams, server certificates, challenges) is an immutable
//! value: built, validated, published, revertible. The **register** (client certificates, people,
//! authorities in force) is a monotone epoch of deltas applied in O(1), never gated and never undone.

pub mod access;
pub mod classify;
pub mod configuration;
pub mod feed;
pub mod holder;
pub mod journal;
pub mod ocsp;
pub mod path;
pub mod probe;
pub mod register;
pub mod route_table;
pub mod staple;
pub mod tls;
pub mod witness;

pub use crate::domain::{AuthorityRecord, CertificateRecord, Change, Delta, Enforced, PersonRecord};
pub use access::{Deciding, Denied, Freshness, Question};
pub use classify::{Cause, Classified, Identity, Issuer, Refusal, classify};
pub use configuration::{
    ChallengeData, Configuration, ConfigurationData, ConfigurationFault, HandshakeClass, Passthrough, Place,
    Route, RouteData, Site, SiteData, SiteKind, Target, Upstream, UpstreamData, UpstreamIdentity,
    UpstreamIdentityData,
};
pub use feed::{Ack, EdgeError, EdgeLink, Feed, Update};
pub use holder::Holder;
pub use ocsp::{OcspAnswer, OcspAnswers, OcspRefusal, OcspResponder};
pub use register::{Register, Standing};
pub use tls::TlsPolicy;

use std::sync::Arc;

/// One consistent view: a configuration version and the register behind it. Cheap to clone.
#[derive(Clone)]
pub struct Snapshot {
    /// The configuration version in force.
    pub configuration: Arc<Configuration>,
    /// The register; it moves on underneath, by epochs.
    pub register: Arc<Register>,
}
