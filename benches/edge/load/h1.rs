//! HTTP/1.1 by hand.

use std::rc::Rc;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{COMING, KEPT, Visitor, Visitors};
use crate::certificates::HOST;

/// Octets of a body that are kept; those of a longer one are only counted.
const KEPT_OCTETS: usize = 16 * 1024;

/// What a browser might send.
pub(super) fn request(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nhost: {HOST}\r\nuser-agent: bench/1\r\naccept: text/html,application/json\r\n\
         accept-encoding: gzip\r\ncookie: session=0123456789abcdef\r\n\r\n"
    )
    .into_bytes()
}

/// Room for what one exchange reads.
pub(super) fn buffer() -> Vec<u8> {
    Vec::with_capacity(64 * 1024)
}

/// Visitors with a connection each.
pub(super) async fn kept(visitors: &Rc<Visitors>) -> Result<Vec<Visitor>> {
    let mut ready: Vec<Visitor> = Vec::new();
    for _ in 0..KEPT {
        ready.push(Box::pin(stay(visitors.clone(), open(visitors).await?)));
    }
    Ok(ready)
}

/// Visitors that come anew each time.
pub(super) fn coming(visitors: &Rc<Visitors>) -> Vec<Visitor> {
    let visitor = || -> Visitor { Box::pin(come_and_go(visitors.clone())) };
    std::iter::repeat_with(visitor).take(COMING).collect()
}

/// A connection with its first exchange behind it.
pub(super) async fn open(visitors: &Visitors) -> Result<TlsStream<TcpStream>> {
    let mut stream = visitors.connect().await?;
    exchange(&mut stream, &request(visitors.page.path()), &mut buffer()).await?;
    Ok(stream)
}

/// Asks over one connection until it is over.
async fn stay(visitors: Rc<Visitors>, mut stream: TlsStream<TcpStream>) {
    let (request, mut buffer) = (request(visitors.page.path()), buffer());
    while !visitors.over.get() {
        match exchange(&mut stream, &request, &mut buffer).await {
            Ok(octets) if octets == visitors.page.octets() => visitors.count(1),
            Ok(_) | Err(_) => return visitors.count_error(),
        }
    }
}

/// Comes, asks once and goes, again and again until it is over.
async fn come_and_go(visitors: Rc<Visitors>) {
    let (request, mut buffer) = (request(visitors.page.path()), buffer());
    while !visitors.over.get() {
        let visit = async {
            let mut stream = visitors.connect().await?;
            exchange(&mut stream, &request, &mut buffer).await
        };
        match visit.await {
            Ok(_) => visitors.count(1),
            Err(_) => visitors.count_error(),
        }
    }
}

/// One request and its whole answer, which must be 200. Returns how long its body was.
pub(super) async fn exchange(
    stream: &mut TlsStream<TcpStream>,
    request: &[u8],
    buffer: &mut Vec<u8>,
) -> Result<usize> {
    stream.write_all(request).await?;
    stream.flush().await?;
    buffer.clear();
    let (head, body) = loop {
        read(stream, buffer).await?;
        if let Some(lengths) = lengths(buffer)? {
            break lengths;
        }
    };
    let mut left = (head + body).checked_sub(buffer.len()).context("more than was announced")?;
    while left > 0 {
        if body > KEPT_OCTETS {
            buffer.clear();
        }
        left = left.checked_sub(read(stream, buffer).await?).context("more than was announced")?;
    }
    Ok(body)
}

async fn read(stream: &mut TlsStream<TcpStream>, buffer: &mut Vec<u8>) -> Result<usize> {
    match stream.read_buf(buffer).await? {
        0 => bail!("closed"),
        octets => Ok(octets),
    }
}

/// Octets of the head, once it is whole, and of the body that it announces.
fn lengths(buffer: &[u8]) -> Result<Option<(usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(octets) = head.parse(buffer)? else { return Ok(None) };
    if head.code != Some(200) {
        bail!("status {:?}", head.code);
    }
    let length = head.headers.iter().find(|line| line.name.eq_ignore_ascii_case("content-length"));
    let length: usize = std::str::from_utf8(length.context("no length")?.value)?.parse()?;
    Ok(Some((octets, length)))
}
