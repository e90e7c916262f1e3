//! Upstreams as edges work with them.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{ConfigurationData, ConfigurationFault, UpstreamData};
use crate::domain::Slug;
use crate::domain::upstream::UpstreamOptions;

/// One target of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Host name or address to connect to.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// `host[:port]` for the Host header, default port left out.
    pub authority: http::HeaderValue,
    /// As it was written.
    pub text: String,
    /// Where to connect to instead of asking for `host` each time: one of the addresses behind it. What is written
    /// into requests, and what the other end has to be, stays `authority` and `host`.
    pub address: Option<SocketAddr>,
}

impl Target {
    /// Whether the host is a name, behind which there may be several addresses.
    pub fn is_named(&self) -> bool {
        self.address.is_none() && self.host.parse::<IpAddr>().is_err()
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

/// A named pool of targets. Compared by all that it is, so that unchanged pools survive a swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its name.
    pub name: Slug,
    /// At least one.
    pub targets: Vec<Target>,
    /// How requests are spread over them.
    pub options: UpstreamOptions,
}

/// Every upstream of `data`, by name.
///
/// # Errors
/// The first [`ConfigurationFault::BadUpstream`].
pub(super) fn compile_all(
    data: &ConfigurationData,
) -> Result<HashMap<Slug, Arc<Upstream>>, ConfigurationFault> {
    data.upstreams.iter().map(|one| Ok((one.name.clone(), Arc::new(compile(one)?)))).collect()
}

fn compile(data: &UpstreamData) -> Result<Upstream, ConfigurationFault> {
    let refuse = |reason: String| ConfigurationFault::BadUpstream { upstream: data.name.clone(), reason };
    if data.targets.is_empty() {
        return Err(refuse("has no target".to_owned()));
    }
    let targets =
        data.targets.iter().map(|text| parse_target(text).map_err(&refuse)).collect::<Result<_, _>>()?;
    if let Some((field, why)) = data.options.faults(&data.targets).into_iter().next() {
        return Err(refuse(format!("option {field} {why}")));
    }
    Ok(Upstream { name: data.name.clone(), targets, options: data.options.clone() })
}

/// Parses `http://host[:port]` without path, query or credentials.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse_target(text: &str) -> Result<Target, String> {
    let url = url::Url::parse(text).map_err(|cause| format!("{text:?} is not a URL: {cause}"))?;
    if url.scheme() != "http" {
        return Err(format!("{text:?} must start with http://"));
    }
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !bare || !url.username().is_empty() || url.password().is_some() {
        return Err(format!("{text:?} must be http://host:port with nothing behind it"));
    }
    let host = url.host_str().ok_or_else(|| format!("{text:?} has no host"))?;
    let port = url.port_or_known_default().unwrap_or(80);
    let authority = if port == 80 { host.to_owned() } else { format!("{host}:{port}") };
    let connect = host.trim_start_matches('[').trim_end_matches(']');
    let connect = connect.parse::<IpAddr>().map_or_else(|_| host.to_owned(), |ip| ip.to_string());
    let authority =
        http::HeaderValue::try_from(authority).map_err(|_| format!("{text:?} has an odd host"))?;
    Ok(Target { host: connect, port, authority, text: text.to_owned(), address: None })
}
