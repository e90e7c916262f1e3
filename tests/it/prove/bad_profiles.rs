//! Bad profiles and bad requests never reach the signer: one table, each line with the rule that refuses it.

mod bytes;
mod whole;

use wicketgate::domain::{RevocationReason, Serial, UtcTime};
use wicketgate::keys::SystemEntropy;
use wicketgate::pki::crl::{RevokedEntry, prepare_crl};
use wicketgate::pki::issuer::{prepare_authority, prepare_client, prepare_root};
use wicketgate::pki::keygen::{client_csr, generate_p256};
use wicketgate::pki::{
    AuthorityCertificate, AuthorityKind, AuthorityTemplate, ClientLeaf, KeyPolicy, PublicKey, SigningRequest,
};

use super::Proof;
use crate::pki::house::{DAY, House, NOW};

/// What would be signed, or why it is not.
type Attempt = Result<Vec<u8>, String>;
/// What is tried, the rule that speaks, and the trial.
type Case = (&'static str, &'static str, fn(&House) -> Attempt);

#[test]
fn bad_profiles() {
    let proof = Proof::of("bad_profiles");
    let house = House::new();
    let mut wrong = Vec::new();
    let (mut tried, mut signer_calls) = (0, 0);
    for (what, rule, attempt) in CLIENTS.iter().chain(AUTHORITIES).chain(LISTS).chain(REQUESTS).chain(FORGED)
    {
        tried += 1;
        match attempt(&house) {
            Ok(_) => {
                signer_calls += 1;
                wrong.push(format!("{what}: would be signed"));
            }
            Err(said) if !said.contains(rule) => wrong.push(format!("{what}: {said:?} is not {rule:?}")),
            Err(_) => {}
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let through = runtime.block_on(Box::pin(whole::every_bad_request(&mut wrong)));
    tried += through.tried;
    signer_calls += through.signer_calls;
    let ok = tried >= 40 && signer_calls == 0 && wrong.is_empty();
    let measured = format!("{tried} refused by their rules, {signer_calls} calls of the signer {wrong:?}");
    proof.end(tried, ok, &measured);
}

/// A client certificate that is right in all but what `spoil` does.
fn client(house: &House, spoil: fn(&mut ClientLeaf<'_>)) -> Attempt {
    let (_, spki) = generate_p256();
    client_of(house, &spki, spoil)
}

fn client_of(house: &House, spki: &[u8], spoil: fn(&mut ClientLeaf<'_>)) -> Attempt {
    let key = PublicKey::from_spki_der(spki, &KeyPolicy::default()).map_err(|error| error.to_string())?;
    let mut leaf = ClientLeaf {
        serial: Serial::random(&SystemEntropy),
        public_key: &key,
        common_name: "Anna Example",
        email: Some("anna@example.com"),
        uris: &[],
        not_before: NOW,
        not_after: NOW.plus(DAY * 90),
        crl_urls: &[],
        ocsp_urls: &[],
        issuer_urls: &[],
        dns_names: no_names(),
    };
    spoil(&mut leaf);
    let prepared = prepare_client(&house.issuing.certificate, &leaf);
    prepared.map(|prepared| prepared.tbs().to_vec()).map_err(|error| error.to_string())
}

fn uri(house: &House, text: &str) -> Attempt {
    uris(house, vec![text.to_owned()])
}

fn uris(house: &House, all: Vec<String>) -> Attempt {
    let all: &'static [String] = Box::leak(all.into_boxed_slice());
    let (_, spki) = generate_p256();
    let key = PublicKey::from_spki_der(&spki, &KeyPolicy::default()).unwrap();
    let leaf = ClientLeaf {
        serial: Serial::random(&SystemEntropy),
        public_key: &key,
        common_name: "Anna Example",
        email: None,
        uris: all,
        not_before: NOW,
        not_after: NOW.plus(DAY),
        crl_urls: &[],
        ocsp_urls: &[],
        issuer_urls: &[],
        dns_names: no_names(),
    };
    let prepared = prepare_client(&house.issuing.certificate, &leaf);
    prepared.map(|prepared| prepared.tbs().to_vec()).map_err(|error| error.to_string())
}

fn no_names() -> &'static std::collections::BTreeSet<wicketgate::domain::Hostname> {
    static NONE: std::collections::BTreeSet<wicketgate::domain::Hostname> = std::collections::BTreeSet::new();
    &NONE
}

fn urls(text: &str) -> &'static [String] {
    Box::leak(vec![text.to_owned()].into_boxed_slice())
}

const TEXT: &str = "must have 1 to 64 characters";
const MAIL: &str = "the e-mail address must be ASCII";
const URI: &str = "is not an absolute URI";

const CLIENTS: &[Case] = &[
    ("an empty name", TEXT, |h| client(h, |l| l.common_name = "")),
    ("a name of spaces", TEXT, |h| client(h, |l| l.common_name = "   ")),
    ("a name of 65 characters", TEXT, |h| {
        client(h, |l| l.common_name = "0123456789012345678901234567890123456789012345678901234567890123x")
    }),
    ("a name with a line end", TEXT, |h| client(h, |l| l.common_name = "Anna\nCN=root")),
    ("a name with NUL", TEXT, |h| client(h, |l| l.common_name = "Anna\0.evil")),
    ("a name with DEL", TEXT, |h| client(h, |l| l.common_name = "Anna\u{7f}")),
    ("a name with a C1 control", TEXT, |h| client(h, |l| l.common_name = "Anna\u{85}")),
    ("a name that turns its direction", TEXT, |h| client(h, |l| l.common_name = "Anna\u{202e}nimda")),
    ("a name with an isolate", TEXT, |h| client(h, |l| l.common_name = "Anna\u{2066}x")),
    ("a name with a space without width", TEXT, |h| client(h, |l| l.common_name = "An\u{200b}na")),
    ("a name with a byte order mark", TEXT, |h| client(h, |l| l.common_name = "\u{feff}Anna")),
    ("a name with tags", TEXT, |h| client(h, |l| l.common_name = "Anna\u{e0041}")),
    ("a name with a line separator", TEXT, |h| client(h, |l| l.common_name = "Anna\u{2028}x")),
    ("an address without a host", MAIL, |h| client(h, |l| l.email = Some("anna@"))),
    ("an address without @", MAIL, |h| client(h, |l| l.email = Some("anna.example.com"))),
    ("an address of somebody whose name is not ASCII", MAIL, |h| {
        client(h, |l| l.email = Some("ännä@example.com"))
    }),
    ("an address at a look-alike", MAIL, |h| client(h, |l| l.email = Some("anna@ex\u{430}mple.com"))),
    ("two addresses in one", MAIL, |h| client(h, |l| l.email = Some("a@b.example,c@d.example"))),
    ("an address with a line end", MAIL, |h| client(h, |l| l.email = Some("anna@example.com\r\nBcc: x@y"))),
    ("an address with two dots", MAIL, |h| client(h, |l| l.email = Some("a..b@example.com"))),
    ("an address with a quoted part", MAIL, |h| client(h, |l| l.email = Some("\"a b\"@example.com"))),
    ("an address with an angle", MAIL, |h| client(h, |l| l.email = Some("Anna <anna@example.com>"))),
    ("a URI without a scheme", URI, |h| uri(h, "//example.com/x")),
    ("a URI with another scheme", URI, |h| uri(h, "http://example.com/")),
    ("a script", URI, |h| uri(h, "javascript:alert(1)")),
    ("a URI with a space", URI, |h| uri(h, "https://example.com/a b")),
    ("a URI that is not ASCII", URI, |h| uri(h, "https://ex\u{e4}mple.com/")),
    ("a URI without a host", URI, |h| uri(h, "https:///x")),
    ("an empty URI", URI, |h| uri(h, "")),
    ("a URI of 4000 characters", URI, |h| uri(h, &format!("https://example.com/{}", "x".repeat(4000)))),
    ("ten thousand names", "longer than 16384 octets", |h| {
        uris(h, (0..10_000).map(|n| format!("urn:uuid:{n:08}-0000-4000-8000-000000000000")).collect())
    }),
    ("a list behind TLS", URI, |h| client(h, |l| l.crl_urls = urls("https://pki.example.com/x.crl"))),
    ("a list in a directory", URI, |h| client(h, |l| l.crl_urls = urls("ldap://pki.example.com/cn=x"))),
    ("an issuer in a file", URI, |h| client(h, |l| l.issuer_urls = urls("file:///etc/x.cer"))),
    ("a certificate that outlives its issuer", "the authority ends", |h| {
        client(h, |l| l.not_after = NOW.plus(DAY * 3651))
    }),
    ("one second longer than its issuer", "the authority ends", |h| {
        client(h, |l| l.not_after = NOW.plus(DAY * 3650).plus(std::time::Duration::from_secs(1)))
    }),
    ("no well-defined end", "the authority ends", |h| client(h, |l| l.not_after = UtcTime::MAX)),
    ("an empty validity", "is empty", |h| client(h, |l| l.not_after = l.not_before)),
    ("an end before the start", "is empty", |h| client(h, |l| l.not_after = NOW.minus(DAY))),
    ("the issuer's own key", "own_key", |h| client_of(h, h.issuing.certificate.spki_der(), |_| {})),
];

fn authority(house: &House, kind: AuthorityKind, spoil: fn(&mut AuthorityTemplate<'_>)) -> Attempt {
    let (_, spki) = generate_p256();
    let mut template = AuthorityTemplate {
        kind,
        serial: Serial::random(&SystemEntropy),
        spki_der: &spki,
        common_name: "Example Client G2",
        organization: None,
        not_before: NOW,
        not_after: NOW.plus(DAY * 365),
        crl_urls: &[],
        issuer_urls: &[],
    };
    spoil(&mut template);
    let prepared = match kind {
        AuthorityKind::Issuing => prepare_authority(&house.root.certificate, &template),
        AuthorityKind::Root | AuthorityKind::LocalServer | AuthorityKind::Upstream => prepare_root(&template),
    };
    prepared.map(|prepared| prepared.tbs().to_vec()).map_err(|error| error.to_string())
}

const AUTHORITIES: &[Case] = &[
    ("an issuing authority that signs itself", "cannot be self-signed", |h| {
        authority(h, AuthorityKind::Root, |t| t.kind = AuthorityKind::Issuing)
    }),
    ("a root under a root", "only an issuing authority", |h| {
        authority(h, AuthorityKind::Issuing, |t| t.kind = AuthorityKind::Root)
    }),
    ("an authority under an issuing authority", "leaves no room", |h| {
        let (_, spki) = generate_p256();
        let template = AuthorityTemplate {
            kind: AuthorityKind::Issuing,
            serial: Serial::random(&SystemEntropy),
            spki_der: &spki,
            common_name: "Example Client Issuing G2",
            organization: None,
            not_before: NOW,
            not_after: NOW.plus(DAY),
            crl_urls: &[],
            issuer_urls: &[],
        };
        let prepared = prepare_authority(&h.issuing.certificate, &template);
        prepared.map(|prepared| prepared.tbs().to_vec()).map_err(|error| error.to_string())
    }),
    ("an authority that outlives its root", "the authority ends", |h| {
        authority(h, AuthorityKind::Issuing, |t| t.not_after = NOW.plus(DAY * 3651))
    }),
    ("an authority without a name", TEXT, |h| authority(h, AuthorityKind::Root, |t| t.common_name = "")),
    ("an organisation with a tab", TEXT, |h| {
        authority(h, AuthorityKind::Root, |t| t.organization = Some("Example\tTeam"))
    }),
    ("an authority with its root's key", "own_key", |h| {
        let spki: &'static [u8] = Box::leak(h.root.certificate.spki_der().to_vec().into_boxed_slice());
        let template = AuthorityTemplate {
            kind: AuthorityKind::Issuing,
            serial: Serial::random(&SystemEntropy),
            spki_der: spki,
            common_name: "Example Client Issuing G2",
            organization: None,
            not_before: NOW,
            not_after: NOW.plus(DAY),
            crl_urls: &[],
            issuer_urls: &[],
        };
        let prepared = prepare_authority(&h.root.certificate, &template);
        prepared.map(|prepared| prepared.tbs().to_vec()).map_err(|error| error.to_string())
    }),
    ("an authority with a key on P-384", "the key is refused", |h| {
        authority(h, AuthorityKind::Root, |t| t.spki_der = bytes::leaked(bytes::P384))
    }),
    ("an authority with an RSA key", "the key is refused", |h| {
        authority(h, AuthorityKind::Root, |t| t.spki_der = bytes::leaked(bytes::RSA_2048))
    }),
];

fn list(house: &House, from: UtcTime, to: UtcTime, twice: bool, url: Option<&str>) -> Attempt {
    let serial = Serial::random(&SystemEntropy);
    let reason = RevocationReason::Superseded;
    let entry = RevokedEntry { serial, revoked_at: NOW, reason, invalid_since: None };
    let entries = vec![entry; if twice { 2 } else { 1 }];
    let prepared = prepare_crl(&house.issuing.certificate, 7, from, to, &entries, url);
    prepared.map(|prepared| prepared.tbs().to_vec()).map_err(|error| error.to_string())
}

const LISTS: &[Case] = &[
    ("a list with one serial twice", "listed as revoked twice", |h| list(h, NOW, NOW.plus(DAY), true, None)),
    ("a list that ends before it begins", "is empty", |h| list(h, NOW, NOW.minus(DAY), false, None)),
    ("a list that ends as it begins", "is empty", |h| list(h, NOW, NOW, false, None)),
    ("a list for a place behind TLS", URI, |h| {
        list(h, NOW, NOW.plus(DAY), false, Some("https://pki.example.com/x.crl"))
    }),
    ("a list for no place", URI, |h| list(h, NOW, NOW.plus(DAY), false, Some(""))),
];

/// A request with this key; its signature is never looked at when the key is refused first.
fn request(spki: &[u8]) -> Attempt {
    read(&bytes::request(spki, &[0; 64]))
}

fn read(der: &[u8]) -> Attempt {
    let read = SigningRequest::from_der(der, &KeyPolicy::default());
    read.map(|request| request.public_key().spki_der().to_vec()).map_err(|error| error.to_string())
}

fn text(pem: &str) -> Attempt {
    let read = SigningRequest::from_pem(pem, &KeyPolicy::default());
    read.map(|request| request.public_key().spki_der().to_vec()).map_err(|error| error.to_string())
}

fn own_request() -> Vec<u8> {
    client_csr(generate_p256().0.expose(), "a device").unwrap()
}

const REQUESTS: &[Case] = &[
    ("RSA with 1024 bits", "has 1024 bits", |_| request(&bytes::rsa(&[0xff; 128], &[1, 0, 1]))),
    ("RSA with 16384 bits", "has 16384 bits", |_| request(&bytes::rsa(&[0xff; 2048], &[1, 0, 1]))),
    ("RSA with exponent 3", "exponent", |_| request(&bytes::rsa(&[0xff; 256], &[3]))),
    ("RSA with an even modulus", "small factor", |_| {
        request(&bytes::rsa(&[&[0xff; 255][..], &[0xfe]].concat(), &[1, 0, 1]))
    }),
    ("RSA of the broken generator", "ROCA", |_| request(&bytes::rsa(&bytes::roca(), &[1, 0, 1]))),
    ("RSA bound to PSS", "RSASSA-PSS", |_| request(&bytes::pss())),
    ("Ed25519, which the profile does not take", "does not accept Ed25519", |_| request(&bytes::ed25519())),
    ("P-521", "1.3.132.0.35", |_| request(&bytes::ec(&[0x2b, 0x81, 0x04, 0x00, 0x23], &[4; 133]))),
    ("secp256k1", "1.3.132.0.10", |_| request(&bytes::ec(&[0x2b, 0x81, 0x04, 0x00, 0x0a], &[4; 65]))),
    ("a point that is not on its curve", "not a valid point", |_| {
        request(&bytes::p256(&[&[4][..], &[7; 64]].concat()))
    }),
    ("the point at infinity", "uncompressed", |_| request(&bytes::p256(&[0]))),
    ("a compressed point", "uncompressed", |_| request(&bytes::p256(&[&[2][..], &[7; 32]].concat()))),
    ("a curve spelt out", "named_curve", |_| request(&bytes::explicit_curve())),
    ("somebody else's key", "does not prove", |_| {
        let (_, other) = generate_p256();
        let own = own_request();
        read(&bytes::request(&other, &own[own.len() - 64..]))
    }),
    ("a request that was changed", "does not prove", |_| {
        let mut der = own_request();
        let at = der.windows(8).position(|part| part == b"a device").unwrap();
        der[at] = b'A';
        read(&der)
    }),
    ("bytes behind the request", "not valid PKCS#10", |_| read(&[own_request(), vec![0]].concat())),
    ("half a request", "not valid PKCS#10", |_| {
        let der = own_request();
        read(&der[..der.len() / 2])
    }),
    ("a request of 17 KiB", "longer than", |_| read(&vec![0x30; 17 * 1024])),
    ("nothing", "BEGIN CERTIFICATE REQUEST", |_| text("")),
    ("a certificate in place of a request", "BEGIN CERTIFICATE REQUEST", |h| {
        text(&h.issuing.certificate.pem())
    }),
    ("a request that is no base64", "BEGIN CERTIFICATE REQUEST", |_| {
        text("-----BEGIN CERTIFICATE REQUEST-----\n\u{430}\n-----END CERTIFICATE REQUEST-----\n")
    }),
];

fn forged(der: Vec<u8>) -> Attempt {
    AuthorityCertificate::from_der(&der).map(|_| Vec::new()).map_err(|error| error.to_string())
}

const FORGED: &[Case] = &[
    ("an authority that may not sign lists", "may not sign certificates and CRLs", |_| {
        forged(bytes::certificate(|p| p.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign]))
    }),
    ("an authority that may not sign certificates", "may not sign certificates and CRLs", |_| {
        forged(bytes::certificate(|p| p.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign]))
    }),
    ("an authority that is none", "may not sign certificates and CRLs", |_| {
        forged(bytes::certificate(|p| p.is_ca = rcgen::IsCa::ExplicitNoCa))
    }),
    ("a leaf in an authority's place", "key identifier", |_| {
        forged(bytes::certificate(|p| p.is_ca = rcgen::IsCa::NoCa))
    }),
    ("an authority of 17 KiB", "longer than", |_| forged(vec![0x30; 17 * 1024])),
    ("an authority that is not DER", "not a certificate", |_| forged(b"nonsense".to_vec())),
];
