//! One version of what an administrator edits, compiled into the table that both the handshake and
//! the request are decided from. Pure data in ([`ConfigurationData`]), an immutable value out.

mod data;
mod identity;
mod passthrough;
mod upstream;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderName;
use rustls::ServerConfig;
use rustls::sign::CertifiedKey;

pub use data::{
    AssertionKeyData, ChallengeData, ConfigurationData, DerData, KeyData, OcspData, RouteData, SiteData,
    SiteKind, UpstreamData, UpstreamIdentityData,
};
pub use identity::UpstreamIdentity;
pub use passthrough::Passthrough;
pub use upstream::{Place, Presented, Target, Upstream, UpstreamTls, option_faults, parse_target};

use super::access::Rules;
use super::register::Register;
use super::route_table;
use super::staple::ServedKey;
use super::tls::{self, TlsFault, TlsPolicy};
use crate::clock::SharedClock;
use crate::domain::route::RouteOptions;
use crate::domain::{AccessPolicy, ClientAuth, Fingerprint, Hostname, RouteId, RouteIndex, Slug};

/// One compiled route.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its identity.
    pub id: RouteId,
    /// `/` or `/segment…`, without a trailing slash.
    pub path_prefix: String,
    /// Where requests go.
    pub upstream: Arc<Upstream>,
    /// Who may pass.
    pub policy: AccessPolicy,
    /// The rules of that policy.
    pub rules: Rules,
    /// A header that carries the person's address.
    pub plain_header: Option<HeaderName>,
    /// The `aud` of the assertion.
    pub audience: String,
    /// What else holds for it.
    pub options: RouteOptions,
}

/// What a handshake decided. A request may only be served under a handshake of the same class
/// (else 421): two sites of one class would have asked the same question of the same peer. Policies and their rules
/// are no part of it: they are asked for every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HandshakeClass {
    /// App or door.
    pub kind: SiteKind,
    /// How the certificate was asked for.
    pub client_auth: ClientAuth,
}

