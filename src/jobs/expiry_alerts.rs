//! Warns before something ends: at 1/3, 1/6 and 1/12 of its lifetime left, each once a certificate.
//! Device owners are told of their client certificates, administrators of everything, in one letter.
//! Authorities have a job of their own (`authority_alarms.rs`).
//! At 1/3 left a client certificate's renewal opens, which is `rotate_client_certificates`' letter to its
//! owner; it is heard of here, with the administrators, only when nobody has renewed it since.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Job, JobContext, JobError, JobReport};
use crate::domain::{Role, UtcTime, renewal};
use crate::mail::{EndingItem, Letter, MailError, Mailer, Recipient};
use crate::store::alerts::{NewAlert, Severity};
use crate::store::outbox::SealedMail;
use crate::store::people::Person;
use crate::store::{Store, StoreError};
use crate::telemetry::metrics::ValidityMetrics;

/// A warning goes out when at most one part in this many of the lifetime is left; the most urgent first.
pub(super) const THRESHOLDS: [i64; 3] = [12, 6, renewal::OPENS_WITH_LEFT];
/// Those at which client certificates are warned about here.
const OF_CLIENTS: [i64; 2] = [12, 6];
/// Client certificates warned about in one transaction.
const BATCH: u64 = 100;
/// People read at a time.
const PAGE: u64 = 200;

/// The alert's object for what the edge shows to upstreams, and the kind of it in notices and metrics.
const UPSTREAM_CLIENT: &str = "upstream_client";

/// Alert: a certificate or authority ends soon.
pub const ENDING: &str = "certificate_ending";

/// The job.
pub struct ExpiryAlerts {
    store: Store,
    mailer: Mailer,
    metrics: Arc<ValidityMetrics>,
}

/// Something that ends soon.
struct Ending {
    /// Kind and identity, as notices name it.
    kind: &'static str,
    object: String,
    /// The most urgent threshold that was passed.
    threshold: i64,
    what: String,
    ends_at: UtcTime,
    /// Whose device it is on, and what they call it.
    owner: Option<(Person, String)>,
}

impl ExpiryAlerts {
    /// Looks into this database and writes by this mailer.
    pub fn new(store: Store, mailer: Mailer, metrics: Arc<ValidityMetrics>) -> Self {
        Self { store, mailer, metrics }
    }

    /// Says when the first certificate of each kind ends.
    async fn measure(&self, now: UtcTime) -> Result<(), StoreError> {
        let mut ends: BTreeMap<&str, UtcTime> = BTreeMap::new();
        let sites = self.store.sites().await?.into_iter().filter(|site| site.enabled);
        let server = sites.filter_map(|site| Some(("server", site.server_certificate?.not_after)));
        let client = self.store.first_client_end(now).await?.map(|end| ("client", end));
        let own = self.store.upstream_identity().await?;
        let own = own.map(|own| (UPSTREAM_CLIENT, own.certificate.not_after));
        let authorities = self.store.authorities_in_force(now).await?.into_iter();
        let authorities = authorities.map(|authority| (authority.kind.name(), authority.not_after));
        for (kind, end) in server.chain(client).chain(own).chain(authorities) {
            ends.entry(kind).and_modify(|first| *first = end.min(*first)).or_insert(end);
        }
        self.metrics.certificate_not_after.replace(ends);
        Ok(())
    }

    /// Server certificates in use, and what the edge shows to upstreams. Alerts are raised and closed on the way.
    async fn ours(&self, now: UtcTime) -> Result<Vec<Ending>, StoreError> {
        let mut endings = Vec::new();
        for site in self.store.sites().await?.into_iter().filter(|site| site.enabled) {
            let Some(certificate) = site.server_certificate else { continue };
            let threshold = threshold(certificate.not_before, certificate.not_after, now);
            // The authority asked us to wait with this one, and nothing went wrong yet.
            let renewal = self.store.renewal(&site.host).await?;
            let selected = renewal.window.as_ref().filter(|window| {
                window.certificate == certificate.fingerprint.to_string() && renewal.failures == 0
            });
            let waits = selected.and_then(|window| window.selected).is_some_and(|at| at > now);
            let object = format!("site:{}", site.host);
            let what = format!("server certificate of {}", site.host);
            let threshold = threshold.filter(|_| !waits);
            self.alert(&object, &what, certificate.not_after, threshold, now).await?;
            endings.extend(threshold.map(|threshold| Ending {
                kind: "server",
                object: certificate.id,
                threshold,
                what,
                ends_at: certificate.not_after,
                owner: None,
            }));
        }
        endings.extend(self.shown_to_upstreams(now).await?);
        Ok(endings)
    }

    /// It is renewed at half of its life, so that whatever reaches the first threshold was not.
    async fn shown_to_upstreams(&self, now: UtcTime) -> Result<Option<Ending>, StoreError> {
        let Some(own) = self.store.upstream_identity().await? else { return Ok(None) };
        let threshold = threshold(own.certificate.not_before, own.certificate.not_after, now);
        let (what, ends_at) =
            ("client certificate that the edge shows to upstreams", own.certificate.not_after);
        self.alert(UPSTREAM_CLIENT, what, ends_at, threshold, now).await?;
        Ok(threshold.map(|threshold| Ending {
            kind: UPSTREAM_CLIENT,
            object: own.certificate.serial.to_string(),
            threshold,
            what: what.to_owned(),
            ends_at,
            owner: None,
        }))
    }

