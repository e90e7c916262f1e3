//! Says years ahead that an authority must be rolled over: at 1/3, 1/6 and 1/12 of its lifetime left, and
//! when it can no longer give what it signs a full term. For an offline root, says when its revocation
//! list nears its end. Each once, to administrators, with the command that mends it.

use async_trait::async_trait;

use super::expiry_alerts::{ENDING, THRESHOLDS, administrators, threshold};
use super::{Job, JobContext, JobError, JobReport};
use crate::ca::Ca;
use crate::domain::{AuthorityKind, AuthorityState, UtcTime};
use crate::mail::{EndingItem, Letter, MailError, Mailer, Recipient};
use crate::store::alerts::{NewAlert, Severity};
use crate::store::authorities::Authority;
use crate::store::crls::Crl;
use crate::store::{Store, StoreError};

/// Alert: an authority cannot give a certificate of full length any more.
pub const CANNOT_ISSUE: &str = "authority_cannot_issue";
/// Alert: the revocation list of an offline root ends soon, and only a ceremony makes another.
pub const LIST_ENDING: &str = "root_list_ending";

/// The job.
pub struct AuthorityAlarms {
    store: Store,
    ca: Ca,
    mailer: Mailer,
}

/// Something that an administrator must do, in time.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Alarm {
    /// The alert's kind, and the notice's.
    kind: &'static str,
    object: String,
    /// `None` when there is nothing to say: an open alert is closed.
    due: Option<Due>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Due {
    /// The most urgent threshold that was passed.
    threshold: i64,
    what: String,
    remedy: String,
    ends_at: UtcTime,
    severity: Severity,
}

impl AuthorityAlarms {
    /// Looks at the authorities of `ca` in this database and writes by this mailer.
    pub fn new(store: Store, ca: Ca, mailer: Mailer) -> Self {
        Self { store, ca, mailer }
    }

    async fn alarms(&self, now: UtcTime) -> Result<Vec<Alarm>, StoreError> {
        let all = self.store.authorities().await?;
        let mut alarms = Vec::new();
        for authority in all.iter().filter(|authority| authority.certificate.is_some()) {
            let signs = authority.state == AuthorityState::Issuing;
            let remedy = remedy(authority, &all);
            let term = self.ca.full_term(authority.kind).await?;
            alarms.push(ending(authority, signs, &remedy, now));
            alarms.push(cannot_issue(authority, term.filter(|_| signs), &remedy, now));
            let offline = !self.store.signing_key(&authority.key_id).await?.is_here();
            if authority.kind == AuthorityKind::Root && offline {
                let list = self.store.latest_crl_dates(&authority.name).await?;
                let list = list.filter(|_| authority.state.is_in_force());
                alarms.push(list_ending(authority, list.as_ref(), now));
            }
        }
        Ok(alarms)
    }

    async fn show(&self, alarm: &Alarm, now: UtcTime) -> Result<(), StoreError> {
        match &alarm.due {
            None => self.store.close_alert(alarm.kind, &alarm.object, now).await,
            Some(due) => {
                let message = format!("The {} ends at {}. {}", due.what, due.ends_at, due.remedy);
                let (kind, object, severity) = (alarm.kind, &*alarm.object, due.severity);
                self.store
                    .raise_alert(NewAlert { kind, object, message: &message, severity }, now)
                    .await
                    .map(drop)
            }
        }
    }

    /// Notes and mails in one transaction: a crash leaves both or neither. Returns how many were new.
    async fn tell(&self, alarms: &[Alarm], now: UtcTime) -> Result<u64, JobError> {
        let administrators = administrators(&self.store).await?;
        let transaction = self.store.begin().await?;
        let mut items = Vec::new();
        for alarm in alarms {
            let Some(due) = &alarm.due else { continue };
            let mut fresh = false;
            // The milder ones are over with this one.
            for threshold in THRESHOLDS.into_iter().filter(|threshold| *threshold <= due.threshold) {
                let new = transaction.note_expiry(alarm.kind, &alarm.object, threshold, now).await?;
                fresh |= new && threshold == due.threshold;
            }
            if fresh {
                let what = format!("{}: {}", due.what, due.remedy);
                items.push(EndingItem { what, ends_at: due.ends_at, left: due.ends_at.since(now) });
            }
        }
        if !items.is_empty() {
            for person in &administrators {
                let to = Recipient { email: &person.email, name: &person.name };
                let letter = self.mailer.write(to, &Letter::ExpiryDigest { items: &items });
                let letter = letter.map_err(|error: MailError| JobError::new("a letter failed", error))?;
                transaction.enqueue_mail(&letter, now).await?;
            }
        }
        transaction.commit().await?;
        Ok(items.len() as u64)
    }
}

