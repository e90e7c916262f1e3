//! Nobody holds a place for long by doing nothing, or all of them at once.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wicketgate::admin::{Patience, Stream};

use super::fixture::{App, Way};

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(60);
const PATIENT: Patience =
    Patience { head: LONG, idle: LONG, write: LONG, life: LONG, places_by_source: 1000 };
const WHOLE: &[u8] = b"GET /api/v1/installation HTTP/1.1\r\nHost: test\r\n\r\n";

/// Reads until the server closes; how it does does not matter, but that it does.
async fn is_closed(mut stream: impl Stream) -> Vec<u8> {
    let mut read = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut read)).await;
    let _ = end.expect("the server did not close the connection");
    read
}

/// Sends a request and reads the head of its answer.
async fn ask(stream: &mut (impl Stream + ?Sized)) -> bool {
    let mut some = [0; 12];
    stream.write_all(WHOLE).await.is_ok()
        && tokio::time::timeout(LONG, stream.read_exact(&mut some)).await.is_ok_and(|read| read.is_ok())
        && some == *b"HTTP/1.1 200"
}

#[tokio::test]
async fn half_a_head_and_silence_are_closed_at_door_and_console() {
    let app = App::patient(Patience { head: SHORT, ..PATIENT }).await;
    for way in [Way::Door, Way::Console, Way::Socket] {
        let mut half = app.connect(way).await;
        half.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
        let silent = app.connect(way).await;
        assert_eq!(is_closed(half).await, b"", "{way:?}");
        assert_eq!(is_closed(silent).await, b"", "{way:?}");
        app.get("/api/v1/installation").through(way).send().await.expect(200);
    }
    // The second head of a connection has its time as well.
    let mut second = app.connect(Way::Door).await;
    assert!(ask(&mut *second).await);
    second.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
    is_closed(second).await;
}

#[tokio::test]
async fn a_body_that_does_not_come_and_silence_after_an_answer_are_closed() {
    let app = App::patient(Patience { idle: SHORT, ..PATIENT }).await;
    let mut body = app.connect(Way::Door).await;
    let head = b"POST /api/v1/sessions HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n\
                 Content-Length: 100\r\n\r\n{";
    body.write_all(head).await.unwrap();
    is_closed(body).await;
    let mut answered = app.connect(Way::Console).await;
    assert!(ask(&mut *answered).await);
    is_closed(answered).await;
}

#[tokio::test]
async fn who_is_refused_while_sending_sends_to_the_end_and_learns_why() {
    refused_while_sending("api/v1/tokens", "application/json\r\nAuthorization: Bearer nobodys", b'}').await;
}

#[tokio::test]
async fn who_enrols_without_an_invitation_sends_to_the_end_and_learns_why() {
    refused_while_sending(".well-known/est/simpleenroll", "application/pkcs10", b'\n').await;
}

/// Sends the head, waits, sends the rest, and reads an answer that ends with `last`.
async fn refused_while_sending(path: &str, headers: &str, last: u8) {
    let app = App::patient(PATIENT).await;
    let mut sending = app.connect(Way::Door).await;
    let head = format!(
        "POST /{path} HTTP/1.1\r\nHost: test\r\nContent-Type: {headers}\r\nContent-Length: 10000\r\n\r\n"
    );
    sending.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    let early = tokio::time::timeout(SHORT, sending.read_exact(&mut answer)).await;
    assert!(early.is_err(), "it is answered while it is still sending");
    sending.write_all(&[b' '; 10_000]).await.unwrap();
    sending.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
    // The rest of the answer, and the connection is as good as before.
    let mut rest = vec![0; 4096];
    while !rest.ends_with(&[last]) {
        let read = sending.read(&mut rest).await.unwrap();
        rest.truncate(read);
        assert!(read > 0, "it closed");
        if !rest.ends_with(&[last]) {
            rest.resize(4096, 0);
        }
    }
    assert!(ask(&mut *sending).await);
}

#[tokio::test]
async fn a_reader_that_never_reads_is_closed() {
    let app = App::patient(Patience { write: SHORT, places_by_source: 1, ..PATIENT }).await;
    let mut deaf = app.knock("192.0.2.9").await;
    deaf.write_all(WHOLE).await.unwrap();
    // Its place is free again, though it never reads.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !ask(&mut app.knock("192.0.2.9").await).await {
        assert!(tokio::time::Instant::now() < deadline, "the place is never given back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(deaf);
}

#[tokio::test]
async fn no_connection_lives_for_ever() {
    let app = App::patient(Patience { life: SHORT, ..PATIENT }).await;
    let mut busy = app.connect(Way::Door).await;
    let asking = async {
        while busy.write_all(WHOLE).await.is_ok() {
            let mut some = [0; 4096];
            if !matches!(busy.read(&mut some).await, Ok(1..)) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), asking).await.expect("it lives too long");
}

#[tokio::test]
async fn one_source_cannot_take_every_place_at_the_door() {
    let app = App::patient(Patience { places_by_source: 2, ..PATIENT }).await;
    let held = (app.knock("2001:db8:1::1").await, app.knock("2001:db8:1::2").await);
    let mut third = app.knock("2001:db8:1::3").await;
    assert!(!ask(&mut third).await, "a /64 is one source");
    assert!(ask(&mut app.knock("2001:db8:2::1").await).await);
    drop(held.0);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !ask(&mut app.knock("2001:db8:1::4").await).await {
        assert!(tokio::time::Instant::now() < deadline, "the place is never given back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
