//! The TLS side of a site: suites, client-certificate questions, tickets.
//!
//! `request` must not let rustls refuse a certificate (every verifier error is a fatal alert, which
//! tells a person nothing), so the verifier there checks the proof of possession and claims nothing;
//! [`classify`](super::classify()) decides afterwards. In `require` the same `classify` runs inside.

use std::cell::Cell;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use super::classify::{Cause, Classified, Refusal, classify};
use super::configuration::{BuildContext, DerData};
use super::register::Register;
use super::staple::ServedKey;
use crate::clock::SharedClock;
use crate::domain::{AuthorityKind, ClientAuth, Hostname};
use crate::pki;

/// The most certificates a client may present.
pub const MAX_CHAIN: usize = 4;
/// The most bytes a presented chain may have.
pub const MAX_CHAIN_BYTES: usize = 16 * 1024;

/// RFC 8737 §4: the protocol name of TLS-ALPN-01.
pub use rustls_acme::acme::ACME_TLS_ALPN_NAME;

/// Suites and protocol versions of every listener.
#[derive(Clone, Debug)]
pub struct TlsPolicy {
    provider: Arc<CryptoProvider>,
    versions: Vec<&'static rustls::SupportedProtocolVersion>,
}

impl TlsPolicy {
    /// TLS 1.3 and 1.2 with ECDHE AEAD suites only, AES-128-GCM first (SHA-384 costs a tenth of a
    /// handshake), X25519MLKEM768 preferred.
    pub fn modern() -> Self {
        let mut provider = aws_lc_rs::default_provider();
        // rustls offers nothing but ECDHE AEAD suites; only the order is ours.
        provider.cipher_suites.sort_by_key(|suite| !is_aes_128(suite.suite()));
        Self {
            provider: Arc::new(provider),
            versions: vec![&rustls::version::TLS13, &rustls::version::TLS12],
        }
    }

    /// Exactly these suites, by their IANA code, in this order, for exactly these versions.
    ///
    /// # Errors
    /// The first code that is not a suite we have, or a version that no suite is left for.
    pub fn with_suites(codes: &[u16], tls13: bool, tls12: bool) -> Result<Self, String> {
        let mut provider = aws_lc_rs::default_provider();
        let all = std::mem::take(&mut provider.cipher_suites);
        for code in codes {
            let suite = all.iter().find(|suite| u16::from(suite.suite()) == *code);
            provider.cipher_suites.push(*suite.ok_or_else(|| format!("{code:#06x} is not a suite of ours"))?);
        }
        let mut versions = Vec::new();
        if tls13 {
            versions.push(&rustls::version::TLS13);
        }
        if tls12 {
            versions.push(&rustls::version::TLS12);
        }
        if versions.is_empty() {
            return Err("no TLS version is left".to_owned());
        }
        for version in &versions {
            let is_13 = version.version == rustls::ProtocolVersion::TLSv1_3;
            if !provider.cipher_suites.iter().any(|suite| suite.tls13().is_some() == is_13) {
                return Err(format!("no suite is left for {:?}", version.version));
            }
        }
        Ok(Self { provider: Arc::new(provider), versions })
    }

    /// The crypto provider.
    pub fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    /// The protocol versions, newest first.
    pub fn versions(&self) -> &[&'static rustls::SupportedProtocolVersion] {
        &self.versions
    }
}

fn is_aes_128(suite: rustls::CipherSuite) -> bool {
    suite.as_str().is_some_and(|name| name.contains("AES_128_GCM"))
}

