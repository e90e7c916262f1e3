//! Which site a request names. Host, `:authority` and absolute-form must say the same one name.

use http::header::HOST;
use http::{HeaderMap, Uri, Version};

use super::respond::Problem;
use crate::domain::Hostname;

/// The named host, and the port if one was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The host, in its one spelling.
    pub host: Hostname,
    /// The port, if one was written.
    pub port: Option<u16>,
}

impl Named {
    /// The name as a URL carries it.
    pub fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.to_string(),
        }
    }
}

/// The one host that the request names.
///
/// # Errors
/// `bad_request` when there is none, more than one, or something that is not a host name.
pub fn named(version: Version, uri: &Uri, headers: &HeaderMap) -> Result<Named, Problem> {
    let mut lines = headers.get_all(HOST).iter();
    let header = lines.next();
    if lines.next().is_some() {
        return Err(Problem::bad_request("there is more than one Host"));
    }
    let header = header
        .map(|value| value.to_str().map_err(|_| Problem::bad_request("the Host is not text")))
        .transpose()?
        .map(parse)
        .transpose()?;
    let target = uri.authority().map(|authority| parse(authority.as_str())).transpose()?;
    // RFC 9112 §3.2: HTTP/1.1 without Host is refused; HTTP/1.0 as well, it would name no site.
    if version < Version::HTTP_2 && header.is_none() {
        return Err(Problem::bad_request("the Host is missing"));
    }
    match (target, header) {
        (Some(target), Some(header)) if target != header => {
            Err(Problem::bad_request("the request names two hosts"))
        }
        (Some(named), _) | (None, Some(named)) => Ok(named),
        (None, None) => Err(Problem::bad_request("the request names no host")),
    }
}

fn parse(text: &str) -> Result<Named, Problem> {
    let refuse = || Problem::bad_request("the host is not a host name");
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => {
            let digits = !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
            (host, Some(port.parse().ok().filter(|_| digits).ok_or_else(refuse)?))
        }
        None => (text, None),
    };
    Ok(Named { host: Hostname::normalize(host).map_err(|_| refuse())?, port })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn ask(version: Version, uri: &str, hosts: &[&str]) -> Result<String, &'static str> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_str(host).unwrap());
        }
        named(version, &uri.parse().unwrap(), &headers)
            .map(|named| named.authority())
            .map_err(|problem| problem.code().name())
    }

    #[test]
    fn one_host_in_one_spelling_or_a_bad_request() {
        for (version, uri, hosts, expected) in [
            (Version::HTTP_11, "/", &["App.Example.com"][..], Ok("app.example.com")),
            (Version::HTTP_11, "/", &["app.example.com.:8443"], Ok("app.example.com:8443")),
            (Version::HTTP_11, "https://app.example.com/", &["app.example.com"], Ok("app.example.com")),
            (Version::HTTP_2, "https://app.example.com/", &[], Ok("app.example.com")),
            (Version::HTTP_2, "/", &["app.example.com"], Ok("app.example.com")),
        ] {
            assert_eq!(ask(version, uri, hosts), expected.map(str::to_owned), "{uri} {hosts:?}");
        }
        for (version, uri, hosts) in [
            (Version::HTTP_11, "/", &[][..]),
            (Version::HTTP_10, "/", &[]),
            (Version::HTTP_11, "/", &["a.example", "a.example"]),
            (Version::HTTP_11, "/", &["a.example, b.example"]),
            (Version::HTTP_11, "/", &["user@a.example"]),
            (Version::HTTP_11, "/", &["a.example:"]),
            (Version::HTTP_11, "/", &["a.example:+80"]),
            (Version::HTTP_11, "/", &["a.example:99999"]),
            (Version::HTTP_11, "/", &["127.0.0.1"]),
            (Version::HTTP_11, "https://b.example/", &["a.example"]),
            (Version::HTTP_11, "https://a.example:1/", &["a.example"]),
            (Version::HTTP_11, "https://a.example/", &[]),
            (Version::HTTP_2, "https://a.example/", &["b.example"]),
            (Version::HTTP_2, "/", &[]),
        ] {
            assert_eq!(ask(version, uri, hosts), Err("bad_request"), "{uri} {hosts:?}");
        }
    }
}
