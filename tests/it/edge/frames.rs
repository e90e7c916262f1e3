//! Over HTTP/2, nobody may keep the edge waiting for the end of what has begun, or busy with frames that no
//! traffic accounts for; and whoever only does what clients do is left alone.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::Method;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use wicketgate::telemetry::metrics::Breach;

use super::client::{Body, Http, PATIENCE, connect, read_all, shake, tls, until};
use super::fixture::{APP, World};
use super::line::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GET, GOAWAY, HEADERS, Line, PING, POST, PRIORITY,
    RST_STREAM, SETTINGS, UNKNOWN, WINDOW_UPDATE, endless, frame, head,
};
use super::upstream::{LARGE, MEDIUM};

const SHORT: Duration = Duration::from_millis(200);
const WINDOW: u32 = 65_535;
/// `CANCEL`.
const CANCEL: [u8; 4] = [0, 0, 0, 8];

async fn line(world: &World, window: u32) -> Line {
    let stream = shake(world, APP, tls(world, None, &[b"h2"])).await.unwrap();
    let mut line = Line::open(stream, window).await.unwrap();
    line.round_trip().await.unwrap();
    line
}

/// Whether a GOAWAY came before the end, sending this whenever nothing came for a moment.
async fn ends(mut line: Line, drop: &[u8]) -> bool {
    let mut was_told = false;
    let ending = async {
        loop {
            match timeout(SHORT / 20, line.hear()).await {
                Ok(Ok(heard)) => was_told |= heard.kind == GOAWAY,
                Ok(Err(_)) => return,
                Err(_nothing) => {
                    if line.send(drop).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    timeout(PATIENCE, ending).await.expect("an end within patience");
    was_told
}

#[tokio::test]
async fn what_has_begun_has_to_end_in_time() {
    let world = World::with_settings(|settings| settings.header_timeout = SHORT).await;
    let slow_heads = || world.metrics.breaches.value(Breach::SlowHead);
    let mut idle = line(&world, WINDOW).await;
    let mut ended = 0;
    for preface in [&b""[..], b"PRI * HTTP/2.0\r\n"] {
        let mut stream = shake(&world, APP, tls(&world, None, &[b"h2"])).await.unwrap();
        stream.write_all(preface).await.unwrap();
        read_all(&mut stream).await;
        ended += 1;
        until("it is counted", || slow_heads() == ended).await;
    }
    let block = [head(GET, "/public"), endless()].concat();
    let open_block = frame(HEADERS, END_STREAM, 1, &block);
    let large = frame(HEADERS, END_STREAM | END_HEADERS, 1, &[b'y'; 10_000]);
    for (beginning, drop) in [
        (&large[..5], &b""[..]),
        (&large[..9], &b""[..]),
        // One octet after the other.
        (&large[..10], &b"y"[..]),
        (&open_block[..], &b""[..]),
        (&frame(PING, 0, 0, &[0; 8])[..10], &b""[..]),
    ] {
        let mut slow = line(&world, WINDOW).await;
        // What is in flight beside it changes nothing.
        slow.stream();
        let beside = slow.stream();
        let silent = frame(HEADERS, END_HEADERS | END_STREAM, beside, &head(GET, "/public/silent"));
        slow.send(&silent).await.unwrap();
        slow.send(beginning).await.unwrap();
        ends(slow, drop).await;
        ended += 1;
        until("it is counted", || slow_heads() == ended).await;
    }
    // A piece of a block starts no new wait for its end.
    let mut slow = line(&world, WINDOW).await;
    slow.send(&open_block).await.unwrap();
    for _ in 0..3 {
        slow.send(&frame(CONTINUATION, 0, 1, b"y")).await.unwrap();
    }
    ends(slow, b"").await;
    until("it is counted", || slow_heads() == ended + 1).await;
    idle.round_trip().await.expect("who has begun nothing goes on");
}

#[tokio::test]
async fn frames_without_end_end_their_connection() {
    let world = World::start().await;
    let kinds = [
        frame(SETTINGS, 0, 0, &[]),
        frame(PING, 0, 0, &[0xff; 8]),
        frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16]),
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        frame(UNKNOWN, 0, 0, b"unknown"),
    ];
    for (number, kind) in kinds.iter().enumerate() {
        let mut flood = line(&world, WINDOW).await;
        let (mut rounds, all) = (0, kind.repeat(50));
        while flood.send(&all).await.is_ok() && timeout(PATIENCE, flood.round_trip()).await.unwrap().is_ok() {
            rounds += 1;
            assert!(rounds < 200, "{number}: there is no end");
        }
        assert!(rounds > 10, "{number}: that was not much");
        let count = || world.metrics.breaches.value(Breach::TooManyFrames);
        until("it is counted", || count() == number as u64 + 1).await;
    }
}

#[tokio::test]
async fn whoever_takes_requests_back_has_nothing_done_and_is_ended() {
    let world = World::start().await;
    let mut reset = line(&world, WINDOW).await;
    let block = head(GET, "/public");
    let mut rounds = 0;
    loop {
        // Fewer than h2 itself minds.
        let both = (0..10).flat_map(|_| {
            let stream = reset.stream();
            let request = frame(HEADERS, END_HEADERS | END_STREAM, stream, &block);
            [request, frame(RST_STREAM, 0, stream, &CANCEL)].concat()
        });
        let both: Vec<u8> = both.collect();
        if reset.send(&both).await.is_err() || timeout(PATIENCE, reset.round_trip()).await.unwrap().is_err() {
            break;
        }
        rounds += 1;
        assert!(rounds < 200, "there is no end");
    }
    until("it is counted", || world.metrics.breaches.value(Breach::TooManyFrames) == 1).await;
    assert_eq!(world.backend.requests(), 0);
}

#[tokio::test]
async fn ten_thousand_requests_with_what_browsers_send_along_are_answered() {
    const AT_ONCE: usize = 50;
    let world = World::with(|_| {}, |data| data.routes.retain(|route| route.path_prefix != "/")).await;
    let mut busy = line(&world, WINDOW).await;
    // Answered by the edge itself.
    let block = head(GET, "/nowhere");
    for _ in 0..10_000 / AT_ONCE {
        let requests = (0..AT_ONCE).flat_map(|_| {
            let stream = busy.stream();
            [
                frame(HEADERS, END_HEADERS | END_STREAM, stream, &block),
                frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0x40, 0]),
                frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 16]),
                frame(UNKNOWN, 0, 0, b"u=1"),
            ]
            .concat()
        });
        let requests: Vec<u8> = requests.collect();
        busy.send(&requests).await.unwrap();
        let (mut left, mut taken) = (AT_ONCE, 0_u32);
        while left > 0 {
            let heard = timeout(PATIENCE, busy.hear()).await.unwrap().unwrap();
            assert!(![RST_STREAM, GOAWAY].contains(&heard.kind), "stream {}", heard.stream);
            if heard.kind == DATA {
                taken += u32::try_from(heard.content.len()).unwrap();
            }
            left -= usize::from(matches!(heard.kind, DATA | HEADERS) && heard.flags & END_STREAM != 0);
        }
        busy.send(&frame(WINDOW_UPDATE, 0, 0, &taken.to_be_bytes())).await.unwrap();
        busy.round_trip().await.unwrap();
    }
}

