//! The outbox: mails that wait, sealed under the authority key, written in the transaction of what
//! they tell. What was sent is deleted, what was given up loses its content.

use std::fmt;
use std::sync::Arc;

use entity::outbox;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, Transaction, at};
use crate::domain::UtcTime;
use crate::keys::{KeyFault, Place, Vaults};

/// A mail in the open: held only between writing and sealing, and between opening and sending.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutgoingMail {
    /// The recipient's address.
    pub to: String,
    /// The recipient's name.
    pub name: String,
    /// The subject.
    pub subject: String,
    /// The body for those who read text.
    pub text: String,
    /// The same for those who read HTML.
    pub html: String,
}

impl fmt::Debug for OutgoingMail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OutgoingMail([redacted])")
    }
}

/// A mail that is ready to be queued. Its content cannot be seen any more.
#[derive(Clone, Debug)]
#[must_use = "a mail that is not queued is never sent"]
pub struct SealedMail {
    id: String,
    kind: &'static str,
    sealed: Vec<u8>,
}

/// A mail whose time has come.
#[derive(Debug)]
pub struct DueMail {
    /// Its row; also the stem of its Message-ID, so that a mail that is sent twice is seen once.
    pub id: String,
    /// What kind of mail it is.
    pub kind: String,
    /// How often it was tried.
    pub attempts: u32,
    /// The mail; none when it does not open any more.
    pub mail: Option<OutgoingMail>,
}

/// Seals mails and opens those that are due. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Outbox {
    store: Store,
    vaults: Arc<Vaults>,
}

const WAITING: &str = "waiting";
const GIVEN_UP: &str = "given_up";

impl Outbox {
    /// The outbox of this database.
    pub fn new(store: Store, vaults: Arc<Vaults>) -> Self {
        Self { store, vaults }
    }

    /// The database behind it.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Seals a mail of this kind, so that it can be queued.
    ///
    /// # Errors
    /// [`KeyFault`] when no data key is in use.
    pub fn seal(&self, kind: &'static str, mail: &OutgoingMail) -> Result<SealedMail, KeyFault> {
        let id = uuid::Uuid::now_v7().to_string();
        // A struct of strings always becomes JSON.
        let plain = serde_json::to_vec(mail).unwrap_or_default();
        let sealed = self.vaults.authority.seal(place(&id), &plain)?;
        Ok(SealedMail { id, kind, sealed })
    }

    /// Mails whose next attempt is due, oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn due_mails(&self, now: UtcTime, limit: u64) -> Result<Vec<DueMail>, StoreError> {
        let rows = outbox::Entity::find()
            .filter(outbox::Column::State.eq(WAITING))
            .filter(outbox::Column::NextAttemptAt.lte(now.as_unix()))
            .order_by_asc(outbox::Column::CreatedAt)
            .order_by_asc(outbox::Column::Id)
            .limit(limit)
            .all(self.store.reader())
            .await?;
        let open = |row: outbox::Model| {
            let sealed = row.sealed.unwrap_or_default();
            let plain = self.vaults.authority.open(place(&row.id), &sealed).ok();
            DueMail {
                mail: plain.and_then(|plain| serde_json::from_slice(plain.expose()).ok()),
                id: row.id,
                kind: row.kind,
                attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
            }
        };
        Ok(rows.into_iter().map(open).collect())
    }
}

impl Transaction {
    /// Queues a mail together with what it tells.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn enqueue_mail(&self, mail: &SealedMail, now: UtcTime) -> Result<(), StoreError> {
        let row = outbox::ActiveModel {
            id: Set(mail.id.clone()),
            kind: Set(mail.kind.to_owned()),
            state: Set(WAITING.to_owned()),
            sealed: Set(Some(mail.sealed.clone())),
            attempts: Set(0),
            next_attempt_at: Set(now.as_unix()),
            last_error: Set(None),
            created_at: Set(now.as_unix()),
        };
        outbox::Entity::insert(row).exec_without_returning(self.connection()).await?;
        Ok(())
    }
}

impl Store {
    /// Removes a mail that was sent.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mail_sent(&self, id: &str) -> Result<(), StoreError> {
        outbox::Entity::delete_by_id(id.to_owned()).exec(self.writer()).await?;
        Ok(())
    }

    /// Keeps a mail for another attempt. `error` must not hold addresses.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mail_deferred(&self, id: &str, error: &str, next: UtcTime) -> Result<(), StoreError> {
        use sea_orm::ExprTrait;
        outbox::Entity::update_many()
            .col_expr(outbox::Column::Attempts, Expr::col(outbox::Column::Attempts).add(1))
            .col_expr(outbox::Column::NextAttemptAt, Expr::value(next.as_unix()))
            .col_expr(outbox::Column::LastError, Expr::value(error))
            .filter(outbox::Column::Id.eq(id))
            .exec(self.writer())
            .await?;
        Ok(())
    }

    /// Gives a mail up: the row stays for the record, its content goes. `error` must not hold addresses.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mail_given_up(&self, id: &str, error: &str) -> Result<(), StoreError> {
        outbox::Entity::update_many()
            .col_expr(outbox::Column::State, Expr::value(GIVEN_UP))
            .col_expr(outbox::Column::Sealed, Expr::value(Option::<Vec<u8>>::None))
            .col_expr(outbox::Column::LastError, Expr::value(error))
            .filter(outbox::Column::Id.eq(id))
            .exec(self.writer())
            .await?;
        Ok(())
    }

    /// How many mails wait.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn waiting_mails(&self) -> Result<u64, StoreError> {
        Ok(outbox::Entity::find().filter(outbox::Column::State.eq(WAITING)).count(self.reader()).await?)
    }

    /// When the next waiting mail is due, if any waits.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn next_mail_at(&self) -> Result<Option<UtcTime>, StoreError> {
        let query = outbox::Entity::find()
            .filter(outbox::Column::State.eq(WAITING))
            .order_by_asc(outbox::Column::NextAttemptAt);
        Ok(query.one(self.reader()).await?.map(|row| at(row.next_attempt_at)))
    }

    /// Forgets mails that were given up and queued before `before`. Returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sweep_outbox(&self, before: UtcTime) -> Result<u64, StoreError> {
        let delete = outbox::Entity::delete_many()
            .filter(outbox::Column::State.eq(GIVEN_UP))
            .filter(outbox::Column::CreatedAt.lt(before.as_unix()));
        Ok(delete.exec(self.writer()).await?.rows_affected)
    }
}

fn place(id: &str) -> Place<'_> {
    Place { table: "outbox", column: "sealed", row: id }
}
