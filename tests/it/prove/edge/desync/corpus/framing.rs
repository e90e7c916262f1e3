//! Where a body ends: lengths, transfer codings, chunks, trailers.

use super::{CHUNKED, ENDED, Shape, post, shape};

pub(super) fn shapes() -> impl Iterator<Item = Shape> {
    codings().chain(lengths()).chain(chunks()).chain(ends()).chain(methods())
}

/// Spellings of a transfer coding, alone, behind a length and before one: TE.0, CL.TE and TE.CL.
fn codings() -> impl Iterator<Item = Shape> {
    CODINGS.iter().flat_map(|coding| {
        [
            shape(format!("{coding:?} alone"), post(coding, CHUNKED)),
            shape(
                format!("{coding:?} behind a length"),
                post(&format!("Content-Length: 105\r\n{coding}"), ENDED),
            ),
            shape(
                format!("{coding:?} before a length"),
                post(&format!("{coding}\r\nContent-Length: 4"), CHUNKED),
            ),
        ]
    })
}

const CODINGS: [&str; 30] = [
    "Transfer-Encoding: chunked",
    "transfer-encoding:Chunked",
    "Transfer-Encoding:\tchunked\t",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding\t: chunked",
    " Transfer-Encoding: chunked",
    "Transfer-Encoding: \u{b}chunked",
    "Transfer-Encoding: chunked\u{b}",
    "Transfer-Encoding: chunked\u{0}",
    "Transfer-Encoding: chunked\u{a0}",
    "Transfer-Encoding\u{0}: chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: x chunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: chunked,",
    "Transfer-Encoding: , chunked",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: chunked;q=1",
    "Transfer-Encoding: identity",
    "Transfer-Encoding:",
    "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "X: y\nTransfer-Encoding: chunked",
    "X: y\rTransfer-Encoding: chunked",
    "Transfer_Encoding: chunked",
];

/// Spellings of a length.
fn lengths() -> impl Iterator<Item = Shape> {
    let values = LENGTHS.iter().map(|value| format!("Content-Length:{value}"));
    let lines = LENGTH_LINES.iter().map(|lines| (*lines).to_owned());
    values.chain(lines).map(|fields| shape(format!("{fields:?}"), post(&fields, "<smuggled>")))
}

const LENGTHS: [&str; 24] = [
    " 100",
    "100",
    "\t100\t",
    " +100",
    " -100",
    " 0100",
    " 00000000000000000000000000000100",
    " 0x64",
    " 100,100",
    " 100, 200",
    " 1 00",
    " 1_00",
    " 100.0",
    " 1e2",
    " 100;",
    " \"100\"",
    " \u{b}100",
    " 100\u{0}",
    " 100\u{a0}",
    "",
    " 99",
    " 18446744073709551716",
    " 9223372036854775807",
    " 99999999999999999999999",
];

/// More than one line, or one that is hardly one.
const LENGTH_LINES: [&str; 20] = [
    "Content-Length: 100\r\nContent-Length: 100",
    "Content-Length: 0\r\nContent-Length: 100",
    "Content-Length: 100\r\nContent-Length: 0",
    "Content-Length: 100\r\nContent-Length:",
    "Content-Length: 100\r\nContent-Length: 0100",
    "Content-Length : 100",
    "Content-Length\t: 100",
    " Content-Length: 100",
    "Content-Length\u{0}: 100",
    "Content-Length\u{a0}: 100",
    "\u{b}Content-Length: 100",
    "Content-Length:\r\n 100",
    "Content-Length: 1\r\n\t00",
    "Content-Length\r\n: 100",
    "Content Length: 100",
    "Content_Length: 100",
    "Content-Length 100",
    "X: y\nContent-Length: 100",
    "X: y\rContent-Length: 100",
    "X: y\r\r\nContent-Length: 100",
];

