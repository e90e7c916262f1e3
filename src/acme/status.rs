//! What is known of a site's renewal, for people.

use super::schedule::{Due, Window, due};
use super::{attempts_of, validity_of};
use crate::domain::UtcTime;
use crate::store::configuration::{CertificateSource, Site};
use crate::store::{Store, StoreError};

/// Where a site's renewal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewalState {
    /// The site has a certificate of the local server authority by choice.
    Local,
    /// Nothing is due yet.
    Waiting,
    /// It is due, and will be ordered at the next look.
    Due,
    /// An order is under way.
    Ordering,
    /// The last attempt failed.
    Failing,
}

impl RenewalState {
    /// The name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Waiting => "waiting",
            Self::Due => "due",
            Self::Ordering => "ordering",
            Self::Failing => "failing",
        }
    }
}

/// What is known of a site's renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenewalStatus {
    /// Where it stands.
    pub state: RenewalState,
    /// When it will be tried; none when it is under way or never.
    pub next_attempt_at: Option<UtcTime>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

/// Where the renewal of a site stands at `now`.
///
/// # Errors
/// [`StoreError`].
pub async fn renewal_status(store: &Store, site: &Site, now: UtcTime) -> Result<RenewalStatus, StoreError> {
    if site.source == CertificateSource::Local {
        return Ok(RenewalStatus { state: RenewalState::Local, next_attempt_at: None, last_error: None });
    }
    let renewal = store.renewal(&site.host).await?;
    let under_way = store.open_acme_order(&site.host).await?.is_some();
    let public = site.server_certificate.as_ref();
    let public = public.filter(|certificate| certificate.source == CertificateSource::Acme);
    let kept = renewal.window.as_ref().filter(|window| {
        public.is_some_and(|certificate| certificate.fingerprint.to_string() == window.certificate)
    });
    let window = kept.and_then(|kept| {
        let ((start, end), selected) = kept.window.zip(kept.selected)?;
        Some(Window { start, end, selected })
    });
    let attempts = attempts_of(&renewal, under_way);
    let (next, is_due) = match due(public.map(validity_of), window, &attempts, renewal.jitter, now) {
        Due::Now(_) => (now, true),
        Due::At(at, _) => (at, false),
    };
    let state = match (renewal.failures > 0, under_way, is_due) {
        (true, _, false) => RenewalState::Failing,
        (_, true, _) => RenewalState::Ordering,
        (true, ..) => RenewalState::Failing,
        (false, false, true) => RenewalState::Due,
        (false, false, false) => RenewalState::Waiting,
    };
    let next_attempt_at = (state != RenewalState::Ordering).then_some(next);
    Ok(RenewalStatus { state, next_attempt_at, last_error: renewal.last_error })
}
