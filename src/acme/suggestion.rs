//! The authority's suggestion of when to renew (RFC 9773): asked for when the last answer said so, kept
//! together with the moment that was picked in it. Whatever fails here only means that the fraction of
//! the lifetime decides.

use std::time::Duration;

use instant_acme::CertificateIdentifier;
use rustls::pki_types::CertificateDer;

use super::Acme;
use super::fault::AcmeError;
use super::schedule::Window;
use crate::domain::{Hostname, UtcTime};
use crate::pki::pem;
use crate::store::acme::{Renewal, StoredWindow};
use crate::store::configuration::ServerCertificate;

/// Shortest time between two looks.
const MIN_LOOK: Duration = Duration::from_secs(60);
/// Longest time between two looks.
const MAX_LOOK: Duration = Duration::from_secs(24 * 3600);
/// After a look that failed.
const LOOK_AFTER_FAILURE: Duration = Duration::from_secs(6 * 3600);

impl Acme {
    /// What the authority suggests for this certificate, asked anew if it is time.
    pub(super) async fn window(
        &self,
        host: &Hostname,
        certificate: &ServerCertificate,
        renewal: &Renewal,
        now: UtcTime,
    ) -> Result<Option<Window>, AcmeError> {
        let fingerprint = certificate.fingerprint.to_string();
        // A window belongs to one certificate; that of a predecessor says nothing.
        let kept = renewal.window.as_ref().filter(|window| window.certificate == fingerprint);
        if let Some(kept) = kept.filter(|kept| kept.next_look > now) {
            return Ok(usable(kept));
        }
        let asked = self.ask(certificate, now).await;
        let (window, next_look) = match asked {
            Ok((window, span)) => (window, now.plus(span.clamp(MIN_LOOK, MAX_LOOK))),
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "No renewal information for {host}"
                );
                (kept.and_then(|kept| kept.window), now.plus(LOOK_AFTER_FAILURE))
            }
        };
        let selected = match (window, kept) {
            (Some(window), Some(kept)) if kept.window == Some(window) => kept.selected,
            (Some((start, end)), _) => Some(self.pick(start, end)),
            (None, _) => None,
        };
        let stored = StoredWindow { certificate: fingerprint, window, selected, next_look };
        let answer = usable(&stored);
        self.0.store.keep_window(host, stored).await?;
        Ok(answer)
    }

    async fn ask(
        &self,
        certificate: &ServerCertificate,
        now: UtcTime,
    ) -> Result<(Option<(UtcTime, UtcTime)>, Duration), AcmeError> {
        let session = self.sign_in(now).await?;
        let Some(identifier) = identifier(certificate) else { return Ok((None, MAX_LOOK)) };
        let read = |error| AcmeError::of(error, &session.http.last());
        let (information, span) = match session.account.renewal_info(&identifier).await {
            Ok(answer) => answer,
            Err(instant_acme::Error::Unsupported(_)) => return Ok((None, MAX_LOOK)),
            Err(error) => return Err(read(error)),
        };
        let start = UtcTime::from_unix(information.suggested_window.start.unix_timestamp());
        let end = UtcTime::from_unix(information.suggested_window.end.unix_timestamp());
        if let Some(url) = &information.explanation_url {
            let url: String = url.chars().filter(|character| !character.is_control()).take(200).collect();
            tracing::info!("The authority moved the renewal of {}: {url}", certificate.host);
        }
        Ok(((start < end).then_some((start, end)), span))
    }

    /// A moment in the window, uniformly.
    fn pick(&self, start: UtcTime, end: UtcTime) -> UtcTime {
        let mut random = [0; 8];
        self.0.entropy.fill(&mut random);
        let span = end.since(start).as_secs().max(1);
        start.plus(Duration::from_secs(u64::from_be_bytes(random) % span))
    }
}

/// The name under which the authority knows a certificate (RFC 9773 §4.1), if it can have one.
pub(super) fn identifier(certificate: &ServerCertificate) -> Option<CertificateIdentifier<'static>> {
    let leaf = pem::blocks(&certificate.chain_pem, "CERTIFICATE").into_iter().next()?;
    CertificateIdentifier::try_from(&CertificateDer::from(leaf)).ok().map(CertificateIdentifier::into_owned)
}

fn usable(stored: &StoredWindow) -> Option<Window> {
    let ((start, end), selected) = stored.window.zip(stored.selected)?;
    Some(Window { start, end, selected })
}
