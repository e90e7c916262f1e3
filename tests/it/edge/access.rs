//! Who passes, who is refused, and with which code.

use std::time::Duration;

use rcgen::ExtendedKeyUsagePurpose;
use wicketgate::clock::Clock;
use wicketgate::domain::{AuthorityKind, AuthorityState, PersonId, Serial};
use wicketgate::live::Delta;

use super::client::{Http, connect, shake, tls};
use super::fixture::{APP, Authority, Device, Random, STRICT, World};

async fn code(world: &World, device: Option<&Device>, path: &str) -> (u16, String) {
    let answer = connect(world, APP, device, Http::One).await.get(APP, path).await;
    (answer.status, if answer.status == 200 { String::new() } else { answer.code() })
}

fn refused(code: &str) -> (u16, String) {
    (403, code.to_owned())
}

#[tokio::test]
async fn a_known_device_passes_on_its_first_request_and_nobody_else() {
    let world = World::start().await;
    let device = world.enrol().await;
    for http in [Http::One, Http::Two] {
        let answer = connect(&world, APP, Some(&device), http).await.get(APP, "/x?y=1").await;
        assert_eq!((answer.status, answer.json()["target"].as_str()), (200, Some("/x?y=1")), "{http:?}");
        let answer = connect(&world, APP, None, http).await.get(APP, "/").await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "certificate_required"), "{http:?}");
    }
    assert_eq!(world.backend.requests(), 2);
}

#[tokio::test]
async fn public_routes_take_everyone_and_tell_backends_nothing_about_the_refused() {
    let world = World::start().await;
    let foreign = Authority::new("issuing-g1", "Elsewhere").client_leaf(Serial::random(&Random));
    for device in [None, Some(&foreign)] {
        let answer = connect(&world, APP, device, Http::One).await.get(APP, "/public/x").await;
        assert_eq!(answer.status, 200);
        assert!(answer.seen("client-cert").is_empty() && answer.seen("wicketgate-assertion").is_empty());
    }
    let device = world.enrol().await;
    let answer = connect(&world, APP, Some(&device), Http::One).await.get(APP, "/public").await;
    assert_eq!(answer.seen("client-cert").len(), 1);
}

#[tokio::test]
async fn every_certificate_that_the_gate_did_not_record_is_refused_by_its_cause() {
    let world = World::start().await;
    let known = world.enrol().await;
    let serial = || Serial::random(&Random);
    let server = vec![ExtendedKeyUsagePurpose::ServerAuth];

    let unrecorded = world.authority.client_leaf(serial());
    let twin = Authority::with_key_id("issuing-g1", "Test Client Issuing G1", Some(world.authority.key_id()))
        .client_leaf(known.serial);
    let foreign = Authority::new("other", "Other Issuing").client_leaf(serial());
    let local_leaf = world.local_server.leaf(serial(), server, &["app.test"]);
    let no_usage = world.authority.leaf(serial(), Vec::new(), &[]);
    for (what, device, cause) in [
        ("signed by our key outside the gate", unrecorded, "not_on_record"),
        ("a foreign authority of the same name, key id and serial", twin, "bad_signature"),
        ("a foreign authority", foreign, "unknown_authority"),
        ("a leaf of the local server authority", local_leaf, "wrong_eku"),
        ("no clientAuth", no_usage, "wrong_eku"),
    ] {
        let answer = connect(&world, APP, Some(&device), Http::One).await.get(APP, "/").await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "certificate_untrusted"), "{what}");
        assert_eq!(answer.json()["detail"], cause, "{what}");
        assert_eq!(answer.headers["connection"], "close", "{what}");
    }
    assert_eq!(world.backend.requests(), 0);
}

