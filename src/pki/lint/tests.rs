//! One seeded fault per rule: each draft starts lawful, one thing in it goes wrong, and the rule of
//! that name must speak.

use super::*;
use crate::domain::{Serial, UtcTime};
use crate::pki::fixtures::{self, Authority, END, START, root, serial};
use crate::pki::prepared::signature_algorithm;
use crate::pki::{encode, extensions as ext, names, oid};

/// A TBSCertificate in parts.
struct Draft {
    version: Vec<u8>,
    serial: Vec<u8>,
    algorithm: Vec<u8>,
    issuer: Vec<u8>,
    from: Vec<u8>,
    to: Vec<u8>,
    subject: Vec<u8>,
    spki: Vec<u8>,
    unique_id: Vec<u8>,
    extensions: Vec<Vec<u8>>,
}

impl Draft {
    fn tbs(&self) -> Vec<u8> {
        encode::sequence(&[
            &self.version,
            &self.serial,
            &self.algorithm,
            &self.issuer,
            &encode::sequence(&[&self.from, &self.to]),
            &self.subject,
            &self.spki,
            &self.unique_id,
            &encode::context_constructed(3, &encode::sequence_of(&self.extensions)),
        ])
    }

    /// Replaces the extension with this identifier.
    fn set(&mut self, id: der::asn1::ObjectIdentifier, with: Vec<u8>) {
        self.drop(id);
        self.extensions.push(with);
    }

    fn drop(&mut self, id: der::asn1::ObjectIdentifier) {
        let id = encode::oid(id);
        self.extensions.retain(|extension| !extension.windows(id.len()).any(|window| window == id));
    }
}

fn name(text: &str) -> Vec<u8> {
    names::distinguished(&[(oid::COMMON_NAME, "name", Some(text))]).unwrap()
}

fn client(issuing: &Authority) -> Draft {
    let key = fixtures::public_key();
    let url = ["http://localhost/pki/x".to_owned()];
    Draft {
        version: encode::context_constructed(0, &encode::number(2)),
        serial: encode::serial(serial(9)),
        algorithm: signature_algorithm(),
        issuer: issuing.certificate.subject_der().to_vec(),
        from: encode::time(START),
        to: encode::time(END),
        subject: name("Anna"),
        spki: key.spki_der().to_vec(),
        unique_id: Vec::new(),
        extensions: vec![
            ext::authority_key_identifier(issuing.certificate.key_id()),
            ext::subject_key_identifier(&key.key_id()),
            ext::key_usage(ext::DIGITAL_SIGNATURE),
            ext::extended_key_usage(oid::KP_CLIENT_AUTH),
            ext::subject_alt_name(&[names::email("anna@example.com").unwrap()]).unwrap(),
            ext::crl_distribution_points(&url).unwrap().unwrap(),
            ext::authority_info_access(&url, &url).unwrap().unwrap(),
        ],
    }
}

fn server(authority: &Authority) -> Draft {
    let mut draft = client(authority);
    draft.set(oid::EXTENDED_KEY_USAGE, ext::extended_key_usage(oid::KP_SERVER_AUTH));
    draft.set(oid::SUBJECT_ALT_NAME, ext::subject_alt_name(&[names::host("localhost").unwrap()]).unwrap());
    draft.drop(oid::CRL_DISTRIBUTION_POINTS);
    draft.drop(oid::AUTHORITY_INFO_ACCESS);
    draft
}

fn issuing(root: &Authority) -> Draft {
    let mut draft = client(root);
    draft.drop(oid::SUBJECT_ALT_NAME);
    draft.set(oid::KEY_USAGE, ext::key_usage(ext::KEY_CERT_SIGN | ext::CRL_SIGN));
    draft.set(oid::BASIC_CONSTRAINTS, ext::basic_constraints(0));
    draft
}

/// The rules that a draft breaks.
fn broken(findings: Vec<Finding>) -> Vec<&'static str> {
    findings.into_iter().map(|finding| finding.rule).collect()
}

