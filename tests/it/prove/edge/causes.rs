//! Why somebody was not let in is told apart: in the log, in the metrics, on the page.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use rcgen::{ExtendedKeyUsagePurpose, KeyPair};
use rustls::ClientConfig;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use wicketgate::clock::Clock;
use wicketgate::domain::{AuthorityKind, AuthorityState, Delta, PersonId, PersonRecord, Serial};
use wicketgate::telemetry::metrics::{ClientAuthResult, Handshake};

use crate::edge::client::{Http, connect, shake, tls, until};
use crate::edge::fixture::{APP, Authority, Device, Random, STRICT, World};
use crate::harness::log::Captured;
use crate::prove::Proof;

const YEAR: Duration = Duration::from_secs(365 * 86_400);
const HOUR: Duration = Duration::from_secs(3_600);

/// A visitor with a certificate that does not pass.
struct Case {
    cause: &'static str,
    code: &'static str,
    label: ClientAuthResult,
    device: Device,
    /// Whether the issuer is one of ours.
    is_ours: bool,
}

/// One for every fault that a readable certificate may have.
async fn cases(world: &World) -> Vec<Case> {
    let leaf = |authority: &Authority| authority.client_leaf(Serial::random(&Random));
    let expired = world.enrol_for(world.anna.id, Duration::from_secs(30)).await;

    let early = leaf(&world.authority);
    let mut record = world.record_of(&early, YEAR);
    (record.person, record.not_before) = (world.anna.id, world.clock.now().plus(HOUR));
    let mut deltas = vec![Delta::Certificate(record)];

    let revoked = world.enrol().await;
    world.revoke(&revoked).await;

    let ben = PersonRecord { id: PersonId::new(), disabled: true, ..world.anna.clone() };
    let disabled = leaf(&world.authority);
    let mut record = world.record_of(&disabled, YEAR);
    record.person = ben.id;
    deltas.extend([Delta::Person(ben), Delta::Certificate(record)]);

    let old = Authority::new("issuing-g0", "Test Client Issuing G0");
    let ends = world.clock.now().plus(YEAR);
    deltas.push(Delta::Authority(old.record(AuthorityKind::Issuing, AuthorityState::Archived, ends)));
    let retired = leaf(&old);
    let mut record = world.record_of(&retired, YEAR);
    (record.person, record.authority) = (world.anna.id, old.name.clone());
    deltas.push(Delta::Certificate(record));
    world.apply(deltas).await;
    world.clock.advance(Duration::from_secs(31));
    world.apply(Vec::new()).await;

    let usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server = world.local_server.leaf(Serial::random(&Random), usages, &["x.test"]);
    let same_name = Authority::new("issuing-g1", "Test Client Issuing G1");
    let stranger = Authority::new("other", "Somebody Else");
    let case = |cause, code, label, device, is_ours| Case { cause, code, label, device, is_ours };
    let untrusted = "certificate_untrusted";
    vec![
        case("expired", "certificate_expired", ClientAuthResult::Expired, expired, true),
        case("not_yet_valid", untrusted, ClientAuthResult::NotYetValid, early, true),
        case("revoked", "certificate_revoked", ClientAuthResult::Revoked, revoked, true),
        case("person_disabled", "access_denied", ClientAuthResult::PersonDisabled, disabled, true),
        case("authority_retired", untrusted, ClientAuthResult::AuthorityRetired, retired, true),
        case("not_on_record", untrusted, ClientAuthResult::NotOnRecord, leaf(&world.authority), true),
        case("wrong_eku", untrusted, ClientAuthResult::WrongEku, server, true),
        case("bad_signature", untrusted, ClientAuthResult::BadSignature, leaf(&same_name), true),
        case("unknown_authority", untrusted, ClientAuthResult::UnknownAuthority, leaf(&stranger), false),
    ]
}

/// The lines of this cause at this site.
fn logged(log: &Captured, target: &str, host: &str, cause: &str) -> Vec<Value> {
    let is_it = |line: &Value| line["target"] == target && line["host"] == host && line["cause"] == cause;
    log.lines().into_iter().filter(is_it).collect()
}

