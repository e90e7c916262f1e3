//! Why an order did not succeed, and what follows from it.

use std::time::Duration;

use instant_acme::{Error as EngineError, Problem};

use super::http::Exchange;
use crate::domain::{Hostname, UtcTime};
use crate::keys::KeyFault;
use crate::store::StoreError;

/// When a rate limit does not say how long it lasts.
const DEFAULT_BLOCK: Duration = Duration::from_secs(3600);
/// No `Retry-After` is believed beyond this.
const LONGEST_BLOCK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Why a name has no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The rows could not be read or written; or another replica holds the lease by now.
    #[error("the order's journal could not be written")]
    Store(#[from] StoreError),
    /// A key could not be sealed.
    #[error("a key could not be sealed")]
    Seal(#[from] KeyFault),
    /// A key in the rows does not open.
    #[error("the key of {0} does not open: its row was changed or belongs to another key file")]
    Sealed(&'static str),
    /// A key or request could not be made.
    #[error("the certificate request could not be made: {0}")]
    Request(String),
    /// The authority cannot be talked to.
    #[error("the authority cannot be talked to: {0}")]
    Unreachable(String),
    /// Our clock and the authority's differ too much to order anything.
    #[error("our clock says {ours}, the authority's {theirs}; set the clock of this host")]
    ClockSkew {
        /// Our clock.
        ours: UtcTime,
        /// Theirs.
        theirs: UtcTime,
    },
    /// The authority said no.
    #[error("the authority said: {0}")]
    Refused(Refusal),
    /// The authority does not offer the configured profile.
    #[error("the authority has no profile {0:?}")]
    Profile(String),
    /// The authority does not offer the configured challenge.
    #[error("the authority offers no {challenge} challenge for {host}")]
    NoChallenge {
        /// The name.
        host: Hostname,
        /// The configured challenge.
        challenge: &'static str,
    },
    /// The authority could not see the answer to its challenge.
    #[error("{host} was not validated: {detail}")]
    NotValidated {
        /// The name.
        host: Hostname,
        /// The authority's words.
        detail: String,
    },
    /// Not every edge answers the challenge, so the authority was not asked to look.
    #[error("{acknowledged} of {edges} edges answer the challenge")]
    NotAnswered {
        /// Connected edges.
        edges: u32,
        /// Those that answer.
        acknowledged: u32,
    },
    /// The authority takes its time; the order stays open.
    #[error("the authority was still at work after {0:?}")]
    StillAtWork(Duration),
    /// The order is older than any authority keeps one.
    #[error("the order was never completed")]
    TooOld,
    /// What was issued is not what was ordered.
    #[error("what was issued cannot be used: {0}")]
    Issued(String),
    /// A handshake did not show the new certificate, and the site went back to the one before.
    #[error("the new certificate is not served: {0}")]
    NotServed(String),
    /// The process wants to end.
    #[error("the process ends; the next start goes on")]
    Stopped,
}

/// A problem document of the authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The last part of its type, for example `rateLimited`; empty when it has none.
    pub kind: String,
    /// Its words, bounded, without control characters.
    pub detail: String,
    /// The HTTP status.
    pub status: Option<u16>,
    /// How long it asked to be left alone.
    pub retry_after: Option<Duration>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.detail.as_str(), self.kind.as_str()) {
            ("", kind) => f.write_str(kind),
            (detail, "") => f.write_str(detail),
            (detail, kind) => write!(f, "{detail} ({kind})"),
        }
    }
}

impl Refusal {
    pub(super) fn of(problem: &Problem, last: &Exchange) -> Self {
        Self {
            kind: kind_of(problem),
            detail: words_of(problem),
            status: problem.status.or(last.status.map(|status| status.as_u16())),
            retry_after: last.retry_after,
        }
    }
}

/// The last part of a problem's type.
pub(super) fn kind_of(problem: &Problem) -> String {
    let kind = problem.r#type.as_deref().unwrap_or_default();
    match kind.rsplit(':').next() {
        Some("blank") | None => String::new(),
        Some(last) => last.chars().take(64).collect(),
    }
}

