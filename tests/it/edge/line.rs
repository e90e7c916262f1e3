//! Frames of HTTP/2 and blocks of HPACK as no client library would send them, and a connection for them.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::fixture::APP;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
/// Nobody knows it, so everybody passes over it (RFC 9113 §4.1).
pub const UNKNOWN: u8 = 0x42;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const ACK: u8 = 1;

/// The most that a frame may hold as long as nobody has agreed on more (RFC 9113 §4.2).
pub const FRAME: usize = 16_384;
/// Octets before a frame's content.
const FRAME_HEAD: usize = 9;
/// RFC 9113 §6.5.2.
const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];
/// Octets that are read at once.
const PIECE: usize = 8_192;

/// Methods by their place in the static table (RFC 7541, appendix A), as indexed fields.
pub const GET: u8 = 0x80 | 2;
pub const POST: u8 = 0x80 | 3;
/// The youngest entry of the dynamic table: one octet for a whole field.
pub const YOUNGEST: u8 = 0x80 | 62;
/// `content-length: 1`, by the name's place, neither kept nor compressed (RFC 7541 §6.2.2).
pub const LENGTH_OF_ONE: [u8; 4] = [0x0f, 28 - 15, 1, b'1'];

/// RFC 9113 §4.1.
pub fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let mut all = length[1..].to_vec();
    all.extend([kind, flags]);
    all.extend(stream.to_be_bytes());
    all.extend(content);
    all
}

/// The fields that every request has.
pub fn head(method: u8, path: &str) -> Vec<u8> {
    const SCHEME_HTTPS: u8 = 0x80 | 7;
    const AUTHORITY: u8 = 1;
    const PATH: u8 = 4;
    let mut all = vec![method, SCHEME_HTTPS];
    for (name, value) in [(PATH, path), (AUTHORITY, APP)] {
        all.push(name);
        all.extend(text(value.as_bytes()));
    }
    all
}

/// A field that is kept in the dynamic table (RFC 7541 §6.2.1).
pub fn kept(name: &str, value: &[u8]) -> Vec<u8> {
    [vec![0x40], text(name.as_bytes()), text(value)].concat()
}

/// A field whose value is said to have a million octets, up to where they begin.
pub fn endless() -> Vec<u8> {
    [vec![0], text(b"x"), length(1_000_000)].concat()
}

/// RFC 7541 §5.2, not compressed.
fn text(octets: &[u8]) -> Vec<u8> {
    [&length(octets.len())[..], octets].concat()
}

/// RFC 7541 §5.1, with a prefix of seven bits.
fn length(number: usize) -> Vec<u8> {
    if number < 127 {
        return vec![u8::try_from(number).unwrap()];
    }
    let (mut rest, mut all) = (number - 127, vec![127]);
    while rest >= 128 {
        all.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    all.push(u8::try_from(rest).unwrap());
    all
}

/// A frame that came.
pub struct Heard {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub content: Bytes,
}

/// A connection that speaks HTTP/2, and does as it likes.
pub struct Line {
    stream: TlsStream<TcpStream>,
    unread: BytesMut,
    asked: u64,
    next: u32,
}

impl Line {
    /// Opens one over this, on whose streams so many octets may come.
    pub async fn open(stream: TlsStream<TcpStream>, window: u32) -> io::Result<Self> {
        let mut line = Self { stream, unread: BytesMut::new(), asked: 0, next: 1 };
        let settings = [&INITIAL_WINDOW_SIZE[..], &window.to_be_bytes()].concat();
        line.send(&[&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, &settings)].concat())
            .await?;
        Ok(line)
    }

    /// A new stream's number.
    pub fn stream(&mut self) -> u32 {
        self.next += 2;
        self.next - 2
    }

    /// Whole requests with this block, each on a stream of its own.
    pub fn requests(&mut self, count: usize, block: &[u8]) -> Vec<u8> {
        (0..count).flat_map(|_| frame(HEADERS, END_HEADERS | END_STREAM, self.stream(), block)).collect()
    }

    pub async fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.write_all(octets).await?;
        self.stream.flush().await
    }

    /// The next frame. Acknowledges what asks for it.
    pub async fn hear(&mut self) -> io::Result<Heard> {
        loop {
            if let Some(heard) = self.take() {
                if matches!(heard.kind, PING | SETTINGS) && heard.flags & ACK == 0 {
                    let content = if heard.kind == PING { &heard.content[..] } else { &[] };
                    self.send(&frame(heard.kind, ACK, 0, content)).await?;
                }
                return Ok(heard);
            }
            self.unread.reserve(PIECE);
            if self.stream.read_buf(&mut self.unread).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn take(&mut self) -> Option<Heard> {
        let [high, middle, low, kind, flags, a, b, c, d, ..] = self.unread[..] else { return None };
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        if self.unread.len() < FRAME_HEAD + length {
            return None;
        }
        self.unread.advance(FRAME_HEAD);
        let stream = u32::from_be_bytes([a, b, c, d]);
        Some(Heard { kind, flags, stream, content: self.unread.split_to(length).freeze() })
    }

    /// Waits until everything that was sent has been seen.
    pub async fn round_trip(&mut self) -> io::Result<()> {
        self.asked += 1;
        let asked = self.asked.to_be_bytes();
        self.send(&frame(PING, 0, 0, &asked)).await?;
        loop {
            let heard = self.hear().await?;
            if heard.kind == PING && heard.flags & ACK != 0 && heard.content[..] == asked {
                return Ok(());
            }
        }
    }

    /// Does nothing any more but listen, like somebody who waits, until the other side ends it.
    pub async fn listen(&mut self) -> io::Result<()> {
        loop {
            self.hear().await?;
        }
    }
}

#[test]
fn numbers_are_written_as_the_rfc_does() {
    // RFC 7541, appendix C.1, with two bits more.
    assert_eq!(length(10), [10]);
    assert_eq!(length(127), [127, 0]);
    assert_eq!(length(1_337), [127, 0b1011_1010, 9]);
}
