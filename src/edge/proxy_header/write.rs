//! Headers as we write them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::v2::{FIXED, MOST_BODY, PROXY, SIGNATURE, SSL, TCP4, TCP6};

/// Section 2.2.6: TLS was spoken.
const CLIENT_SSL: u8 = 0x01;
/// A certificate was presented on this connection, and belongs to this session.
const CLIENT_CERT: u8 = 0x02 | 0x04;
const VERSION: u8 = 0x21;
const COMMON_NAME: u8 = 0x22;
/// The leaf in DER (haproxy, 2026).
const CERTIFICATE: u8 = 0x28;
/// What the addresses of version 2 take at most.
const MOST_ADDRESSES: usize = 36;
/// The kind and the length of an extension.
const HEAD: usize = 3;
/// What is left for the value of the one extension that we write.
const MOST_SSL: usize = MOST_BODY - MOST_ADDRESSES - HEAD;

/// How a visitor spoke TLS.
#[derive(Clone, Copy, Debug)]
pub struct Tls<'a> {
    /// For example `TLSv1.3`.
    pub version: &'a str,
    /// Who it was, if it is known.
    pub client: Option<Client<'a>>,
}

/// A visitor whose certificate passes.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Of the certificate's subject.
    pub common_name: &'a str,
    /// The leaf in DER.
    pub certificate: &'a [u8],
}

/// A header of version 2. A certificate that would make it longer than others take is left out.
pub fn write_v2(source: SocketAddr, destination: SocketAddr, tls: Option<Tls<'_>>) -> Vec<u8> {
    let mut header = Vec::with_capacity(FIXED + MOST_ADDRESSES);
    header.extend(SIGNATURE);
    header.push(PROXY);
    match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.extend([TCP4, 0, 0]);
            header.extend(from.octets());
            header.extend(to.octets());
        }
        (from, to) => {
            header.extend([TCP6, 0, 0]);
            header.extend(as_v6(from).octets());
            header.extend(as_v6(to).octets());
        }
    }
    header.extend(source.port().to_be_bytes());
    header.extend(destination.port().to_be_bytes());
    if let Some(tls) = tls {
        put(&mut header, SSL, &ssl(&tls));
    }
    let length = u16::try_from(header.len() - FIXED).unwrap_or(u16::MAX).to_be_bytes();
    header[FIXED - length.len()..FIXED].copy_from_slice(&length);
    header
}

/// A header of version 1.
pub fn write_v1(source: SocketAddr, destination: SocketAddr) -> String {
    let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
    let ports = format!("{} {}", source.port(), destination.port());
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => format!("PROXY TCP4 {from} {to} {ports}\r\n"),
        (from, to) => format!("PROXY TCP6 {} {} {ports}\r\n", as_v6(from), as_v6(to)),
    }
}

fn ssl(tls: &Tls<'_>) -> Vec<u8> {
    // Section 2.2.6: zero stands for a certificate that was presented and verified.
    let (flags, verified): (u8, u32) = match tls.client {
        Some(_) => (CLIENT_SSL | CLIENT_CERT, 0),
        None => (CLIENT_SSL, 1),
    };
    let mut value = vec![flags];
    value.extend(verified.to_be_bytes());
    put(&mut value, VERSION, tls.version.as_bytes());
    if let Some(client) = tls.client {
        for (kind, of_client) in
            [(COMMON_NAME, client.common_name.as_bytes()), (CERTIFICATE, client.certificate)]
        {
            if value.len() + HEAD + of_client.len() <= MOST_SSL {
                put(&mut value, kind, of_client);
            }
        }
    }
    value
}

/// Adds an extension. None is longer than [`MOST_SSL`].
fn put(into: &mut Vec<u8>, kind: u8, value: &[u8]) {
    into.push(kind);
    into.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
    into.extend(value);
}

fn as_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}
