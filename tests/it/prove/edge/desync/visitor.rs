//! Who puts a shape to the edge: in one piece or in many, first on a connection or later.

use std::time::Duration;

use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::corpus::{Form, Shape, is_over, octets};
use super::place::Place;
use super::strict::{Rest, find, read};
use crate::edge::client::{shake, tls};
use crate::edge::fixture::{APP, World};
use crate::prove::edge::wire::Raw;
use crate::prove::seed::Seed;

/// When nothing has come for so long, nothing will until we close our side.
const QUIET: Duration = Duration::from_millis(300);
/// When nothing has come for so long after that, the edge is stuck.
const PATIENCE: Duration = Duration::from_secs(10);
/// Octets of a shape that may go out one by one.
const CRUMBS: usize = 400;

/// How a shape of HTTP/1 is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    before: Before,
    pieces: Pieces,
    /// Whether its fields come in another order.
    is_shuffled: bool,
}

/// What its connection has carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nothing,
    /// A request that was answered.
    Answered,
    /// A request in the same piece.
    Pipelined,
}

#[derive(Clone, Copy, Debug)]
enum Pieces {
    One,
    Few,
    Octets,
}

impl Manner {
    /// As it is.
    pub(super) const PLAIN: Self = Self { before: Before::Nothing, pieces: Pieces::One, is_shuffled: false };

    /// Any.
    pub(super) fn of(seed: &mut Seed) -> Self {
        Self {
            before: *seed.one_of(&[Before::Nothing, Before::Answered, Before::Pipelined]),
            pieces: match seed.below(8) {
                0..2 => Pieces::One,
                2..7 => Pieces::Few,
                _ => Pieces::Octets,
            },
            is_shuffled: seed.below(3) == 0,
        }
    }
}

/// What came back.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) octets: Vec<u8>,
    /// Whether the edge closed the connection.
    pub(super) has_ended: bool,
    /// The targets that were asked for, if RFC 9112 leaves no doubt about them.
    pub(super) asked: Option<Vec<String>>,
}

/// Visitors without a certificate.
pub(super) struct Visitors<'a> {
    world: &'a World,
    one: ClientConfig,
    two: ClientConfig,
    kept: Option<Raw>,
}

impl<'a> Visitors<'a> {
    pub(super) fn of(world: &'a World) -> Self {
        let [one, two] = [&b"http/1.1"[..], b"h2"].map(|alpn| tls(world, None, &[alpn]));
        Self { world, one, two, kept: None }
    }

    /// Puts the shape there, and behind it a request that asks for the connection to be closed.
    pub(super) async fn put(
        &self,
        shape: &Shape,
        place: &Place<'_>,
        manner: Manner,
        seed: &mut Seed,
    ) -> Heard {
        let (path, smuggled) = (place.path("shape"), place.smuggled(seed.below(2) == 0));
        match &shape.form {
            Form::Octets(template) => {
                let mut shape = octets(template, &path, &smuggled);
                if manner.is_shuffled {
                    shuffle(&mut shape, seed);
                }
                self.say(&shape, place, manner, seed).await
            }
            Form::Frames(frames) => {
                let mut stream = self.connect(&self.two).await;
                let mut heard = Heard::default();
                send(&mut stream, &[&frames.octets(&path, &smuggled, &place.path("last"))]).await;
                heard.listen(&mut stream, QUIET, is_over).await;
                heard.end(&mut stream).await;
                heard
            }
        }
    }

    async fn say(&self, shape: &[u8], place: &Place<'_>, manner: Manner, seed: &mut Seed) -> Heard {
        let (first, last) = (place.get("first", ""), place.get("last", "Connection: close\r\n"));
        let mut stream = self.connect(&self.one).await;
        let mut heard = Heard::default();
        let mut all = if manner.before == Before::Nothing { Vec::new() } else { first.into_bytes() };
        let begin = if manner.before == Before::Answered { all.len() } else { 0 };
        if begin > 0 {
            let path = place.path("first");
            send(&mut stream, &[&all]).await;
            heard.listen(&mut stream, QUIET, |octets| find(octets, path.as_bytes()).is_some()).await;
        }
        all.extend(shape);
        all.extend(last.as_bytes());
        send(&mut stream, &pieces(&all[begin..], manner.pieces, seed)).await;
        heard.listen(&mut stream, QUIET, |_| false).await;
        heard.end(&mut stream).await;
        heard.asked = match read(&all) {
            (_, Rest::Fault(_)) => None,
            (messages, Rest::Body(target)) => {
                Some(messages.into_iter().map(|message| message.target).chain([target]).collect())
            }
            (messages, _) => Some(messages.into_iter().map(|message| message.target).collect()),
        };
        heard
    }

