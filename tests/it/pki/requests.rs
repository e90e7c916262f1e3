//! Signing requests that OpenSSL made, in every kind that people send.

use std::path::Path;

use wicketgate::pki::csr::CsrError;
use wicketgate::pki::keygen::{client_csr_pem, generate_p256};
use wicketgate::pki::{KeyKind, KeyPolicy, SigningRequest};

use super::house::{DAY, House, NOW};
use super::peers::{Peer, openssl};

/// How to make a key, and more arguments for `openssl req`.
struct Kind {
    key: &'static str,
    request: &'static str,
}

fn request(openssl: &Peer, folder: &Path, kind: &Kind) -> String {
    let key: Vec<&str> = ["genpkey", "-out", "key.pem"].into_iter().chain(kind.key.split(' ')).collect();
    openssl.ok(folder, &key);
    let base =
        ["req", "-new", "-key", "key.pem", "-out", "request.pem", "-utf8", "-subj", "/CN=Änna/O=Own words"];
    let more = kind.request.split(' ').filter(|word| !word.is_empty());
    openssl.ok(folder, &base.into_iter().chain(more).collect::<Vec<_>>());
    std::fs::read_to_string(folder.join("request.pem")).unwrap()
}

const P256: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
const RSA: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";
const PSS: &str = "-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest";

#[test]
fn every_usual_request_becomes_a_certificate_that_openssl_verifies() {
    let Some(openssl) = openssl() else { return };
    let (folder, house) = (tempfile::tempdir().unwrap(), House::new());
    let folder = folder.path();
    std::fs::write(folder.join("root.pem"), house.root.certificate.pem()).unwrap();
    std::fs::write(folder.join("issuing.pem"), house.issuing.certificate.pem()).unwrap();
    let usual: &[(KeyKind, &str, &str)] = &[
        (KeyKind::P256, P256, "-sha256"),
        // The case that made rcgen issue a certificate with a broken key.
        (KeyKind::P256, P256, "-sha384"),
        (KeyKind::P256, P256, "-sha512"),
        (KeyKind::P384, "-algorithm EC -pkeyopt ec_paramgen_curve:P-384", "-sha384"),
        (KeyKind::P384, "-algorithm EC -pkeyopt ec_paramgen_curve:P-384", "-sha256"),
        (KeyKind::Ed25519, "-algorithm ED25519", ""),
        (KeyKind::Rsa { bits: 2048 }, RSA, "-sha256"),
        (KeyKind::Rsa { bits: 3072 }, "-algorithm RSA -pkeyopt rsa_keygen_bits:3072", "-sha384"),
        (KeyKind::Rsa { bits: 4096 }, "-algorithm RSA -pkeyopt rsa_keygen_bits:4096", "-sha512"),
        (KeyKind::Rsa { bits: 2048 }, RSA, &(["-sha256 ", PSS].concat())),
        (KeyKind::Rsa { bits: 2048 }, RSA, &(["-sha384 ", PSS].concat())),
        (KeyKind::Rsa { bits: 2048 }, RSA, &(["-sha512 ", PSS].concat())),
        // What a request wishes for is nobody's wish here.
        (
            KeyKind::P256,
            P256,
            "-addext basicConstraints=critical,CA:TRUE -addext subjectAltName=DNS:evil.example",
        ),
        (KeyKind::P256, P256, "-addext subjectKeyIdentifier=hash -addext 1.2.3.4=ASN1:NULL"),
        (KeyKind::P256, P256, "-multivalue-rdn -reqopt no_header"),
    ];
    let policy = KeyPolicy { ed25519: true, ..KeyPolicy::default() };
    let now = NOW.as_unix().to_string();
    for (kind, key, more) in usual {
        let kind_of = Kind { key, request: Box::leak(more.to_string().into_boxed_str()) };
        let pem = request(&openssl, folder, &kind_of);
        let request = SigningRequest::from_pem(&pem, &policy).unwrap_or_else(|e| panic!("{key} {more}: {e}"));
        assert_eq!(request.public_key().kind(), *kind, "{key} {more}");
        let spki = request.public_key().spki_der();
        let leaf = house.client(spki, None, NOW.minus(DAY), NOW.plus(DAY));
        std::fs::write(folder.join("leaf.pem"), leaf.pem()).unwrap();
        let verify = ["verify", "-x509_strict", "-attime", &now, "-purpose", "sslclient"];
        let chain = ["-CAfile", "root.pem", "-untrusted", "issuing.pem", "leaf.pem"];
        openssl.ok(folder, &[&verify[..], &chain].concat());
        let of_leaf = openssl.ok(folder, &["x509", "-in", "leaf.pem", "-noout", "-pubkey"]);
        let of_key = openssl.ok(folder, &["pkey", "-in", "key.pem", "-pubout"]);
        assert_eq!(of_leaf, of_key, "{key} {more}");
        let text = openssl.ok(folder, &["x509", "-in", "leaf.pem", "-noout", "-text"]);
        assert!(!text.contains("evil") && !text.contains("Own words") && !text.contains("CA:TRUE"), "{text}");
    }
}

#[test]
fn requests_that_we_cannot_answer_for_are_refused_with_advice() {
    let Some(openssl) = openssl() else { return };
    let folder = tempfile::tempdir().unwrap();
    let refused: &[(&str, &str, &str)] = &[
        (
            "-algorithm EC -pkeyopt ec_paramgen_curve:P-521",
            "",
            "the curve 1.3.132.0.35 is not accepted; make an EC P-256",
        ),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1", "", "make an EC P-256 key"),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit", "", "named_curve"),
        ("-algorithm RSA -pkeyopt rsa_keygen_bits:1024", "", "has 1024 bits; it must have 2048 to 4096"),
        ("-algorithm RSA -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_pubexp:3", "", "exponent 65537"),
        ("-algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048", "", "RSA key of the plain type"),
        ("-algorithm ED25519", "", "does not accept Ed25519 keys; make an EC P-256 key"),
        ("-algorithm ED448", "", "make an EC P-256 key"),
        (RSA, "-sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:20", "rsa_pss_saltlen:digest"),
        (RSA, "-sha1", "sign with SHA-256"),
        (P256, "-sha1", "sign with SHA-256"),
        (P256, "-sha224", "sign with SHA-256"),
    ];
    for (key, more, advice) in refused {
        let pem = request(&openssl, folder.path(), &Kind { key, request: more });
        let refused = SigningRequest::from_pem(&pem, &KeyPolicy::default()).unwrap_err();
        assert!(matches!(refused, CsrError::Key(_) | CsrError::Possession(_)), "{key} {more}: {refused:?}");
        assert!(refused.to_string().contains(advice), "{key} {more}: {refused}");
    }
}

#[test]
fn openssl_verifies_our_own_requests() {
    let Some(openssl) = openssl() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (key, _) = generate_p256();
    std::fs::write(folder.path().join("r.pem"), client_csr_pem(key.expose(), "Änna").unwrap()).unwrap();
    let said = openssl.ok(folder.path(), &["req", "-in", "r.pem", "-verify", "-noout", "-text"]);
    assert!(said.contains("verify OK") && said.contains("prime256v1"), "{said}");
}