/// Why the TLS side of a site cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    /// There is no certificate to serve.
    #[error("there is no server certificate")]
    NoChain,
    /// The key cannot be read.
    #[error("the private key cannot be read")]
    Key(#[source] rustls::Error),
    /// The key is not the certificate's.
    #[error("the private key does not belong to the certificate")]
    Mismatch(#[source] rustls::Error),
    /// rustls refuses the settings.
    #[error("the TLS settings do not fit together")]
    Settings(#[source] rustls::Error),
    /// The challenge certificate could not be made.
    #[error("the TLS-ALPN-01 certificate could not be made: {0}")]
    Challenge(String),
}

/// Joins a chain and its key, and checks that they belong together.
///
/// # Errors
/// [`TlsFault::NoChain`], [`TlsFault::Key`], [`TlsFault::Mismatch`].
pub fn certified_key(
    chain: &[DerData],
    key_pkcs8: &[u8],
    tls: &TlsPolicy,
) -> Result<Arc<CertifiedKey>, TlsFault> {
    if chain.is_empty() {
        return Err(TlsFault::NoChain);
    }
    let chain = chain.iter().map(|der| CertificateDer::from(der.0.clone())).collect();
    let der = PrivateKeyDer::Pkcs8(key_pkcs8.to_vec().into());
    let key = tls.provider.key_provider.load_private_key(der).map_err(TlsFault::Key)?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(TlsFault::Mismatch)?;
    Ok(Arc::new(certified))
}

/// The distinguished names a site shows when it asks: those of the *issuing* authorities in force,
/// because iOS offers a certificate only if its direct issuer is listed. Sorted.
pub fn root_hints(register: &Register) -> Vec<Vec<u8>> {
    let mut hints: Vec<_> = register
        .authorities()
        .iter()
        .filter(|authority| authority.kind == AuthorityKind::Issuing && authority.state.is_in_force())
        .map(|authority| authority.subject.clone())
        // RFC 8446 §4.2.4: no name is empty.
        .filter(|subject| !subject.is_empty())
        .collect();
    hints.sort();
    hints
}

/// The server side of one site.
///
/// # Errors
/// [`TlsFault::Settings`].
pub fn site_config(
    key: ServedKey,
    client_auth: ClientAuth,
    hints: &[Vec<u8>],
    context: &BuildContext<'_>,
) -> Result<Arc<ServerConfig>, TlsFault> {
    let builder = ServerConfig::builder_with_provider(context.tls.provider.clone())
        .with_protocol_versions(&context.tls.versions)
        .map_err(TlsFault::Settings)?;
    let builder = match client_auth {
        ClientAuth::None => builder.with_no_client_auth(),
        ClientAuth::Request | ClientAuth::Require => {
            builder.with_client_cert_verifier(Arc::new(AskForCertificate {
                strict: (client_auth == ClientAuth::Require)
                    .then(|| (context.register.clone(), context.clock.clone())),
                hints: hints.iter().map(|der| DistinguishedName::from(der.clone())).collect(),
                provider: context.tls.provider.clone(),
            }))
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(key));
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if client_auth == ClientAuth::None {
        config.send_tls13_tickets = 1;
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsFault::Settings)?;
    } else {
        // rustls does not run the verifier on resumption, in TLS 1.3 or 1.2 (design, decision 2).
        config.send_tls13_tickets = 0;
    }
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// A certificate that answers TLS-ALPN-01 for `host` (RFC 8737 §3), with a key that lives only here.
///
/// # Errors
/// [`TlsFault::Challenge`].
pub fn challenge_key(host: &Hostname, digest: &[u8], tls: &TlsPolicy) -> Result<Arc<CertifiedKey>, TlsFault> {
    let (certificate, key) =
        pki::challenge::tls_alpn_certificate(host, digest).map_err(TlsFault::Challenge)?;
    let der = PrivateKeyDer::Pkcs8(key.expose().clone().into());
    let key = tls.provider.key_provider.load_private_key(der).map_err(TlsFault::Key)?;
    // Not `certified_key`: its check reads the certificate, and webpki stops at the critical
    // acmeIdentifier. The pair was made in one piece a line above.
    Ok(Arc::new(CertifiedKey::new(vec![certificate.into()], key)))
}

/// TLS for `acme-tls/1` connections: no client certificate, no other protocol.
pub fn challenge_config(keys: Vec<(Hostname, Arc<CertifiedKey>)>, tls: &TlsPolicy) -> Arc<ServerConfig> {
    let builder =
        ServerConfig::builder_with_provider(tls.provider.clone()).with_safe_default_protocol_versions();
    #[expect(clippy::expect_used, reason = "the provider keeps a suite for every version; see with_suites")]
    let builder = builder.expect("a provider with suites for TLS 1.2 and 1.3");
    let keys = keys.into_iter().collect();
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(ByName(keys)));
    config.alpn_protocols = vec![ACME_TLS_ALPN_NAME.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Arc::new(config)
}

#[derive(Debug)]
struct ByName(HashMap<Hostname, Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.get(&Hostname::normalize(hello.server_name()?).ok()?).cloned()
    }
}

thread_local! {
    /// Whom the handshake that is being polled on this thread has turned away: rustls passes on no more than
    /// the alert.
    static TURNED_AWAY: Cell<Option<Refusal>> = const { Cell::new(None) };
}

/// `handshake`, beside why a certificate was turned away in it (mode `require`).
pub async fn with_refusal<T>(handshake: impl Future<Output = T>) -> (T, Option<Refusal>) {
    let (mut handshake, mut refusal) = (pin!(handshake), None);
    let outcome = poll_fn(|cx| {
        TURNED_AWAY.set(None);
        let polled = handshake.as_mut().poll(cx);
        refusal = refusal.take().or(TURNED_AWAY.take());
        polled
    });
    let outcome = outcome.await;
    (outcome, refusal)
}

/// Asks for a client certificate, takes it if it can be read and its key is proven.
struct AskForCertificate {
    /// In `require`: what to classify against, inside the handshake.
    strict: Option<(Arc<Register>, SharedClock)>,
    hints: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
}

impl std::fmt::Debug for AskForCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AskForCertificate").field("strict", &self.strict.is_some()).finish_non_exhaustive()
    }
}

impl ClientCertVerifier for AskForCertificate {
    fn client_auth_mandatory(&self) -> bool {
        self.strict.is_some()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let bytes = end_entity.len() + intermediates.iter().map(|der| der.len()).sum::<usize>();
        if intermediates.len() >= MAX_CHAIN || bytes > MAX_CHAIN_BYTES {
            return Err(CertificateError::BadEncoding.into());
        }
        if let Some((register, clock)) = &self.strict {
            let chain = std::slice::from_ref(end_entity);
            match classify(chain, clock.now(), register) {
                Classified::Known(_) => {}
                Classified::None => return Err(CertificateError::UnknownIssuer.into()),
                Classified::Refused(refusal) => {
                    let alert = alert_for(refusal.cause);
                    TURNED_AWAY.set(Some(refusal));
                    return Err(alert.into());
                }
            }
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The alert nearest to the cause; all a strict site can say.
fn alert_for(cause: Cause) -> CertificateError {
    match cause {
        Cause::Expired => CertificateError::Expired,
        Cause::NotYetValid => CertificateError::NotValidYet,
        Cause::Revoked(_) => CertificateError::Revoked,
        Cause::BadSignature => CertificateError::BadSignature,
        Cause::WrongUsage => CertificateError::InvalidPurpose,
        Cause::Unreadable => CertificateError::BadEncoding,
        Cause::PersonDisabled => CertificateError::ApplicationVerificationFailure,
        Cause::AuthorityRetired | Cause::NotOnRecord | Cause::UnknownAuthority => {
            CertificateError::UnknownIssuer
        }
    }
}
