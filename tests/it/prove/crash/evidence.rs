//! What is looked at after a restart, and what was found in all runs together.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use der::Decode;
use wicketgate::ca::Signed;
use wicketgate::domain::UtcTime;
use wicketgate::store::certificates::CertificateFilter;
use x509_cert::certificate::{Rfc5280, TbsCertificate};
use x509_cert::crl::{CertificateList, TbsCertList};

use crate::ca::fixture::World;

/// What all runs together showed.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) killed: u64,
    pub(super) failing: u64,
    pub(super) real: u64,
    pub(super) signed: u64,
    pub(super) not_struck: u64,
    pub(super) unrecorded: u64,
    pub(super) duplicate_serials: u64,
    pub(super) reused_numbers: u64,
    pub(super) unresolved: u64,
    pub(super) slowest_s: u64,
    /// Anything else that must not be, in words.
    pub(super) wrong: Vec<String>,
}

impl Found {
    pub(super) fn runs(&self) -> u64 {
        self.killed + self.failing + self.real
    }

    pub(super) fn is_clean(&self) -> bool {
        let bad = self.not_struck
            + self.unrecorded
            + self.duplicate_serials
            + self.reused_numbers
            + self.unresolved;
        bad == 0 && self.wrong.is_empty() && self.slowest_s <= 60 && self.signed > 0
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (own, others) in [
            (&mut self.killed, other.killed),
            (&mut self.failing, other.failing),
            (&mut self.real, other.real),
            (&mut self.signed, other.signed),
            (&mut self.not_struck, other.not_struck),
            (&mut self.unrecorded, other.unrecorded),
            (&mut self.duplicate_serials, other.duplicate_serials),
            (&mut self.reused_numbers, other.reused_numbers),
            (&mut self.unresolved, other.unresolved),
        ] {
            *own += others;
        }
        self.slowest_s = self.slowest_s.max(other.slowest_s);
        self.wrong.extend(other.wrong.iter().cloned());
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} runs killed, {} with the database failing, {} processes killed by SIGKILL; {} signatures: \
             {} unrecorded, {} duplicate serials, {} reused list numbers, {} unresolved intents, \
             slowest resolution {} s after restart, {} points not reached",
            self.killed,
            self.failing,
            self.real,
            self.signed,
            self.unrecorded,
            self.duplicate_serials,
            self.reused_numbers,
            self.unresolved,
            self.slowest_s,
            self.not_struck
        )?;
        self.wrong.iter().take(5).try_for_each(|wrong| write!(f, "; {wrong}"))
    }
}

/// Everything that was signed over one database, across crashes.
#[derive(Default)]
pub(super) struct Ledger {
    serials: BTreeMap<Vec<u8>, Vec<u8>>,
    numbers: BTreeMap<(Vec<u8>, Vec<u8>), Vec<u8>>,
}

impl Ledger {
    /// Takes in what a witness saw.
    pub(super) fn enter(&mut self, signed: &[Signed], found: &mut Found) {
        for one in signed {
            found.signed += 1;
            found.unrecorded += u64::from(!one.on_record);
            if let Ok(certificate) = TbsCertificate::from_der(&one.tbs) {
                let serial = certificate.serial_number().as_bytes().to_vec();
                let before = self.serials.insert(serial, one.tbs.clone());
                found.duplicate_serials += u64::from(before.is_some_and(|tbs| tbs != one.tbs));
            } else if let Ok(list) = TbsCertList::<Rfc5280>::from_der(&one.tbs) {
                let issuer = der::Encode::to_der(&list.issuer).unwrap();
                let extensions = list.crl_extensions.unwrap_or_default();
                let number = extensions.iter().find(|extension| extension.extn_id == CRL_NUMBER).unwrap();
                let key = (issuer, number.extn_value.as_bytes().to_vec());
                let before = self.numbers.insert(key, one.tbs.clone());
                found.reused_numbers += u64::from(before.is_some_and(|tbs| tbs != one.tbs));
            } else {
                found.wrong.push("something was signed that is neither certificate nor list".to_owned());
            }
        }
    }
}

const CRL_NUMBER: der::asn1::ObjectIdentifier = der::asn1::ObjectIdentifier::new_unwrap("2.5.29.20");

/// Closes what the crash left open, as the job does that runs at boot, and says how long it took.
pub(super) async fn resolve(world: &World, found: &mut Found) {
    let restarted = world.now();
    while let Some(wait) = world.ca.open_intents_belong_to_nobody_in(world.now()).await.unwrap() {
        world.clock.advance(wait.max(Duration::from_secs(1)));
        world.ca.resolve_intents(world.now()).await.unwrap();
        if world.now().since(restarted) > Duration::from_secs(120) {
            break;
        }
    }
    found.slowest_s = found.slowest_s.max(world.now().since(restarted).as_secs());
    found.unresolved += world.store.unresolved_intents(UtcTime::MAX).await.unwrap().len() as u64;
}

/// Every certificate has its intent, closed as issued, over the very bytes; no serial stands for both a
/// certificate and something abandoned; what was abandoned is on the next list.
pub(super) async fn check(world: &World, found: &mut Found) {
    let intents = world.store.every_intent().await.unwrap();
    let all = world.store.certificates(&CertificateFilter::default(), 100_000, world.now()).await.unwrap();
    for certificate in &all {
        let intent = intents.iter().find(|intent| intent.serial == certificate.serial);
        let whole = intent.is_some_and(|intent| {
            intent.outcome.as_deref() == Some("issued")
                && certificate.der.windows(intent.tbs.len()).any(|part| part == intent.tbs)
        });
        if !whole {
            found.wrong.push(format!("certificate {} without its intent", certificate.serial));
        }
    }
    let issued = intents.iter().filter(|intent| intent.outcome.as_deref() == Some("issued")).count();
    if issued != all.len() {
        found
            .wrong
            .push(format!("{issued} intents are closed as issued, {} certificates are there", all.len()));
    }
    world.ca.publish_crls(world.now()).await.unwrap();
    let issuing = "client-issuing-g1".parse().unwrap();
    let Some(list) = world.store.latest_crl(&issuing).await.unwrap() else { return };
    let list = CertificateList::<Rfc5280>::from_der(&list.der).unwrap();
    let named: std::collections::BTreeSet<Vec<u8>> = list
        .tbs_cert_list
        .revoked_certificates
        .unwrap_or_default()
        .iter()
        .map(|entry| entry.serial_number.as_bytes().to_vec())
        .collect();
    for intent in intents.iter().filter(|intent| intent.outcome.as_deref() == Some("abandoned")) {
        let tbs = TbsCertificate::from_der(&intent.tbs).unwrap();
        if !named.contains(tbs.serial_number().as_bytes()) {
            found.wrong.push(format!("abandoned {} is on no list", intent.serial));
        }
    }
}
