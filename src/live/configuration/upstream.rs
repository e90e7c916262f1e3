//! Upstreams as edges work with them.

mod tls;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use rustls_pki_types::ServerName;

use super::{ConfigurationData, ConfigurationFault, UpstreamData};
use crate::domain::Slug;
use crate::domain::upstream::UpstreamOptions;
use crate::live::tls::TlsPolicy;
use tls::Roots;
pub use tls::{Presented, UpstreamTls};

/// Where a target listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// At a TCP port.
    Tcp {
        /// Host name or address to connect to.
        host: String,
        /// The port.
        port: u16,
    },
    /// At a Unix socket.
    Unix(PathBuf),
}

/// One target of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Where it listens.
    pub place: Place,
    /// The name in its certificate, where it speaks TLS.
    pub tls_name: Option<ServerName<'static>>,
    /// `host[:port]` for the Host header, default port left out.
    pub authority: http::HeaderValue,
    /// As it was written.
    pub text: String,
    /// Where to connect to instead of asking for `host` each time: one of the addresses behind it. What is written
    /// into requests, and what the other end has to be, stays `authority` and `host`.
    pub address: Option<SocketAddr>,
}

impl Target {
    /// The host, unless it is a Unix socket.
    pub fn host(&self) -> Option<&str> {
        match &self.place {
            Place::Tcp { host, .. } => Some(host),
            Place::Unix(_) => None,
        }
    }

    /// Whether the host is a name, behind which there may be several addresses.
    pub fn is_named(&self) -> bool {
        self.address.is_none() && self.host().is_some_and(|host| host.parse::<IpAddr>().is_err())
    }

    /// The same at this address.
    pub fn at(&self, address: SocketAddr) -> Self {
        Self { address: Some(address), ..self.clone() }
    }
}

impl fmt::Display for Target {
    /// As it was written, and where it was found.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            None => f.write_str(&self.text),
            Some(address) => write!(f, "{} at {address}", self.text),
        }
    }
}

/// A named pool of targets. Compared by all that is said of it and whom the host trusts, so that unchanged pools
/// survive a swap.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Its name.
    pub name: Slug,
    /// At least one.
    pub targets: Vec<Target>,
    /// How requests are spread over them.
    pub options: UpstreamOptions,
    /// Where any of the targets speaks TLS; follows from the rest and from whom this host trusts. None besides if that
    /// is nobody.
    pub tls: Option<Arc<UpstreamTls>>,
}

impl PartialEq for Upstream {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.targets, &self.options, self.roots())
            == (&other.name, &other.targets, &other.options, other.roots())
    }
}

impl Eq for Upstream {}

impl Upstream {
    /// Whether the edge shows its own certificate to the targets, and sends them nothing without it.
    pub fn presents_certificate(&self) -> bool {
        self.options.tls.as_ref().is_some_and(|tls| tls.present_certificate)
    }

    /// Tells apart whom the host trusted when this was compiled. `None`: nobody, or no target speaks TLS.
    pub fn roots(&self) -> Option<u64> {
        self.tls.as_ref().map(|tls| tls.roots())
    }
}

/// Every upstream of `data`, by name.
///
/// # Errors
/// The first [`ConfigurationFault::BadUpstream`].
pub(super) fn compile_all(
    data: &ConfigurationData,
    tls: &TlsPolicy,
) -> Result<HashMap<Slug, Arc<Upstream>>, ConfigurationFault> {
    let mut roots = Roots::new(tls);
    data.upstreams.iter().map(|one| Ok((one.name.clone(), Arc::new(compile(one, &mut roots)?)))).collect()
}

