//! Whatever comes out of the authority passes pkilint: what the gate issues over its paths, what it lists,
//! what it is itself.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use wicketgate::domain::{RevocationReason, UtcTime};
use wicketgate::pki::pem;

use super::Proof;
use crate::ca::fixture::{World, csr};
use crate::harness::database::TestDatabase;
use crate::pki::artefacts;
use crate::pki::peers::peer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lint() {
    let proof = Proof::of("lint");
    let folder = tempfile::tempdir().unwrap();
    artefacts::write_all(folder.path());
    for round in 0..proof.size(1, 3) {
        house(folder.path(), round, if super::is_full() { 8 } else { 2 }).await;
    }
    if peer("lint_pkix_cert").is_none() {
        assert!(!super::is_full(), "pkilint is missing");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lint/pkilint.sh");
    let output = Command::new(script).arg(folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = said.lines().last().unwrap_or_default().to_owned();
    let checks = last.split("no errors in ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    let ok = output.status.success() && checks.is_some();
    proof.end(checks.unwrap_or(0), ok, if ok { &last } else { &said });
}

/// Everything that one authority makes: certificates and their successors, lists before and after every
/// kind of revocation, its own certificates.
async fn house(folder: &Path, round: u64, certificates: u32) {
    let database = TestDatabase::sqlite();
    let world = World::over(&database).await;
    let write = |name: String, label: &str, der: &[u8]| {
        std::fs::write(folder.join(name), pem::block(label, der)).unwrap();
    };
    let list = async |step: &str| {
        world.ca.publish_crls(world.now()).await.unwrap();
        for authority in ["client-root-g1", "client-issuing-g1"] {
            let list = world.store.latest_crl(&authority.parse().unwrap()).await.unwrap().unwrap();
            write(format!("w{round}-{authority}-{step}.crl.pem"), "X509 CRL", &list.der);
        }
    };
    for authority in world.store.authorities().await.unwrap() {
        let der = authority.certificate.unwrap();
        let name = match &authority.issuer {
            Some(issuer) => format!("w{round}-{issuer}--w{round}-{}.cert.pem", authority.name),
            None => format!("w{round}-{}.cert.pem", authority.name),
        };
        write(name, "CERTIFICATE", &der);
        write(format!("w{round}-{}.issuer.pem", authority.name), "CERTIFICATE", &der);
    }
    list("first").await;
    for at in 0..certificates {
        let first = world.issue(&format!("device {at}")).await.certificate;
        let act = world.act("certificate.renew").await;
        let second = world.ca.renew(first.serial, &csr(), &act, world.now()).await.unwrap().certificate;
        for (name, row) in [("first", &first), ("second", &second)] {
            let issuer = format!("w{round}-{}", row.authority);
            write(format!("{issuer}--w{round}-{at}-{name}.cert.pem"), "CERTIFICATE", &row.der);
        }
        let reasons = RevocationReason::ALL;
        let reason = reasons[(at as usize + round as usize) % reasons.len()];
        world.revoke(first.serial, reason.name()).await.unwrap();
        world.clock.advance(Duration::from_secs(60));
    }
    list("revoked").await;
    // Past their end, and once more.
    world.clock.advance(Duration::from_secs(91 * 86_400));
    list("ended").await;
    world.clock.advance(Duration::from_secs(4 * 86_400));
    list("gone").await;
    assert!(world.store.unresolved_intents(UtcTime::MAX).await.unwrap().is_empty());
}
