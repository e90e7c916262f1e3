//! HTTP/2 by hand: frames of a fixed request out, frames of answers in. Reads what has come, then asks for as
//! much as was answered, in one write.

use std::rc::Rc;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{MULTIPLEXED, Page, Visitor, Visitors};
use crate::certificates::HOST;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
// RFC 9113 §6.
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;
const WINDOW_UPDATE: u8 = 0x8;
const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Window of a stream: more than any answer, so that it never needs another.
const STREAM_WINDOW: u32 = 1 << 20;
/// Window of a connection, topped up when half of it is used.
const WINDOW: u32 = 1 << 24;
/// RFC 9113 §6.9.2: what it is before anybody says anything.
const FIRST_WINDOW: u32 = 65_535;

/// Fields that the peer's table remembers (RFC 7541 §6.2.1): index of the name in the static table, value.
const FIELDS: [(u8, &str); 5] = [
    (1, HOST),
    (58, "bench/1"),
    (19, "text/html,application/json"),
    (16, "gzip"),
    (32, "session=0123456789abcdef"),
];

/// Visitors with a connection each.
pub(super) async fn kept(visitors: &Rc<Visitors>) -> Result<Vec<Visitor>> {
    let mut ready: Vec<Visitor> = Vec::new();
    for _ in 0..MULTIPLEXED {
        ready.push(Box::pin(Connection::open(visitors).await?.stay()));
    }
    Ok(ready)
}

/// A connection with its first exchange behind it.
struct Connection {
    visitors: Rc<Visitors>,
    stream: TlsStream<TcpStream>,
    next_stream: u32,
    /// The head of every request but the first.
    request: Vec<u8>,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    /// Octets of bodies since the connection's window was topped up.
    taken: u32,
    /// Octets of bodies in all, and how many answers ended.
    octets: usize,
    ended: usize,
}

impl Connection {
    async fn open(visitors: &Rc<Visitors>) -> Result<Self> {
        let stream = visitors.connect().await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            bail!("it does not speak HTTP/2");
        }
        let (first, request) = requests(visitors.page);
        let mut connection = Self {
            visitors: visitors.clone(),
            stream,
            next_stream: 1,
            request: first,
            incoming: Vec::with_capacity(64 * 1024),
            outgoing: PREFACE.to_vec(),
            taken: 0,
            octets: 0,
            ended: 0,
        };
        // RFC 9113 §6.5.2: no pushes (2), and the window of new streams (4).
        let mut settings: Vec<u8> = vec![0, 2, 0, 0, 0, 0, 0, 4];
        settings.extend_from_slice(&STREAM_WINDOW.to_be_bytes());
        connection.put(SETTINGS, 0, 0, &settings);
        connection.put(WINDOW_UPDATE, 0, 0, &(WINDOW - FIRST_WINDOW).to_be_bytes());
        connection.ask();
        connection.request = request;
        while connection.move_on().await? == 0 {}
        Ok(connection)
    }

    /// Keeps as many streams busy as the page asks for, until it is over.
    async fn stay(mut self) {
        for _ in 0..self.visitors.page.streams() {
            self.ask();
        }
        while !self.visitors.over.get() {
            let Ok(answers) = self.move_on().await else { return self.visitors.count_error() };
            self.visitors.count(answers);
            for _ in 0..answers {
                self.ask();
            }
        }
    }

    fn ask(&mut self) {
        let head = std::mem::take(&mut self.request);
        self.put(HEADERS, END_HEADERS | END_STREAM, self.next_stream, &head);
        self.request = head;
        self.next_stream += 2;
    }

    fn put(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
        self.outgoing.extend_from_slice(&length[1..]);
        self.outgoing.extend_from_slice(&[kind, flags]);
        self.outgoing.extend_from_slice(&stream.to_be_bytes());
        self.outgoing.extend_from_slice(payload);
    }

    /// Sends what is to be sent and reads what has come. Returns how many answers ended.
    async fn move_on(&mut self) -> Result<u64> {
        if !self.outgoing.is_empty() {
            self.stream.write_all(&self.outgoing).await?;
            self.stream.flush().await?;
            self.outgoing.clear();
        }
        if self.stream.read_buf(&mut self.incoming).await? == 0 {
            bail!("closed");
        }
        let mut incoming = std::mem::take(&mut self.incoming);
        let (mut answers, mut at) = (0, 0);
        while let Some(frame) = Frame::first(&incoming[at..]) {
            at += frame.octets();
            answers += u64::from(self.take(&frame)?);
        }
        incoming.drain(..at);
        self.incoming = incoming;
        if self.taken >= WINDOW / 2 {
            let taken = std::mem::take(&mut self.taken);
            self.put(WINDOW_UPDATE, 0, 0, &taken.to_be_bytes());
        }
        Ok(answers)
    }

    /// Whether an answer ended with this frame.
    fn take(&mut self, frame: &Frame<'_>) -> Result<bool> {
        match frame.kind {
            DATA => {
                self.taken += u32::try_from(frame.payload.len())?;
                self.octets += frame.payload.len();
            }
            HEADERS => frame.must_be_200()?,
            SETTINGS if frame.flags & ACK == 0 => self.put(SETTINGS, ACK, 0, &[]),
            PING if frame.flags & ACK == 0 => self.put(PING, ACK, 0, frame.payload),
            RST_STREAM | GOAWAY => bail!("the peer broke off: {:?}", frame.payload),
            _ => {}
        }
        let ends = matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0;
        self.ended += usize::from(ends);
        // Others are under way, so it can only be more.
        if ends && self.octets < self.ended * self.visitors.page.octets() {
            bail!("an answer is too short");
        }
        Ok(ends)
    }
}

