//! People as the authority sees them: whoever is disabled is out at every edge at once.

use super::Ca;
use crate::domain::audit::{Act, Outcome};
use crate::domain::{Delta, Enforced, UtcTime};
use crate::store::StoreError;
use crate::store::people::Person;

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

    /// Changes a person; `person.version` is the version that was read. `act` is closed with the row.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when someone else changed them, [`StoreError::Taken`] when the address
    /// is another person's.
    pub async fn update_person(
        &self,
        person: &Person,
        act: &Act,
        now: UtcTime,
    ) -> Result<(Person, Enforced), StoreError> {
        let transaction = self.0.store.begin().await?;
        transaction.update_person(person).await?;
        self.tell(transaction, person, act, now).await
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
        Ok((stored, self.0.enforce.bring_up_to_date().await))
    }
}
