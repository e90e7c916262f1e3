//! Heads: how lines end, who is named, which version, what is expected, what is to be upgraded.

use super::{CHUNKED, Shape, post, shape};

pub(super) fn shapes() -> impl Iterator<Item = Shape> {
    let whole = WHOLE.iter().map(|octets| shape(format!("{octets:?}"), *octets));
    whole.chain(lines()).chain(fields()).chain(upgrades()).chain(too_much())
}

/// Heads that are odd in more than one line, each as it is.
const WHOLE: [&str; 31] = [
    "GET <path> HTTP/1.1\nHost: app.test\r\n\r\n<smuggled>",
    "GET <path> HTTP/1.1\r\nHost: app.test\nX: y\r\n\r\n<smuggled>",
    "POST <path> HTTP/1.1\nHost: app.test\nContent-Length: 100\n\n<smuggled>",
    "POST <path> HTTP/1.1\r\nHost: app.test\r\nContent-Length: 100\r\n\n<smuggled>",
    "POST <path> HTTP/1.1\r\nHost: app.test\r\nContent-Length: 100\n\r\n<smuggled>",
    "POST <path> HTTP/1.1\r\nHost: app.test\r\nContent-Length: 100\r\n\r<smuggled>",
    "POST <path> HTTP/1.1\rHost: app.test\rContent-Length: 100\r\r<smuggled>",
    "GET <path> HTTP/1.1\rHost: app.test\r\n\r\n<smuggled>",
    "POST <path> HTTP/1.1\r\n Host: other.test\r\nHost: app.test\r\nContent-Length: 100\r\n\r\n<smuggled>",
    "POST <path> HTTP/1.1\r\n\tX: y\r\nHost: app.test\r\nContent-Length: 100\r\n\r\n<smuggled>",
    "POST <path> HTTP/1.1\r\n \r\nHost: app.test\r\nContent-Length: 100\r\n\r\n<smuggled>",
    "\r\nGET <path> HTTP/1.1\r\nHost: app.test\r\n\r\n<smuggled>",
    "\r\n\r\n\r\nGET <path> HTTP/1.1\r\nHost: app.test\r\n\r\n<smuggled>",
    "\n\nGET <path> HTTP/1.1\r\nHost: app.test\r\n\r\n<smuggled>",
    "\rGET <path> HTTP/1.1\r\nHost: app.test\r\n\r\n<smuggled>",
    " GET <path> HTTP/1.1\r\nHost: app.test\r\n\r\n<smuggled>",
    "\u{0}GET <path> HTTP/1.1\r\nHost: app.test\r\n\r\n<smuggled>",
    "GET <path>\r\n",
    "GET <path>\r\nHost: app.test\r\n\r\n<smuggled>",
    "GET <path> HTTP/1.0\r\n\r\n<smuggled>",
    "GET <path> HTTP/1.0\r\nHost: app.test\r\nConnection: keep-alive\r\n\r\n<smuggled>",
    "POST <path> HTTP/1.0\r\nHost: app.test\r\nContent-Length: 100\r\nConnection: keep-alive\r\n\r\n<smuggled>",
    "POST <path> HTTP/1.0\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n<smuggled>",
    "POST <path> HTTP/1.0\r\nHost: app.test\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n\
     64\r\n<smuggled>\r\n0\r\n\r\n",
    "POST <path> HTTP/1.0\r\nHost: app.test\r\nContent-Length: 105\r\nTransfer-Encoding: chunked\r\n\r\n\
     0\r\n\r\n<smuggled>",
    "POST <path> HTTP/1.0\r\nHost: app.test\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n<smuggled>",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n<smuggled>",
    "CONNECT app.test:443 HTTP/1.1\r\nHost: app.test\r\n\r\n<smuggled>",
    "OPTIONS * HTTP/1.1\r\nHost: app.test\r\n\r\n<smuggled>",
    "OPTIONS * HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n<smuggled>",
    "POST <path> HTTP/1.1\r\nHost: app.test\r\n:\r\nContent-Length: 100\r\n\r\n<smuggled>",
];

/// Request lines, each before a Host and a length.
fn lines() -> impl Iterator<Item = Shape> {
    let odd = LINES.iter().map(|line| (*line).to_owned());
    let targets = TARGETS.iter().map(|target| format!("POST {target} HTTP/1.1"));
    odd.chain(targets).map(|line| {
        let fields = "Host: app.test\r\nContent-Length: 100";
        shape(format!("the line {line:?}"), format!("{line}\r\n{fields}\r\n\r\n<smuggled>"))
    })
}

const LINES: [&str; 20] = [
    "POST <path> HTTP/0.9",
    "POST <path> HTTP/1.2",
    "POST <path> HTTP/2.0",
    "POST <path> HTTP/3",
    "POST <path> HTTP/1.10",
    "POST <path> HTTP/01.1",
    "POST <path> HTTP/1,1",
    "POST <path> http/1.1",
    "POST <path> HTTP /1.1",
    "POST <path> HTTP/1.1 ",
    "POST <path> HTTP/1.1 HTTP/1.1",
    "POST  <path> HTTP/1.1",
    "POST <path>  HTTP/1.1",
    "POST\t<path>\tHTTP/1.1",
    "POST\u{b}<path>\u{b}HTTP/1.1",
    "post <path> HTTP/1.1",
    "POST\u{0} <path> HTTP/1.1",
    "P\u{d6}ST <path> HTTP/1.1",
    "POST <path>",
    "<path>",
];