#[tokio::test]
async fn large_bodies_come_with_as_many_windows_as_clients_like() {
    let world = World::start().await;
    let mut download = line(&world, WINDOW).await;
    let request = download.requests(1, &head(GET, "/public/large"));
    download.send(&request).await.unwrap();
    let mut taken = 0;
    loop {
        let heard = timeout(PATIENCE, download.hear()).await.unwrap().unwrap();
        assert!(![RST_STREAM, GOAWAY].contains(&heard.kind), "after {taken} octets");
        if heard.kind != DATA {
            continue;
        }
        taken += heard.content.len();
        if heard.flags & END_STREAM != 0 {
            break;
        }
        // Each 4 KiB, for the stream and for the connection, and a PING to measure with.
        let updates = heard.content.chunks(4 * 1_024).flat_map(|piece| {
            let octets = u32::try_from(piece.len()).unwrap().to_be_bytes();
            [frame(WINDOW_UPDATE, 0, 1, &octets), frame(WINDOW_UPDATE, 0, 0, &octets)].concat()
        });
        let updates: Vec<u8> = updates.chain(frame(PING, 0, 0, &[0xff; 8])).collect();
        download.send(&updates).await.unwrap();
    }
    assert_eq!(taken, LARGE);
    let mut visitor = connect(&world, APP, None, Http::Two).await;
    let body: Body = Full::new(Bytes::from(vec![b'x'; LARGE])).map_err(|never| match never {}).boxed();
    let request = visitor.request(Method::POST, APP, "/public").map(|_| body);
    assert_eq!(visitor.ask(request).await.json()["body"], LARGE);
}

#[tokio::test]
async fn small_answers_come_with_as_many_windows_as_clients_like() {
    let world = World::start().await;
    let mut downloads = line(&world, 1 << 20).await;
    // Each whole answer goes out at once.
    downloads.send(&frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 24).to_be_bytes())).await.unwrap();
    let block = head(GET, "/public/medium");
    for number in 0..400 {
        let request = downloads.requests(1, &block);
        downloads.send(&request).await.unwrap();
        let (mut taken, mut is_over) = (0, false);
        while !is_over {
            let heard = timeout(PATIENCE, downloads.hear()).await.unwrap().unwrap();
            assert!(![RST_STREAM, GOAWAY].contains(&heard.kind), "{number}");
            if heard.kind != DATA {
                continue;
            }
            taken += heard.content.len();
            is_over = heard.flags & END_STREAM != 0;
            // Each 4 KiB, for the stream and for the connection.
            let updates = heard.content.chunks(4 * 1_024).flat_map(|piece| {
                let octets = u32::try_from(piece.len()).unwrap().to_be_bytes();
                [frame(WINDOW_UPDATE, 0, heard.stream, &octets), frame(WINDOW_UPDATE, 0, 0, &octets)].concat()
            });
            let updates: Vec<u8> = updates.collect();
            downloads.send(&updates).await.unwrap();
        }
        assert_eq!(taken, MEDIUM, "{number}");
    }
    downloads.round_trip().await.unwrap();
    assert_eq!(world.metrics.breaches.value(Breach::TooManyFrames), 0);
}

