//! Single values: from text to a type that cannot be wrong. Each reason completes the sentence
//! "this key …".

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use url::Url;

use super::checked::DatabaseUrl;
use crate::domain::network::ParseNetworkError;
use crate::domain::{Hostname, Network, Secret};

/// An address to listen on.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "must be an IP address and a port, such as 127.0.0.1:8443 or [::]:443".to_owned())
}

/// A network, or one address, but never everybody.
pub(super) fn network(text: &str) -> Result<Network, String> {
    let network: Network = text.parse().map_err(|fault: ParseNetworkError| match text.parse::<IpNet>() {
        Ok(near) if near.trunc() != near => format!("must be a network; perhaps {} is meant", near.trunc()),
        _ => fault.to_string(),
    })?;
    match network.is_everybody() {
        true => Err("must not be everybody".to_owned()),
        false => Ok(network),
    }
}

/// A host name.
pub(super) fn hostname(text: &str) -> Result<Hostname, String> {
    text.parse().map_err(|fault: crate::domain::hostname::ParseHostnameError| fault.to_string())
}

/// A host name or an IP address.
pub(super) fn host_or_ip(text: &str) -> Result<String, String> {
    if text.parse::<IpAddr>().is_ok() || Hostname::normalize(text).is_ok() {
        Ok(text.to_owned())
    } else {
        Err("must be a host name or an IP address, without a port".to_owned())
    }
}

/// Whether that host is this host.
pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A path that is not empty.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text.contains('\0') { Err("must be a path".to_owned()) } else { Ok(text.into()) }
}

/// A short name for people.
pub(super) fn label(text: &str) -> Result<String, String> {
    let length = text.chars().count();
    if (1..=64).contains(&length) && !text.chars().any(char::is_control) && text.trim() == text {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 64 characters, none of them a control character, no space at either end".to_owned())
    }
}

/// An https URL.
pub(super) fn https_url(text: &str) -> Result<Url, String> {
    let reason = "must be a URL that starts with https://";
    let url = Url::parse(text).map_err(|_| reason.to_owned())?;
    if url.scheme() == "https" && url.has_host() { Ok(url) } else { Err(reason.to_owned()) }
}

/// `http://host[:port]`: plain, because whoever fetches a revocation list cannot verify us yet
/// (RFC 5280 §8 warns of the loop).
pub(super) fn plain_base_url(text: &str) -> Result<Url, String> {
    let reason = "must be http://host or http://host:port, without a path";
    let url = Url::parse(text).map_err(|_| reason.to_owned())?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    if url.scheme() == "http" && bare && anonymous { Ok(url) } else { Err(reason.to_owned()) }
}

/// A mail address: `local@host`, in ASCII.
pub(super) fn mail_address(text: &str) -> Result<String, String> {
    let reason = || "must be a mail address such as ops@example.com".to_owned();
    let (local, host) = text.rsplit_once('@').ok_or_else(reason)?;
    // RFC 5321 §4.1.2 dot-string; quoted local parts are lawful, and never meant.
    let atom = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    let dotted = local.split('.').all(|part| !part.is_empty() && part.chars().all(atom));
    if dotted && local.len() <= 64 && Hostname::normalize(host).is_ok() {
        Ok(text.to_owned())
    } else {
        Err(reason())
    }
}

/// A mail address, or a name and an address in angle brackets.
pub(super) fn mailbox(text: &str) -> Result<String, String> {
    let reason = "must be a mail address, or a name and an address such as Gate <gate@example.com>";
    let address = match text.split_once('<') {
        Some((name, rest)) if !name.chars().any(|c| c.is_control() || "<>@,;:\\\"".contains(c)) => {
            rest.strip_suffix('>').unwrap_or_default()
        }
        Some(_) => "",
        None => text,
    };
    mail_address(address).map(|_| text.to_owned()).map_err(|_| reason.to_owned())
}

/// `sqlite:<path>` or `postgres://…`.
pub(super) fn database_url(text: &str) -> Result<DatabaseUrl, String> {
    let reason = "must be sqlite:<path> or postgres://user:password@host/name";
    if let Some(file) = text.strip_prefix("sqlite:") {
        let file = file.strip_prefix("//").unwrap_or(file);
        if file.starts_with(":memory:") {
            return Err("must be a file; a database in memory forgets who was revoked".to_owned());
        }
        if file.contains('?') {
            return Err("must be sqlite:<path> without parameters".to_owned());
        }
        return path(file).map(DatabaseUrl::Sqlite).map_err(|_| reason.to_owned());
    }
    let url = Url::parse(text).map_err(|_| reason.to_owned())?;
    if !matches!(url.scheme(), "postgres" | "postgresql") || url.path().len() < 2 {
        return Err(reason.to_owned());
    }
    Ok(DatabaseUrl::Postgres(Secret::new(text.to_owned())))
}