/// Spellings of a chunk's size, and of where a chunk ends.
fn chunks() -> impl Iterator<Item = Shape> {
    let sizes = SIZES.iter().map(|size| (*size).to_owned());
    let sizes = sizes.chain([format!("64;{}", "x".repeat(20_000)), format!("{}64", "0".repeat(20_000))]);
    let of_sizes = sizes.map(|size| {
        let name: String = size.chars().take(30).collect();
        shape(format!("a chunk of {name:?}"), coded(&format!("{size}\r\n<smuggled>\r\n0\r\n\r\n")))
    });
    of_sizes.chain(CHUNKS.iter().map(|body| shape(format!("chunks {body:?}"), coded(body))))
}

fn coded(body: &str) -> String {
    post("Transfer-Encoding: chunked", body)
}

const SIZES: [&str; 24] = [
    "064",
    "0000000000000000000000000064",
    "0x64",
    "+64",
    "-64",
    "6_4",
    "6 4",
    " 64",
    "\t64",
    "64 ",
    "64\t",
    "64;x",
    "64 ;x=y",
    "64;x=\"\r\n0\r\n\r\n\"",
    "64;\n",
    "64;x\r",
    "64;x\u{0}",
    "64,64",
    "64\u{0}",
    "FFFFFFFFFFFFFFFF",
    "10000000000000064",
    "7FFFFFFFFFFFFFFF",
    "zz",
    "",
];

const CHUNKS: [&str; 16] = [
    "64\n<smuggled>\n0\n\n",
    "64\r<smuggled>\r\n0\r\n\r\n",
    "64\n\n<smuggled>\r\n0\r\n\r\n",
    "64\r\n<smuggled>\n0\r\n\r\n",
    "64\r\n<smuggled>0\r\n\r\n",
    "64\r\n<smuggled>xx0\r\n\r\n",
    "64\r\n<smuggled>\r\r0\r\n\r\n",
    "5\r\nabcde\r\n0\r\n\n<smuggled>",
    "5\r\nabcde\r\n0\n\n<smuggled>",
    "5\r\nabcde\r\n0\r\r\n<smuggled>",
    "5\r\nabcde\r\n00\r\n\r\n<smuggled>",
    "5\r\nabcde\r\n-0\r\n\r\n<smuggled>",
    "5\r\nabcde\r\n0 ;x\r\n\r\n<smuggled>",
    "5\r\nabcde\r\n\r\n<smuggled>",
    "5\r\nabcde\r\n<smuggled>",
    "2\r\nabcde\r\n0\r\n\r\n<smuggled>",
];

/// What stands behind the last chunk.
fn ends() -> impl Iterator<Item = Shape> {
    let trailers = TRAILERS.iter().map(|trailer| (*trailer).to_owned());
    trailers.chain([format!("X: {}", "x".repeat(20_000))]).map(|trailer| {
        let name: String = trailer.chars().take(40).collect();
        let fields = "Transfer-Encoding: chunked\r\nTrailer: X";
        shape(
            format!("a trailer {name:?}"),
            post(fields, &format!("1\r\na\r\n0\r\n{trailer}\r\n\r\n<smuggled>")),
        )
    })
}

const TRAILERS: [&str; 10] = [
    "X: y",
    "Content-Length: 100",
    "Transfer-Encoding: chunked",
    "Host: other.test",
    "X: y\nZ: a",
    "X: y\r\n z",
    "X : y",
    "X",
    "X: \u{0}",
    "GET / HTTP/1.1",
];

/// Bodies where few expect one.
fn methods() -> impl Iterator<Item = Shape> {
    METHODS.iter().flat_map(|method| {
        let head = format!("{method} <path> HTTP/1.1\r\nHost: app.test\r\n");
        [
            shape(format!("{method} with a length"), format!("{head}Content-Length: 100\r\n\r\n<smuggled>")),
            shape(
                format!("{method} with chunks"),
                format!("{head}Transfer-Encoding: chunked\r\n\r\n{CHUNKED}"),
            ),
            shape(
                format!("{method} with a body that is none"),
                format!("{head}Content-Length: 0\r\n\r\n<smuggled>"),
            ),
        ]
    })
}

const METHODS: [&str; 8] = ["GET", "HEAD", "OPTIONS", "DELETE", "PUT", "PATCH", "TRACE", "PURGE"];
