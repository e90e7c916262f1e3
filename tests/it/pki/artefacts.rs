//! One of everything that we sign, for linters from elsewhere.
//!
//! `WICKETGATE_ARTEFACTS=FOLDER` keeps the files; `tests/lint/pkilint.sh FOLDER` reads them.

use std::path::{Path, PathBuf};
use std::process::Command;

use wicketgate::domain::{RevocationReason, Serial, UtcTime};
use wicketgate::pki::Certificate;
use wicketgate::pki::keygen::{generate_p256, sign_p256};
use wicketgate::pki::ocsp::{CertStatus, OcspRequest, OcspSigner, prepare_response};
use wicketgate::pki::server_leaf::local_server_leaf;

use super::house::{self, DAY, House, ISSUING_CRL, NOW, System};
use super::peers::peer;
use crate::harness::ocsp::question;

/// Writes `*.cert.pem`, `*.crl.pem` and `*.ocsp.der`; `ISSUER--NAME.cert.pem` names the file of the issuer too.
pub fn write_all(folder: &Path) {
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    let far: UtcTime = "2055-01-01T00:00:00Z".parse().unwrap();
    for (generation, house) in [("near", House::new()), ("far", House::until(far))] {
        write(&format!("{generation}-root.cert.pem"), &house.root.certificate.pem());
        let issuing = format!("{generation}-root--{generation}-issuing.cert.pem");
        write(&issuing, &house.issuing.certificate.pem());
        write(&format!("{generation}-issuing.issuer.pem"), &house.issuing.certificate.pem());
        let end = if generation == "far" { far } else { NOW.plus(DAY * 3650) };
        let (next, cross) = house.cross(end);
        write(&format!("{generation}-root--{generation}-cross.cert.pem"), &cross.pem());
        write(&format!("{generation}-next-root.cert.pem"), &next.certificate.pem());
        write(&format!("{generation}-local.cert.pem"), &house.local.certificate.pem());
        let to = if generation == "far" { far } else { NOW.plus(DAY * 90) };
        let (_, spki) = generate_p256();
        for (kind, email) in [("mail", Some("anna@example.com")), ("plain", None)] {
            let leaf = house.client(&spki, email, NOW.minus(DAY), to);
            write(&format!("{generation}-issuing--{generation}-client-{kind}.cert.pem"), &leaf.pem());
        }
        write(&format!("{generation}-server.cert.pem"), &server(&house));
        let (signer, key) = house.ocsp_signer();
        write(&format!("{generation}-issuing--{generation}-ocsp-signer.cert.pem"), &signer.pem());
        for (name, answer) in answers(&house, &signer, key.expose()) {
            std::fs::write(folder.join(format!("{generation}-{name}.ocsp.der")), answer).unwrap();
        }
        lists(&house, |name, text| write(&format!("{generation}-{name}.crl.pem"), text));
    }
}

/// An OCSP answer of each kind.
fn answers(house: &House, signer: &Certificate, key: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let issuer = &house.issuing.certificate;
    let signer = OcspSigner::from_der(signer.der(), issuer).unwrap();
    let revoked = |reason| CertStatus::Revoked { at: NOW.minus(DAY), reason };
    [
        ("good", CertStatus::Good, None),
        ("good-with-nonce", CertStatus::Good, Some(&[7u8; 32][..])),
        ("held", revoked(RevocationReason::CertificateHold), None),
        ("revoked", revoked(RevocationReason::Unspecified), None),
        ("unknown", CertStatus::Unknown, None),
    ]
    .map(|(name, status, nonce)| {
        let asked = OcspRequest::from_der(&question(issuer, Serial::random(&System), nonce)).unwrap();
        let statuses = [(&asked.ids()[0], status)];
        let prepared = prepare_response(&signer, &statuses, asked.nonce(), NOW, NOW.plus(DAY / 6)).unwrap();
        let signature = sign_p256(key, prepared.tbs()).unwrap();
        (name, prepared.assemble(&signature).unwrap().der().to_vec())
    })
    .to_vec()
}

fn lists(house: &House, write: impl Fn(&str, &str)) {
    let all: Vec<_> = RevocationReason::ALL.iter().map(|reason| (Serial::random(&System), *reason)).collect();
    write("empty", &house::crl(&house.issuing, &[], Some(ISSUING_CRL)).pem());
    write("one", &house::crl(&house.issuing, &all[..1], Some(ISSUING_CRL)).pem());
    write("all-reasons", &house::crl(&house.issuing, &all, Some(ISSUING_CRL)).pem());
    write("nowhere", &house::crl(&house.issuing, &all, None).pem());
    write("of-root", &house::crl(&house.root, &[], None).pem());
}

fn server(house: &House) -> String {
    let (authority, key) = (house.local.certificate.der(), house.local.key.expose());
    let (names, serial) = (["localhost", "door.localhost", "127.0.0.1", "::1"], Serial::random(&System));
    let (der, _) = local_server_leaf(authority, key, &names, serial, NOW, NOW.plus(DAY * 30)).unwrap();
    pem(&der)
}

fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[test]
fn pkilint_finds_no_error_in_anything_that_we_sign() {
    let kept = std::env::var_os("WICKETGATE_ARTEFACTS").map(PathBuf::from);
    let temporary = tempfile::tempdir().unwrap();
    let folder = kept.as_deref().unwrap_or(temporary.path());
    std::fs::create_dir_all(folder).unwrap();
    write_all(folder);
    if peer("lint_pkix_cert").is_none() {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lint/pkilint.sh");
    let output = Command::new(script).arg(folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("no errors in 48 checks"), "{said}");
}
