//! Public certificates: ordered from a real ACME server, swapped under load.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::backend;
use super::device::Device;
use super::house::{House, Plan, quiet_port};
use super::wire::Wire;
use crate::harness::pebble::{Options, Pebble};
use crate::harness::wait_for;

const SHOP: &str = "shop.example.test";
/// 50 requests a second.
const PACE: Duration = Duration::from_millis(20);

/// The certificate that the site serves, as the API tells; none while it is the local one.
fn public_certificate(house: &House) -> Option<Value> {
    let site = house.get(&format!("/sites/{SHOP}"));
    let certificate = site["certificate"].clone();
    (certificate["source"] == "acme").then_some(certificate)
}

/// Requests at a steady pace, half of them on connections of their own, for as long as `work` takes.
/// How many were made, and what went wrong with which.
fn under_load(house: &House, roots: &[Vec<u8>], device: &Device, work: impl FnOnce()) -> (u64, Vec<String>) {
    let (done, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let faults = parking_lot::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let started = Instant::now();
        for visitor in 0..4_u32 {
            let (done, count, faults) = (&done, &count, &faults);
            scope.spawn(move || {
                let open = || Wire::tls(house.https, SHOP, roots, Some(device));
                let mut kept = open().unwrap();
                for turn in 0.. {
                    if done.load(Ordering::SeqCst) {
                        return;
                    }
                    let due = started + PACE * (visitor + 4 * turn);
                    std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
                    let reply = match turn % 2 {
                        0 => kept.get("/"),
                        _ => open().and_then(|mut fresh| fresh.get("/")),
                    };
                    count.fetch_add(1, Ordering::SeqCst);
                    match reply.map(|reply| reply.outcome()) {
                        Ok((200, _)) => {}
                        other => faults.lock().push(format!("{turn}: {other:?}")),
                    }
                }
            });
        }
        // Even when it fails: the visitors would go on for ever.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::SeqCst);
        outcome.unwrap_or_else(|fault| std::panic::resume_unwind(fault));
    });
    (count.into_inner(), faults.into_inner())
}

#[test]
fn a_public_certificate_by_both_challenges_under_load() {
    let edge = [quiet_port(), quiet_port()];
    let options = Options { http_port: edge[1], tls_port: edge[0], ..Options::default() };
    let Some(pebble) = Pebble::start(options) else { return };
    let more = format!(
        "[acme]\nenabled = true\nterms_agreed = true\ncontact = \"ops@example.org\"\nchallenge = \"http-01\"\n\
         directory_url = \"{}\"\nroot_ca_file = \"{}\"",
        pebble.directory_url(),
        pebble.api_root_file().display(),
    );
    let plan = Plan { database: None, more: &more, edge: Some(edge) };
    let mut house = House::open(&plan, &backend::start());
    let anna = house.person("Anna Grün", "anna@example.org");
    let (_, device) = house.enrol(&anna, "Laptop");
    let public = CertificateDer::from_pem_slice(pebble.issuing_root_pem().as_bytes()).unwrap().to_vec();
    let roots = [house.authority.clone(), public.clone()];
    house.add(
        "/sites",
        &json!({
            "host": SHOP, "client_auth": "request", "hsts_max_age_seconds": 0, "certificate": "acme", "enabled": true,
        }),
    );
    house.add(
        "/routes",
        &json!({ "host": SHOP, "path_prefix": "/", "upstream": "app", "policy": { "kind": "known" } }),
    );
    let visit = |house: &House, roots: &[Vec<u8>], device: Option<&Device>| {
        Wire::tls(house.https, SHOP, roots, device)?.get("/").map(|reply| reply.outcome())
    };

    // By HTTP-01, from the local certificate to the public one.
    let (requests, faults) = under_load(&house, &roots, &device, || {
        wait_for("a certificate by HTTP-01", || public_certificate(&house));
    });
    assert_eq!(faults, Vec::<String>::new(), "of {requests}");
    let first = public_certificate(&house).unwrap();
    let only_public = std::slice::from_ref(&public);
    assert_eq!(visit(&house, only_public, Some(&device)).unwrap().0, 200);
    assert_eq!(visit(&house, only_public, None).unwrap(), (403, "certificate_required".to_owned()));

    // By TLS-ALPN-01, while the site insists on a client certificate.
    assert!(house.stop().success());
    let file = house.path("wicketgate.toml");
    let text = std::fs::read_to_string(&file).unwrap().replace("\"http-01\"", "\"tls-alpn-01\"");
    std::fs::write(&file, text).unwrap();
    house.serve();
    house.edit(&format!("/sites/{SHOP}"), &json!({ "client_auth": "require" }));
    assert!(visit(&house, only_public, None).is_err(), "nobody gets in without a certificate");
    let (requests, faults) = under_load(&house, only_public, &device, || {
        let asked = house.call("POST", &format!("/sites/{SHOP}/renewal"), &[], Some(&json!({})));
        assert_eq!(asked.status, 202, "{}", asked.text());
        wait_for("a certificate by TLS-ALPN-01", || {
            public_certificate(&house).filter(|now| now["serial"] != first["serial"])
        });
    });
    assert_eq!(faults, Vec::<String>::new(), "of {requests}");
    assert!(requests > 20, "{requests}");
    assert_eq!(visit(&house, only_public, Some(&device)).unwrap().0, 200);
    house.edit(&format!("/sites/{SHOP}"), &json!({ "client_auth": "request" }));
    assert_eq!(visit(&house, only_public, None).unwrap(), (403, "certificate_required".to_owned()));
}
