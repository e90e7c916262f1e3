//! HTTP/2 streams as no client library would send them, made for an edge that speaks HTTP/1.1 behind.

use super::{Form, Shape, octets};

/// One stream: the fields of its head in their order, and what follows.
pub(in super::super) struct Frames {
    fields: Vec<Field>,
    body: Option<&'static str>,
    trailers: Vec<Field>,
}

/// Name and value.
type Field = (String, String);

/// The one that shapes are put on.
const STREAM: u32 = 1;
/// The one that is asked for something innocent behind it.
const NEXT: u32 = 3;
/// Octets before a frame's content.
const FRAME_HEAD: usize = 9;

impl Frames {
    /// A connection's first octets, the stream, and one more that asks for `next`.
    pub(in super::super) fn octets(&self, path: &str, smuggled: &str, next: &str) -> Vec<u8> {
        let fill = |text: &str| octets(text, path, smuggled);
        let block = |fields: &[Field]| -> Vec<u8> {
            fields.iter().flat_map(|(name, value)| field(&fill(name), &fill(value))).collect()
        };
        let is_last = |is_last: bool| END_HEADERS | if is_last { END_STREAM } else { 0 };
        let has_trailers = !self.trailers.is_empty();
        let has_more = self.body.is_some() || has_trailers;
        let mut all = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        all.extend(frame(SETTINGS, 0, 0, &[]));
        all.extend(frame(HEADERS, is_last(!has_more), STREAM, &block(&self.fields)));
        if let Some(body) = self.body {
            all.extend(frame(DATA, if has_trailers { 0 } else { END_STREAM }, STREAM, &fill(body)));
        }
        if has_trailers {
            all.extend(frame(HEADERS, is_last(true), STREAM, &block(&self.trailers)));
        }
        all.extend(frame(HEADERS, is_last(true), NEXT, &block(&head_of("GET", next))));
        all
    }
}

/// Whether both streams have come to an end, or the connection has.
pub(in super::super) fn is_over(octets: &[u8]) -> bool {
    let (mut rest, mut ended) = (octets, 0);
    while let [high, middle, low, kind, flags, stream @ ..] = rest {
        let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        let Some(behind) = rest.get(FRAME_HEAD + length..) else { return false };
        if *kind == GO_AWAY {
            return true;
        }
        let is_ours = stream.starts_with(&STREAM.to_be_bytes()) || stream.starts_with(&NEXT.to_be_bytes());
        let is_end = *kind == RST_STREAM || (matches!(*kind, DATA | HEADERS) && flags & END_STREAM != 0);
        ended += usize::from(is_ours && is_end);
        rest = behind;
    }
    ended == 2
}

/// RFC 9113 §4.1.
fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let mut all = length[1..].to_vec();
    all.extend([kind, flags]);
    all.extend(stream.to_be_bytes());
    all.extend(content);
    all
}

/// RFC 7541 §6.2.2: a literal with a new name, neither kept nor compressed.
fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut all = vec![0];
    for text in [name, value] {
        // RFC 7541 §5.1.
        match u8::try_from(text.len()) {
            Ok(length @ ..127) => all.push(length),
            _ => {
                let mut rest = text.len() - 127;
                all.push(127);
                while rest >= 128 {
                    all.push(u8::try_from(rest % 128).unwrap() | 128);
                    rest /= 128;
                }
                all.push(u8::try_from(rest).unwrap());
            }
        }
        all.extend(text);
    }
    all
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GO_AWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The fields that every request has.
fn head_of(method: &str, path: &str) -> Vec<Field> {
    owned(&[(":method", method), (":scheme", "https"), (":authority", "app.test"), (":path", path)])
}

fn owned(fields: &[(&str, &str)]) -> Vec<Field> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn stream(name: String, fields: Vec<Field>, body: Option<&'static str>, trailers: Vec<Field>) -> Shape {
    Shape { name: format!("HTTP/2 {name}"), form: Form::Frames(Frames { fields, body, trailers }) }
}

pub(super) fn shapes() -> impl Iterator<Item = Shape> {
    let body = Some("<smuggled>");
    let with_fields = FIELDS.iter().flat_map(move |fields| {
        [("POST", body), ("POST", None), ("GET", body)].map(|(method, body)| {
            let mut all = head_of(method, "<path>");
            all.extend(owned(fields));
            let name = format!("{method} {fields:?} with {} octets", body.map_or("0", |_| "100"));
            stream(name, all, body, Vec::new())
        })
    });
    let with_head = HEADS.iter().map(move |(at, name, value)| {
        let mut fields = head_of("POST", "<path>");
        fields[*at] = ((*name).to_owned(), (*value).to_owned());
        stream(format!("{name} {value:?}"), fields, body, Vec::new())
    });
    let with_trailers = TRAILERS.iter().map(move |trailers| {
        stream(format!("trailers {trailers:?}"), head_of("POST", "<path>"), body, owned(trailers))
    });
    with_fields.chain(with_head).chain(with_trailers)
}

/// What stands behind the fields that every request has.
const FIELDS: [&[(&str, &str)]; 21] = [
    &[],
    &[("content-length", "100")],
    &[("content-length", "0")],
    &[("content-length", "")],
    &[("content-length", "99")],
    &[("content-length", "+100")],
    &[("content-length", "0100")],
    &[("content-length", "100, 100")],
    &[("content-length", "100"), ("content-length", "100")],
    &[("content-length", "0100"), ("content-length", "100")],
    &[("content-length", "0"), ("content-length", "100")],
    &[("content-length", "0"), ("content-length", "")],
    &[("content_length", "0")],
    &[("transfer-encoding", "chunked")],
    &[("transfer_encoding", "chunked")],
    &[("connection", "content-length")],
    &[("upgrade", "websocket")],
    &[("te", "chunked")],
    &[("expect", "100-continue")],
    &[("x", "y\r\ntransfer-encoding: chunked")],
    &[("x: y\r\ntransfer-encoding", "chunked")],
];

/// One of the fields that every request has, replaced.
const HEADS: [(usize, &str, &str); 13] = [
    (0, ":method", "POST <path> HTTP/1.1\r\nhost: app.test\r\n\r\nGET"),
    (0, ":method", "CONNECT"),
    (0, ":method", "PO ST"),
    (1, ":scheme", "http"),
    (1, ":scheme", "https://app.test<path>"),
    (2, ":authority", "other.test"),
    (2, ":authority", "user@app.test"),
    (2, ":authority", "app.test\r\nx: y"),
    (2, "host", "app.test"),
    (3, ":path", "<path> HTTP/1.1\r\nhost: app.test\r\n\r\n<smuggled>"),
    (3, ":path", "<path> HTTP/1.1"),
    (3, ":path", "https://app.test<path>"),
    (3, ":path", "<path>?\u{7f}"),
];

const TRAILERS: [&[(&str, &str)]; 4] = [
    &[("x", "y")],
    &[("content-length", "100")],
    &[("transfer-encoding", "chunked")],
    &[(":path", "<path>")],
];
