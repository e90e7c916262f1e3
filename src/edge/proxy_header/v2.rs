//! Version 2: sixteen octets, addresses, extensions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{BadHeader, Parsed, Said, crc32c};

pub(super) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, what is meant, the family, and the length of the rest.
pub(super) const FIXED: usize = 16;
/// Octets of addresses and extensions: room for a certificate, as other receivers have it.
pub(super) const MOST_BODY: usize = 4096;

/// Version in the upper half, command in the lower.
const LOCAL: u8 = 0x20;
pub(super) const PROXY: u8 = 0x21;
/// Family in the upper half, transport in the lower.
const UNSPECIFIED: u8 = 0x00;
pub(super) const TCP4: u8 = 0x11;
pub(super) const TCP6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;
/// Two of them: `sun_path` as haproxy has it.
const UNIX_ADDRESSES: usize = 216;

/// Section 2.2.4 and 2.2.6.
const CRC32C: u8 = 0x03;
pub(super) const SSL: u8 = 0x20;

pub(super) fn parse(octets: &[u8]) -> Result<Parsed, BadHeader> {
    let known = octets.len().min(SIGNATURE.len());
    if octets[..known] != SIGNATURE[..known] {
        return Err(BadHeader::Missing);
    }
    let is_local = match octets.get(SIGNATURE.len()) {
        None => return Ok(Parsed::Partial),
        Some(&LOCAL) => true,
        Some(&PROXY) => false,
        Some(other) if other >> 4 == PROXY >> 4 => return Err(BadHeader::Command),
        Some(_) => return Err(BadHeader::Version),
    };
    let Some(&[family, high, low]) = octets.get(SIGNATURE.len() + 1..FIXED) else {
        return Ok(Parsed::Partial);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MOST_BODY {
        return Err(BadHeader::TooLong);
    }
    // Section 2.2: after LOCAL, family and addresses are discarded whatever they are.
    let addresses = if is_local { 0 } else { addresses(family)? };
    if length < addresses {
        return Err(BadHeader::Length);
    }
    let end = FIXED + length;
    let Some(header) = octets.get(..end) else { return Ok(Parsed::Partial) };
    if is_local {
        return Ok(Parsed::Whole(Said::Nothing, end));
    }
    check_extensions(header, FIXED + addresses)?;
    Ok(Parsed::Whole(said(family, &header[FIXED..])?, end))
}

/// Octets of both addresses and ports.
fn addresses(family: u8) -> Result<usize, BadHeader> {
    match family {
        UNSPECIFIED => Ok(0),
        TCP4 => Ok(12),
        TCP6 => Ok(36),
        UNIX_STREAM => Ok(UNIX_ADDRESSES),
        // Section 2.2: all others are to be refused; datagrams do not come over a connection.
        _ => Err(BadHeader::Family),
    }
}

fn said(family: u8, body: &[u8]) -> Result<Said, BadHeader> {
    let (source, destination, ports): (IpAddr, IpAddr, &[u8]) = match family {
        TCP4 => {
            let (source, rest) = body.split_first_chunk::<4>().ok_or(BadHeader::Length)?;
            let (destination, rest) = rest.split_first_chunk::<4>().ok_or(BadHeader::Length)?;
            (Ipv4Addr::from(*source).into(), Ipv4Addr::from(*destination).into(), rest)
        }
        TCP6 => {
            let (source, rest) = body.split_first_chunk::<16>().ok_or(BadHeader::Length)?;
            let (destination, rest) = rest.split_first_chunk::<16>().ok_or(BadHeader::Length)?;
            (Ipv6Addr::from(*source).into(), Ipv6Addr::from(*destination).into(), rest)
        }
        _ => return Ok(Said::Nothing),
    };
    let Some(&[a, b, c, d]) = ports.get(..4) else { return Err(BadHeader::Length) };
    Ok(Said::Visitor {
        source: SocketAddr::new(source.to_canonical(), u16::from_be_bytes([a, b])),
        destination: SocketAddr::new(destination.to_canonical(), u16::from_be_bytes([c, d])),
    })
}

/// Whether what begins at `start` is extensions and nothing else, and the checksum, if there is one, right.
fn check_extensions(header: &[u8], start: usize) -> Result<(), BadHeader> {
    let (mut rest, mut has_sum) = (&header[start..], false);
    while !rest.is_empty() {
        let (kind, value, behind) = first(rest)?;
        match kind {
            CRC32C if has_sum => return Err(BadHeader::Extension),
            CRC32C => {
                has_sum = true;
                let sum: [u8; 4] = value.try_into().map_err(|_| BadHeader::Extension)?;
                let end = header.len() - behind.len();
                // Section 2.2.4: over the whole header, zeros in place of the sum itself.
                let own = crc32c::of([&header[..end - sum.len()], &[0; 4], behind]);
                if own != u32::from_be_bytes(sum) {
                    return Err(BadHeader::Checksum);
                }
            }
            SSL => {
                // Flags and the result of the verification, then extensions of its own.
                let mut inner = value.get(5..).ok_or(BadHeader::Extension)?;
                while !inner.is_empty() {
                    (_, _, inner) = first(inner)?;
                }
            }
            _ => {}
        }
        rest = behind;
    }
    Ok(())
}

/// The first extension: its kind, its value, and what is behind it.
fn first(octets: &[u8]) -> Result<(u8, &[u8], &[u8]), BadHeader> {
    let (&[kind, high, low], rest) = octets.split_first_chunk::<3>().ok_or(BadHeader::Extension)?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let (value, behind) = rest.split_at_checked(length).ok_or(BadHeader::Extension)?;
    Ok((kind, value, behind))
}