    /// Asks for something innocent, on a fresh connection or the one before; says what is wrong about the
    /// answer.
    pub(super) async fn ask(&mut self, place: &Place<'_>) -> Result<(), String> {
        let path = place.path("after");
        let mut line = match self.kept.take().filter(|_| !place.number.is_multiple_of(4)) {
            Some(line) => line,
            None => {
                let port = self.world.edge.https_addresses()[0].port();
                Raw::connect(port, APP, self.one.clone(), false).await.unwrap()
            }
        };
        let answer = line.ask(place.get("after", "").as_bytes()).await.map_err(|error| error.to_string())?;
        let body = String::from_utf8_lossy(&answer.body);
        if answer.status != 200 || !body.contains(&path) {
            return Err(format!("status {}, {:.200}", answer.status, body));
        }
        self.kept = Some(line).filter(|_| !answer.is_last);
        Ok(())
    }

    async fn connect(&self, tls: &ClientConfig) -> TlsStream<TcpStream> {
        let stream = shake(self.world, APP, tls.clone()).await.unwrap();
        stream.get_ref().0.set_nodelay(true).unwrap();
        stream
    }
}

impl Heard {
    /// Reads until it is enough, the edge closes, or nothing comes for `patience`.
    async fn listen(
        &mut self,
        stream: &mut TlsStream<TcpStream>,
        patience: Duration,
        is_enough: impl Fn(&[u8]) -> bool,
    ) {
        let mut buffer = vec![0; 4096];
        while !self.has_ended && !is_enough(&self.octets) {
            match timeout(patience, stream.read(&mut buffer)).await {
                Ok(Ok(octets @ 1..)) => self.octets.extend_from_slice(&buffer[..octets]),
                // However it ends: an edge that does not read the rest resets the connection.
                Ok(_) => self.has_ended = true,
                Err(_) => return,
            }
        }
    }

    /// Closes our side and waits for the other one.
    async fn end(&mut self, stream: &mut TlsStream<TcpStream>) {
        if !self.has_ended {
            let _ = stream.shutdown().await;
            self.listen(stream, PATIENCE, |_| false).await;
        }
    }
}

/// Sends piece by piece, as far as the edge takes them.
async fn send(stream: &mut TlsStream<TcpStream>, pieces: &[&[u8]]) {
    for piece in pieces {
        if stream.write_all(piece).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

fn pieces<'o>(octets: &'o [u8], pieces: Pieces, seed: &mut Seed) -> Vec<&'o [u8]> {
    let crumbs = octets.len().min(CRUMBS);
    let mut cuts: Vec<usize> = match pieces {
        Pieces::One => Vec::new(),
        Pieces::Few => (0..5).map(|_| seed.below(octets.len() as u64) as usize).collect(),
        Pieces::Octets => (1..crumbs).collect(),
    };
    cuts.sort_unstable();
    cuts.dedup();
    let begins = [0].into_iter().chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain([octets.len()]);
    begins.zip(ends).map(|(begin, end)| &octets[begin..end]).collect()
}

/// Another order of the lines behind the first, up to the first empty one.
fn shuffle(octets: &mut Vec<u8>, seed: &mut Seed) {
    let Some(end) = find(octets, b"\r\n\r\n") else { return };
    let head = octets[..end].to_vec();
    let mut lines: Vec<&[u8]> = Vec::new();
    let mut rest = &head[..];
    while let Some(at) = find(rest, b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    for at in (2..lines.len()).rev() {
        lines.swap(at, 1 + seed.below(at as u64) as usize);
    }
    octets.splice(..end, lines.join(&b"\r\n"[..]));
}

#[test]
fn pieces_and_another_order_lose_nothing() {
    let mut seed = Seed::of(3);
    let octets: Vec<u8> = (0..=255).cycle().take(600).collect();
    for kind in [Pieces::One, Pieces::Few, Pieces::Octets] {
        assert_eq!(pieces(&octets, kind, &mut seed).concat(), octets);
    }
    let mut head = b"GET / HTTP/1.1\r\na: b\r\nc: d\r\ne: f\r\n\r\nbody".to_vec();
    let before = head.clone();
    shuffle(&mut head, &mut seed);
    assert!(head.starts_with(b"GET / HTTP/1.1\r\n") && head.ends_with(b"\r\n\r\nbody"));
    head.sort_unstable();
    let mut sorted = before;
    sorted.sort_unstable();
    assert_eq!(head, sorted);
}
