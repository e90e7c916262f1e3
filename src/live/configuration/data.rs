//! One version of what an administrator edits, as rows hold it and the feed carries it. What an edge keeps on disk is
//! this, so fields are added with defaults and never renamed.

use serde::{Deserialize, Serialize};

use crate::domain::route::RouteOptions;
use crate::domain::upstream::UpstreamOptions;
use crate::domain::{AccessPolicy, ClientAuth, Hostname, RouteId, Secret, Slug, UtcTime};

/// What a site is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SiteKind {
    /// An app behind routes.
    App,
    /// Portal, invitations and enrolment: handed to the admin role after the handshake.
    Door,
    /// Not ours to terminate: connections are passed through to the upstream unread.
    Passthrough,
}

/// A private key in the feed: PKCS#8 DER. Serialised only into sealed bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyData(#[serde(with = "secret_as_base64")] pub Secret<Vec<u8>>);

/// One site as the feed carries it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SiteData {
    /// The public host name.
    pub host: Hostname,
    /// What it is.
    pub kind: SiteKind,
    /// How it asks for client certificates.
    pub client_auth: ClientAuth,
    /// `Strict-Transport-Security: max-age`, in seconds; 0 sends none.
    pub hsts_max_age_seconds: u64,
    /// Where connections are passed through to, if it is that kind of site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Slug>,
    /// The server certificate, leaf first, DER; none where connections are passed through.
    pub chain: Vec<DerData>,
    /// Its key.
    pub key: KeyData,
    /// Whether the leaf is one of the local server authority's.
    pub is_local: bool,
    /// What the leaf's issuer says of it, for those who ask during the handshake.
    #[serde(default)]
    pub ocsp: Option<OcspData>,
}

/// An OCSP answer in the feed: verified by whoever feeds it, and it says `good`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OcspData {
    /// The OCSPResponse.
    pub der: DerData,
    /// The first second in which it must not be shown any more.
    pub next_update: UtcTime,
}

/// A DER value in the feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DerData(#[serde(with = "crate::domain::register::bytes_as_base64")] pub Vec<u8>);

/// One upstream as the feed carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamData {
    /// Its name.
    pub name: Slug,
    /// `http://host:port`, `https://host:port` or `unix:/path`.
    pub targets: Vec<String>,
    /// How requests are spread over them.
    #[serde(default)]
    pub options: UpstreamOptions,
}

/// One route as the feed carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteData {
    /// Its identity.
    pub id: RouteId,
    /// The site it belongs to.
    pub host: Hostname,
    /// `/` or `/segment…`, without a trailing slash; matches whole segments.
    pub path_prefix: String,
    /// Where requests go.
    pub upstream: Slug,
    /// Who may pass.
    pub policy: AccessPolicy,
    /// A header that carries the person's address, for example `X-WEBAUTH-USER`.
    pub plain_header: Option<String>,
    /// The `aud` of the assertion; the site's origin when absent.
    pub audience: Option<String>,
    /// What else holds for it.
    #[serde(default)]
    pub options: RouteOptions,
}

/// An ACME challenge that edges must answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ChallengeData {
    /// RFC 8555 §8.3.
    Http01 {
        /// The name under validation.
        host: Hostname,
        /// The token in the path.
        token: String,
        /// The answer.
        key_authorization: String,
    },
    /// RFC 8737.
    TlsAlpn01 {
        /// The name under validation.
        host: Hostname,
        /// SHA-256 of the key authorization, base64 in JSON.
        #[serde(with = "crate::domain::register::bytes_as_base64")]
        digest: Vec<u8>,
    },
}

/// The key that signs `Wicketgate-Assertion`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AssertionKeyData {
    /// The JWS key id.
    pub kid: String,
    /// PKCS#8 DER, P-256.
    pub key: KeyData,
}

/// The edge's own client certificate for upstreams.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UpstreamIdentityData {
    /// Strictly increasing, with every renewal.
    pub generation: u64,
    /// Leaf first, DER.
    pub chain: Vec<DerData>,
    /// The leaf's key.
    pub key: KeyData,
}

/// One configuration version as rows hold it and the feed carries it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConfigurationData {
    /// Strictly increasing.
    pub version: u64,
    /// The `iss` of assertions.
    pub installation: String,
    /// Where refused visitors are sent, for example `https://door.example.com`.
    pub door_url: Option<String>,
    /// Every site.
    pub sites: Vec<SiteData>,
    /// Every upstream.
    pub upstreams: Vec<UpstreamData>,
    /// Every route.
    pub routes: Vec<RouteData>,
    /// Open challenges.
    pub challenges: Vec<ChallengeData>,
    /// The assertion key in use.
    pub assertion: Option<AssertionKeyData>,
    /// What is shown to upstreams that ask for a certificate.
    #[serde(default)]
    pub upstream_identity: Option<UpstreamIdentityData>,
}

/// Secrets as base64 text in JSON that is about to be sealed.
mod secret_as_base64 {
    use serde::{Deserializer, Serializer};

    use crate::domain::Secret;
    use crate::domain::register::bytes_as_base64;

    pub(super) fn serialize<S: Serializer>(key: &Secret<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        bytes_as_base64::serialize(key.expose(), serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Secret<Vec<u8>>, D::Error> {
        bytes_as_base64::deserialize(deserializer).map(Secret::new)
    }
}
