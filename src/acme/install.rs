//! Puts an issued certificate in place: one transaction, then a handshake that shows it. The one
//! before serves until then, and again if the handshake shows anything else.

use std::time::Duration;

use super::fault::AcmeError;
use super::issued;
use super::order::Drive;
use super::prove::ProveError;
use crate::crash;
use crate::domain::audit::{Act, Outcome};
use crate::domain::{Actor, Fingerprint};
use crate::store::acme::{OrderState, Renewal};
use crate::store::alerts::{NewAlert, Severity};
use crate::store::configuration::{CertificateSource, ServerCertificate};
use crate::telemetry::TraceContext;

/// Handshakes before the verdict; edges swap within milliseconds.
const TRIES: u32 = 6;
/// Pause between them.
const PAUSE: Duration = Duration::from_millis(300);

/// Alert: nobody could be asked which certificate is served.
pub(super) const UNPROVEN: &str = "server_certificate_unproven";

/// What a series of handshakes showed.
enum Verdict {
    Served,
    NotServed(String),
    Unknown(String),
}

impl Drive<'_> {
    /// From the stored chain to a certificate that is seen to be served.
    pub(super) async fn install(&mut self, act: &Act) -> Result<ServerCertificate, AcmeError> {
        let certificate = match self.order.state {
            OrderState::Installed => self.installed().await?,
            _ => self.put_in_place(act).await?,
        };
        self.acme.0.enforce.bring_up_to_date().await;
        let host = &certificate.host;
        let now = self.acme.now();
        match self.look(certificate.fingerprint).await {
            Verdict::Served => self.acme.0.store.close_alert(UNPROVEN, host.as_str(), now).await?,
            Verdict::Unknown(why) => {
                // The old one would not be reached either; going back would only waste this one.
                let message = format!("The new certificate of {host} is in place, but not seen yet: {why}.");
                let alert = NewAlert {
                    kind: UNPROVEN,
                    object: host.as_str(),
                    message: &message,
                    severity: Severity::Warning,
                };
                self.acme.0.store.raise_alert(alert, now).await?;
            }
            Verdict::NotServed(why) => {
                self.go_back().await?;
                return Err(AcmeError::NotServed(why));
            }
        }
        self.order.state = OrderState::Done;
        let transaction = self.acme.0.store.begin().await?;
        transaction.update_acme_order(&self.order, self.lease, now).await?;
        transaction.commit().await?;
        Ok(certificate)
    }

    /// Everything that makes it the site's certificate, or nothing of it.
    async fn put_in_place(&mut self, act: &Act) -> Result<ServerCertificate, AcmeError> {
        let now = self.acme.now();
        let chain_pem = self.order.chain_pem.clone().unwrap_or_default();
        let key = self.open_key()?;
        let host = self.site.host.clone();
        let chain = issued::check(&host, &chain_pem, key.expose(), now)?;
        let id = uuid::Uuid::now_v7().to_string();
        let sealed_key = self.acme.0.vaults.server.seal(ServerCertificate::place(&id), key.expose())?;
        let certificate = ServerCertificate {
            id: id.clone(),
            host: host.clone(),
            source: CertificateSource::Acme,
            chain_pem,
            sealed_key,
            serial: chain.serial,
            issuer: chain.issuer,
            fingerprint: chain.fingerprint,
            not_before: chain.not_before,
            not_after: chain.not_after,
            created_at: now,
            staple: None,
        };
        self.order.state = OrderState::Installed;
        self.order.certificate_id = Some(id.clone());
        self.order.previous_certificate_id =
            self.site.server_certificate.as_ref().map(|previous| previous.id.clone());
        let renewal = Renewal { succeeded_at: Some(now), ..Renewal::default() };
        let transaction = self.acme.0.store.begin().await?;
        transaction.update_acme_order(&self.order, self.lease, now).await?;
        transaction.insert_server_certificate(&certificate).await?;
        transaction.serve_certificate(&host, &id).await?;
        transaction.replace_challenges(&self.order.id, &[]).await?;
        transaction.set_renewal(&host, &renewal).await?;
        let detail = format!("serial {} until {}", certificate.serial, certificate.not_after);
        transaction.finish_act(act, Outcome::Succeeded, Some(&detail), now).await?;
        transaction.commit().await?;
        crash::reach("acme.after_install");
        Ok(certificate)
    }

    /// What an earlier run put in place and did not see served.
    async fn installed(&self) -> Result<ServerCertificate, AcmeError> {
        let id = self.order.certificate_id.as_deref().unwrap_or_default();
        let row = self.acme.0.store.server_certificate(id).await?;
        row.ok_or_else(|| AcmeError::Issued("its row is gone".to_owned()))
    }

    async fn look(&self, expected: Fingerprint) -> Verdict {
        let mut verdict = Verdict::Unknown(String::new());
        for attempt in 0..TRIES {
            if attempt > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            verdict = match self.acme.0.prove.served_leaf(&self.site.host).await {
                Ok(seen) if seen == expected => return Verdict::Served,
                Ok(seen) => Verdict::NotServed(format!("a handshake shows {seen} instead of {expected}")),
                Err(error @ ProveError::Unreachable(_)) => Verdict::Unknown(error.to_string()),
                Err(error) => Verdict::NotServed(error.to_string()),
            };
        }
        verdict
    }

    /// The site serves what it served before.
    async fn go_back(&mut self) -> Result<(), AcmeError> {
        let now = self.acme.now();
        let store = &self.acme.0.store;
        let Some(previous) = self.order.previous_certificate_id.clone() else { return Ok(()) };
        let host = &self.site.host;
        let act = store
            .begin_act(
                Actor::System("renew_server_certificates"),
                "server_certificate.go_back",
                Some(("site", host.to_string())),
                TraceContext::request_id(),
                now,
            )
            .await?;
        let transaction = store.begin().await?;
        transaction.check_lease(self.lease).await?;
        transaction.serve_certificate(host, &previous).await?;
        transaction.finish_act(&act, Outcome::Succeeded, None, now).await?;
        transaction.commit().await?;
        self.acme.0.enforce.bring_up_to_date().await;
        Ok(())
    }
}