/// One compiled site.
#[derive(Debug)]
pub struct Site {
    /// The public host name.
    pub host: Hostname,
    /// What it is.
    pub kind: SiteKind,
    /// How it asks for client certificates.
    pub client_auth: ClientAuth,
    /// HSTS max-age; `None` sends none.
    pub hsts: Option<Duration>,
    /// Longest prefix first.
    pub routes: Vec<Arc<Route>>,
    /// Where a path's routes are found among them.
    pub index: RouteIndex,
    /// The TLS side of the site.
    pub server_config: Arc<ServerConfig>,
    /// SHA-256 of the served leaf.
    pub leaf: Fingerprint,
    /// Whether the leaf is one of the local server authority's.
    pub is_local: bool,
    /// The serialised identity of the TLS side: equal means that `server_config` can be kept.
    tls_key: TlsKey,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct TlsKey {
    chain: Vec<DerData>,
    /// Of the private key.
    key: Fingerprint,
    client_auth: ClientAuth,
    hints: Vec<Vec<u8>>,
    ocsp: Option<OcspData>,
}

impl Site {
    /// What a handshake on this site decides.
    pub fn handshake_class(&self) -> HandshakeClass {
        HandshakeClass { kind: self.kind, client_auth: self.client_auth }
    }
}

/// One compiled configuration version. Immutable.
#[derive(Debug)]
pub struct Configuration {
    /// Strictly increasing.
    pub version: u64,
    /// The `iss` of assertions.
    pub installation: String,
    /// Where refused visitors are sent.
    pub door_url: Option<String>,
    /// Sites by host name, but for those that are passed through.
    pub sites: HashMap<Hostname, Arc<Site>>,
    /// Sites whose connections are passed through unread, by host name; no name is in both.
    pub passthroughs: HashMap<Hostname, Arc<Passthrough>>,
    /// Every route's plain header: stripped from what comes in on *every* route.
    pub plain_headers: BTreeSet<String>,
    /// Answers to HTTP-01 by (host, token).
    pub http_challenges: HashMap<(Hostname, String), String>,
    /// TLS for `acme-tls/1`, if a challenge is open.
    pub alpn_challenges: Option<Arc<ServerConfig>>,
    /// The assertion key in use.
    pub assertion: Option<AssertionKeyData>,
    /// Who the edge is to upstreams that ask.
    pub upstream_identity: Option<Arc<UpstreamIdentity>>,
}

/// Why a configuration cannot be built. It is not published; the one in force stays.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationFault {
    /// Two sites of one name.
    #[error("site {0} is there twice")]
    DoubledSite(Hostname),
    /// A route names a site that is not there.
    #[error("route {path_prefix} belongs to {host}, which is not a site")]
    UnknownSite {
        /// The missing site.
        host: Hostname,
        /// The route's prefix.
        path_prefix: String,
    },
    /// A route names an upstream that is not there.
    #[error("route {path_prefix} of {host} leads to {upstream}, which is not an upstream")]
    UnknownUpstream {
        /// The route's site.
        host: Hostname,
        /// The route's prefix.
        path_prefix: String,
        /// The missing upstream.
        upstream: Slug,
    },
    /// An upstream without a usable target.
    #[error("upstream {upstream}: {reason}")]
    BadUpstream {
        /// Which.
        upstream: Slug,
        /// Why.
        reason: String,
    },
    /// A protected route on a site that never asks for certificates would refuse everyone.
    #[error("route {path_prefix} of {host} needs a client certificate, but the site never asks for one")]
    NeverAsked {
        /// The route's site.
        host: Hostname,
        /// The route's prefix.
        path_prefix: String,
    },
    /// A route with an option that cannot be.
    #[error("route {path_prefix} of {host}: {reason}")]
    BadRoute {
        /// The route's site.
        host: Hostname,
        /// The route's prefix.
        path_prefix: String,
        /// Why.
        reason: String,
    },
    /// A site that is passed through and wants what only a site can have that is not.
    #[error("site {host} is passed through and {reason}")]
    BadPassthrough {
        /// Which.
        host: Hostname,
        /// What it wants.
        reason: String,
    },
    /// A prefix that does not match whole segments.
    #[error("route prefix {0:?} must be / or start with / and not end with one")]
    BadPrefix(String),
    /// A policy whose rules cannot be.
    #[error("the policy of route {path_prefix} of {host}: {reason}")]
    BadRules {
        /// The route's site.
        host: Hostname,
        /// The route's prefix.
        path_prefix: String,
        /// Why.
        reason: String,
    },
    /// A header that may not carry an identity.
    #[error("{0:?} cannot be a plain identity header")]
    BadPlainHeader(String),
    /// The TLS side of a site does not fit together.
    #[error("site {host}")]
    Tls {
        /// Which.
        host: Hostname,
        /// Why.
        #[source]
        cause: TlsFault,
    },
    /// The edge's own certificate and its key do not fit together.
    #[error("the edge's certificate for upstreams does not do")]
    Identity {
        /// Why.
        #[source]
        cause: TlsFault,
    },
    /// The edge's own certificate cannot be read, or is of no generation.
    #[error("the edge's certificate for upstreams cannot be read, or its generation is 0")]
    UnreadableIdentity,
}

/// What a configuration is compiled against.
pub struct BuildContext<'a> {
    /// Suites and versions.
    pub tls: &'a TlsPolicy,
    /// For `require`, whose verifier classifies, and for the root hints.
    pub register: &'a Arc<Register>,
    /// For `require`.
    pub clock: &'a SharedClock,
    /// The version in force: TLS sides that did not change are kept, with their tickets.
    pub previous: Option<&'a Configuration>,
}

