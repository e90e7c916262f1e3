//! What a client takes along from one connection opens nothing on the next that it would not open anew.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::HandshakeKind;
use wicketgate::clock::Clock;
use wicketgate::domain::{AuthorityKind, AuthorityState, Delta};

use crate::edge::client::{shake, tls};
use crate::edge::fixture::{APP, Authority, Device, OPEN, SIBLING, STRICT, World};
use crate::prove::{Proof, is_full};

/// What became of the certificate between the two connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Certificate {
    Valid,
    Revoked,
    Expired,
}

/// What became of its authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Generation {
    Same,
    /// There is a newer one that issues.
    New,
    /// And the old one is out of force.
    Archived,
}

/// What is taken along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    SessionId,
    Ticket12,
    Ticket13,
}

impl Kept {
    const ALL: [Self; 3] = [Self::SessionId, Self::Ticket12, Self::Ticket13];

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::SessionId => &["-tls1_2", "-no_ticket"],
            Self::Ticket12 => &["-tls1_2"],
            Self::Ticket13 => &["-tls1_3"],
        }
    }
}

/// What openssl saw.
#[derive(Debug)]
struct Seen {
    /// None when there was no answer.
    status: Option<u16>,
    is_resumed: bool,
    /// Whether the backend was told who called.
    is_known: bool,
}

/// A client certificate in files.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn of(device: &Device, folder: &Path) -> Self {
        let files = Self { certificate: folder.join("client.crt"), key: folder.join("client.key") };
        std::fs::write(&files.certificate, &device.chain[0]).unwrap();
        std::fs::write(&files.key, device.key.secret_der()).unwrap();
        files
    }
}