/// What is not as it should be about the log lines of a refused certificate.
fn fault_of_log(log: &Captured, host: &str, case: &Case) -> Option<String> {
    let lines = logged(log, "handshake", host, case.cause);
    let [line] = &lines[..] else { return Some(format!("{} lines", lines.len())) };
    let issuer = line["issuer"].as_str().unwrap_or_default();
    let names_issuer = if case.is_ours { !issuer.contains(':') } else { issuer.starts_with("sha256:") };
    let is_whole = line["serial"] == case.device.serial.to_string()
        && line["peer"] == "127.0.0.1"
        && !issuer.is_empty()
        && names_issuer;
    (!is_whole).then(|| line.to_string())
}

/// Where requests are told: page, document, one log line, one count.
async fn at_a_site_that_asks(world: &World, log: &Captured, case: &Case) -> Option<String> {
    let before = world.metrics.client_auth.value(case.label);
    let mut visitor = connect(world, APP, Some(&case.device), Http::Two).await;
    let answer = visitor.get(APP, "/").await;
    let told = answer.json();
    if answer.status != 403 || told["code"] != case.code || told["detail"] != case.cause {
        return Some(format!("{} {told}", answer.status));
    }
    if world.metrics.client_auth.value(case.label) != before + 1 {
        return Some("not counted once".to_owned());
    }
    if logged(log, "access", APP, case.cause).len() != 1 {
        return Some("not in the access log".to_owned());
    }
    let mut visitor = connect(world, APP, Some(&case.device), Http::One).await;
    let mut request = visitor.request(Method::GET, APP, "/");
    request.headers_mut().insert("accept", "text/html".parse().unwrap());
    let page = visitor.ask(request).await;
    let page = String::from_utf8_lossy(&page.body).into_owned();
    let tells = page.contains(&format!("<dd>{}</dd>", case.cause))
        && page.contains(&format!("<dd>{}</dd>", case.code))
        && page.contains(&format!("<dd>{}</dd>", case.device.serial));
    if !tells {
        return Some(format!("the page says {page}"));
    }
    // Two connections by now.
    match logged(log, "handshake", APP, case.cause).len() {
        2 => None,
        lines => Some(format!("{lines} lines for two connections")),
    }
}

/// Where the handshake refuses.
async fn at_a_strict_site(world: &World, log: &Captured, case: &Case) -> Option<String> {
    let counts =
        || (world.metrics.client_auth.value(case.label), world.metrics.handshakes.value(Handshake::Refused));
    let before = counts();
    fails(world, STRICT, tls(world, Some(&case.device), &[b"h2"])).await;
    until("it is counted", || counts().1 > before.1).await;
    if counts() != (before.0 + 1, before.1 + 1) {
        return Some("not counted once".to_owned());
    }
    until("it is logged", || !logged(log, "handshake", STRICT, case.cause).is_empty()).await;
    fault_of_log(log, STRICT, case)
}

/// A handshake that comes to nothing; in TLS 1.3 the client learns so with its first reading.
async fn fails(world: &World, host: &str, config: ClientConfig) {
    if let Ok(mut stream) = shake(world, host, config).await {
        let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
        let read = tokio::io::AsyncReadExt::read(&mut stream, &mut [0]).await;
        assert!(read.is_err(), "{host}: it went on");
    }
}

/// Shows a certificate whose key it does not have.
#[derive(Debug)]
struct Pretender(Arc<CertifiedKey>);

