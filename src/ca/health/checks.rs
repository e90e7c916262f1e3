//! The checks of the authority's own rows.

use std::time::Duration;

use async_trait::async_trait;

use super::{CheckError, Finding, HealthCheck, Severity};
use crate::ca::Ca;
use crate::ca::gate::CLOCK_TOLERANCE;
use crate::domain::{AuthorityKind, AuthorityState, UtcTime};
use crate::pki::Profile;
use crate::store::Store;

/// A list that should have been followed by the next one this long ago will not be by itself.
const LIST_LATE: Duration = Duration::from_secs(3600);
/// Closing an intent takes less than a minute; one that is older has nobody who closes it.
const INTENT_LATE: Duration = Duration::from_secs(120);
/// Clocks of several hosts may differ by this much.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(5);
/// An offline root's list is told of when less than one part in this many of its life is left, with the
/// first alarm of the job `authority_alarms`.
const CEREMONY_PART: u32 = 3;
/// An authority ends soon when less than one part in this many of its life is left.
const ENDING_PART: u32 = 12;

/// The checks of one authority.
pub fn of_authorities(store: &Store, ca: &Ca) -> Vec<Box<dyn HealthCheck>> {
    vec![
        Box::new(AuthoritiesEnding { store: store.clone(), ca: ca.clone() }),
        Box::new(ListsStale(store.clone())),
        Box::new(IntentsOpen(store.clone())),
        Box::new(ClockSetBack(store.clone())),
    ]
}

/// Authorities that end soon, or too soon for what they issue.
pub struct AuthoritiesEnding {
    store: Store,
    ca: Ca,
}

#[async_trait]
impl HealthCheck for AuthoritiesEnding {
    fn name(&self) -> &'static str {
        "authority_ending"
    }

    async fn look(&self, now: UtcTime) -> Result<Vec<Finding>, CheckError> {
        let longest = self.ca.profiles().await?.iter().map(Profile::lifetime).max().unwrap_or_default();
        let mut findings = Vec::new();
        for authority in self.store.authorities().await? {
            if !authority.state.is_in_force() {
                continue;
            }
            let left = authority.not_after.since(now);
            let issues =
                authority.kind == AuthorityKind::Issuing && authority.state == AuthorityState::Issuing;
            let (severity, detail) = if authority.not_after < now {
                (Severity::Critical, format!("ended at {}", authority.not_after))
            } else if issues && left < longest {
                (
                    Severity::Critical,
                    format!("ends at {}, before what it is asked to issue", authority.not_after),
                )
            } else if left < authority.not_after.since(authority.not_before) / ENDING_PART {
                (Severity::Warning, format!("ends at {}", authority.not_after))
            } else {
                continue;
            };
            findings.push(Finding {
                check: self.name(),
                severity,
                object: authority.name.to_string(),
                detail,
                advice: if authority.kind == AuthorityKind::Upstream { TRUST_BOTH } else { ROLL_OVER },
            });
        }
        Ok(findings)
    }
}

const ROLL_OVER: &str = "Begin the next generation and roll over to it while this one is still trusted.";
const TRUST_BOTH: &str =
    "Its successor is there and takes its place by itself: let every backend that trusts it trust both.";

/// Revocation lists that were not followed by the next one in time.
pub struct ListsStale(Store);

#[async_trait]
impl HealthCheck for ListsStale {
    fn name(&self) -> &'static str {
        "list_stale"
    }

    async fn look(&self, now: UtcTime) -> Result<Vec<Finding>, CheckError> {
        let mut findings = Vec::new();
        for authority in self.0.authorities().await? {
            let revokes = authority.kind.is_for_clients()
                && authority.state.is_in_force()
                && authority.certificate.is_some();
            if !revokes {
                continue;
            }
            let online = self.0.signing_key(&authority.key_id).await?.is_here();
            let (severity, detail) = match self.0.latest_crl_dates(&authority.name).await? {
                None => (Severity::Critical, "has no revocation list".to_owned()),
                Some(list) if now > list.next_update => {
                    (Severity::Critical, format!("list {} ended at {}", list.number, list.next_update))
                }
                Some(list) if !online => {
                    let life = list.next_update.since(list.this_update);
                    if list.next_update.since(now) > life / CEREMONY_PART {
                        continue;
                    }
                    (Severity::Warning, format!("list {} ends at {}", list.number, list.next_update))
                }
                Some(list) => {
                    // The next one is due at half of its life.
                    let due = list.this_update.plus(list.next_update.since(list.this_update) / 2);
                    if now <= due.plus(LIST_LATE) {
                        continue;
                    }
                    (Severity::Warning, format!("list {} should have been followed at {due}", list.number))
                }
            };
            findings.push(Finding {
                check: self.name(),
                severity,
                object: authority.name.to_string(),
                detail,
                advice: if online { RUN_THE_JOB } else { HOLD_A_CEREMONY },
            });
        }
        Ok(findings)
    }
}

const RUN_THE_JOB: &str =
    "Look at the runs of the job publish_crls, and run it: `wicketgate job run publish_crls`.";
const HOLD_A_CEREMONY: &str =
    "Its key is offline: hold a key ceremony, which `wicketgate ca ceremony plan` begins.";

/// Intents that nobody closed: something may have been signed that no row knows.
pub struct IntentsOpen(Store);

#[async_trait]
impl HealthCheck for IntentsOpen {
    fn name(&self) -> &'static str {
        "intent_open"
    }

    async fn look(&self, now: UtcTime) -> Result<Vec<Finding>, CheckError> {
        let open = self.0.unresolved_intents(now.minus(INTENT_LATE)).await?;
        let finding = |intent: crate::store::certificates::Intent| Finding {
            check: self.name(),
            severity: Severity::Critical,
            object: intent.serial.to_string(),
            detail: format!("was begun at {} by {} and has no outcome", intent.created_at, intent.authority),
            advice: "Look at the runs of the job close_orphans, and run it: `wicketgate job run close_orphans`.",
        };
        Ok(open.into_iter().map(finding).collect())
    }
}

/// A clock that is behind what the audit has seen: validity, lists and the order of events depend on it.
/// Critical from where on the gate signs nothing.
pub struct ClockSetBack(Store);

#[async_trait]
impl HealthCheck for ClockSetBack {
    fn name(&self) -> &'static str {
        "clock_set_back"
    }

    async fn look(&self, now: UtcTime) -> Result<Vec<Finding>, CheckError> {
        let Some(seen) = self.0.last_audited().await? else { return Ok(Vec::new()) };
        if now.plus(CLOCK_DIFFERENCE) >= seen {
            return Ok(Vec::new());
        }
        let seconds = CLOCK_TOLERANCE.as_secs();
        let (severity, then) = if seen.since(now) > CLOCK_TOLERANCE {
            (Severity::Critical, format!("nothing is signed more than {seconds} seconds behind it"))
        } else {
            (Severity::Warning, format!("from {seconds} seconds behind it on nothing is signed"))
        };
        Ok(vec![Finding {
            check: self.name(),
            severity,
            object: "clock".to_owned(),
            detail: format!("says {now}, but the newest audit event is of {seen}; {then}"),
            advice: "Set the host's clock right (chrony, systemd-timesyncd).",
        }])
    }
}