#[async_trait]
impl Job for AuthorityAlarms {
    fn name(&self) -> &'static str {
        "authority_alarms"
    }

    fn schedule(&self) -> &'static str {
        "0 23 * * * *"
    }

    fn description(&self) -> &'static str {
        "Tells administrators years ahead that an authority must be rolled over"
    }

    async fn run(&self, context: &JobContext) -> Result<JobReport, JobError> {
        let now = context.clock.now();
        let alarms = self.alarms(now).await?;
        for alarm in &alarms {
            self.show(alarm, now).await?;
        }
        let due = alarms.iter().filter(|alarm| alarm.due.is_some()).count();
        if !self.mailer.is_configured() {
            // Not noted as told either: once there is a mail server, it is.
            return Ok(JobReport::new(0, format!("{due} alarms; no mail server is configured")));
        }
        let told = self.tell(&alarms, now).await?;
        if told > 0 {
            self.mailer.wake();
        }
        Ok(JobReport::new(told, format!("{told} new of {due} alarms")))
    }
}

/// At fractions of the lifetime, for the authority that signs. A retiring one has its successor.
fn ending(authority: &Authority, signs: bool, remedy: &str, now: UtcTime) -> Alarm {
    let passed = threshold(authority.not_before, authority.not_after, now).filter(|_| signs);
    let due = passed.map(|threshold| Due {
        threshold,
        what: format!("authority {}", authority.common_name),
        remedy: remedy.to_owned(),
        ends_at: authority.not_after,
        severity: if threshold == THRESHOLDS[0] { Severity::Critical } else { Severity::Warning },
    });
    Alarm { kind: ENDING, object: format!("authority:{}", authority.name), due }
}

/// From the second on at which less than `term` is left.
fn cannot_issue(
    authority: &Authority,
    term: Option<std::time::Duration>,
    remedy: &str,
    now: UtcTime,
) -> Alarm {
    let (what, severity) = match authority.kind {
        // Half of a root's life is still to come then, and what stands under it goes on.
        AuthorityKind::Root => ("and gives no issuing authority its full term any more", Severity::Warning),
        _ => ("and gives no certificate of full length any more", Severity::Critical),
    };
    let due = term.filter(|term| now.plus(*term) > authority.not_after).map(|_| Due {
        threshold: THRESHOLDS[0],
        what: format!("authority {} {what}; it", authority.common_name),
        remedy: remedy.to_owned(),
        ends_at: authority.not_after,
        severity,
    });
    Alarm { kind: CANNOT_ISSUE, object: format!("authority:{}", authority.name), due }
}

fn list_ending(root: &Authority, list: Option<&Crl>, now: UtcTime) -> Alarm {
    let due = list.and_then(|list| {
        let threshold = threshold(list.this_update, list.next_update, now)?;
        Some(Due {
            threshold,
            what: format!("revocation list of the offline root {}", root.common_name),
            remedy: "`wicketgate ca ceremony plan` begins the next one.".to_owned(),
            ends_at: list.next_update,
            severity: if threshold == THRESHOLDS[0] { Severity::Critical } else { Severity::Warning },
        })
    });
    Alarm { kind: LIST_ENDING, object: format!("authority:{}", root.name), due }
}

