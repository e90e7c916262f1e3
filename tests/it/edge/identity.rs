//! What backends are told, and what no visitor can tell them.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::Value;
use wicketgate::clock::Clock;
use wicketgate::domain::Delta;

use super::client::{Answer, Http, connect};
use super::fixture::{APP, World};

const SPELLINGS: [&str; 25] = [
    "client-cert",
    "client_cert",
    "Client-Cert",
    "CLIENT-CERT",
    "CLIENT_CERT",
    "client.cert",
    "client-cert-chain",
    "Client_Cert_Chain",
    "wicketgate-assertion",
    "WICKETGATE_ASSERTION",
    "x-webauth-user",
    "X-WEBAUTH-USER",
    "x_webauth_user",
    "X-WebAuth_User",
    "x-forwarded-for",
    "X_Forwarded_For",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-prefix",
    "x-real-ip",
    "X_REAL_IP",
    "True-Client-IP",
    "x_client_ip",
    "CF-Connecting-IP",
    "forwarded",
];

/// A header name as a backend behind CGI would see it.
fn folded(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}

fn assert_clean(answer: &Answer, what: &str) {
    assert_eq!(answer.status, 200, "{what}");
    let seen = answer.json();
    let lines = seen["headers"].as_array().unwrap().iter().chain(seen["trailers"].as_array().unwrap());
    for line in lines {
        assert!(!line[1].as_str().unwrap().contains("forged"), "{what}: {line} reached the backend");
    }
    // Ours are there once, in one spelling.
    for name in SPELLINGS {
        let count = seen["headers"].as_array().unwrap().iter();
        let count = count.filter(|line| folded(line[0].as_str().unwrap()) == folded(name)).count();
        assert!(count <= 1, "{what}: {name} is there {count} times");
    }
}

#[tokio::test]
async fn forged_identity_fields_never_reach_a_backend() {
    let world = World::start().await;
    let device = world.enrol().await;
    for http in [Http::One, Http::Two] {
        for (who, path) in [(None, "/public"), (Some(&device), "/public"), (Some(&device), "/grafana")] {
            let mut visitor = connect(&world, APP, who, http).await;
            for name in SPELLINGS {
                let mut request = visitor.request(Method::GET, APP, path);
                let name: http::HeaderName = name.parse().unwrap();
                request.headers_mut().append(name.clone(), "forged".parse().unwrap());
                request.headers_mut().append(name, "forged-again".parse().unwrap());
                assert_clean(&visitor.ask(request).await, &format!("{http:?} {path}"));
            }
        }
    }
}

#[tokio::test]
async fn naming_an_identity_field_in_connection_does_not_take_ours_away() {
    let world = World::start().await;
    let device = world.enrol().await;
    let mut visitor = connect(&world, APP, Some(&device), Http::One).await;
    let mut request = visitor.request(Method::GET, APP, "/grafana");
    let named = "client-cert, wicketgate-assertion, X-WEBAUTH-USER, x-forwarded-for, forwarded, host";
    request.headers_mut().insert("connection", named.parse().unwrap());
    request.headers_mut().insert("client-cert", "forged".parse().unwrap());
    let answer = visitor.ask(request).await;
    assert_clean(&answer, "named in Connection");
    for name in
        ["client-cert", "wicketgate-assertion", "x-webauth-user", "x-forwarded-for", "forwarded", "host"]
    {
        assert_eq!(answer.seen(name).len(), 1, "{name}");
    }
    assert!(answer.seen("connection").is_empty());
}

#[tokio::test]
async fn forged_trailers_never_reach_a_backend() {
    let world = World::start().await;
    let device = world.enrol().await;
    for http in [Http::One, Http::Two] {
        let mut visitor = connect(&world, APP, Some(&device), http).await;
        let mut trailers = HeaderMap::new();
        for name in ["client-cert", "client_cert", "x-webauth-user", "wicketgate-assertion"] {
            trailers.insert(name.parse::<http::HeaderName>().unwrap(), "forged".parse().unwrap());
        }
        let frames = [Frame::data(Bytes::from_static(b"hello")), Frame::trailers(trailers)];
        let body = StreamBody::new(stream::iter(frames.map(Ok))).boxed();
        let mut request = visitor.request(Method::POST, APP, "/public").map(|_| body);
        let declared = "client-cert, client_cert, x-webauth-user, wicketgate-assertion";
        request.headers_mut().insert("trailer", declared.parse().unwrap());
        let answer = visitor.ask(request).await;
        assert_clean(&answer, "trailers");
        assert_eq!(answer.json()["body"], 5);
        assert_eq!(answer.json()["trailers"].as_array().unwrap().len(), 0);
    }
}