struct Frame<'a> {
    kind: u8,
    flags: u8,
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first frame of `octets`, if it is whole.
    fn first(octets: &'a [u8]) -> Option<Self> {
        let (head, rest) = octets.split_first_chunk::<9>()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let payload = rest.get(..usize::try_from(length).ok()?)?;
        Some(Self { kind: head[3], flags: head[4], payload })
    }

    fn octets(&self) -> usize {
        9 + self.payload.len()
    }

    /// Answers begin with `:status`, which for 200 is one octet in every encoder (RFC 7541, Appendix A).
    fn must_be_200(&self) -> Result<()> {
        let has = |flag: u8| usize::from(self.flags & flag != 0);
        let before = has(PADDED) + 5 * has(PRIORITY);
        let block = self.payload.get(before..).context("an empty head")?;
        // RFC 7541 §6.3: the size of the table may be changed first, by a number of several octets.
        let mut is_number = false;
        let mut fields = block.iter().copied().skip_while(|octet: &u8| {
            let skips = is_number || *octet & 0xe0 == 0x20;
            is_number = if is_number { *octet & 0x80 != 0 } else { *octet & 0x1f == 0x1f };
            skips
        });
        match fields.next() {
            Some(0x88) => Ok(()),
            other => bail!("an answer that does not begin with status 200, but {other:?}"),
        }
    }
}

/// The head of the first request, which fills the peer's table, and of every other, which uses it. The path
/// is spelled out each time, as common encoders do.
fn requests(page: Page) -> (Vec<u8>, Vec<u8>) {
    // RFC 7541, Appendix A: `:method: GET` is 2, `:scheme: https` 7, the name `:path` 4.
    let mut first = vec![0x82, 0x87, 0x04];
    first.extend(text(page.path()));
    let mut later = first.clone();
    // RFC 7541 §2.3.3: the newest entry of the table is 62, the one before it 63.
    let newest_first: Vec<u8> = (62..).take(FIELDS.len()).collect();
    for ((name, value), index) in FIELDS.into_iter().zip(newest_first.into_iter().rev()) {
        first.push(0x40 | name);
        first.extend(text(value));
        later.push(0x80 | index);
    }
    (first, later)
}

/// RFC 7541 §5.2, without Huffman coding; short enough for one octet of length.
fn text(value: &str) -> impl Iterator<Item = u8> {
    let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
    std::iter::once(length).chain(value.bytes())
}
