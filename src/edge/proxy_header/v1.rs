//! Version 1: one line of ASCII.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{BadHeader, Parsed, Said};

/// Section 2.1: the longest line, with its end.
const MOST: usize = 107;
const BEGINNING: &[u8] = b"PROXY ";
const UNKNOWN: &[u8] = b"PROXY UNKNOWN";

pub(super) fn parse(octets: &[u8]) -> Result<Parsed, BadHeader> {
    let known = octets.len().min(BEGINNING.len());
    if octets[..known] != BEGINNING[..known] {
        return Err(BadHeader::Missing);
    }
    let seen = &octets[..octets.len().min(MOST)];
    let Some(end) = seen.iter().position(|octet| *octet == b'\n') else {
        return if octets.len() < MOST { Ok(Parsed::Partial) } else { Err(BadHeader::TooLong) };
    };
    let line = seen[..end].strip_suffix(b"\r").ok_or(BadHeader::Line)?;
    Ok(Parsed::Whole(said(line)?, end + 1))
}

fn said(line: &[u8]) -> Result<Said, BadHeader> {
    if let Some(rest) = line.strip_prefix(UNKNOWN)
        && (rest.is_empty() || rest.starts_with(b" "))
    {
        // Section 2.1: whatever follows is ignored up to the end of the line, which a lone CR is not.
        return if rest.contains(&b'\r') { Err(BadHeader::Line) } else { Ok(Said::Nothing) };
    }
    let text = std::str::from_utf8(line).map_err(|_| BadHeader::Line)?;
    let mut words = text.split(' ').skip(1);
    let mut word = || words.next().ok_or(BadHeader::Line);
    let (family, source, destination) = (word()?, word()?, word()?);
    let (source_port, destination_port) = (word()?, word()?);
    if words.next().is_some() {
        return Err(BadHeader::Line);
    }
    let address = match family {
        "TCP4" => address::<Ipv4Addr>,
        "TCP6" => address::<Ipv6Addr>,
        _ => return Err(BadHeader::Family),
    };
    Ok(Said::Visitor {
        source: SocketAddr::new(address(source)?, port(source_port)?),
        destination: SocketAddr::new(address(destination)?, port(destination_port)?),
    })
}

fn address<A: FromStr + Into<IpAddr>>(text: &str) -> Result<IpAddr, BadHeader> {
    let address: IpAddr = text.parse::<A>().map_err(|_| BadHeader::Address)?.into();
    Ok(address.to_canonical())
}

fn port(text: &str) -> Result<u16, BadHeader> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_plain { text.parse().map_err(|_| BadHeader::Port) } else { Err(BadHeader::Port) }
}
