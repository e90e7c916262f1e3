//! Keeps an OCSP answer beside every server certificate whose issuer names a responder, so that visitors need
//! not ask (RFC 6066 §8). Called by the job `refresh_ocsp_staples`.
//!
//! Only what the issuer signed, what is in time and says `good` is kept. Without a new answer the old one is
//! shown until its end, and then none; the edge sees to that.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::responder::{self, AskFault};
use crate::activate::Enforce;
use crate::clock::SharedClock;
use crate::domain::{Hostname, RevocationReason, UtcTime};
use crate::pki::ocsp::{AnswerFault, CertStatus, StapleQuestion};
use crate::pki::pem;
use crate::store::alerts::{NewAlert, Severity};
use crate::store::configuration::ServerCertificate;
use crate::store::leases::Lease;
use crate::store::staples::Staple;
use crate::store::{Store, StoreError};

/// Alert: a server certificate's issuer says that it took it back.
pub const REVOKED: &str = "server_certificate_revoked";
/// Alert: there is no OCSP answer to staple.
pub const NOT_STAPLED: &str = "ocsp_staple_failing";

/// A responder may not know a certificate yet that is younger.
const UNKNOWN_AT_FIRST: Duration = Duration::from_secs(3600);

/// Fetches staples.
pub struct Staples {
    store: Store,
    enforce: Arc<dyn Enforce>,
}

/// How it went for one site.
#[derive(Debug)]
pub struct Refreshed {
    /// The site.
    pub host: Hostname,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of asking.
#[derive(Debug)]
pub enum Outcome {
    /// There is a new staple.
    Stapled {
        /// The first second in which it does not count any more.
        until: UtcTime,
    },
    /// The issuer took the certificate back; nothing is stapled any more.
    Revoked {
        /// When.
        at: UtcTime,
        /// Why.
        reason: RevocationReason,
    },
    /// There is no answer; the staple stays as it is.
    Failed(StapleFault),
}

/// Why there is no new staple.
#[derive(Debug, thiserror::Error)]
pub enum StapleFault {
    /// Nobody answered.
    #[error(transparent)]
    Ask(#[from] AskFault),
    /// What was answered does not count.
    #[error("the responder's answer does not count")]
    Answer(#[from] AnswerFault),
    /// The responder does not know the certificate.
    #[error("the responder does not know the certificate")]
    Unknown,
    /// The same responder failed for another site a moment ago.
    #[error("its responder did not answer for another site a moment ago")]
    Skipped,
}

/// What one run may use, and what it has learned.
struct Run<'a> {
    lease: &'a Lease,
    now: UtcTime,
    /// Responders that did not answer; asking them for every site would take all day.
    silent: BTreeSet<String>,
}

impl Staples {
    /// Fetches for the certificates in these rows, and has edges brought up to date.
    pub fn new(store: Store, enforce: Arc<dyn Enforce>) -> Self {
        Self { store, enforce }
    }

    /// Asks for every served certificate that has no staple, or one whose time is half over. One after
    /// another; `stop` ends it between two answers. Says what was due.
    ///
    /// # Errors
    /// [`StoreError`], also when `lease` is somebody else's by now; what was kept stands.
    pub async fn refresh(
        &self,
        lease: &Lease,
        clock: &SharedClock,
        stop: &CancellationToken,
    ) -> Result<Vec<Refreshed>, StoreError> {
        let mut all = Vec::new();
        let mut run = Run { lease, now: clock.now(), silent: BTreeSet::new() };
        let sites = self.store.sites().await?.into_iter().filter(|site| site.enabled);
        for certificate in sites.filter_map(|site| site.server_certificate) {
            run.now = clock.now();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                one = self.refresh_one(&certificate, &mut run) => {
                    let host = certificate.host.clone();
                    all.extend(one?.map(|outcome| Refreshed { host, outcome }));
                }
            }
        }
        if all.iter().any(|one| !matches!(one.outcome, Outcome::Failed(_))) {
            self.enforce.bring_up_to_date().await;
        }
        Ok(all)
    }

    /// `None` when nothing was due.
    async fn refresh_one(
        &self,
        certificate: &ServerCertificate,
        run: &mut Run<'_>,
    ) -> Result<Option<Outcome>, StoreError> {
        let (host, now) = (certificate.host.as_str(), run.now);
        let chain = pem::blocks(&certificate.chain_pem, "CERTIFICATE");
        let Some(question) = StapleQuestion::about(&chain) else {
            // What was wrong was wrong with the one before.
            self.store.close_alert(REVOKED, host, now).await?;
            self.store.close_alert(NOT_STAPLED, host, now).await?;
            return Ok(None);
        };
        let kept = certificate.staple.as_ref();
        if certificate.not_after <= now || kept.is_some_and(|staple| now < staple.refresh_at()) {
            return Ok(None);
        }
        match ask(&question, run).await {
            Ok((CertStatus::Good, staple)) => {
                self.store.close_alert(REVOKED, host, now).await?;
                self.store.close_alert(NOT_STAPLED, host, now).await?;
                // The responder signs rarely: we have its newest already.
                if kept.is_some_and(|kept| kept.this_update >= staple.this_update) {
                    return Ok(None);
                }
                self.keep(certificate, Some(&staple), run).await?;
                Ok(Some(Outcome::Stapled { until: staple.until }))
            }
            Ok((CertStatus::Revoked { at, reason }, _)) => {
                self.revoked(certificate, at, reason, run).await?;
                Ok(Some(Outcome::Revoked { at, reason }))
            }
            Ok((CertStatus::Unknown, _)) => {
                self.failed(certificate, &question, StapleFault::Unknown, now).await
            }
            Err(fault) => self.failed(certificate, &question, fault, now).await,
        }
    }