type Fault = (&'static str, fn(&mut Draft));

/// A SHA-384 RSA algorithm identifier, which is none of ours.
fn rsa_algorithm() -> Vec<u8> {
    encode::sequence(&[&encode::oid(oid::SHA384_WITH_RSA), &encode::null()])
}

const OF_ANY_CERTIFICATE: &[Fault] = &[
    ("version", |d| d.version = Vec::new()),
    ("serial", |d| d.serial = encode::number(0)),
    ("serial", |d| d.serial = vec![2, 1, 0xff]),
    ("serial", |d| d.serial = encode::tlv(2, &[0x7f; 21])),
    ("signature_algorithm", |d| d.algorithm = rsa_algorithm()),
    ("issuer_empty", |d| d.issuer = encode::sequence(&[])),
    ("subject_empty", |d| d.subject = encode::sequence(&[])),
    ("validity", |d| std::mem::swap(&mut d.from, &mut d.to)),
    ("time_form", |d| d.from = encode::generalized_time(START)),
    ("unique_ids", |d| d.unique_id = encode::context(1, &[0, 1])),
    ("extension_twice", |d| d.extensions.push(d.extensions[0].clone())),
    ("extension_unknown", |d| d.extensions.push(ext::plain(oid::COMMON_NAME, &encode::null()))),
    ("subject_key_id", |d| d.drop(oid::SUBJECT_KEY_IDENTIFIER)),
    ("subject_key_id", |d| d.set(oid::SUBJECT_KEY_IDENTIFIER, ext::subject_key_identifier(&[7; 20]))),
    ("public_key", |d| d.spki[30] ^= 1),
    ("authority_key_id", |d| d.drop(oid::AUTHORITY_KEY_IDENTIFIER)),
    ("authority_key_id", |d| {
        let with_serial = encode::sequence(&[&encode::context(0, &[1]), &encode::context(2, &[1])]);
        d.set(oid::AUTHORITY_KEY_IDENTIFIER, ext::plain(oid::AUTHORITY_KEY_IDENTIFIER, &with_serial));
    }),
    ("key_usage", |d| d.drop(oid::KEY_USAGE)),
    ("key_usage", |d| d.set(oid::KEY_USAGE, ext::key_usage(0xa4))),
    ("key_usage", |d| d.set(oid::KEY_USAGE, ext::plain(oid::KEY_USAGE, &encode::named_bits(0x80)))),
    ("purpose", |d| d.drop(oid::EXTENDED_KEY_USAGE)),
    ("purpose", |d| {
        let both = [encode::oid(oid::KP_CLIENT_AUTH), encode::oid(oid::KP_SERVER_AUTH)];
        d.set(oid::EXTENDED_KEY_USAGE, ext::plain(oid::EXTENDED_KEY_USAGE, &encode::sequence_of(&both)));
    }),
    ("der", |d| d.unique_id = encode::null()),
    // DER leaves the default out; x509-cert reads it and would not write it.
    ("der", |d| {
        let id = encode::oid(oid::SUBJECT_KEY_IDENTIFIER);
        let value = d.extensions[1][id.len() + 2..].to_vec();
        d.set(oid::SUBJECT_KEY_IDENTIFIER, encode::sequence(&[&id, &[1, 1, 0], &value]));
    }),
];

const OF_A_LEAF: &[Fault] = &[
    ("leaf_constraints", |d| d.extensions.push(ext::basic_constraints(0))),
    ("self_issued", |d| d.subject = d.issuer.clone()),
    ("alternative_names", |d| {
        d.set(oid::SUBJECT_ALT_NAME, ext::plain(oid::SUBJECT_ALT_NAME, &encode::sequence(&[])))
    }),
    ("alternative_names", |d| {
        let names = encode::sequence(&[&encode::context(8, &[42])]);
        d.set(oid::SUBJECT_ALT_NAME, ext::plain(oid::SUBJECT_ALT_NAME, &names));
    }),
];

const OF_URLS: &[Fault] = &[
    ("crl_urls", |d| {
        let name = encode::context(6, b"https://localhost/x");
        let point = encode::context_constructed(0, &encode::context_constructed(0, &name));
        let points = encode::sequence(&[&encode::sequence(&[&point])]);
        d.set(oid::CRL_DISTRIBUTION_POINTS, ext::plain(oid::CRL_DISTRIBUTION_POINTS, &points));
    }),
    ("access_urls", |d| {
        let time_stamping = der::asn1::ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.3");
        let access =
            encode::sequence(&[&encode::oid(time_stamping), &encode::context(6, b"http://localhost/x")]);
        d.set(
            oid::AUTHORITY_INFO_ACCESS,
            ext::plain(oid::AUTHORITY_INFO_ACCESS, &encode::sequence(&[&access])),
        );
    }),
];

const OF_AN_AUTHORITY: &[Fault] = &[
    ("constraints", |d| d.drop(oid::BASIC_CONSTRAINTS)),
    ("constraints", |d| d.set(oid::BASIC_CONSTRAINTS, ext::basic_constraints(1))),
    ("constraints", |d| {
        let ca = encode::sequence(&[&encode::yes(), &encode::number(0)]);
        d.set(oid::BASIC_CONSTRAINTS, ext::plain(oid::BASIC_CONSTRAINTS, &ca));
    }),
    ("constraints", |d| {
        d.set(oid::BASIC_CONSTRAINTS, ext::critical(oid::BASIC_CONSTRAINTS, &encode::sequence(&[])))
    }),
    ("extension_unknown", |d| d.extensions.extend(ext::subject_alt_name(&[names::host("a.b").unwrap()]))),
];

fn check(draft: impl Fn() -> Draft, lint: fn(&[u8]) -> Vec<Finding>, faults: &[&[Fault]]) {
    assert_eq!(broken(lint(&draft().tbs())), Vec::<&str>::new(), "a lawful draft");
    for (at, (rule, seed)) in faults.concat().into_iter().enumerate() {
        let mut bad = draft();
        seed(&mut bad);
        let found = broken(lint(&bad.tbs()));
        assert!(found.contains(&rule), "fault {at}: {rule} is not in {found:?}");
    }
}

#[test]
fn every_rule_of_a_client_certificate_speaks() {
    let issuing = fixtures::issuing_under(&root());
    check(|| client(&issuing), lint_client, &[OF_ANY_CERTIFICATE, OF_A_LEAF, OF_URLS]);
}

#[test]
fn every_rule_of_a_server_leaf_speaks() {
    let authority = fixtures::self_signed(crate::pki::AuthorityKind::LocalServer, "Local");
    let nameless: &[Fault] = &[("alternative_names", |d| d.drop(oid::SUBJECT_ALT_NAME))];
    check(|| server(&authority), lint_server, &[OF_ANY_CERTIFICATE, OF_A_LEAF, nameless]);
}

#[test]
fn every_rule_of_an_ocsp_signer_speaks() {
    let issuing = fixtures::issuing_under(&root());
    let lawful = || {
        let mut draft = client(&issuing);
        for id in [oid::SUBJECT_ALT_NAME, oid::CRL_DISTRIBUTION_POINTS, oid::AUTHORITY_INFO_ACCESS] {
            draft.drop(id);
        }
        draft.set(oid::EXTENDED_KEY_USAGE, ext::extended_key_usage(oid::KP_OCSP_SIGNING));
        draft.extensions.push(ext::plain(oid::OCSP_NOCHECK, &encode::null()));
        draft.to = encode::time(START.plus(std::time::Duration::from_secs(14 * 86_400)));
        draft
    };
    let own: &[Fault] = &[
        ("nocheck", |d| d.drop(oid::OCSP_NOCHECK)),
        ("nocheck", |d| d.set(oid::OCSP_NOCHECK, ext::critical(oid::OCSP_NOCHECK, &encode::null()))),
        ("signer_lifetime", |d| d.to = encode::time(END)),
        ("purpose", |d| d.set(oid::EXTENDED_KEY_USAGE, ext::extended_key_usage(oid::KP_CLIENT_AUTH))),
        ("extension_unknown", |d| d.extensions.extend(ext::subject_alt_name(&[names::host("a.b").unwrap()]))),
    ];
    check(lawful, lint_ocsp_signer, &[OF_ANY_CERTIFICATE, &OF_A_LEAF[..2], own]);
}

#[test]
fn every_rule_of_an_authority_speaks() {
    let root = root();
    check(|| issuing(&root), lint_authority, &[OF_ANY_CERTIFICATE, OF_AN_AUTHORITY, OF_URLS]);
}

#[test]
fn a_self_signed_authority_has_no_purpose_or_serves_servers() {
    let root = root();
    let self_signed = |purpose| {
        let mut draft = issuing(&root);
        draft.subject = draft.issuer.clone();
        draft.set(oid::EXTENDED_KEY_USAGE, ext::extended_key_usage(purpose));
        broken(lint_authority(&draft.tbs()))
    };
    assert_eq!(self_signed(oid::KP_SERVER_AUTH), Vec::<&str>::new());
    assert_eq!(self_signed(oid::KP_CLIENT_AUTH), ["purpose"]);
}

#[test]
fn every_rule_of_an_upstream_authority_speaks() {
    let root = root();
    let draft = || {
        let mut draft = issuing(&root);
        draft.subject = draft.issuer.clone();
        for id in [oid::AUTHORITY_KEY_IDENTIFIER, oid::CRL_DISTRIBUTION_POINTS, oid::AUTHORITY_INFO_ACCESS] {
            draft.drop(id);
        }
        draft
    };
    let own: &[Fault] = &[
        ("self_issued", |d| d.subject = name("Another")),
        ("purpose", |d| d.drop(oid::EXTENDED_KEY_USAGE)),
        ("purpose", |d| d.set(oid::EXTENDED_KEY_USAGE, ext::extended_key_usage(oid::KP_SERVER_AUTH))),
        ("constraints", |d| d.drop(oid::BASIC_CONSTRAINTS)),
        ("constraints", |d| d.set(oid::BASIC_CONSTRAINTS, ext::basic_constraints(1))),
        ("extension_unknown", |d| d.extensions.extend(ext::subject_alt_name(&[names::host("a.b").unwrap()]))),
    ];
    check(draft, lint_upstream_authority, &[own]);
    let self_signed = fixtures::self_signed(crate::pki::AuthorityKind::Upstream, "Upstream");
    assert_eq!(self_signed.certificate.path_len(), Some(0));
}

#[test]
fn every_rule_of_a_cross_certificate_speaks() {
    let (old, new) =
        (root(), fixtures::self_signed(crate::domain::AuthorityKind::Root, "Test Client Root G2"));
    let draft = || {
        let mut draft = issuing(&old);
        draft.subject = new.certificate.subject_der().to_vec();
        draft.spki = new.certificate.spki_der().to_vec();
        draft.set(oid::SUBJECT_KEY_IDENTIFIER, ext::subject_key_identifier(new.certificate.key_id()));
        draft.set(oid::BASIC_CONSTRAINTS, ext::basic_constraints(1));
        draft
    };
    let lint = |draft: &Draft| broken(lint_cross(&draft.tbs(), &new.certificate));
    assert_eq!(lint(&draft()), Vec::<&str>::new());
    type Fault<'a> = (&'a str, &'a dyn Fn(&mut Draft));
    let faults: &[Fault<'_>] = &[
        ("self_issued", &|d| d.issuer = d.subject.clone()),
        ("purpose", &|d| d.drop(oid::EXTENDED_KEY_USAGE)),
        ("constraints", &|d| d.set(oid::BASIC_CONSTRAINTS, ext::basic_constraints(2))),
        ("cross_subject", &|d| d.subject = name("Test Client Root G3")),
        ("cross_subject", &|d| d.spki = old.certificate.spki_der().to_vec()),
        ("cross_key_id", &|d| d.set(oid::SUBJECT_KEY_IDENTIFIER, ext::subject_key_identifier(&[7; 20]))),
        ("authority_key_id", &|d| d.drop(oid::AUTHORITY_KEY_IDENTIFIER)),
        ("outlives_subject", &|d| d.to = encode::time(END.plus(std::time::Duration::from_secs(1)))),
        ("extension_unknown", &|d| d.extensions.push(ext::plain(oid::COMMON_NAME, &encode::null()))),
    ];
    for (rule, seed) in faults {
        let mut bad = draft();
        seed(&mut bad);
        assert!(lint(&bad).contains(rule), "{rule}");
    }
}

#[test]
fn every_rule_between_a_certificate_and_its_issuer_speaks() {
    let root = root();
    let issuing = fixtures::issuing_under(&root);
    type Fault<'a> = (&'a str, &'a dyn Fn(&mut Draft));
    let faults: &[Fault<'_>] = &[
        ("issuer_name", &|d| d.issuer = name("Somebody else")),
        // The same name to a reader, not to octets: PrintableString instead of UTF8String.
        ("issuer_name", &|d| d.issuer.iter_mut().filter(|b| **b == 0x0c).for_each(|b| *b = 0x13)),
        ("issuer_key", &|d| {
            d.set(oid::AUTHORITY_KEY_IDENTIFIER, ext::authority_key_identifier(root.certificate.key_id()));
        }),
        ("issuer_key", &|d| d.drop(oid::AUTHORITY_KEY_IDENTIFIER)),
        ("outlives_issuer", &|d| d.to = encode::time(UtcTime::from_unix(END.as_unix() + 1))),
        ("own_key", &|d| d.spki = issuing.certificate.spki_der().to_vec()),
        ("own_name", &|d| d.subject = issuing.certificate.subject_der().to_vec()),
        ("der", &|d| d.spki = Vec::new()),
    ];
    assert_eq!(lint_under(&client(&issuing).tbs(), &issuing.certificate), []);
    for (rule, seed) in faults {
        let mut bad = client(&issuing);
        seed(&mut bad);
        assert!(broken(lint_under(&bad.tbs(), &issuing.certificate)).contains(rule), "{rule}");
    }
}

/// A TBSCertList in parts.
struct List {
    version: Vec<u8>,
    algorithm: Vec<u8>,
    issuer: Vec<u8>,
    this: Vec<u8>,
    next: Vec<u8>,
    revoked: Vec<u8>,
    extensions: Vec<Vec<u8>>,
}

impl List {
    fn tbs(&self) -> Vec<u8> {
        let extensions = encode::context_constructed(0, &encode::sequence_of(&self.extensions));
        let (version, algorithm, revoked) = (&self.version, &self.algorithm, &self.revoked);
        encode::sequence(&[version, algorithm, &self.issuer, &self.this, &self.next, revoked, &extensions])
    }
}

fn list(issuing: &Authority) -> List {
    List {
        version: encode::number(1),
        algorithm: signature_algorithm(),
        issuer: issuing.certificate.subject_der().to_vec(),
        this: encode::time(START),
        next: encode::time(END),
        revoked: encode::sequence(&[&revoked(serial(1), &[]), &revoked(serial(2), &[reason(1)])]),
        extensions: vec![
            ext::authority_key_identifier(issuing.certificate.key_id()),
            ext::crl_number(300),
            ext::issuing_distribution_point("http://localhost/pki/x.crl").unwrap(),
        ],
    }
}

fn revoked(serial: Serial, extensions: &[Vec<u8>]) -> Vec<u8> {
    let extensions = if extensions.is_empty() { Vec::new() } else { encode::sequence_of(extensions) };
    encode::sequence(&[&encode::serial(serial), &encode::time(START), &extensions])
}

fn reason(code: u8) -> Vec<u8> {
    ext::plain(oid::REASON_CODE, &encode::enumerated(code))
}

type ListFault = (&'static str, fn(&mut List));

const OF_A_LIST: &[ListFault] = &[
    ("version", |l| l.version = Vec::new()),
    ("signature_algorithm", |l| l.algorithm = rsa_algorithm()),
    ("issuer_empty", |l| l.issuer = encode::sequence(&[])),
    ("next_update", |l| l.next = Vec::new()),
    ("next_update", |l| l.next = l.this.clone()),
    ("time_form", |l| l.this = encode::generalized_time(START)),
    ("time_form", |l| l.next = encode::generalized_time(END)),
    ("revoked_empty", |l| l.revoked = encode::sequence(&[])),
    ("order", |l| l.revoked = encode::sequence(&[&revoked(serial(2), &[]), &revoked(serial(1), &[])])),
    ("order", |l| l.revoked = encode::sequence(&[&revoked(serial(2), &[]), &revoked(serial(2), &[])])),
    ("serial", |l| {
        l.revoked = encode::sequence(&[&encode::sequence(&[&encode::number(0), &encode::time(START)])]);
    }),
    ("time_form", |l| {
        let entry = encode::sequence(&[&encode::serial(serial(1)), &encode::generalized_time(START)]);
        l.revoked = encode::sequence(&[&entry]);
    }),
    ("entry_extensions", |l| l.revoked = encode::sequence(&[&revoked(serial(1), &[reason(0)])])),
    ("entry_extensions", |l| l.revoked = encode::sequence(&[&revoked(serial(1), &[reason(7)])])),
    ("entry_extensions", |l| l.revoked = encode::sequence(&[&revoked(serial(1), &[reason(8)])])),
    ("entry_extensions", |l| {
        let short = ext::plain(oid::INVALIDITY_DATE, &encode::time(START));
        l.revoked = encode::sequence(&[&revoked(serial(1), &[short])]);
    }),
    ("entry_extensions", |l| {
        let critical = ext::critical(oid::REASON_CODE, &encode::enumerated(1));
        l.revoked = encode::sequence(&[&revoked(serial(1), &[critical])]);
    }),
    ("authority_key_id", |l| drop(l.extensions.remove(0))),
    ("crl_number", |l| drop(l.extensions.remove(1))),
    ("crl_number", |l| l.extensions[1] = ext::plain(oid::CRL_NUMBER, &encode::unsigned(&[0x7f; 21]))),
    ("distribution_point", |l| {
        let flags = encode::sequence(&[&encode::context(1, &[0xff])]);
        l.extensions[2] = ext::critical(oid::ISSUING_DISTRIBUTION_POINT, &flags);
    }),
    ("extension_unknown", |l| l.extensions.push(ext::plain(oid::COMMON_NAME, &encode::null()))),
    ("extension_twice", |l| l.extensions.push(ext::crl_number(301))),
    ("der", |l| l.algorithm = Vec::new()),
];

#[test]
fn every_rule_of_a_list_speaks() {
    let issuing = fixtures::issuing_under(&root());
    assert_eq!(lint_crl(&list(&issuing).tbs()), []);
    for (at, (rule, seed)) in OF_A_LIST.iter().enumerate() {
        let mut bad = list(&issuing);
        seed(&mut bad);
        let found = broken(lint_crl(&bad.tbs()));
        assert!(found.contains(rule), "fault {at}: {rule} is not in {found:?}");
    }
}

#[test]
fn every_rule_between_a_list_and_its_issuer_speaks() {
    let root = root();
    let issuing = fixtures::issuing_under(&root);
    assert_eq!(lint_crl_under(&list(&issuing).tbs(), &issuing.certificate), []);
    let of_root = broken(lint_crl_under(&list(&root).tbs(), &issuing.certificate));
    assert_eq!(of_root, ["issuer_name", "issuer_key"]);
    let mut parents_key = list(&issuing);
    parents_key.extensions[0] = ext::authority_key_identifier(root.certificate.key_id());
    assert_eq!(broken(lint_crl_under(&parents_key.tbs(), &issuing.certificate)), ["issuer_key"]);
}
