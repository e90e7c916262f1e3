//! What revocations change in a transaction: read under the register's lock, judged and followed in
//! memory, and written in one trip for all that are asked for at the same moment.

use std::collections::{BTreeSet, HashMap};

use futures_util::future::BoxFuture;

use super::revoke::{Grounds, RevokeError};
use crate::crash;
use crate::domain::audit::Act;
use crate::domain::{Delta, RevocationReason, Serial, UtcTime};
use crate::store::certificates::Certificate;
use crate::store::revocation::Revocations;
use crate::store::writer::Rows;
use crate::store::{StoreError, Transaction};

/// A revocation that is asked for.
#[derive(Clone, Debug)]
pub(super) struct Revocation {
    pub(super) serial: Serial,
    pub(super) grounds: Grounds,
    pub(super) act: Act,
    pub(super) now: UtcTime,
}

/// What a revocation changed.
#[derive(Debug)]
pub(super) struct TakenBack {
    pub(super) certificate: Certificate,
    /// How many certificates went.
    pub(super) count: usize,
    /// Whether it learned since when its key is not trusted.
    pub(super) is_dated: bool,
}

impl Rows for Revocation {
    type Answer = Result<TakenBack, RevokeError>;
    /// Takes the register first.
    const RANK: u8 = 0;

    fn write<'t>(
        all: &'t [Self],
        transaction: &'t Transaction,
    ) -> BoxFuture<'t, Result<Vec<Self::Answer>, StoreError>> {
        Box::pin(take_back_all(transaction, all))
    }
}

/// Carries out what is asked for at the same moment, one after the other, and closes the acts of what is
/// not refused. An error is everyone's: then nothing of it stands.
async fn take_back_all(
    transaction: &Transaction,
    all: &[Revocation],
) -> Result<Vec<Result<TakenBack, RevokeError>>, StoreError> {
    let mut taking = Taking::begin(transaction).await?;
    let asked = all.iter().map(|asked| asked.serial);
    taking.known = transaction.certificates_by_serial(asked).await?;
    let mut answers = Vec::with_capacity(all.len());
    for asked in all {
        answers.push(match taking.known.get(&asked.serial).map(|known| asked.is_fresh(known)) {
            None => Err(RevokeError::Missing("certificate")),
            Some(Err(refused)) => Err(refused),
            Some(Ok(fresh)) => Ok(taking.take_back(asked, fresh).await?),
        });
    }
    let ends = all.iter().zip(&answers).filter_map(|(asked, answer)| {
        let count = answer.as_ref().ok()?.count;
        Some((&asked.act, asked.detail(count), asked.now))
    });
    let now = all.iter().map(|one| one.now).max().unwrap_or(UtcTime::EPOCH);
    taking.write(ends.collect(), now).await?;
    crash::reach("revoke.before_commit");
    Ok(answers)
}

impl Revocation {
    /// Whether it changes anything, if it may be done.
    fn is_fresh(&self, certificate: &Certificate) -> Result<bool, RevokeError> {
        let Grounds { reason, invalid_since } = self.grounds;
        let from = certificate.not_before;
        if invalid_since.is_some_and(|since| since > self.now || since < from) {
            return Err(RevokeError::InvalidSince { from });
        }
        match certificate.revoked {
            None => Ok(true),
            Some((_, RevocationReason::CertificateHold)) => Ok(reason != RevocationReason::CertificateHold),
            Some((_, same)) if same == reason => Ok(false),
            Some(_) if reason == RevocationReason::KeyCompromise => Ok(true),
            Some((_, other)) => Err(RevokeError::AlreadyRevoked(other)),
        }
    }

    /// What the audit says of it.
    fn detail(&self, count: usize) -> String {
        let reason = self.grounds.reason;
        match count {
            0 => "was revoked before".to_owned(),
            1 => reason.name().to_owned(),
            count => format!("{reason}, {count} certificates with the same key"),
        }
    }
}

