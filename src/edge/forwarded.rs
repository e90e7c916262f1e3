//! From where a request comes, if proxies that are believed stand in between: their chain of addresses, read from
//! right to left. `Forwarded` (RFC 7239) counts before `X-Forwarded-For`; from everybody else both mean nothing.
//!
//! A proxy that writes the one and passes on the other as it was sent would let visitors choose: where both are
//! there and name different visitors, nobody knows who asks. Whoever that is must not pass for the proxy, which is
//! trusted more: such a request is refused, and so is one with a hop that had to be read and cannot be. What was
//! written before the visitor's address nobody vouches for, so it is not even read; it ends here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::header::{FORWARDED, GetAll, HeaderMap, HeaderValue};

use super::connection::Visit;
use super::headers::X_FORWARDED_FOR;
use super::respond::Problem;
use crate::domain::Networks;

#[cfg(test)]
mod tests;

/// Hops up to the visitor; each costs memory, and no deployment has as many.
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

/// Why a chain says of nobody who visits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChain {
    /// A hop that had to be read is not as its grammar has it.
    #[error("it is malformed")]
    Malformed,
    /// More trusted hops, or parameters of one hop, than anybody needs.
    #[error("it is too long")]
    TooLong,
    /// The two fields name different visitors.
    #[error("Forwarded and X-Forwarded-For name different visitors")]
    Contradiction,
}

impl BadChain {
    /// What its sender is told.
    const fn detail(self) -> &'static str {
        match self {
            Self::Malformed => "the chain of addresses that a proxy has sent is malformed",
            Self::TooLong => "the chain of addresses that a proxy has sent is too long",
            Self::Contradiction => {
                "a proxy has sent Forwarded and X-Forwarded-For that name different visitors: let it remove the one it does not write"
            }
        }
    }
}

/// What one field says: the visitor, and the hops from the last one back to it.
struct Way<'a> {
    visitor: IpAddr,
    hops: Vec<Hop<'a>>,
}

/// The last hop of a line, and what stands left of it, if there is a comma between.
type Last<'a> = Result<(Hop<'a>, Option<&'a [u8]>), BadChain>;

/// The chain in these fields, sent by `peer`, who is trusted. `None`: there is none.
///
/// # Errors
/// As [`BadChain`] says; then nobody knows who asks.
pub fn read(headers: &HeaderMap, peer: IpAddr, trusted: &Networks) -> Result<Option<Chain>, BadChain> {
    let standard = way(&headers.get_all(FORWARDED), (peer, trusted), last_element)?;
    let older = way(&headers.get_all(X_FORWARDED_FOR), (peer, trusted), last_address)?;
    match (standard, older) {
        (Some(standard), Some(older)) if standard.visitor != older.visitor => Err(BadChain::Contradiction),
        (standard, older) => Ok(standard.or(older).map(|way| Chain::of(&way))),
    }
}

/// From the right, line by line, up to the first hop that is no proxy's of ours. Whatever stands left of that is of
/// its writing.
fn way<'a>(
    lines: &GetAll<'a, HeaderValue>,
    (peer, trusted): (IpAddr, &Networks),
    last: fn(&'a [u8]) -> Last<'a>,
) -> Result<Option<Way<'a>>, BadChain> {
    let mut way = Way { visitor: peer, hops: Vec::new() };
    for line in lines.iter().rev() {
        let mut rest = Some(line.as_bytes());
        while let Some(octets) = rest {
            if way.hops.len() == MOST_HOPS {
                return Err(BadChain::TooLong);
            }
            let (hop, before) = last(octets)?;
            way.hops.push(hop);
            match hop {
                Hop::Address(address) => way.visitor = address,
                // Nobody can say what is behind; the last address that is known has to do.
                Hop::Hidden(_) | Hop::Unknown => return Ok(Some(way)),
            }
            if !trusted.contains(way.visitor) {
                return Ok(Some(way));
            }
            rest = before;
        }
    }
    Ok((!way.hops.is_empty()).then_some(way))
}

impl Chain {
    fn of(way: &Way<'_>) -> Self {
        let (mut forwarded, mut forwarded_for) = (String::new(), String::new());
        for hop in way.hops.iter().rev() {
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
        Self { visitor: way.visitor, forwarded, forwarded_for }
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
    fault: Option<BadChain>,
}

impl Origin {
    /// As far as the peer is believed. Where it is and its chain is bad, see [`Origin::check`].
    pub(super) fn of(visit: &Visit, headers: &HeaderMap) -> Self {
        let peer = visit.source();
        let shared = &visit.worker.shared;
        if !visit.is_believed {
            return Self { visitor: peer, chain: None, fault: None };
        }
        match read(headers, peer, &shared.settings.trusted_proxies) {
            Ok(chain) => {
                let visitor = chain.as_ref().map_or(peer, |chain| chain.visitor);
                Self { visitor, chain: chain.map(Box::new), fault: None }
            }
            Err(fault) => {
                shared.metrics.bad_chains.count();
                tracing::debug!(%peer, cause = %fault, "A proxy's chain of addresses cannot be believed");
                Self { visitor: peer, chain: None, fault: Some(fault) }
            }
        }
    }

    /// Asked before anything goes by the visitor's address.
    ///
    /// # Errors
    /// Somebody asks through a proxy that is believed, and nobody knows who.
    pub(super) fn check(&self) -> Result<(), Problem> {
        self.fault.map_or(Ok(()), |fault| Err(Problem::bad_request(fault.detail())))
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

/// `X-Forwarded-For`: addresses, with a port where a proxy writes one.
fn last_address(line: &[u8]) -> Last<'_> {
    let (before, part) = split(line, line.iter().rposition(|octet| *octet == b','));
    let part = std::str::from_utf8(part).map_err(|_| BadChain::Malformed)?;
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
    Ok((hop, before))
}

/// What is left of this comma, and what is right of it, without spaces around.
fn split(line: &[u8], comma: Option<usize>) -> (Option<&[u8]>, &[u8]) {
    let (before, mut part) = match comma {
        Some(at) => (Some(&line[..at]), &line[at + 1..]),
        None => (None, line),
    };
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = part {
        part = rest;
    }
    (before, part)
}

fn address<E>(read: Result<impl Into<IpAddr>, E>) -> Result<Hop<'static>, BadChain> {
    let address: IpAddr = read.map_err(|_| BadChain::Malformed)?.into();
    Ok(Hop::Address(address.to_canonical()))
}

/// `Forwarded` (RFC 7239 §4): elements between commas, spaces around these and nowhere else.
fn last_element(line: &[u8]) -> Last<'_> {
    let (before, part) = split(line, last_comma(line));
    let (hop, behind) = element(part)?;
    if behind.is_empty() { Ok((hop, before)) } else { Err(BadChain::Malformed) }
}

/// The last comma that is not between quotes, as these are seen from the right: what an element is does not hang on
/// what somebody else has written before it.
fn last_comma(line: &[u8]) -> Option<usize> {
    let mut is_quoted = false;
    for (at, octet) in line.iter().enumerate().rev() {
        match octet {
            b'"' => {
                let escapes = line[..at].iter().rev().take_while(|before| **before == b'\\').count();
                is_quoted ^= escapes.is_multiple_of(2);
            }
            b',' if !is_quoted => return Some(at),
            _ => {}
        }
    }
    None
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
