//! Who was seen at a route: what a draft of its policy can be tried on.

use std::net::IpAddr;

use super::id::RouteId;
use super::serial::Serial;
use super::time::UtcTime;

/// Longest path that is remembered, in octets. More than twice a rule's prefix, so that a prefix which fits the
/// whole path fits what is left of it.
pub const MAX_PATH: usize = 512;
/// Longest method that is remembered, in octets.
const MAX_METHOD: usize = 32;

/// A known certificate at a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Of the certificate.
    pub serial: Serial,
    /// Where it was seen.
    pub route: RouteId,
    /// What was asked for.
    pub method: Box<str>,
    /// Without a query, and cut behind a segment if it is long.
    pub path: Box<str>,
    /// From where.
    pub source: IpAddr,
    /// Whether the policy let it in.
    pub admitted: bool,
    /// When.
    pub at: UtcTime,
}

impl Sighting {
    /// What is remembered of a request's head; nothing if nobody would write it like that.
    pub fn head(method: &str, path: &str) -> Option<(Box<str>, Box<str>)> {
        (method.len() <= MAX_METHOD).then(|| (method.into(), cut(path).into()))
    }
}

/// The path without what goes beyond [`MAX_PATH`], in whole segments.
fn cut(path: &str) -> &str {
    let Some(head) = path.as_bytes().get(..MAX_PATH).filter(|_| path.len() > MAX_PATH) else { return path };
    let end = head.iter().rposition(|octet| *octet == b'/').unwrap_or(0);
    // A slash is one octet in UTF-8, and no part of another character.
    if end == 0 { "/" } else { &path[..end] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_paths_are_cut_behind_a_segment() {
        let long = format!("/app/{}", "é/".repeat(400));
        let (_, kept) = Sighting::head("GET", &long).unwrap();
        assert!(kept.len() <= MAX_PATH && kept.len() > MAX_PATH - 4);
        assert!(long.starts_with(&*kept) && kept.ends_with('é'));
        assert_eq!(&*Sighting::head("GET", "/app/x").unwrap().1, "/app/x");
        assert_eq!(&*Sighting::head("GET", &format!("/{}", "x".repeat(600))).unwrap().1, "/");
        assert_eq!(Sighting::head(&"X".repeat(33), "/"), None);
    }
}
