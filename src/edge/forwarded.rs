//! From where a request comes, if proxies that are believed stand in between: their chain of addresses, read from
//! right to left. `Forwarded` (RFC 7239) counts before `X-Forwarded-For`; from everybody else both mean nothing.
//!
//! A proxy that writes the one and passes on the other as it was sent would let visitors choose: where both are
//! there and name different visitors, neither counts. What was written before the visitor's address nobody vouches
//! for; it ends here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::header::{FORWARDED, HeaderMap, HeaderValue};

use super::connection::Visit;
use super::headers::X_FORWARDED_FOR;
use crate::domain::Networks;

#[cfg(test)]
mod tests;

/// Hops of a chain; each costs memory, and no deployment has as many.
const MOST_HOPS: usize = 32;
/// Parameters of one hop: four have names, the rest is extensions.
const MOST_PARAMETERS: usize = 8;

/// Who was asked, as the next one has written it down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hop<'a> {
    Address(IpAddr),
    /// RFC 7239 §6.3: a name that only its inventor understands.
    Hidden(&'a str),
    Unknown,
}

/// A chain that is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The nearest address that is no proxy's of ours.
    pub visitor: IpAddr,
    /// From the visitor to the last hop but the peer, in the form of RFC 7239.
    pub forwarded: String,
    /// The same as `X-Forwarded-For` has it.
    pub forwarded_for: String,
}

/// Why a chain is not believed, as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChain {
    /// Not as its grammar has it.
    #[error("it is malformed")]
    Malformed,
    /// More hops, or parameters of one, than anybody needs.
    #[error("it is too long")]
    TooLong,
    /// The two fields name different visitors.
    #[error("Forwarded and X-Forwarded-For name different visitors")]
    Contradiction,
}

/// The chain in these fields, sent by `peer`, who is trusted. `None`: there is none.
///
/// # Errors
/// As [`BadChain`] says; then the peer is all that is known.
pub fn read(headers: &HeaderMap, peer: IpAddr, trusted: &Networks) -> Result<Option<Chain>, BadChain> {
    let standard = hops(headers.get_all(FORWARDED), elements)?;
    let older = hops(headers.get_all(X_FORWARDED_FOR), addresses)?;
    let (visitor, from) = visitor(&standard, peer, trusted);
    let (older_visitor, older_from) = self::visitor(&older, peer, trusted);
    match (standard.is_empty(), older.is_empty()) {
        (true, true) => Ok(None),
        (false, false) if visitor != older_visitor => Err(BadChain::Contradiction),
        (true, false) => Ok(Some(Chain::of(older_visitor, &older[older_from..]))),
        (false, _) => Ok(Some(Chain::of(visitor, &standard[from..]))),
    }
}

/// The visitor's address, and the hop from which on the chain is vouched for.
fn visitor(hops: &[Hop<'_>], peer: IpAddr, trusted: &Networks) -> (IpAddr, usize) {
    let mut visitor = peer;
    for (at, hop) in hops.iter().enumerate().rev() {
        match hop {
            Hop::Address(address) => visitor = *address,
            // Nobody can say what is behind; the last address that is known has to do.
            Hop::Hidden(_) | Hop::Unknown => return (visitor, at),
        }
        if !trusted.contains(visitor) {
            return (visitor, at);
        }
    }
    (visitor, 0)
}

impl Chain {
    fn of(visitor: IpAddr, hops: &[Hop<'_>]) -> Self {
        let (mut forwarded, mut forwarded_for) = (String::new(), String::new());
        for hop in hops {
            if !forwarded.is_empty() {
                forwarded.push_str(", ");
                forwarded_for.push_str(", ");
            }
            let (standard, older) = match hop {
                Hop::Address(address) => (node(*address), address.to_string()),
                Hop::Hidden(name) => ((*name).to_owned(), UNKNOWN.to_owned()),
                Hop::Unknown => (UNKNOWN.to_owned(), UNKNOWN.to_owned()),
            };
            forwarded.push_str("for=");
            forwarded.push_str(&standard);
            forwarded_for.push_str(&older);
        }
        Self { visitor, forwarded, forwarded_for }
    }
}

/// An address as the value of `for` (RFC 7239 §6).
pub(super) fn node(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    }
}

/// From where one request comes.
#[derive(Debug)]
pub(super) struct Origin {
    /// Whoever asks, behind all proxies that are believed.
    pub(super) visitor: IpAddr,
    chain: Option<Box<Chain>>,
}

impl Origin {
    /// As far as the peer is believed.
    pub(super) fn of(visit: &Visit, headers: &HeaderMap) -> Self {
        let peer = visit.source();
        let shared = &visit.worker.shared;
        if !visit.is_believed {
            return Self { visitor: peer, chain: None };
        }
        let chain = read(headers, peer, &shared.settings.trusted_proxies).unwrap_or_else(|fault| {
            shared.metrics.bad_chains.count();
            tracing::debug!(%peer, cause = %fault, "A proxy's chain of addresses is not believed");
            None
        });
        Self { visitor: chain.as_ref().map_or(peer, |chain| chain.visitor), chain: chain.map(Box::new) }
    }

    /// `Forwarded` and `X-Forwarded-For` for the upstream, whose last hops are these.
    pub(super) fn with_last(
        &self,
        forwarded: &HeaderValue,
        forwarded_for: &HeaderValue,
    ) -> (HeaderValue, HeaderValue) {
        match &self.chain {
            None => (forwarded.clone(), forwarded_for.clone()),
            Some(chain) => (joined(&chain.forwarded, forwarded), joined(&chain.forwarded_for, forwarded_for)),
        }
    }
}

fn joined(chain: &str, last: &HeaderValue) -> HeaderValue {
    let whole = [chain.as_bytes(), b", ", last.as_bytes()].concat();
    HeaderValue::from_bytes(&whole).unwrap_or_else(|_| last.clone())
}

const UNKNOWN: &str = "unknown";

/// All hops of a field, however often it is there.
fn hops<'a>(
    lines: impl IntoIterator<Item = &'a HeaderValue>,
    read: fn(&'a [u8], &mut Vec<Hop<'a>>) -> Result<(), BadChain>,
) -> Result<Vec<Hop<'a>>, BadChain> {
    let mut hops = Vec::new();
    for line in lines {
        read(line.as_bytes(), &mut hops)?;
    }
    Ok(hops)
}