impl Configuration {
    /// Compiles `data`.
    ///
    /// # Errors
    /// The first [`ConfigurationFault`]; nothing is half built.
    pub fn build(data: &ConfigurationData, context: &BuildContext<'_>) -> Result<Self, ConfigurationFault> {
        hosts_once(data)?;
        let upstreams = upstream::compile_all(data, context.tls)?;
        let mut routes = compile_routes(data, &upstreams)?;
        let passthroughs = passthrough::compile_all(data, &upstreams)?;
        let identity = data.upstream_identity.as_ref();
        let identity = identity.map(|identity| identity::compile(identity, context.tls)).transpose()?;
        let hints = tls::root_hints(context.register);
        let mut sites = HashMap::new();
        for site in data.sites.iter().filter(|site| site.kind != SiteKind::Passthrough) {
            let mut own = routes.remove(&site.host).unwrap_or_default();
            route_table::sort(&mut own, |route| &route.path_prefix);
            let compiled = compile_site(site, own, &hints, context)?;
            sites.insert(site.host.clone(), Arc::new(compiled));
        }
        let mut http_challenges = HashMap::new();
        let mut alpn = Vec::new();
        for challenge in &data.challenges {
            match challenge {
                ChallengeData::Http01 { host, token, key_authorization } => {
                    http_challenges.insert((host.clone(), token.clone()), key_authorization.clone());
                }
                ChallengeData::TlsAlpn01 { host, digest } => {
                    let key = tls::challenge_key(host, digest, context.tls)
                        .map_err(|cause| ConfigurationFault::Tls { host: host.clone(), cause })?;
                    alpn.push((host.clone(), key));
                }
            }
        }
        Ok(Self {
            version: data.version,
            installation: data.installation.clone(),
            door_url: data.door_url.clone(),
            sites,
            passthroughs,
            plain_headers: data
                .routes
                .iter()
                .filter_map(|r| r.plain_header.as_deref())
                .map(str::to_ascii_lowercase)
                .collect(),
            http_challenges,
            alpn_challenges: (!alpn.is_empty()).then(|| tls::challenge_config(alpn, context.tls)),
            assertion: data.assertion.clone(),
            upstream_identity: identity.map(Arc::new),
        })
    }

    /// The site of this name, if it is one that we terminate.
    pub fn site(&self, host: &str) -> Option<&Arc<Site>> {
        self.sites.get(host)
    }

    /// The site of this name, if it is one that is passed through.
    pub fn passthrough(&self, host: &str) -> Option<&Arc<Passthrough>> {
        self.passthroughs.get(host)
    }
}

/// Checks everything of `data` but the TLS sides of sites: what was refused here would not be published either.
///
/// # Errors
/// The first [`ConfigurationFault`].
pub fn check(data: &ConfigurationData) -> Result<(), ConfigurationFault> {
    hosts_once(data)?;
    let upstreams = upstream::compile_all(data, &TlsPolicy::modern())?;
    compile_routes(data, &upstreams)?;
    passthrough::compile_all(data, &upstreams).map(drop)
}

/// One name is one site, of whatever kind.
fn hosts_once(data: &ConfigurationData) -> Result<(), ConfigurationFault> {
    let mut hosts = BTreeSet::new();
    match data.sites.iter().find(|site| !hosts.insert(&site.host)) {
        Some(doubled) => Err(ConfigurationFault::DoubledSite(doubled.host.clone())),
        None => Ok(()),
    }
}

fn compile_routes(
    data: &ConfigurationData,
    upstreams: &HashMap<Slug, Arc<Upstream>>,
) -> Result<HashMap<Hostname, Vec<Arc<Route>>>, ConfigurationFault> {
    let mut routes = HashMap::<Hostname, Vec<Arc<Route>>>::new();
    for route in &data.routes {
        let site = data.sites.iter().find(|site| site.host == route.host).ok_or_else(|| {
            ConfigurationFault::UnknownSite {
                host: route.host.clone(),
                path_prefix: route.path_prefix.clone(),
            }
        })?;
        let compiled = compile_route(route, site, upstreams)?;
        routes.entry(route.host.clone()).or_default().push(Arc::new(compiled));
    }
    Ok(routes)
}