/// Octets that drip, 200 of them a second.
fn drops() -> impl Stream<Item = Result<Frame<Bytes>, hyper::Error>> {
    stream::repeat(Bytes::from_static(b"drip")).then(|drop| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(Frame::data(drop))
    })
}

fn dripping(drops: impl Stream<Item = Result<Frame<Bytes>, hyper::Error>> + Send + Sync + 'static) -> Body {
    BodyExt::boxed(StreamBody::new(drops))
}

#[tokio::test]
async fn an_upload_that_drips_gets_408_unless_there_is_no_rate_or_its_answer_has_begun() {
    let with_rate = |min_rate| {
        World::with_settings(move |settings| {
            settings.body_timeout = 2 * SHORT;
            settings.min_rate = min_rate;
        })
    };
    let (measured, free) = (with_rate(Some(10_000)).await, with_rate(None).await);
    for http in [Http::One, Http::Two] {
        let mut visitor = connect(&measured, APP, None, http).await;
        let request = visitor.request(Method::POST, APP, "/public").map(|_| dripping(drops()));
        let answer = visitor.ask(request).await;
        assert_eq!((answer.status, answer.code().as_str()), (408, "request_timeout"), "{http:?}");
        // As long as two windows.
        let mut visitor = connect(&free, APP, None, http).await;
        let request = visitor.request(Method::POST, APP, "/public").map(|_| dripping(drops().take(40)));
        assert_eq!(visitor.ask(request).await.json()["body"], 160, "{http:?}");
    }
    // Both speak at the same time, as streams do.
    let mut visitor = connect(&measured, APP, None, Http::Two).await;
    let request = visitor.request(Method::POST, APP, "/public/drip").map(|_| dripping(drops()));
    let mut answer = visitor.send(request).await.unwrap().into_body();
    for number in 0..60 {
        let piece = timeout(PATIENCE, answer.frame()).await.unwrap();
        assert!(piece.is_some_and(|piece| piece.is_ok()), "{number}");
    }
}

#[tokio::test]
async fn an_answer_that_is_taken_octet_by_octet_is_broken_off() {
    let world = World::with_settings(|settings| settings.body_timeout = 2 * SHORT).await;
    let mut slow = line(&world, 1).await;
    let request = slow.requests(1, &head(GET, "/public/large"));
    slow.send(&request).await.unwrap();
    let ending = async {
        loop {
            match timeout(SHORT / 20, slow.hear()).await {
                Ok(heard) if heard.as_ref().unwrap().kind == RST_STREAM => return,
                Ok(_) => {}
                Err(_nothing) => slow.send(&frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])).await.unwrap(),
            }
        }
    };
    timeout(PATIENCE, ending).await.expect("an end within patience");
    until("nothing is in flight", || world.metrics.http.active.value() == 0).await;
    slow.round_trip().await.expect("the connection goes on");
}

#[tokio::test]
async fn a_frame_of_an_upload_has_the_time_of_a_body() {
    let world = World::with_settings(|settings| {
        settings.header_timeout = SHORT;
        settings.body_timeout = 10 * SHORT;
    })
    .await;
    let mut upload = line(&world, WINDOW).await;
    let stream = upload.stream();
    let data = frame(DATA, END_STREAM, stream, &[b'x'; 100]);
    let request = frame(HEADERS, END_HEADERS, stream, &head(POST, "/public"));
    upload.send(&[&request[..], &data[..20]].concat()).await.unwrap();
    // By then, a head would have been too late.
    let late = line(&world, WINDOW).await;
    ends_with_half_a_head(late).await;
    upload.send(&data[20..]).await.unwrap();
    loop {
        let heard = timeout(PATIENCE, upload.hear()).await.unwrap().unwrap();
        assert!(![RST_STREAM, GOAWAY].contains(&heard.kind));
        if heard.stream == stream && heard.flags & END_STREAM != 0 && heard.kind == DATA {
            return;
        }
    }
}

#[tokio::test]
async fn a_frame_of_an_upload_that_drips_ends_its_connection() {
    let world = World::with_settings(|settings| settings.body_timeout = SHORT).await;
    let mut upload = line(&world, WINDOW).await;
    let stream = upload.stream();
    let data = frame(DATA, END_STREAM, stream, &[b'x'; 10_000]);
    let request = frame(HEADERS, END_HEADERS, stream, &head(POST, "/public"));
    upload.send(&[&request[..], &data[..20]].concat()).await.unwrap();
    ends(upload, b"x").await;
    until("it is counted", || world.metrics.breaches.value(Breach::SlowBody) == 1).await;
    assert_eq!(world.metrics.breaches.value(Breach::SlowHead), 0);
}

async fn ends_with_half_a_head(mut line: Line) {
    line.send(&frame(PING, 0, 0, &[0; 8])[..12]).await.unwrap();
    assert!(ends(line, b"").await, "a GOAWAY comes first");
}
