//! The PROXY protocol (haproxy's doc/proxy-protocol.txt, versions 1 and 2): what a load balancer says of a visitor
//! before the visitor's own octets, and what we say to upstreams that want it. Octets in, a verdict out: no
//! allocation, no socket; `caller` reads for it.
//!
//! Strict: what the specification lets a receiver refuse is refused, since two readers of one header that differ
//! are two visitors. Nothing in a header is an identity, whatever its extensions say.

mod crc32c;
#[cfg(test)]
mod tests;
mod v1;
mod v2;
mod write;

use std::net::SocketAddr;

pub use write::{Client, Tls, write_v1, write_v2};

/// Octets of the longest header: a fixed part, addresses and extensions.
pub const MOST: usize = v2::FIXED + v2::MOST_BODY;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// The proxy speaks for itself, or of somebody without an address: whoever connected is who visits.
    Nothing,
    /// Somebody visits.
    Visitor {
        /// From where.
        source: SocketAddr,
        /// Whom they called.
        destination: SocketAddr,
    },
}

/// How far a header got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// All of these octets belong to it, and more have to come.
    Partial,
    /// What it says, and how many octets it has.
    Whole(Said, usize),
}

/// Why it is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// Something else was said first.
    #[error("there is no PROXY header")]
    Missing,
    /// Longer than the specification (107 octets) or we (4 KiB) allow.
    #[error("the PROXY header is too long")]
    TooLong,
    /// The line of version 1 is not made of the words that it must have, one space between each.
    #[error("the line is not as it must be")]
    Line,
    /// Neither version 1 nor version 2.
    #[error("the version is unknown")]
    Version,
    /// Neither LOCAL nor PROXY.
    #[error("the command is unknown")]
    Command,
    /// A family that there is not, or one of datagrams.
    #[error("the family is not one of connections")]
    Family,
    /// Not an address of the family, in its usual form.
    #[error("an address is none")]
    Address,
    /// Not a number from 0 to 65535 without zeros before it.
    #[error("a port is none")]
    Port,
    /// Shorter than its addresses.
    #[error("the length is too small for the addresses")]
    Length,
    /// An extension reaches beyond its end, or is there twice.
    #[error("an extension does not fit")]
    Extension,
    /// It was changed on its way.
    #[error("the checksum is another")]
    Checksum,
}

/// Reads as much of a header as is there. What stands behind it is not looked at.
///
/// # Errors
/// As soon as no octet that may follow could make it one: [`BadHeader`].
pub fn parse(octets: &[u8]) -> Result<Parsed, BadHeader> {
    match octets.first() {
        None => Ok(Parsed::Partial),
        Some(b'P') => v1::parse(octets),
        Some(b'\r') => v2::parse(octets),
        Some(_) => Err(BadHeader::Missing),
    }
}