#[tokio::test]
async fn time_person_and_authority_decide_too() {
    let world = World::start().await;
    let day = Duration::from_secs(86_400);
    let expired = world.enrol_for(world.anna.id, Duration::ZERO).await;
    let stranger = world.enrol_for(PersonId::new(), day).await;
    let device = world.enrol().await;
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(code(&world, Some(&expired), "/").await, refused("certificate_expired"));
    assert_eq!(code(&world, Some(&stranger), "/").await, refused("access_denied"));
    assert_eq!(code(&world, Some(&device), "/").await.0, 200);

    let mut disabled = world.anna.clone();
    disabled.disabled = true;
    world.apply(vec![Delta::Person(disabled)]).await;
    assert_eq!(code(&world, Some(&device), "/").await, refused("access_denied"));

    world.apply(vec![Delta::Person(world.anna.clone())]).await;
    let ends = world.clock.now().plus(day);
    let archived = world.authority.record(AuthorityKind::Issuing, AuthorityState::Archived, ends);
    world.apply(vec![Delta::Authority(archived)]).await;
    assert_eq!(code(&world, Some(&device), "/").await, refused("certificate_untrusted"));
}

#[tokio::test]
async fn rules_are_asked_for_every_request() {
    let world = World::start().await;
    let device = world.enrol().await;
    assert_eq!(code(&world, Some(&device), "/board").await, refused("access_denied"));
    let mut promoted = world.anna.clone();
    promoted.groups.insert("board".parse().unwrap());
    world.apply(vec![Delta::Person(promoted)]).await;
    assert_eq!(code(&world, Some(&device), "/board/x").await.0, 200);
    assert_eq!(code(&world, Some(&device), "/boardroom").await.0, 200, "another segment, another route");
}

#[tokio::test]
async fn a_stale_register_closes_protected_routes_and_leaves_public_ones_open() {
    let world = World::start().await;
    let device = world.enrol().await;
    let mut visitor = connect(&world, APP, Some(&device), Http::One).await;
    assert_eq!(visitor.get(APP, "/").await.status, 200);
    world.clock.advance(Duration::from_secs(24 * 3600 + 1));
    let answer = visitor.get(APP, "/").await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "policy_stale"));
    let public = visitor.get(APP, "/public").await;
    assert_eq!(public.status, 200);
    assert!(public.seen("client-cert").is_empty(), "a stale register knows nobody");
    world.apply(Vec::new()).await; // a confirmation without changes
    assert_eq!(visitor.get(APP, "/").await.status, 200);
}

#[tokio::test]
async fn in_require_mode_the_handshake_itself_refuses() {
    let world = World::start().await;
    let device = world.enrol().await;
    let unrecorded = world.authority.client_leaf(Serial::random(&Random));
    let answer = connect(&world, STRICT, Some(&device), Http::One).await.get(STRICT, "/").await;
    assert_eq!(answer.status, 200);
    world.revoke(&device).await;
    for (device, alert) in [
        (None, "CertificateRequired"),
        (Some(&unrecorded), "UnknownCA"),
        (Some(&device), "CertificateRevoked"),
    ] {
        let config = tls(&world, device, &[b"http/1.1"]);
        let mut stream = shake(&world, STRICT, config).await.unwrap();
        // TLS 1.3: the client is done before the server has looked; the alert comes with the first read.
        let error = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 16]).await.unwrap_err();
        assert!(error.to_string().contains(alert), "{error} instead of {alert}");
    }
}

#[tokio::test]
async fn browsers_read_a_page_that_leads_to_the_door() {
    let world = World::start().await;
    let mut visitor = connect(&world, APP, None, Http::One).await;
    let mut request = visitor.request(http::Method::GET, APP, "/");
    request.headers_mut().insert("accept", "text/html".parse().unwrap());
    let answer = visitor.ask(request).await;
    let page = String::from_utf8(answer.body.to_vec()).unwrap();
    assert_eq!(answer.status, 403);
    assert!(page.contains("certificate_required") && page.contains("https://door.test"));
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers["strict-transport-security"], "max-age=3600");
}