/// One visit by openssl: a handshake under `sni`, a request for `/` of `host`.
fn visit(
    port: u16,
    sni: Option<&str>,
    host: &str,
    kept: Kept,
    client: Option<&Files>,
    session: [&str; 2],
) -> Seen {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-ign_eof"]).args(kept.arguments());
    match sni {
        Some(name) => command.args(["-servername", name]),
        None => command.arg("-noservername"),
    };
    if let Some(files) = client {
        command.args(["-certform", "DER", "-cert"]).arg(&files.certificate);
        command.args(["-keyform", "DER", "-key"]).arg(&files.key);
    }
    command.args(session).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    // It may be gone already, refused.
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let _ = child.stdin.take().unwrap().write_all(request.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let status = text.find("HTTP/1.1 ").and_then(|at| text.get(at + 9..at + 12)?.parse().ok());
    Seen {
        status,
        is_resumed: text.contains("\nReused, "),
        is_known: text.contains("\"client-cert\"") || text.contains("\"wicketgate-assertion\""),
    }
}

/// What a new connection to `site` gets: the status, and whether the backend is told who calls.
fn anew(site: &str, shows: bool, certificate: Certificate, generation: Generation) -> (Option<u16>, bool) {
    let passes = shows && certificate == Certificate::Valid && generation != Generation::Archived;
    match site {
        OPEN => (Some(200), false),
        // Refused in the handshake.
        STRICT if !passes => (None, false),
        _ if passes => (Some(200), true),
        _ => (Some(403), false),
    }
}

async fn change(world: &World, device: &Device, certificate: Certificate, generation: Generation) {
    match certificate {
        Certificate::Valid => {}
        Certificate::Revoked => world.revoke(device).await,
        Certificate::Expired => world.clock.advance(Duration::from_secs(61)),
    }
    let ends = world.clock.now().plus(Duration::from_secs(10 * 365 * 86_400));
    if generation != Generation::Same {
        let new = Authority::new("issuing-g2", "Test Client Issuing G2");
        let state = match generation {
            Generation::Archived => AuthorityState::Archived,
            _ => AuthorityState::Retiring,
        };
        let old = world.authority.record(AuthorityKind::Issuing, state, ends);
        let new = new.record(AuthorityKind::Issuing, AuthorityState::Issuing, ends);
        world.apply(vec![Delta::Authority(old), Delta::Authority(new)]).await;
    }
}

/// Every pair of sites, everything that can be kept, with and without certificate and name.
async fn matrix(
    certificate: Certificate,
    generation: Generation,
    every: usize,
    wrong: &mut Vec<String>,
) -> (u64, u64) {
    let world = World::start().await;
    let lifetime = if certificate == Certificate::Expired { 60 } else { 3_600 };
    let device = world.enrol_for(world.anna.id, Duration::from_secs(lifetime)).await;
    let folder = tempfile::tempdir().unwrap();
    let files = Arc::new(Files::of(&device, folder.path()));
    let port = world.edge.https_addresses()[0].port();
    let session = |site: &str, kept: Kept| folder.path().join(format!("{site}-{kept:?}"));
    let firsts = [APP, STRICT, OPEN];
    for site in firsts {
        for kept in Kept::ALL {
            let (files, file) = (files.clone(), session(site, kept));
            let seen = tokio::task::spawn_blocking(move || {
                visit(port, Some(site), site, kept, Some(&files), ["-sess_out", file.to_str().unwrap()])
            });
            let seen = seen.await.unwrap();
            assert_eq!((seen.status, seen.is_resumed), (Some(200), false), "{site} {kept:?}");
            // Where a certificate can be asked for there is nothing that could be taken along.
            if gives_ticket(&session(site, kept)) != (site == OPEN && kept != Kept::SessionId) {
                wrong.push(format!("{site} {kept:?}: a ticket, or none"));
            }
        }
    }
    change(&world, &device, certificate, generation).await;
    let mut cases = Vec::new();
    for first in firsts {
        for second in [APP, SIBLING, STRICT, OPEN] {
            for kept in Kept::ALL {
                cases.extend(
                    [(true, true), (true, false), (false, true), (false, false)]
                        .map(|(named, shows)| (first, second, kept, named, shows)),
                );
            }
        }
    }
    let (mut looked_at, mut resumed) = (0, 0);
    for (first, second, kept, named, shows) in cases.into_iter().step_by(every) {
        let file = session(first, kept);
        // Without a session there is nothing to take along; what openssl has of TLS 1.2 it may still show.
        if !file.exists() {
            continue;
        }
        let files = files.clone();
        let seen = tokio::task::spawn_blocking(move || {
            let client = shows.then_some(&*files);
            visit(port, named.then_some(second), second, kept, client, ["-sess_in", file.to_str().unwrap()])
        });
        let seen = seen.await.unwrap();
        looked_at += 1;
        resumed += u64::from(seen.is_resumed);
        let expected = if named { anew(second, shows, certificate, generation) } else { (None, false) };
        // Where nobody is asked who they are, a session may go on.
        let may_resume = first == OPEN && second == OPEN && named;
        if (seen.status, seen.is_known) != expected || (seen.is_resumed && !may_resume) {
            let case = format!("{first} to {second}, {kept:?}, named {named}, shows {shows}");
            wrong.push(format!("{case}, {certificate:?}, {generation:?}: {seen:?} for {expected:?}"));
        }
    }
    (looked_at, resumed)
}

/// Whether openssl was given a ticket for the session in this file.
fn gives_ticket(file: &Path) -> bool {
    let shown =
        Command::new("openssl").args(["sess_id", "-noout", "-text", "-in"]).arg(file).output().unwrap();
    String::from_utf8_lossy(&shown.stdout).contains("TLS session ticket:")
}

/// rustls keeps what it is given by itself. Returns how many connections there were.
async fn by_rustls(wrong: &mut Vec<String>) -> u64 {
    let world = World::start().await;
    let device = world.enrol().await;
    let mut connections = 0;
    for site in [APP, SIBLING, STRICT, OPEN] {
        let config = tls(&world, Some(&device), &[b"http/1.1"]);
        for number in 0..4 {
            let mut stream = shake(&world, site, config.clone()).await.unwrap();
            // A ticket of TLS 1.3 comes behind the handshake.
            let request = format!("GET / HTTP/1.1\r\nhost: {site}\r\nconnection: close\r\n\r\n");
            tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
            let answer = crate::edge::client::read_all(&mut stream).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{site}: {answer}");
            let is_resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
            // The public site shows that this client does resume where it can.
            if is_resumed != (site == OPEN && number > 0) {
                wrong.push(format!("rustls at {site}, visit {number}: resumed {is_resumed}"));
            }
            connections += 1;
        }
    }
    connections
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resumption_matrix() {
    let proof = Proof::of("resumption_matrix");
    let (mut wrong, mut cases, mut resumed) = (Vec::new(), 0, 0);
    let certificates = [Certificate::Valid, Certificate::Revoked, Certificate::Expired];
    let generations = [Generation::Same, Generation::New, Generation::Archived];
    for (number, certificate) in certificates.into_iter().enumerate() {
        for generation in generations {
            // One row and a part of it where there is little time.
            if is_full() || generation == generations[number] {
                let every = if is_full() { 1 } else { 5 };
                let (more, again) = matrix(certificate, generation, every, &mut wrong).await;
                (cases, resumed) = (cases + more, resumed + again);
            }
        }
    }
    let by_rustls = by_rustls(&mut wrong).await;
    let measured = format!(
        "{cases} second connections by openssl ({resumed} resumed, where nobody is asked who they are), {by_rustls} \
         by rustls: {} not as a new one{}",
        wrong.len(),
        wrong.iter().take(3).map(|case| format!("; {case}")).collect::<String>()
    );
    proof.end(cases + by_rustls, wrong.is_empty() && resumed > 0, &measured);
}