#[tokio::test]
async fn a_backend_is_told_who_passed_in_three_ways() {
    let world = World::start().await;
    let device = world.enrol().await;
    let mut visitor = connect(&world, APP, Some(&device), Http::Two).await;
    let answer = visitor.get(&format!("{APP}:8443"), "/grafana/d/1").await;
    assert_eq!(answer.seen("x-webauth-user"), ["anna@example.test"]);
    assert_eq!(answer.seen("client-cert"), [format!(":{}:", STANDARD.encode(&device.chain[0]))]);
    assert_eq!(answer.seen("client-cert-chain"), [format!(":{}:", STANDARD.encode(&world.authority.der))]);
    assert_eq!(answer.seen("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(answer.seen("x-forwarded-proto"), ["https"]);
    assert_eq!(answer.seen("x-forwarded-host"), ["app.test:8443"]);
    assert_eq!(answer.seen("forwarded"), ["for=127.0.0.1;host=\"app.test:8443\";proto=https"]);
    assert_eq!(answer.seen("host"), ["app.test:8443"]);
    assert!(answer.seen("traceparent")[0].starts_with("00-"));
    assert!(!answer.headers.contains_key("x-hop"), "hop-by-hop fields end at the edge");

    let token = answer.seen("wicketgate-assertion").remove(0);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let json = |part| -> Value { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap() };
    let (header, claims) = (json(header), json(claims));
    assert_eq!((&header["alg"], &header["kid"]), (&"ES256".into(), &"key-1".into()));
    assert_eq!(claims["iss"], "installation-1");
    assert_eq!(claims["sub"], world.anna.id.to_string());
    assert_eq!(claims["aud"], "https://app.test");
    assert_eq!(claims["iat"], world.clock.now().as_unix());
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 60);
    assert_eq!(claims["cnf"]["x5t#S256"], URL_SAFE_NO_PAD.encode(device.fingerprint.0));
    let key = world.data.assertion.as_ref().unwrap().key.0.expose();
    let algorithm = &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let pair = aws_lc_rs::signature::EcdsaKeyPair::from_pkcs8(algorithm, key).unwrap();
    let public = aws_lc_rs::signature::KeyPair::public_key(&pair).as_ref();
    aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED, public)
        .verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
        .unwrap();
}

#[tokio::test]
async fn an_assertion_is_used_for_half_its_life_and_never_for_another_audience() {
    let world = World::start().await;
    let device = world.enrol().await;
    let mut visitor = connect(&world, APP, Some(&device), Http::One).await;
    let mut assertion = async |host: &str| {
        let answer = visitor.get(host, "/").await;
        answer.seen("wicketgate-assertion").remove(0)
    };
    let first = assertion(APP).await;
    assert_eq!(first, assertion(APP).await);
    assert_ne!(first, assertion(super::fixture::SIBLING).await);
    world.clock.advance(std::time::Duration::from_secs(31));
    assert_ne!(first, assertion(APP).await);
}

#[tokio::test]
async fn an_assertion_outlives_changes_that_do_not_concern_its_connection() {
    let world = World::start().await;
    let device = world.enrol().await;
    let mut visitor = connect(&world, APP, Some(&device), Http::One).await;
    let mut assertion = async || {
        let answer = visitor.get(APP, "/").await;
        answer.seen("wicketgate-assertion").remove(0)
    };
    let first = assertion().await;
    // Others come and go, and the same is said of the person again.
    let other = world.enrol_for(world.anna.id, std::time::Duration::from_secs(60)).await;
    world.revoke(&other).await;
    world.apply(vec![Delta::Person(world.anna.clone())]).await;
    assert_eq!(first, assertion().await);

    let mut renamed = world.anna.clone();
    renamed.name = "Anna, since this morning".to_owned();
    world.apply(vec![Delta::Person(renamed)]).await;
    assert_ne!(first, assertion().await);
}