    async fn alert(
        &self,
        object: &str,
        what: &str,
        ends_at: UtcTime,
        threshold: Option<i64>,
        now: UtcTime,
    ) -> Result<(), StoreError> {
        let Some(threshold) = threshold else {
            return self.store.close_alert(ENDING, object, now).await;
        };
        let severity = if threshold == THRESHOLDS[0] { Severity::Critical } else { Severity::Warning };
        let message = format!("The {what} ends at {ends_at} and has no successor yet.");
        self.store.raise_alert(NewAlert { kind: ENDING, object, message: &message, severity }, now).await?;
        Ok(())
    }

    /// Client certificates that passed this threshold and were not yet warned about at it.
    async fn clients(&self, threshold: i64, now: UtcTime) -> Result<Vec<Ending>, StoreError> {
        let rows = self.store.ending_client_certificates(now, threshold, BATCH).await?;
        let mut endings = Vec::with_capacity(rows.len());
        for row in rows {
            let person = self.store.person(row.person).await?;
            let device = self.store.device(row.device).await?;
            let device = device.map_or_else(|| "a device".to_owned(), |device| device.name);
            let name = person.as_ref().map_or("someone", |person| &person.name);
            endings.push(Ending {
                kind: "client",
                what: format!("{device} of {name}"),
                object: row.serial,
                threshold,
                ends_at: row.not_after,
                owner: person.map(|person| (person, device)),
            });
        }
        Ok(endings)
    }

    /// Notes and mails in one transaction: a crash leaves both or neither. Returns how many were new.
    async fn warn(
        &self,
        endings: Vec<Ending>,
        administrators: &[Person],
        now: UtcTime,
    ) -> Result<u64, JobError> {
        let transaction = self.store.begin().await?;
        let mut items = Vec::new();
        for ending in &endings {
            let mut fresh = false;
            // The milder ones are over with this one.
            for threshold in THRESHOLDS.into_iter().filter(|threshold| *threshold <= ending.threshold) {
                let new = transaction.note_expiry(ending.kind, &ending.object, threshold, now).await?;
                fresh |= new && threshold == ending.threshold;
            }
            if !fresh {
                continue;
            }
            let left = ending.ends_at.since(now);
            // Whoever is shut out has no use for a certificate.
            if let Some((person, device)) = ending.owner.as_ref().filter(|(person, _)| !person.disabled) {
                let letter = Letter::ExpiryWarning { device, ends_at: ending.ends_at, left };
                transaction.enqueue_mail(&self.write(person, &letter)?, now).await?;
            }
            items.push(EndingItem { what: ending.what.clone(), ends_at: ending.ends_at, left });
        }
        if !items.is_empty() {
            for person in administrators {
                let letter = Letter::ExpiryDigest { items: &items };
                transaction.enqueue_mail(&self.write(person, &letter)?, now).await?;
            }
        }
        transaction.commit().await?;
        Ok(items.len() as u64)
    }

    fn write(&self, to: &Person, letter: &Letter<'_>) -> Result<SealedMail, JobError> {
        let to = Recipient { email: &to.email, name: &to.name };
        self.mailer.write(to, letter).map_err(|error: MailError| JobError::new("a letter failed", error))
    }
}

#[async_trait]
impl Job for ExpiryAlerts {
    fn name(&self) -> &'static str {
        "expiry_alerts"
    }

    fn schedule(&self) -> &'static str {
        "0 17 * * * *"
    }

    fn description(&self) -> &'static str {
        "Warns device owners and administrators at 1/3, 1/6 and 1/12 of a lifetime left"
    }

    async fn run(&self, context: &JobContext) -> Result<JobReport, JobError> {
        let now = context.clock.now();
        self.measure(now).await?;
        let ours = self.ours(now).await?;
        if !self.mailer.is_configured() {
            // Not noted as warned about either: once there is a mail server, it is told.
            let count = ours.len();
            return Ok(JobReport::new(0, format!("{count} things end soon; no mail server is configured")));
        }
        let administrators = administrators(&self.store).await?;
        let mut warned = self.warn(ours, &administrators, now).await?;
        for threshold in OF_CLIENTS {
            loop {
                let endings = self.clients(threshold, now).await?;
                if endings.is_empty() || context.stop.is_cancelled() {
                    break;
                }
                warned += self.warn(endings, &administrators, now).await?;
            }
        }
        if warned > 0 {
            self.mailer.wake();
        }
        Ok(JobReport::new(warned, format!("{warned} things that end soon")))
    }
}

/// Everyone who runs the house and is not shut out.
pub(super) async fn administrators(store: &Store) -> Result<Vec<Person>, StoreError> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = store.people(after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(found) };
        after = Some(last.id);
        found
            .extend(page.into_iter().filter(|person| person.role == Role::Administrator && !person.disabled));
    }
}

/// The most urgent threshold that was passed at `now`, if any.
pub(super) fn threshold(not_before: UtcTime, not_after: UtcTime, now: UtcTime) -> Option<i64> {
    let lifetime = not_after.as_unix() - not_before.as_unix();
    let left = (not_after.as_unix() - now.as_unix()).max(0);
    THRESHOLDS.into_iter().find(|divisor| left.saturating_mul(*divisor) <= lifetime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_fractions_of_the_lifetime_at_the_second() {
        let at = UtcTime::from_unix;
        for (left, expected) in [
            (401, None),
            (400, Some(3)),
            (201, Some(3)),
            (200, Some(6)),
            (101, Some(6)),
            (100, Some(12)),
            (0, Some(12)),
        ] {
            assert_eq!(threshold(at(0), at(1200), at(1200 - left)), expected, "{left}");
        }
        assert_eq!(threshold(at(0), at(1200), at(5000)), Some(12), "it is over");
    }
}
