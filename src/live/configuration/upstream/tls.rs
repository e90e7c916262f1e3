//! The TLS side of an upstream: whom it takes for a target, and what it shows of itself. Never unverified.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

use super::Target;
use crate::domain::upstream::{Protocol, UpstreamOptions};
use crate::live::configuration::UpstreamIdentity;
use crate::live::tls::TlsPolicy;

/// The TLS side of an upstream.
#[derive(Debug)]
pub struct UpstreamTls {
    /// Without a certificate of ours.
    config: Arc<ClientConfig>,
    /// For all targets, instead of their own.
    name: Option<ServerName<'static>>,
    presents: bool,
    roots: u64,
}

/// Who is trusted, and the digest of that: 0 where the upstream's options say it.
type Trust = (Arc<dyn ServerCertVerifier>, u64);

/// Who is trusted where an upstream names nobody: read once for a configuration, and only if it is needed.
pub(in crate::live::configuration) struct Roots<'a> {
    policy: &'a TlsPolicy,
    platform: Option<Trust>,
}

impl<'a> Roots<'a> {
    pub(in crate::live::configuration) fn new(policy: &'a TlsPolicy) -> Self {
        Self { policy, platform: None }
    }

    fn platform(&mut self) -> Result<Trust, String> {
        if let Some(kept) = &self.platform {
            return Ok(kept.clone());
        }
        let read = rustls_platform_verifier::Verifier::new(self.policy.provider().clone());
        let read =
            read.map_err(|cause| format!("the authorities that the host trusts are not there: {cause}"))?;
        let verifier: Arc<dyn ServerCertVerifier> = Arc::new(read);
        Ok(self.platform.insert((verifier, digest())).clone())
    }

    fn verifier(&mut self, ca: Option<&str>) -> Result<Trust, String> {
        let Some(ca) = ca else { return self.platform() };
        let provider = self.policy.provider().clone();
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(authorities(ca)?), provider);
        let verifier: Arc<dyn ServerCertVerifier> =
            builder.build().map_err(|cause| format!("the authorities do not do: {cause}"))?;
        Ok((verifier, 0))
    }
}

/// Of the authorities that the host trusts now. The verifier does not say which ones it has read.
fn digest() -> u64 {
    let mut trusted = rustls_native_certs::load_native_certs().certs;
    trusted.sort_unstable_by(|a, b| a[..].cmp(&b[..]));
    BuildHasherDefault::<DefaultHasher>::default().hash_one(trusted)
}

/// The authorities in a PEM text: at least one, and nothing else.
///
/// # Errors
/// A sentence that says what is wrong.
pub(super) fn authorities(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|_| "must be certificates in PEM".to_owned())?;
        roots.add(certificate).map_err(|_| "holds a certificate that cannot be read".to_owned())?;
    }
    if roots.is_empty() {
        return Err(
            "holds no certificate: write those of the authorities in PEM, -----BEGIN CERTIFICATE-----"
                .to_owned(),
        );
    }
    Ok(roots)
}

impl UpstreamTls {
    pub(super) fn of(options: &UpstreamOptions, roots: &mut Roots<'_>) -> Result<Self, String> {
        let own = options.tls.as_ref();
        let (verifier, roots_digest) = roots.verifier(own.and_then(|tls| tls.ca.as_deref()))?;
        let builder = ClientConfig::builder_with_provider(roots.policy.provider().clone())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|cause| format!("the TLS settings do not fit together: {cause}"))?;
        let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        let protocol: &[u8] = match options.protocol {
            Protocol::Http1 => b"http/1.1",
            Protocol::Http2 => b"h2",
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        // A resumed session verifies nobody, and goes on with the certificate that was shown before.
        config.resumption = Resumption::disabled();
        let name = own.and_then(|tls| tls.server_name.clone()).map(ServerName::try_from);
        let name = name.transpose().map_err(|_| "option /tls/server_name is not a name".to_owned())?;
        let presents = own.is_some_and(|tls| tls.present_certificate);
        Ok(Self { config: Arc::new(config), name, presents, roots: roots_digest })
    }

    /// Tells apart whom the host trusted when this was made, where that counts.
    pub fn roots(&self) -> u64 {
        self.roots
    }

    /// The name that a target has to prove.
    pub fn name<'a>(&'a self, target: &'a Target) -> Option<&'a ServerName<'static>> {
        target.tls_name.as_ref().map(|own| self.name.as_ref().unwrap_or(own))
    }

    /// The settings of one connection that shows no certificate; none where one has to be shown.
    pub fn anonymous(&self) -> Option<Arc<ClientConfig>> {
        (!self.presents).then(|| self.config.clone())
    }

    /// The settings of one connection that shows `identity`, and what is known of that afterwards.
    pub fn presenting(&self, identity: &UpstreamIdentity) -> (Arc<ClientConfig>, Arc<Presented>) {
        let certified = identity.certified.clone();
        let presented = Arc::new(Presented { certified, is_unfit: AtomicBool::new(false) });
        let mut config = (*self.config).clone();
        config.client_auth_cert_resolver = presented.clone();
        (Arc::new(config), presented)
    }
}

/// A certificate that one connection shows.
#[derive(Debug)]
pub struct Presented {
    certified: Arc<CertifiedKey>,
    is_unfit: AtomicBool,
}

impl Presented {
    /// Whether the target asked for a certificate and takes no signature of this one's key: rustls has gone on
    /// without any then.
    pub fn is_unfit(&self) -> bool {
        self.is_unfit.load(Ordering::Acquire)
    }
}

impl ResolvesClientCert for Presented {
    fn resolve(&self, _hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        if self.certified.key.choose_scheme(schemes).is_none() {
            self.is_unfit.store(true, Ordering::Release);
        }
        Some(self.certified.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
