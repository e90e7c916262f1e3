//! Attacks by what is below a request: handshakes and connections, and answers of HTTP/1.1.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::attacker::Striker;
use super::origin::ENDLESS;
use super::streams;
use super::victim::BODY;
use crate::edge::fixture::APP;

/// Between two octets of a head that does not end.
const DRIP: Duration = Duration::from_millis(100);
/// What a socket takes before it is read; the kernel doubles it. With much less, no handshake goes well.
const SMALL_BUFFER: u32 = 16 * 1_024;
/// By then the edge has given up on a visitor who takes nothing.
const GIVEN_UP: Duration = Duration::from_millis(BODY * 1_000 + 500);
/// Of so many who read slowly, one speaks HTTP/2.
pub(super) const SLOW_READERS_A_LINE: usize = 10;
/// What a hello is said to hold, and how much of it comes. rustls takes up to 64 KiB.
const LARGE_HELLO: [u8; 3] = [0, 0xea, 0x60];
const LARGE_HELLO_COMES: usize = 56 * 1_024;
/// The most that one record may hold (RFC 8446 §5.1).
const RECORD: usize = 16 * 1_024;

/// A head that gets one octet now and then, or a hello that stops in its middle, or shortly before the end of
/// all that it may hold.
pub(super) async fn slowloris(striker: &mut Striker) -> io::Result<()> {
    match striker.number % 3 {
        0 => slow_head(striker).await,
        1 => {
            let hello = striker.mark.hello();
            half_hello(striker, &hello[..hello.len() / 2]).await
        }
        _ => half_hello(striker, &large_hello()).await,
    }
}

async fn slow_head(striker: &mut Striker) -> io::Result<()> {
    let mut stream = striker.mark.shake_one(None).await?;
    striker.connected();
    let head = format!("GET /public HTTP/1.1\r\nhost: {APP}\r\nx: ");
    stream.write_all(head.as_bytes()).await?;
    stream.flush().await?;
    while striker.pause(DRIP).await {
        stream.write_all(b"y").await?;
        stream.flush().await?;
        striker.acted(1);
    }
    wait_for_end(&mut stream).await
}

async fn half_hello(striker: &mut Striker, octets: &[u8]) -> io::Result<()> {
    let mut stream = striker.mark.connect(None, None).await?;
    striker.connected();
    stream.write_all(octets).await?;
    striker.acted(1);
    wait_for_end(&mut stream).await
}

/// A hello without its end, in records.
fn large_hello() -> Vec<u8> {
    const CLIENT_HELLO: u8 = 1;
    let mut hello = vec![CLIENT_HELLO];
    hello.extend(LARGE_HELLO);
    hello.resize(LARGE_HELLO_COMES, 0);
    let record = |piece: &[u8]| {
        let length = u16::try_from(piece.len()).unwrap().to_be_bytes();
        [&[0x16_u8, 3, 1][..], &length, piece].concat()
    };
    hello.chunks(RECORD).flat_map(record).collect()
}

async fn wait_for_end(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<()> {
    let mut unread = Vec::new();
    while stream.read_buf(&mut unread).await? > 0 {
        unread.clear();
    }
    Ok(())
}

/// An answer without end of which nothing is taken.
pub(super) async fn slow_read(striker: &mut Striker) -> io::Result<()> {
    if striker.number.is_multiple_of(SLOW_READERS_A_LINE) {
        // Nothing, or one octet of each.
        let window = u32::from(striker.number.is_multiple_of(2 * SLOW_READERS_A_LINE));
        return streams::starve(striker, window, &streams::plain(ENDLESS)).await;
    }
    let mut stream = striker.mark.shake_one(Some(SMALL_BUFFER)).await?;
    striker.connected();
    let head = format!("GET {ENDLESS} HTTP/1.1\r\nhost: {APP}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.flush().await?;
    striker.acted(1);
    if !striker.pause(GIVEN_UP).await {
        // Even that the edge has closed it is not read.
        std::future::pending::<()>().await;
    }
    Ok(())
}

/// Handshakes as fast as they can be had, from many addresses: the edge does its part, and is left with it.
pub(super) async fn handshakes(striker: &mut Striker) -> io::Result<()> {
    // The same for all: whoever attacks saves the trouble.
    let hello = striker.mark.hello();
    let mut address = u8::try_from(striker.number % 250).unwrap();
    let mut answer = Vec::new();
    while striker.is_on() {
        address = address % 250 + 1;
        let from = Ipv4Addr::new(127, 1, u8::try_from(striker.number % 250).unwrap(), address);
        let mut stream: TcpStream = striker.mark.connect(Some(from), None).await?;
        striker.connected();
        stream.write_all(&hello).await?;
        answer.clear();
        if stream.read_buf(&mut answer).await? > 0 {
            striker.acted(1);
        }
    }
    Ok(())
}