impl ResolvesClientCert for Pretender {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Handshakes that fail for other reasons than the certificate. Returns what was not told apart.
async fn other_failures(world: &World, log: &Captured) -> (u64, Vec<String>) {
    let device = world.enrol().await;
    let port = world.edge.https_addresses()[0];
    let (mut looked_at, mut wrong) = (0, Vec::new());
    let plain = tls(world, None, &[b"h2"]);
    let mut pretends = plain.clone();
    let key = PrivateKeyDer::Pkcs8(KeyPair::generate().unwrap().serialize_der().into());
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let pretender = Pretender(Arc::new(CertifiedKey::new(device.chain.clone(), key)));
    pretends.client_auth_cert_resolver = Arc::new(pretender);
    let mut unnamed = plain.clone();
    unnamed.enable_sni = false;
    let mut many = Device { chain: vec![device.chain[0].clone(); 6], ..device.clone() };
    many.serial = device.serial;
    let many = tls(world, Some(&many), &[b"h2"]);
    for (label, cause, host, config) in [
        (Handshake::NoCertificate, "no_certificate", STRICT, plain.clone()),
        (Handshake::BadProof, "bad_proof", APP, pretends),
        (Handshake::NoServerName, "no_server_name", "", unnamed),
        (Handshake::UnknownServerName, "unknown_server_name", "nowhere.test", plain),
        (Handshake::Refused, "unreadable", APP, many),
    ] {
        let before = world.metrics.handshakes.value(label);
        fails(world, if host.is_empty() { APP } else { host }, config).await;
        until(cause, || world.metrics.handshakes.value(label) == before + 1).await;
        until(cause, || logged(log, "handshake", host, cause).len() == 1).await;
        looked_at += 1;
    }
    // Not TLS, half of it, and nothing at all.
    for (label, cause, octets, leaves) in [
        (Handshake::Protocol, "protocol", &b"GET / HTTP/1.1\r\nhost: app.test\r\n\r\n"[..], false),
        (Handshake::Closed, "closed", &b"\x16\x03\x01\x02\x00\x01"[..], true),
        (Handshake::TimedOut, "timed_out", &b""[..], false),
    ] {
        let before = world.metrics.handshakes.value(label);
        let mut stream = TcpStream::connect(port).await.unwrap();
        stream.write_all(octets).await.unwrap();
        let stream = (!leaves).then_some(stream);
        until(cause, || world.metrics.handshakes.value(label) == before + 1).await;
        until(cause, || logged(log, "handshake", "", cause).len() == 1).await;
        drop(stream);
        looked_at += 1;
    }
    // An address in a path, however it is written, is none in the log.
    for path in ["/of/zoe%40example.test", "/of/zoe%2540example.test", "/of/zoe@example.test"] {
        let answer = connect(world, APP, Some(&device), Http::One).await.get(APP, path).await;
        let lines: Vec<_> = log.lines().iter().map(Value::to_string).collect();
        let logged = lines.iter().any(|line| line.contains("request") && line.contains("redacted"));
        if answer.status != 200 || !logged || lines.iter().any(|line| line.contains("example.test")) {
            wrong.push(format!("{path}: {} {:?}", answer.status, lines.last()));
        }
        looked_at += 1;
    }
    // Known, and not among those who may; and nobody at all.
    for (device, path, code, cause) in
        [(Some(&device), "/board", "access_denied", "policy"), (None, "/", "certificate_required", "none")]
    {
        let answer = connect(world, APP, device, Http::Two).await.get(APP, path).await;
        if (answer.status, &*answer.code()) != (403, code) || logged(log, "access", APP, cause).len() != 1 {
            wrong.push(format!("{cause}: {} {}", answer.status, answer.code()));
        }
        looked_at += 1;
    }
    (looked_at, wrong)
}

/// On one thread, whose listener the edge's threads have, too.
#[tokio::test]
async fn causes() {
    let proof = Proof::of("causes");
    let log = Captured::start("off,handshake=info,access=info");
    let world = World::with_settings(|settings| settings.handshake_timeout = Duration::from_secs(1)).await;
    let (mut looked_at, mut wrong) = (0, Vec::new());
    for case in cases(&world).await {
        let at_app = at_a_site_that_asks(&world, &log, &case).await;
        let at_strict = at_a_strict_site(&world, &log, &case).await;
        wrong.extend(at_app.map(|fault| format!("{} where requests are told: {fault}", case.cause)));
        wrong.extend(at_strict.map(|fault| format!("{} in the handshake: {fault}", case.cause)));
        looked_at += 2;
    }
    let (others, more) = other_failures(&world, &log).await;
    looked_at += others;
    wrong.extend(more);
    let measured = format!(
        "{looked_at} ways not to be let in, {} not told apart{}",
        wrong.len(),
        wrong.iter().take(3).map(|fault| format!("; {fault}")).collect::<String>()
    );
    proof.end(looked_at, wrong.is_empty(), &measured);
}
