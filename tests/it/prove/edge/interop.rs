//! Clients and servers of others come through the gate by mutual TLS, as they are: browsers and libraries, over
//! HTTP/1.1 and HTTP/2, gRPC and WebSockets; what backends are told is verified by a library that is not ours; and
//! load balancers tell us, and are told, who visits.

mod clients;
mod gate;
mod report;

use serde_json::{Value, json};

use self::clients::CLIENTS;
use self::gate::Gate;
use self::report::Report;
use crate::acme::staples::openssl_sees_a_staple;
use crate::edge::passthrough::we_pass_through_to_nginx;
use crate::edge::proxy_header::{haproxy_tells_us, we_tell_haproxy};
use crate::harness::peers;
use crate::prove::Proof;

/// Programs that have to be there. `httpx` stands for the Python that has all libraries.
const PROGRAMS: [&str; 10] =
    ["curl", "openssl", "java", "node", "httpx", "chromium", "certutil", "pk12util", "haproxy", "nginx"];
/// What the gRPC client looks at; see its script.
const CALLS: usize = 13;
/// Messages that come back over each WebSocket; see the scripts of those who open one.
const ECHOES: [(&str, u64); 2] = [("httpx", 6), ("Chromium", 3)];
/// One that nobody has to have.
const FIREFOX: &str = "firefox-esr";

/// Every client once. What backends are told is verified at once: it does not count for long.
fn visits(gate: &Gate, report: &mut Report) {
    for client in CLIENTS {
        report.client(gate, client.name, client.has_http2, (client.visit)(gate));
        assertions(gate, report);
    }
    match peers::find(FIREFOX) {
        Some(firefox) => report.client(gate, "Firefox", true, clients::firefox(gate, &firefox)),
        None => report.note("Firefox is not installed"),
    }
    for (name, echoes) in ECHOES {
        report.socket(gate, name, echoes);
    }
    assertions(gate, report);
}

/// gRPC: every kind of call, how calls fail and end, and who calls.
fn calls(gate: &Gate, report: &mut Report) {
    let told = match gate.ask_python("calls.py", &gate.wish) {
        Ok(told) => told,
        Err(error) => return report.see(false, || format!("gRPC: {error}")),
    };
    let list = |name: &str| told[name].as_array().cloned().unwrap_or_default();
    for _ in list("right") {
        report.see(true, String::new);
    }
    for wrong in list("wrong") {
        report.see(false, || format!("gRPC: {wrong}"));
    }
    let looked_at = list("right").len() + list("wrong").len();
    report.see(looked_at == CALLS, || format!("gRPC: {looked_at} of {CALLS} were looked at"));
    report.note(format!("{looked_at} things that gRPC does"));
    report.identity(gate, "gRPC", &told["seen"]);
}

/// What backends were told about the visitor, as a library of others reads it under the keys that are published.
fn assertions(gate: &Gate, report: &mut Report) {
    let tokens = report.take_assertions();
    let wish = json!({
        "assertions": tokens, "jwks": gate.jwks(), "issuer": gate.installation, "audience": gate.audience(),
    });
    let told = match gate.ask_python("assertion.py", &wish) {
        Ok(told) => told,
        Err(error) => return report.see(false, || format!("assertions: {error}")),
    };
    report.see(told["forged"] == json!([]), || format!("forged assertions passed: {}", told["forged"]));
    let claims = told["claims"].as_array().cloned().unwrap_or_default();
    let expected = tokens.len() * gate.jwks().len();
    report.see(claims.len() == expected, || format!("{} of {expected} assertions verified", claims.len()));
    for claims in &claims {
        report.see(is_about(gate, claims), || format!("an assertion says {claims}"));
    }
    report.note("assertions verified by PyJWT under both published sets of keys");
}

/// Whether the claims are those of the visitor, for a minute at most.
fn is_about(gate: &Gate, claims: &Value) -> bool {
    let seconds = claims["exp"].as_i64().zip(claims["iat"].as_i64()).map(|(exp, iat)| exp - iat);
    claims["sub"] == gate.person
        && claims["cnf"]["x5t#S256"] == gate.thumbprint
        && seconds.is_some_and(|seconds| (1..=60).contains(&seconds))
}

/// haproxy on either side, nginx behind what is passed through, and openssl that asks for a staple. They say
/// themselves what is wrong.
async fn others() -> u64 {
    for how in ["send-proxy", "send-proxy-v2"] {
        haproxy_tells_us(how).await;
    }
    we_tell_haproxy().await;
    we_pass_through_to_nginx().await;
    openssl_sees_a_staple().await;
    5
}

#[test]
fn interop() {
    let proof = Proof::of("interop");
    let is_there = PROGRAMS.iter().all(|program| peers::peer(program).is_some());
    if !is_there || !clients::has_playwright() {
        return;
    }
    let rounds = proof.size(1, 3);
    let gate = Gate::open();
    let mut report = Report::default();
    for round in 0..rounds {
        visits(&gate, &mut report);
        calls(&gate, &mut report);
        assertions(&gate, &mut report);
        proof.progress(round + 1, rounds);
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let beside = runtime.block_on(others());
    let measured = format!(
        "{}; haproxy before and behind, nginx passed through to, a staple seen by openssl",
        report.measured()
    );
    proof.end(report.looked_at + beside, report.is_clean(), &measured);
}