/// What an administrator does next: go on with a successor that is there, or make one.
fn remedy(authority: &Authority, all: &[Authority]) -> String {
    let next = |state| all.iter().rev().find(|other| other.kind == authority.kind && other.state == state);
    if authority.kind == AuthorityKind::LocalServer {
        return "Whoever trusts it by hand must trust a new installation's in time.".to_owned();
    }
    if authority.kind == AuthorityKind::Upstream {
        return match next(AuthorityState::Trusted) {
            Some(next) => format!(
                "{0} takes its place by itself: let every backend that trusts it trust both in time \
                 (`wicketgate ca export {0}`).",
                next.name
            ),
            None => "The job `rotate_upstream_identity` makes its successor.".to_owned(),
        };
    }
    if let Some(next) = next(AuthorityState::Trusted) {
        return format!("`wicketgate ca activate {}` finishes its roll-over.", next.name);
    }
    if let Some(next) = next(AuthorityState::Staged).filter(|next| next.certificate.is_some()) {
        return format!("`wicketgate ca trust {}` goes on with its roll-over.", next.name);
    }
    format!("`wicketgate ca stage {}` begins its roll-over.", authority.kind.name())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::keys::KeyId;

    fn authority(kind: AuthorityKind, name: &str, state: AuthorityState) -> Authority {
        Authority {
            name: name.parse().unwrap(),
            kind,
            state,
            key_id: KeyId("k".to_owned()),
            issuer: None,
            serial: "0a".parse().unwrap(),
            common_name: name.to_owned(),
            not_before: UtcTime::from_unix(0),
            not_after: UtcTime::from_unix(1200),
            tbs: Vec::new(),
            certificate: Some(Vec::new()),
            crl_number: 0,
            created_at: UtcTime::EPOCH,
        }
    }

    #[test]
    fn the_last_second_at_which_a_full_term_fits_is_no_alarm() {
        let signs = authority(AuthorityKind::Issuing, "g1", AuthorityState::Issuing);
        let due = |now| {
            cannot_issue(&signs, Some(Duration::from_secs(90)), "", UtcTime::from_unix(now)).due.is_some()
        };
        assert_eq!((due(1110), due(1111)), (false, true));
        assert_eq!(cannot_issue(&signs, None, "", UtcTime::from_unix(1199)).due, None);
    }

    #[test]
    fn a_list_that_only_a_ceremony_renews_is_alarmed_for_at_thirds_of_its_life() {
        let root = authority(AuthorityKind::Root, "r1", AuthorityState::Issuing);
        let list = Crl {
            authority: root.name.clone(),
            number: 1,
            this_update: UtcTime::from_unix(0),
            next_update: UtcTime::from_unix(1200),
            der: Vec::new(),
        };
        let due = |now| list_ending(&root, Some(&list), UtcTime::from_unix(now)).due;
        assert_eq!(due(799), None);
        let due = due(800).unwrap();
        assert!(due.threshold == 3 && due.remedy.contains("ca ceremony plan"), "{due:?}");
        assert_eq!(list_ending(&root, None, UtcTime::from_unix(800)).due, None, "it has none yet");
    }

    #[test]
    fn the_remedy_goes_on_with_the_successor_that_is_there() {
        let signs = authority(AuthorityKind::Issuing, "g1", AuthorityState::Issuing);
        let staged = authority(AuthorityKind::Issuing, "g2", AuthorityState::Staged);
        let trusted = authority(AuthorityKind::Issuing, "g3", AuthorityState::Trusted);
        let root = authority(AuthorityKind::Root, "r2", AuthorityState::Trusted);
        let said =
            |all: &[&Authority]| remedy(&signs, &all.iter().map(|one| (*one).clone()).collect::<Vec<_>>());
        assert!(said(&[&signs, &root]).contains("ca stage issuing"));
        assert!(said(&[&signs, &staged]).contains("ca trust g2"));
        assert!(said(&[&signs, &staged, &trusted]).contains("ca activate g3"));
        let upstream = authority(AuthorityKind::Upstream, "u1", AuthorityState::Issuing);
        let next = authority(AuthorityKind::Upstream, "u2", AuthorityState::Trusted);
        assert!(remedy(&upstream, &[upstream.clone(), next, signs.clone()]).contains("ca export u2"));
        assert_eq!(
            ending(&signs, false, "", UtcTime::from_unix(1199)).due,
            None,
            "a retiring one is not alarmed for"
        );
    }
}
