//! What the authority counts: one place that knows which error is which cause.

use std::sync::Arc;
use std::time::Duration;

use super::{Ca, GateError, IssueError, IssueRequest, Issued};
use crate::domain::audit::Act;
use crate::domain::{InvitationId, RevocationReason, Serial, UtcTime};
use crate::store::StoreError;
use crate::store::crls::Crl;
use crate::telemetry::metrics::{CaMetrics, Issuance, IssuanceRefusal, Revocation};

impl Ca {
    /// The same authority, counting into `metrics`. Without it the numbers go nowhere.
    #[must_use]
    pub fn counting(self, metrics: Arc<CaMetrics>) -> Self {
        Self(self.0, metrics)
    }

    /// Issues a first certificate on a device. `act` was committed before; it is closed with the
    /// certificate, and by the caller if this fails.
    ///
    /// # Errors
    /// As [`IssueError`] says. After an error nothing was given out.
    pub async fn issue(&self, request: &IssueRequest, act: &Act, now: UtcTime) -> Result<Issued, IssueError> {
        let issued = self.issue_first(request, None, act, now).await;
        self.count_issuance(Issuance::Enrolment, issued)
    }

    /// The same for an invitation, which is used up in the transaction that stores the certificate: a
    /// failure or a crash leaves it as it was, and of several at once one gets a certificate.
    ///
    /// # Errors
    /// As [`Self::issue`]; [`GateError::InvitationUsed`] when it has none to give any more.
    pub async fn issue_invited(
        &self,
        request: &IssueRequest,
        invitation: InvitationId,
        act: &Act,
        now: UtcTime,
    ) -> Result<Issued, IssueError> {
        let issued = self.issue_first(request, Some(invitation), act, now).await;
        self.count_issuance(Issuance::Enrolment, issued)
    }

    /// Issues the successor of a certificate: same person, device and lineage, new key, today's policy.
    /// The predecessor stays valid until it ends or is revoked.
    ///
    /// # Errors
    /// As [`IssueError`] says; a revoked or expired certificate is not renewed.
    pub async fn renew(
        &self,
        serial: Serial,
        csr_pem: &str,
        act: &Act,
        now: UtcTime,
    ) -> Result<Issued, IssueError> {
        let issued = self.issue_successor(serial, csr_pem, act, now).await;
        self.count_issuance(Issuance::Renewal, issued)
    }

    fn count_issuance(
        &self,
        act: Issuance,
        issued: Result<Issued, IssueError>,
    ) -> Result<Issued, IssueError> {
        match &issued {
            Ok(_) => self.1.issued.count(act),
            Err(error) => self.1.refused.count(cause_of(error)),
        }
        issued
    }

    pub(super) fn count_revocations(&self, reason: RevocationReason, count: usize) {
        (0..count).for_each(|_| self.1.revoked.count(Revocation::from_name(reason.name())));
    }

    pub(super) fn count_published(&self, list: &Crl) {
        self.1.crls_published.count();
        self.note_list(list);
    }

    pub(super) fn note_list(&self, list: &Crl) {
        self.1.crl_next_update.set(list.authority.as_str(), list.next_update);
    }

    /// Counts the issuances of which only the intent is on record, young ones included.
    pub(super) async fn measure_intents(&self, now: UtcTime) -> Result<(), StoreError> {
        let open = self.0.store.unresolved_intents(now.plus(Duration::from_secs(1))).await?.len();
        self.1.intents_unresolved.set(i64::try_from(open).unwrap_or(i64::MAX));
        Ok(())
    }
}

fn cause_of(error: &IssueError) -> IssuanceRefusal {
    match error {
        IssueError::Csr(_) => IssuanceRefusal::Csr,
        IssueError::NoPerson | IssueError::PersonDisabled => IssuanceRefusal::Person,
        IssueError::NoDevice => IssuanceRefusal::Device,
        IssueError::NoProfile(_) => IssuanceRefusal::Profile,
        IssueError::NoCertificate | IssueError::Revoked | IssueError::Expired => IssuanceRefusal::Predecessor,
        IssueError::Gate(gate) => match gate {
            GateError::BlockedKey => IssuanceRefusal::KeyBlocked,
            GateError::PersonDisabled => IssuanceRefusal::Person,
            GateError::InvitationUsed => IssuanceRefusal::Invitation,
            GateError::PredecessorRevoked => IssuanceRefusal::Predecessor,
            GateError::OutlivesAuthority { .. } => IssuanceRefusal::OutlivesAuthority,
            GateError::Prepare(_) => IssuanceRefusal::Rules,
            GateError::NoAuthority
            | GateError::Store(_)
            | GateError::Sign(_)
            | GateError::Compare(_)
            | GateError::ClockWentBack { .. }
            | GateError::ForeignCertificate(_)
            | GateError::AuthorityLeft(_)
            | GateError::Outdated
            | GateError::IntentClosed => IssuanceRefusal::Unavailable,
            GateError::Policy { .. } => IssuanceRefusal::Profile,
        },
    }
}