fn compile(data: &UpstreamData, roots: &mut Roots<'_>) -> Result<Upstream, ConfigurationFault> {
    let refuse = |reason: String| ConfigurationFault::BadUpstream { upstream: data.name.clone(), reason };
    if data.targets.is_empty() {
        return Err(refuse("has no target".to_owned()));
    }
    let targets: Vec<Target> =
        data.targets.iter().map(|text| parse_target(text).map_err(&refuse)).collect::<Result<_, _>>()?;
    if let Some((field, why)) = option_faults(&data.options, &data.targets).into_iter().next() {
        return Err(refuse(format!("option {field} {why}")));
    }
    let speaks_tls = targets.iter().any(|target| target.tls_name.is_some());
    let tls = speaks_tls.then(|| UpstreamTls::of(&data.options, roots)).transpose();
    // What was written is right; a host that trusts nobody reaches none of these targets, and all others.
    let tls = tls.unwrap_or_else(|cause| {
        tracing::warn!(upstream = %data.name, cause, "Targets of this upstream cannot be reached over TLS");
        None
    });
    let tls = tls.map(Arc::new);
    Ok(Upstream { name: data.name.clone(), targets, options: data.options.clone(), tls })
}

/// What is wrong with `options` for an upstream with these targets, certificates included: the field as a JSON
/// pointer, and why.
pub fn option_faults(options: &UpstreamOptions, targets: &[String]) -> Vec<(String, String)> {
    let mut faults = options.faults(targets);
    let ca = options.tls.as_ref().and_then(|tls| tls.ca.as_deref());
    if let Some(why) = ca.and_then(|ca| tls::authorities(ca).err()) {
        faults.push(("/tls/ca".to_owned(), why));
    }
    faults
}

/// Parses `http://host[:port]` or `https://host[:port]` without path, query or credentials, or `unix:/path`.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse_target(text: &str) -> Result<Target, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_target(text, path);
    }
    let url = url::Url::parse(text).map_err(|cause| format!("{text:?} is not a URL: {cause}"))?;
    let is_tls = match url.scheme() {
        "http" => false,
        "https" => true,
        _ => return Err(format!("{text:?} must start with http://, https:// or unix:/")),
    };
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !bare || !url.username().is_empty() || url.password().is_some() {
        let scheme = url.scheme();
        return Err(format!("{text:?} must be {scheme}://host:port with nothing behind it"));
    }
    let host = url.host_str().ok_or_else(|| format!("{text:?} has no host"))?;
    let usual = if is_tls { 443 } else { 80 };
    let port = url.port().unwrap_or(usual);
    let authority = if port == usual { host.to_owned() } else { format!("{host}:{port}") };
    let connect = host.trim_start_matches('[').trim_end_matches(']');
    let connect = connect.parse::<IpAddr>().map_or_else(|_| host.to_owned(), |ip| ip.to_string());
    let authority =
        http::HeaderValue::try_from(authority).map_err(|_| format!("{text:?} has an odd host"))?;
    let odd = |_| format!("{text:?} has a host that no certificate can name");
    let tls_name = is_tls.then(|| ServerName::try_from(connect.clone())).transpose().map_err(odd)?;
    Ok(Target {
        place: Place::Tcp { host: connect, port },
        tls_name,
        authority,
        text: text.to_owned(),
        address: None,
    })
}

/// Octets of a path that fit into a socket's address, with the one that ends it.
const LONGEST_PATH: usize = 107;

fn unix_target(text: &str, path: &str) -> Result<Target, String> {
    if !path.starts_with('/') || path.starts_with("//") || path.ends_with('/') {
        return Err(format!("{text:?} must be unix:/ and the rest of the socket's absolute path"));
    }
    if path.chars().any(char::is_control) {
        return Err(format!("{text:?} holds a control character"));
    }
    if path.len() > LONGEST_PATH {
        return Err(format!("{text:?} is too long: a socket's path has at most {LONGEST_PATH} octets"));
    }
    Ok(Target {
        place: Place::Unix(path.into()),
        tls_name: None,
        authority: http::HeaderValue::from_static("localhost"),
        text: text.to_owned(),
        address: None,
    })
}

#[cfg(test)]
mod tests;