/// A problem's words with those of its parts, safe for rows, logs and mails.
pub(super) fn words_of(problem: &Problem) -> String {
    let parts = problem.subproblems.iter().filter_map(|part| part.detail.clone());
    let all: Vec<String> = problem.detail.iter().cloned().chain(parts).collect();
    all.join("; ").chars().filter(|character| !character.is_control()).take(600).collect()
}

impl AcmeError {
    /// Reads an error of the engine.
    pub(super) fn of(error: EngineError, last: &Exchange) -> Self {
        match error {
            EngineError::Api(problem) => Self::Refused(Refusal::of(&problem, last)),
            other => Self::Unreachable(other.to_string()),
        }
    }

    /// Whether the authority refused with this kind of problem.
    pub(super) fn is_refusal(&self, kind: &str) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.kind == kind)
    }

    /// Whether the order can go on where it stands, at a later attempt.
    pub(super) fn keeps_the_order(&self) -> bool {
        match self {
            Self::Store(_)
            | Self::Unreachable(_)
            | Self::ClockSkew { .. }
            | Self::NotAnswered { .. }
            | Self::StillAtWork(_)
            | Self::Stopped => true,
            Self::Refused(refusal) => {
                matches!(refusal.kind.as_str(), "rateLimited" | "serverInternal" | "badNonce")
                    || refusal.status.is_some_and(|status| status >= 500 || status == 429)
            }
            _ => false,
        }
    }

    /// Until when the authority wants to be left alone, if it said so.
    pub(super) fn blocked_until(&self, now: UtcTime) -> Option<UtcTime> {
        let Self::Refused(refusal) = self else { return None };
        let limited = refusal.kind == "rateLimited" || refusal.status == Some(429);
        let busy = refusal.status == Some(503);
        let span = match refusal.retry_after {
            Some(span) => span.min(LONGEST_BLOCK),
            None if limited => DEFAULT_BLOCK,
            None => return None,
        };
        (limited || busy).then(|| now.plus(span))
    }

    /// Whether waiting will not help: someone has to act.
    pub(super) fn needs_a_person(&self) -> bool {
        match self {
            Self::ClockSkew { .. }
            | Self::Sealed(_)
            | Self::Profile(_)
            | Self::NoChallenge { .. }
            | Self::NotServed(_) => true,
            Self::Refused(refusal) => {
                // A name that failed too often is paused until someone follows the link in the detail.
                matches!(
                    refusal.kind.as_str(),
                    "unauthorized"
                        | "userActionRequired"
                        | "externalAccountRequired"
                        | "rejectedIdentifier"
                        | "caa"
                ) || refusal.detail.contains("paused")
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(kind: &str, status: u16, retry_after: Option<u64>) -> AcmeError {
        let problem: Problem = serde_json::from_value(serde_json::json!({
            "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": "no\r\nmore", "status": status,
        }))
        .unwrap();
        let last = Exchange { retry_after: retry_after.map(Duration::from_secs), ..Exchange::default() };
        AcmeError::Refused(Refusal::of(&problem, &last))
    }

    #[test]
    fn a_rate_limit_blocks_for_as_long_as_it_says() {
        let now = UtcTime::from_unix(1000);
        for (error, until) in [
            (refusal("rateLimited", 429, Some(90)), Some(1090)),
            (refusal("rateLimited", 429, None), Some(4600)),
            (refusal("serverInternal", 503, Some(5)), Some(1005)),
            (refusal("serverInternal", 500, None), None),
            (refusal("unauthorized", 403, Some(90)), None),
        ] {
            assert_eq!(error.blocked_until(now), until.map(UtcTime::from_unix), "{error}");
        }
    }

    #[test]
    fn only_passing_troubles_keep_the_order_open() {
        assert!(refusal("rateLimited", 429, None).keeps_the_order());
        assert!(refusal("serverInternal", 500, None).keeps_the_order());
        assert!(!refusal("rejectedIdentifier", 400, None).keeps_the_order());
        assert!(refusal("rejectedIdentifier", 400, None).needs_a_person());
    }

    #[test]
    fn words_of_strangers_are_bounded_and_on_one_line() {
        assert_eq!(refusal("caa", 403, None).to_string(), "the authority said: nomore (caa)");
    }
}