fn push<'a>(hops: &mut Vec<Hop<'a>>, hop: Hop<'a>) -> Result<(), BadChain> {
    if hops.len() == MOST_HOPS {
        return Err(BadChain::TooLong);
    }
    hops.push(hop);
    Ok(())
}

/// `X-Forwarded-For`: addresses, with a port where a proxy writes one.
fn addresses<'a>(line: &'a [u8], hops: &mut Vec<Hop<'a>>) -> Result<(), BadChain> {
    let text = std::str::from_utf8(line).map_err(|_| BadChain::Malformed)?;
    for part in text.split(',') {
        let part = part.trim_matches([' ', '\t']);
        let bare = part.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let hop = if part.eq_ignore_ascii_case(UNKNOWN) {
            Hop::Unknown
        } else if let Some(bare) = bare {
            address(bare.parse::<Ipv6Addr>())?
        } else if let Ok(socket) = part.parse::<SocketAddr>() {
            address(Ok::<_, BadChain>(socket.ip()))?
        } else {
            address(part.parse::<IpAddr>())?
        };
        push(hops, hop)?;
    }
    Ok(())
}

fn address<E>(read: Result<impl Into<IpAddr>, E>) -> Result<Hop<'static>, BadChain> {
    let address: IpAddr = read.map_err(|_| BadChain::Malformed)?.into();
    Ok(Hop::Address(address.to_canonical()))
}

/// `Forwarded` (RFC 7239 §4): elements between commas, spaces around these and nowhere else.
fn elements<'a>(line: &'a [u8], hops: &mut Vec<Hop<'a>>) -> Result<(), BadChain> {
    let mut rest = line;
    loop {
        let (hop, behind) = element(without_spaces(rest))?;
        push(hops, hop)?;
        match without_spaces(behind).split_first() {
            None => return Ok(()),
            Some((b',', more)) => rest = more,
            Some(_) => return Err(BadChain::Malformed),
        }
    }
}

fn without_spaces(octets: &[u8]) -> &[u8] {
    let spaces = octets.iter().take_while(|octet| matches!(octet, b' ' | b'\t')).count();
    &octets[spaces..]
}

/// Parameters between semicolons, each once: one hop, and what is behind it.
fn element(mut rest: &[u8]) -> Result<(Hop<'_>, &[u8]), BadChain> {
    let (mut hop, mut names, mut count) = (Hop::Unknown, [b"".as_slice(); MOST_PARAMETERS], 0);
    loop {
        let (name, behind) = token(rest)?;
        let (value, behind) = value(behind.strip_prefix(b"=").ok_or(BadChain::Malformed)?)?;
        if names[..count].iter().any(|other| other.eq_ignore_ascii_case(name)) {
            return Err(BadChain::Malformed);
        }
        *names.get_mut(count).ok_or(BadChain::TooLong)? = name;
        count += 1;
        if name.eq_ignore_ascii_case(b"for") {
            hop = self::hop(value)?;
        }
        match behind.strip_prefix(b";") {
            Some(more) => rest = more,
            None => return Ok((hop, behind)),
        }
    }
}

/// RFC 9110 §5.6.2.
fn token(octets: &[u8]) -> Result<(&[u8], &[u8]), BadChain> {
    let is_of_token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    let length = octets.iter().take_while(|octet| is_of_token(octet)).count();
    if length == 0 { Err(BadChain::Malformed) } else { Ok(octets.split_at(length)) }
}

/// A token or what stands between quotes, escapes as they are (RFC 9110 §5.6.4).
fn value(octets: &[u8]) -> Result<(&[u8], &[u8]), BadChain> {
    let Some(quoted) = octets.strip_prefix(b"\"") else { return token(octets) };
    let mut at = 0;
    loop {
        match quoted.get(at).ok_or(BadChain::Malformed)? {
            b'"' => return Ok((&quoted[..at], &quoted[at + 1..])),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// RFC 7239 §6: an address, a name or `unknown`, and perhaps a port. Whoever escapes one wants to be misread.
fn hop(value: &[u8]) -> Result<Hop<'_>, BadChain> {
    let text = std::str::from_utf8(value).map_err(|_| BadChain::Malformed)?;
    let (hop, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (bare, port) = rest.split_once(']').ok_or(BadChain::Malformed)?;
            (address(bare.parse::<Ipv6Addr>())?, port)
        }
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let hop = if name.eq_ignore_ascii_case(UNKNOWN) {
                Hop::Unknown
            } else if is_hidden(name) {
                Hop::Hidden(name)
            } else {
                address(name.parse::<Ipv4Addr>())?
            };
            (hop, port)
        }
    };
    let is_port = |text: &str| {
        let is_number = (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        is_hidden(text) || (is_number && text.parse::<u16>().is_ok())
    };
    match port.strip_prefix(':') {
        Some(port) if is_port(port) => Ok(hop),
        None if port.is_empty() => Ok(hop),
        _ => Err(BadChain::Malformed),
    }
}

fn is_hidden(text: &str) -> bool {
    text.strip_prefix('_').is_some_and(|name| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    })
}