/// Revocations of one transaction, which holds the register.
pub(super) struct Taking<'t> {
    transaction: &'t Transaction,
    /// The register's last epoch before them.
    epoch: u64,
    /// What the certificates have become.
    known: HashMap<Serial, Certificate>,
    /// Those of them that are not what their rows say.
    changed: BTreeSet<Serial>,
    /// Keys that are in other hands from now on.
    blocked: BTreeSet<String>,
    deltas: Vec<Delta>,
}

impl<'t> Taking<'t> {
    /// Takes the register: from here to the commit nothing is issued, revoked or released behind our
    /// back.
    pub(super) async fn begin(transaction: &'t Transaction) -> Result<Self, StoreError> {
        Ok(Self {
            transaction,
            epoch: transaction.lock_register().await?,
            known: HashMap::new(),
            changed: BTreeSet::new(),
            blocked: BTreeSet::new(),
            deltas: Vec::new(),
        })
    }

    /// What a certificate that was read has become.
    pub(super) fn known(&mut self, found: Certificate) -> &Certificate {
        self.known.entry(found.serial).or_insert(found)
    }

    /// How many certificates went.
    pub(super) fn count(&self) -> usize {
        self.deltas.len()
    }

    /// Does what is asked for; `fresh` says whether the certificate is to be revoked, or only dated.
    async fn take_back(&mut self, asked: &Revocation, fresh: bool) -> Result<TakenBack, StoreError> {
        let Revocation { serial, grounds: Grounds { reason, invalid_since }, now, .. } = *asked;
        let before = self.count();
        if fresh {
            self.take(serial, reason, now).await?;
        }
        let count = self.count() - before;
        let certificate = self.known.get_mut(&serial).ok_or(StoreError::Missing { what: "certificate" })?;
        let dated = invalid_since.filter(|since| certificate.invalid_since != Some(*since));
        if dated.is_some() {
            certificate.invalid_since = dated;
            self.changed.insert(serial);
        }
        Ok(TakenBack { certificate: certificate.clone(), count, is_dated: dated.is_some() })
    }

    /// Revokes a certificate that is known. With keyCompromise its key is blocked, and whatever else has
    /// it goes, too.
    pub(super) async fn take(
        &mut self,
        serial: Serial,
        reason: RevocationReason,
        now: UtcTime,
    ) -> Result<(), StoreError> {
        let Some(key) = self.revoke(serial, reason, now) else {
            return Err(StoreError::Missing { what: "certificate" });
        };
        if reason != RevocationReason::KeyCompromise {
            return Ok(());
        }
        for sibling in self.transaction.certificates_with_key(&key).await? {
            let serial = sibling.serial;
            if self.known(sibling).revoked.is_none_or(|(_, known)| known != reason) {
                self.revoke(serial, reason, now);
            }
        }
        self.blocked.insert(key);
        Ok(())
    }

    /// Revokes one certificate; returns its key. It keeps the time of its first revocation: since then it
    /// has not passed.
    fn revoke(&mut self, serial: Serial, reason: RevocationReason, now: UtcTime) -> Option<String> {
        let certificate = self.known.get_mut(&serial)?;
        let at = certificate.revoked.map_or(now, |(at, _)| at);
        certificate.revoked = Some((at, reason));
        self.deltas.push(Delta::Revoked { fingerprint: certificate.fingerprint, at, reason });
        self.changed.insert(serial);
        Some(certificate.spki_sha256.clone())
    }

    /// Writes what changed, and closes the acts as succeeded, each with its detail and time.
    pub(super) async fn write(
        self,
        ends: Vec<(&Act, String, UtcTime)>,
        now: UtcTime,
    ) -> Result<(), StoreError> {
        let changed = self.changed.iter().filter_map(|serial| self.known.get(serial)).collect();
        let Self { transaction, epoch, ref blocked, ref deltas, .. } = self;
        transaction.write_revocations(Revocations { epoch, changed, blocked, deltas, ends, now }).await
    }
}