fn compile_site(
    data: &SiteData,
    routes: Vec<Arc<Route>>,
    hints: &[Vec<u8>],
    context: &BuildContext<'_>,
) -> Result<Site, ConfigurationFault> {
    let fault = |cause| ConfigurationFault::Tls { host: data.host.clone(), cause };
    let tls_key = TlsKey {
        chain: data.chain.clone(),
        key: Fingerprint::of(data.key.0.expose()),
        client_auth: data.client_auth,
        hints: hints.to_vec(),
        ocsp: data.ocsp.clone(),
    };
    let kept = context.previous.and_then(|previous| previous.sites.get(&data.host));
    let server_config = match kept.filter(|site| site.tls_key == tls_key) {
        Some(site) => site.server_config.clone(),
        None => {
            let key: Arc<CertifiedKey> =
                tls::certified_key(&data.chain, data.key.0.expose(), context.tls).map_err(fault)?;
            let key = ServedKey::new(key, data.ocsp.as_ref(), context.clock.clone());
            tls::site_config(key, data.client_auth, hints, context).map_err(fault)?
        }
    };
    Ok(Site {
        host: data.host.clone(),
        kind: data.kind,
        client_auth: data.client_auth,
        hsts: (data.hsts_max_age_seconds > 0).then(|| Duration::from_secs(data.hsts_max_age_seconds)),
        index: RouteIndex::of(routes.iter().map(|route| &*route.path_prefix)),
        routes,
        server_config,
        leaf: data
            .chain
            .first()
            .map(|leaf| Fingerprint::of(&leaf.0))
            .ok_or_else(|| fault(TlsFault::NoChain))?,
        is_local: data.is_local,
        tls_key,
    })
}

fn compile_route(
    data: &RouteData,
    site: &SiteData,
    upstreams: &HashMap<Slug, Arc<Upstream>>,
) -> Result<Route, ConfigurationFault> {
    let prefix = &data.path_prefix;
    let whole_segments = prefix.starts_with('/') && !prefix.ends_with('/') && !prefix.contains("//");
    let is_deep = prefix.matches('/').count() > route_table::MOST_SEGMENTS;
    if prefix != "/" && (!whole_segments || is_deep) {
        return Err(ConfigurationFault::BadPrefix(prefix.clone()));
    }
    if site.kind == SiteKind::Passthrough {
        let reason = format!("cannot have the route {prefix}");
        return Err(ConfigurationFault::BadPassthrough { host: data.host.clone(), reason });
    }
    let upstream =
        upstreams.get(&data.upstream).cloned().ok_or_else(|| ConfigurationFault::UnknownUpstream {
            host: data.host.clone(),
            path_prefix: prefix.clone(),
            upstream: data.upstream.clone(),
        })?;
    if site.client_auth == ClientAuth::None && data.policy != AccessPolicy::Public {
        return Err(ConfigurationFault::NeverAsked { host: data.host.clone(), path_prefix: prefix.clone() });
    }
    let rules = Rules::of(&data.policy, prefix).map_err(|reason| ConfigurationFault::BadRules {
        host: data.host.clone(),
        path_prefix: prefix.clone(),
        reason,
    })?;
    let plain_header = data.plain_header.as_deref().map(plain_header).transpose()?;
    if let Some((field, why)) = data.options.faults().into_iter().next() {
        let (host, reason) = (data.host.clone(), format!("option {field} {why}"));
        return Err(ConfigurationFault::BadRoute { host, path_prefix: prefix.clone(), reason });
    }
    Ok(Route {
        id: data.id,
        path_prefix: prefix.clone(),
        upstream,
        policy: data.policy.clone(),
        rules,
        plain_header,
        audience: data.audience.clone().unwrap_or_else(|| format!("https://{}", data.host)),
        options: data.options.clone(),
    })
}

/// A header that may carry an identity: a token of letters, digits and `-`, none that HTTP itself,
/// the body's framing or our own promises need.
///
/// # Errors
/// [`ConfigurationFault::BadPlainHeader`].
pub fn plain_header(name: &str) -> Result<HeaderName, ConfigurationFault> {
    const TAKEN: [&str; 18] = [
        "host",
        "connection",
        "content-length",
        "content-type",
        "transfer-encoding",
        "te",
        "trailer",
        "upgrade",
        "cookie",
        "authorization",
        "forwarded",
        "via",
        "expect",
        "date",
        "keep-alive",
        "client-cert",
        "client-cert-chain",
        "wicketgate-assertion",
    ];
    let refuse = || ConfigurationFault::BadPlainHeader(name.to_owned());
    let tidy = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let header = HeaderName::try_from(name).map_err(|_| refuse())?;
    if !tidy || TAKEN.contains(&header.as_str()) || header.as_str().starts_with("x-forwarded-") {
        return Err(refuse());
    }
    Ok(header)
}
