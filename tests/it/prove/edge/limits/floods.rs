//! Too many handshakes, and too many connections: closed before anything is signed.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wicketgate::telemetry::metrics::{Handshake, Limit};

use super::{GREEDY, MODEST, Report, some, visit};
use crate::edge::client::{Http, PATIENCE, connect_from, dial, tls, until};
use crate::edge::fixture::{APP, World};
use crate::harness::log::Captured;

/// Handshakes a second; twice as many at once.
const A_SECOND: u32 = 20;
/// Sources that shake hands in turn.
const SOURCES: u64 = 250;

/// The first flight of a handshake.
fn hello(world: &World) -> Vec<u8> {
    let name = ServerName::try_from(APP).unwrap();
    let mut session = ClientConnection::new(Arc::new(tls(world, None, &[b"h2"])), name).unwrap();
    let mut hello = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut hello).unwrap();
    }
    hello
}

/// Octets that come back for a ClientHello, until somebody leaves: none, or what was signed and more.
async fn answer(to: SocketAddr, from: Ipv4Addr, hello: &[u8]) -> usize {
    let asking = async {
        let mut stream = dial(from, to).await?;
        stream.write_all(hello).await?;
        stream.read(&mut [0; 4_096]).await
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("an answer or an end").unwrap_or(0)
}

/// How many may have been let in by now.
fn allowed(since: Instant) -> u64 {
    u64::from(2 * A_SECOND) + (since.elapsed().as_secs_f64() * f64::from(A_SECOND)).ceil() as u64
}

/// Everybody together, from many sources.
pub(super) async fn handshakes(count: u64, report: &mut Report) {
    let world = World::with_settings(|settings| settings.limits.handshakes_per_second = some(A_SECOND)).await;
    let (to, hello) = (world.edge.https_addresses()[0], hello(&world));
    let since = Instant::now();
    let mut answered = 0;
    for number in 0..count {
        let source = Ipv4Addr::new(127, 0, 2, 1 + u8::try_from(number % SOURCES).unwrap());
        answered += u64::from(answer(to, source, &hello).await > 0);
    }
    let allowed = allowed(since);
    let limited = world.metrics.limited.value(Limit::Handshakes);
    report.see((1..=allowed).contains(&answered), || format!("{answered} answered, {allowed} allowed"));
    report
        .see(answered + limited == count, || format!("{answered} answered and {limited} closed of {count}"));
    // Nobody shakes hands to the end without somebody on the other side.
    let completed = world.metrics.handshakes.value(Handshake::Completed);
    report.see(completed == 0, || format!("{completed} completed"));
    // It is over when the flood is.
    let waiting = async { while connect_from(&world, MODEST, APP, None, Http::One).await.is_err() {} };
    report.see(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), || "no end after a flood".to_owned());
    report.notes.push(format!(
        "{count} ClientHellos: {answered} answered of {allowed} allowed, {limited} closed before a ServerHello"
    ));
}

/// One source, while another shakes hands.
pub(super) async fn handshakes_of_a_source(count: u64, report: &mut Report) {
    let world = World::with_settings(|settings| {
        settings.limits.handshakes_per_second_per_source = some(A_SECOND);
        settings.limits.handshakes_per_second = some(1_000_000);
    })
    .await;
    let since = Instant::now();
    let mut passed = 0;
    for _ in 0..count {
        passed += u64::from(connect_from(&world, GREEDY, APP, None, Http::Two).await.is_ok());
    }
    let allowed = allowed(since);
    let limited = world.metrics.limited.value(Limit::HandshakesSource);
    report.see((1..=allowed).contains(&passed), || format!("{passed} passed, {allowed} allowed"));
    report.see(passed + limited == count, || format!("{passed} passed and {limited} closed of {count}"));
    let completed = || world.metrics.handshakes.value(Handshake::Completed);
    until("all are counted", || completed() >= passed).await;
    report.see(completed() == passed, || format!("{} completed, {passed} seen", completed()));
    let status = visit(&world, MODEST, None, Http::Two).await.get(APP, "/public").await.status;
    report.see(status == 200, || format!("a neighbour of who shakes hands too often got {status}"));
    report.notes.push(format!(
        "{count} handshakes of one source: {} completed of {allowed} allowed, {limited} closed",
        completed() - 1
    ));
}

/// One source with too many connections, while another comes in.
pub(super) async fn connections_of_a_source(count: u64, report: &mut Report) {
    const MOST: u32 = 5;
    let log = Captured::start("off,wicketgate=warn");
    let world = World::with_settings(|settings| settings.limits.connections_per_source = some(MOST)).await;
    let since = Instant::now();
    let mut open = Vec::new();
    for _ in 0..count {
        open.extend(connect_from(&world, GREEDY, APP, None, Http::One).await);
    }
    let limited = || world.metrics.limited.value(Limit::ConnectionsSource);
    report.see(open.len() == MOST as usize, || format!("{} connections of {MOST}", open.len()));
    report.see(limited() == count - u64::from(MOST), || format!("{} closed of {count}", limited()));
    let status = visit(&world, MODEST, None, Http::Two).await.get(APP, "/public").await.status;
    report.see(status == 200, || format!("a neighbour of who has too many connections got {status}"));
    for visitor in &mut open {
        let status = visitor.get(APP, "/public").await.status;
        report.see(status == 200, || format!("one of the open connections got {status}"));
    }
    let said = || {
        let lines = log.saying("connections were closed at once");
        let of = |line: &serde_json::Value| line["connections_source"].as_u64().unwrap_or(0);
        (lines.len() as u64, lines.iter().map(of).sum::<u64>())
    };
    until("all of them are told", || said().1 == limited()).await;
    let (lines, _) = said();
    let most = since.elapsed().as_secs() + 2;
    report.see(lines <= most, || format!("{lines} lines in {most} seconds"));
    drop(open);
    let free = async { while connect_from(&world, GREEDY, APP, None, Http::One).await.is_err() {} };
    report.see(tokio::time::timeout(PATIENCE, free).await.is_ok(), || "no room after they left".to_owned());
    let plain = plain(&world, GREEDY, MOST).await;
    report.see(plain, || "plain connections are not counted".to_owned());
    report.notes.push(format!("{count} connections of one source: {MOST} open, {lines} lines"));
}

/// Whether plain connections count, too.
async fn plain(world: &World, from: Ipv4Addr, most: u32) -> bool {
    let to = world.edge.http_addresses()[0];
    let mut open: Vec<TcpStream> = Vec::new();
    let filling = async {
        // Each that is let in answers; the others end.
        loop {
            let Ok(mut stream) = dial(from, to).await else { return };
            let asked = stream.write_all(b"GET /pki/none HTTP/1.1\r\nhost: app.test\r\n\r\n").await;
            match (asked, stream.read(&mut [0; 4_096]).await) {
                (Ok(()), Ok(1..)) => open.push(stream),
                _ => return,
            }
        }
    };
    let ended = tokio::time::timeout(PATIENCE, filling).await.is_ok();
    ended && open.len() <= most as usize
}
