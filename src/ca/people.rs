//! People as the authority sees them: whoever is disabled is out at every edge at once.

use super::Ca;
use crate::domain::audit::{Act, Outcome};
use crate::domain::{Delta, Enforced, Role, UtcTime};
use crate::store::StoreError;
use crate::store::people::Person;

/// Why a person was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditPersonError {
    /// Nobody could undo it.
    #[error("this is the last administrator")]
    LastAdministrator,
    /// The row could not be changed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn rules(person: &Person) -> bool {
    person.role == Role::Administrator && !person.disabled
}

impl Ca {
    /// Adds a person. `act` is closed with the row.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when the address is another person's.
    pub async fn create_person(
        &self,
        person: &Person,
        act: &Act,
        now: UtcTime,
    ) -> Result<(Person, Enforced), StoreError> {
        let transaction = self.0.store.begin().await?;
        transaction.insert_person(person).await?;
        self.tell(transaction, person, act, now).await
    }

    /// Changes a person; `person.version` is the version that was read. `act` is closed with the row,
    /// and the sessions of someone disabled end with it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when someone else changed them, [`StoreError::Taken`] when the address
    /// is another person's, [`EditPersonError::LastAdministrator`] when nobody would be left to rule.
    pub async fn update_person(
        &self,
        person: &Person,
        act: &Act,
        now: UtcTime,
    ) -> Result<(Person, Enforced), EditPersonError> {
        let transaction = self.0.store.begin().await?;
        // Two administrators who demote one another come one after the other.
        transaction.lock_register().await?;
        let before = transaction.person(person.id).await?.ok_or(StoreError::Missing { what: "person" })?;
        transaction.update_person(person).await?;
        if rules(&before) && !rules(person) && !transaction.has_other_administrator(person.id).await? {
            return Err(EditPersonError::LastAdministrator);
        }
        if person.disabled {
            transaction.end_sessions(person.id, None).await?;
        }
        Ok(self.tell(transaction, person, act, now).await?)
    }

    async fn tell(
        &self,
        transaction: crate::store::Transaction,
        person: &Person,
        act: &Act,
        now: UtcTime,
    ) -> Result<(Person, Enforced), StoreError> {
        let stored = transaction.person(person.id).await?.ok_or(StoreError::Missing { what: "person" })?;
        transaction.append_changes(&[Delta::Person(stored.record())], now).await?;
        transaction.finish_act(act, Outcome::Succeeded, None, now).await?;
        transaction.commit().await?;
        Ok((stored, self.0.enforce.bring_register_up_to_date().await))
    }
}
