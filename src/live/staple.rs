//! The key that a site serves, with an OCSP answer beside it while that answer counts. Looked at in every
//! handshake, so that a staple which nobody could renew is not shown for a second too long.

use std::fmt;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::configuration::OcspData;
use crate::clock::SharedClock;
use crate::domain::UtcTime;

/// A server certificate and its key, stapled or not.
pub struct ServedKey {
    bare: Arc<CertifiedKey>,
    stapled: Option<Stapled>,
}

struct Stapled {
    key: Arc<CertifiedKey>,
    until: UtcTime,
    clock: SharedClock,
}

impl ServedKey {
    /// `key`, with `ocsp` beside it as long as `clock` is before its end.
    pub fn new(key: Arc<CertifiedKey>, ocsp: Option<&OcspData>, clock: SharedClock) -> Self {
        // rustls would send an empty one as it is.
        let stapled = ocsp.filter(|ocsp| !ocsp.der.0.is_empty()).map(|ocsp| Stapled {
            key: Arc::new(CertifiedKey {
                cert: key.cert.clone(),
                key: key.key.clone(),
                ocsp: Some(ocsp.der.0.clone()),
            }),
            until: ocsp.next_update,
            clock,
        });
        Self { bare: key, stapled }
    }

    /// What is shown in a handshake that happens now.
    fn now(&self) -> &Arc<CertifiedKey> {
        match &self.stapled {
            Some(stapled) if stapled.clock.now() < stapled.until => &stapled.key,
            _ => &self.bare,
        }
    }
}

impl ResolvesServerCert for ServedKey {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now().clone())
    }
}

impl fmt::Debug for ServedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let until = self.stapled.as_ref().map(|stapled| stapled.until);
        f.debug_struct("ServedKey").field("stapled_until", &until).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    use super::*;
    use crate::clock::{Clock, ManualClock};
    use crate::live::TlsPolicy;
    use crate::live::configuration::DerData;
    use crate::pki::keygen;

    fn key() -> Arc<CertifiedKey> {
        let der = PrivateKeyDer::Pkcs8(keygen::generate_p256().0.expose().clone().into());
        let key = TlsPolicy::modern().provider().key_provider.load_private_key(der).unwrap();
        Arc::new(CertifiedKey::new(vec![CertificateDer::from(vec![1])], key))
    }

    #[test]
    fn a_staple_is_shown_until_its_end_and_not_at_it() {
        let clock = ManualClock::at("2026-11-23T12:00:00Z".parse().unwrap());
        let next_update = clock.now().plus(Duration::from_secs(60));
        let ocsp = |der: &[u8]| OcspData { der: DerData(der.to_vec()), next_update };
        let served = ServedKey::new(key(), Some(&ocsp(&[7])), clock.clone());
        clock.advance(Duration::from_secs(59));
        assert_eq!(served.now().ocsp.as_deref(), Some(&[7][..]));
        clock.advance(Duration::from_secs(1));
        assert_eq!(served.now().ocsp, None);
        assert_eq!(ServedKey::new(key(), None, clock.clone()).now().ocsp, None);
        assert_eq!(ServedKey::new(key(), Some(&ocsp(&[])), clock).now().ocsp, None);
    }
}