    async fn keep(
        &self,
        certificate: &ServerCertificate,
        staple: Option<&Staple>,
        run: &Run<'_>,
    ) -> Result<(), StoreError> {
        let transaction = self.store.begin().await?;
        transaction.check_lease(run.lease).await?;
        transaction.staple(&certificate.id, staple).await?;
        transaction.commit().await
    }

    /// A staple that says otherwise is a lie from now on.
    async fn revoked(
        &self,
        certificate: &ServerCertificate,
        at: UtcTime,
        reason: RevocationReason,
        run: &Run<'_>,
    ) -> Result<(), StoreError> {
        if certificate.staple.is_some() {
            self.keep(certificate, None, run).await?;
        }
        let host = &certificate.host;
        let message = format!(
            "The issuer of the certificate of {host} says that it took it back at {at} ({reason}). \
             Visitors may be turned away: renew it."
        );
        let severity = Severity::Critical;
        let alert = NewAlert { kind: REVOKED, object: host.as_str(), message: &message, severity };
        if self.store.raise_alert(alert, run.now).await? {
            tracing::error!(site = %host, revoked_at = %at, %reason, "The certificate of {host} was taken back by its issuer");
        }
        Ok(())
    }

    async fn failed(
        &self,
        certificate: &ServerCertificate,
        question: &StapleQuestion,
        fault: StapleFault,
        now: UtcTime,
    ) -> Result<Option<Outcome>, StoreError> {
        let host = &certificate.host;
        tracing::warn!(site = %host, error = &fault as &dyn std::error::Error, "{host} has no new OCSP answer to staple");
        if let Some(severity) = severity(certificate, question.must_staple(), now) {
            let shown = match certificate.staple.as_ref().filter(|staple| now < staple.until) {
                Some(staple) => format!("the one at hand counts until {}", staple.until),
                None => "none is shown".to_owned(),
            };
            let demand = match question.must_staple() {
                true => " The certificate demands one: browsers refuse it without.",
                false => "",
            };
            let message = format!("There is no new OCSP answer for {host}: {fault}; {shown}.{demand}");
            let alert = NewAlert { kind: NOT_STAPLED, object: host.as_str(), message: &message, severity };
            self.store.raise_alert(alert, now).await?;
        }
        Ok(Some(Outcome::Failed(fault)))
    }
}

/// What the responder says, with the answer as it would be kept.
async fn ask(question: &StapleQuestion, run: &mut Run<'_>) -> Result<(CertStatus, Staple), StapleFault> {
    let url = question.responder();
    if run.silent.contains(url) {
        return Err(StapleFault::Skipped);
    }
    let asked = responder::ask(url, question.request()).await;
    if let Err(AskFault::Connect { .. } | AskFault::Late(_)) = asked {
        run.silent.insert(url.to_owned());
    }
    let der = asked?;
    let answer = question.read(&der, run.now)?;
    let staple = Staple { der: der.to_vec(), this_update: answer.this_update, until: answer.until };
    Ok((answer.status, staple))
}

/// How much administrators should know of it: early where browsers insist on a staple, else when none is left.
fn severity(certificate: &ServerCertificate, must_staple: bool, now: UtcTime) -> Option<Severity> {
    let counts = certificate.staple.as_ref().is_some_and(|staple| now < staple.until);
    match (must_staple, counts) {
        (true, true) => Some(Severity::Warning),
        (true, false) => Some(Severity::Critical),
        (false, true) => None,
        (false, false) => (now >= certificate.created_at.plus(UNKNOWN_AT_FIRST)).then_some(Severity::Warning),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Fingerprint;
    use crate::store::configuration::CertificateSource;

    const NOW: UtcTime = UtcTime::from_unix(1_780_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn certificate(staple: Option<Staple>) -> ServerCertificate {
        ServerCertificate {
            id: "1".to_owned(),
            host: "app.test".parse().unwrap(),
            source: CertificateSource::Acme,
            chain_pem: String::new(),
            sealed_key: Vec::new(),
            serial: String::new(),
            issuer: String::new(),
            fingerprint: Fingerprint([0; 32]),
            not_before: NOW,
            not_after: NOW.plus(HOUR * 24 * 90),
            created_at: NOW,
            staple,
        }
    }

    #[test]
    fn it_is_asked_for_again_at_half_of_its_time() {
        let staple = Staple { der: vec![1], this_update: NOW, until: NOW.plus(HOUR * 4) };
        assert_eq!(staple.refresh_at(), NOW.plus(HOUR * 2));
    }

    #[test]
    fn must_staple_warns_early_and_others_when_none_is_left() {
        let staple = Staple { der: vec![1], this_update: NOW, until: NOW.plus(HOUR * 4) };
        let (with, without) = (certificate(Some(staple)), certificate(None));
        let at = |hours| NOW.plus(HOUR * hours);
        for (certificate, must_staple, hours, expected) in [
            (&with, true, 2, Some(Severity::Warning)),
            (&with, true, 4, Some(Severity::Critical)),
            (&with, false, 2, None),
            (&with, false, 4, Some(Severity::Warning)),
            (&without, true, 0, Some(Severity::Critical)),
            // A responder may need a while to know of it.
            (&without, false, 0, None),
            (&without, false, 1, Some(Severity::Warning)),
        ] {
            assert_eq!(severity(certificate, must_staple, at(hours)), expected, "{must_staple} {hours}");
        }
    }
}
