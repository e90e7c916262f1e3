//! A database that was restored from an older copy: what edges know stays in force, and rows learn it.

use crate::domain::audit::Outcome;
use crate::domain::{Actor, CertificateRecord, Delta, PersonRecord, RevocationReason, UtcTime};
use crate::live::Holder;
use crate::store::{Store, StoreError, Transaction};

/// Goes on from the epoch that the edge has reached, if the database is behind it. In one transaction:
///
/// * what the edge knows as revoked, and people it knows as shut out, are so in the rows again;
/// * certificates that it knows and the rows do not are revoked at the edges: nobody could do it later.
///
/// # Errors
/// [`StoreError`]; then nothing of it happened, and the next start does it again.
pub(super) async fn catch_up(store: &Store, holder: &Holder, now: UtcTime) -> Result<(), StoreError> {
    let (epoch, known) = holder.register().dump();
    if store.heads().await?.0 >= epoch {
        return Ok(());
    }
    tracing::error!(
        register.epoch = epoch,
        "The database is older than what edges know: it was restored from an old copy. Revocations stay in force; \
         certificates issued since are taken back"
    );
    let act = store.begin_act(Actor::System("boot"), "register.catch_up", None, None, now).await?;
    let transaction = store.begin().await?;
    transaction.raise_epoch(epoch).await?;
    let mut deltas = Vec::new();
    for delta in known {
        deltas.extend(match delta {
            Delta::Certificate(known) => certificate(store, &transaction, &known, now).await?,
            Delta::Person(known) => person(&transaction, &known).await?,
            _ => None,
        });
    }
    transaction.append_changes(&deltas, now).await?;
    let detail = format!("{} changes", deltas.len());
    transaction.finish_act(&act, Outcome::Succeeded, Some(&detail), now).await?;
    transaction.commit().await
}

async fn certificate(
    store: &Store,
    transaction: &Transaction,
    known: &CertificateRecord,
    now: UtcTime,
) -> Result<Option<Delta>, StoreError> {
    let fingerprint = known.fingerprint;
    let row = store.certificate(known.serial).await?;
    Ok(match (row, known.revoked) {
        (None, None) => {
            let reason = RevocationReason::CessationOfOperation;
            Some(Delta::Revoked { fingerprint, at: now, reason })
        }
        (Some(row), Some((at, reason))) if row.revoked.is_none() => {
            transaction.revoke_certificate(known.serial, None, reason, at).await?;
            Some(Delta::Revoked { fingerprint, at, reason })
        }
        _ => None,
    })
}

async fn person(transaction: &Transaction, known: &PersonRecord) -> Result<Option<Delta>, StoreError> {
    let Some(mut row) = transaction.person(known.id).await?.filter(|row| known.disabled && !row.disabled)
    else {
        return Ok(None);
    };
    row.disabled = true;
    transaction.update_person(&row).await?;
    Ok(Some(Delta::Person(row.record())))
}
