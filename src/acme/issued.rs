//! Looks at what the authority issued before anything serves it: key, name, dates, chain, purpose.

use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::fault::AcmeError;
use crate::domain::{Fingerprint, Hostname, UtcTime};
use crate::pki::{chain, pem};

/// What is left of a lifetime at the least, for a certificate to be worth installing.
const MIN_LEFT: Duration = Duration::from_secs(60);

/// A chain that may be served.
#[derive(Clone, Debug)]
pub(super) struct IssuedChain {
    pub(super) serial: String,
    pub(super) issuer: String,
    pub(super) fingerprint: Fingerprint,
    pub(super) not_before: UtcTime,
    pub(super) not_after: UtcTime,
}

/// Checks the chain; the authority's root is not ours to judge, so the last certificate stands in for it.
pub(super) fn check(
    host: &Hostname,
    chain_pem: &str,
    key_pkcs8: &[u8],
    now: UtcTime,
) -> Result<IssuedChain, AcmeError> {
    let bad = |what: String| AcmeError::Issued(what);
    let ders = pem::blocks(chain_pem, "CERTIFICATE");
    let chain: Vec<CertificateDer<'static>> = ders.into_iter().map(CertificateDer::from).collect();
    let leaf = chain.first().ok_or_else(|| bad("there is no certificate in it".to_owned()))?;
    let view = chain::read_leaf(leaf).map_err(|error| bad(error.to_string()))?;
    let key = PrivateKeyDer::try_from(key_pkcs8.to_vec()).map_err(|error| bad(error.to_owned()))?;
    let provider = aws_lc_rs::default_provider();
    // Refuses a key that is not the leaf's.
    CertifiedKey::from_der(chain.clone(), key, &provider).map_err(|error| bad(error.to_string()))?;
    let end_entity = EndEntityCert::try_from(leaf).map_err(|error| bad(error.to_string()))?;
    let name = ServerName::try_from(host.as_str()).map_err(|error| bad(error.to_string()))?;
    end_entity.verify_is_valid_for_subject_name(&name).map_err(|_| bad(format!("it is not for {host}")))?;
    if view.not_after <= now.plus(MIN_LEFT) {
        return Err(bad(format!("it ended at {}", view.not_after)));
    }
    if let Some((last, between)) = chain[1..].split_last() {
        let anchor = anchor_from_trusted_cert(last).map_err(|error| bad(error.to_string()))?;
        // A leaf may be a minute younger than our clock: what was back-dated less than we are late.
        let time = now.max(view.not_before).as_unix();
        let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(time).unwrap_or(0)));
        let algorithms = provider.signature_verification_algorithms.all;
        end_entity
            .verify_for_usage(algorithms, &[anchor], between, time, KeyUsage::server_auth(), None, None)
            .map_err(|error| bad(format!("its chain does not hold: {error}")))?;
    }
    Ok(IssuedChain {
        serial: view.serial.map(|serial| serial.to_string()).unwrap_or_default(),
        issuer: issuer_of(leaf),
        fingerprint: Fingerprint::of(leaf),
        not_before: view.not_before,
        not_after: view.not_after,
    })
}

/// The issuer's name for people: its common name, else all of it.
fn issuer_of(leaf: &[u8]) -> String {
    use der::Decode;
    let name = x509_cert::Certificate::from_der(leaf)
        .map(|certificate| certificate.tbs_certificate().issuer().to_string())
        .unwrap_or_default();
    let common_name = name.split(',').find_map(|part| part.trim().strip_prefix("CN="));
    let shown = common_name.unwrap_or(&name);
    shown.chars().filter(|character| !character.is_control()).take(200).collect()
}