const TARGETS: [&str; 24] = [
    "https://app.test<path>",
    "https://app.test:443<path>",
    "HTTPS://APP.TEST<path>",
    "http://app.test<path>",
    "https://other.test<path>",
    "https://user@app.test<path>",
    "https://app.test@other.test<path>",
    "https://app.test, other.test<path>",
    "https:/<path>",
    "https:<path>",
    "ftp://app.test<path>",
    "//other.test<path>",
    "app.test<path>",
    "<path>#fragment",
    "<path>?x=y HTTP/1.1",
    "<path> x",
    "<path>\u{0}",
    "<path>\u{7f}",
    "<path>\tx",
    "<path>\rx",
    "<path>%0d%0aX:%20y",
    "<path>?%0d%0aX:%20y",
    "<path>\u{c3}\u{a9}",
    "<path>\u{ff}",
];

/// Fields, each in place of the Host or behind it, before a length.
fn fields() -> impl Iterator<Item = Shape> {
    let hosts = HOSTS.iter().map(|hosts| {
        let head = format!("POST <path> HTTP/1.1\r\n{hosts}\r\nContent-Length: 100\r\n\r\n<smuggled>");
        shape(format!("the host {hosts:?}"), head)
    });
    let others = OTHERS.iter().flat_map(|fields| {
        [
            shape(
                format!("{fields:?} and a length"),
                post(&format!("{fields}\r\nContent-Length: 100"), "<smuggled>"),
            ),
            shape(
                format!("{fields:?} and chunks"),
                post(&format!("{fields}\r\nTransfer-Encoding: chunked"), CHUNKED),
            ),
        ]
    });
    hosts.chain(others)
}

const HOSTS: [&str; 24] = [
    "X: y",
    "Host:",
    "Host: other.test",
    "Host: app.test\r\nHost: app.test",
    "Host: app.test\r\nHost: other.test",
    "Host: other.test\r\nHost: app.test",
    "Host: app.test\r\nhost : other.test",
    "Host: app.test\r\n other.test",
    "Host:\r\n app.test",
    "Host : app.test",
    "Host: app.test, other.test",
    "Host: app.test other.test",
    "Host: user@app.test",
    "Host: app.test@other.test",
    "Host: app.test:443",
    "Host: app.test:",
    "Host: app.test:x",
    "Host: app.test:443:80",
    "Host: app.test/",
    "Host: app.test\\other.test",
    "Host: \tAPP.TEST.\t",
    "Host: app.test\u{0}",
    "Host: [::1]",
    "Host: \u{e4}pp.test",
];

const OTHERS: [&str; 17] = [
    "Expect: 100-continue",
    "Expect: 100-Continue\r\nExpect: 100-continue",
    "Expect: 100-continue, x",
    "Expect: 200-ok",
    "Expect : 100-continue",
    "Connection: close, content-length, transfer-encoding",
    "Connection: content-length, host",
    "Connection: keep-alive, transfer-encoding, content-length",
    "Connection: close\r\nConnection: keep-alive",
    "Connection: content-length, \u{e9}",
    "Proxy-Connection: keep-alive\r\nKeep-Alive: timeout=1",
    "TE: trailers, chunked",
    "Trailer: Content-Length, Transfer-Encoding",
    "Connection: upgrade\r\nUpgrade: h2c",
    "X: y\u{0}",
    "X(y): z",
    "X\u{e9}: y",
];

/// Requests for another protocol, whose first octets follow at once.
fn upgrades() -> impl Iterator<Item = Shape> {
    let fields = UPGRADES.iter().map(|fields| (*fields, "<smuggled>"));
    let bodies = [
        ("Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked", CHUNKED),
        (
            "Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n<smuggled>",
        ),
    ];
    fields.chain(bodies).map(|(fields, behind)| {
        let head = format!("GET <path> HTTP/1.1\r\nHost: app.test\r\n{fields}\r\n\r\n");
        shape(format!("the upgrade {fields:?} before {behind:?}"), head + behind)
    })
}

const UPGRADES: [&str; 12] = [
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Connection: keep-alive, upgrade\r\nUpgrade: WebSocket",
    "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0",
    "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 100",
    "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c",
    "Connection: upgrade\r\nUpgrade: websocket, h2c",
    "Connection: upgrade\r\nUpgrade: websocket\u{b}",
    "Connection: upgrade\r\nUpgrade: TLS/1.0",
    "Connection: upgrade",
    "Upgrade: websocket",
    "Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
    "Connection: upgrade, content-length\r\nUpgrade: websocket\r\nContent-Length: 100",
];

/// Lines and heads beyond every bound.
fn too_much() -> impl Iterator<Item = Shape> {
    let long = "x".repeat(20_000);
    [
        shape("a long value", post(&format!("X: {long}\r\nContent-Length: 100"), "<smuggled>")),
        shape("a long name", post(&format!("{long}: y\r\nContent-Length: 100"), "<smuggled>")),
        shape("many fields", post(&"X: y\r\n".repeat(200), "<smuggled>")),
        shape("many empty lines", "\r\n".repeat(5_000) + &post("Content-Length: 100", "<smuggled>")),
        shape("a long path", format!("GET <path>?{long} HTTP/1.1\r\nHost: app.test\r\n\r\n<smuggled>")),
    ]
    .into_iter()
}
