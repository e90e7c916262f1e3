//! Answers kept for repeated requests, by scope (actor and operation) and the caller's key.

use std::time::Duration;

use entity::idempotency_key;
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};

use super::{Store, StoreError};
use crate::domain::audit::{Act, Outcome};
use crate::domain::{Fingerprint, UtcTime};

/// How long an answer is kept.
const KEEP: Duration = Duration::from_secs(24 * 3600);
/// After this, a request without an answer was cut off by a crash and may be repeated.
const ABANDONED: Duration = Duration::from_secs(300);

/// An answer as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The JSON body, without secrets; empty if there was none.
    pub body: String,
    /// The `Location` header.
    pub location: Option<String>,
}

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nothing: the caller goes on, and then keeps or forgets its answer.
    New,
    /// The same request is being answered at this moment.
    Running,
    /// The same request was carried out, but the process died before its answer was kept.
    Unanswered {
        /// What the audit says came of it.
        detail: String,
    },
    /// The same request was answered.
    Answered(KeptAnswer),
    /// The key belongs to another request.
    Reused,
}

impl Store {
    /// Claims `key` in `scope` for the request with this digest.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim_idempotency_key(
        &self,
        scope: &str,
        key: &str,
        request: Fingerprint,
        now: UtcTime,
    ) -> Result<Claim, StoreError> {
        self.sweep_idempotency_keys(now).await?;
        let row = idempotency_key::ActiveModel {
            scope: Set(scope.to_owned()),
            key: Set(key.to_owned()),
            request_sha256: Set(request.to_string()),
            status: Set(None),
            answer: Set(None),
            location: Set(None),
            created_at: Set(now.as_unix()),
            act: Set(None),
        };
        let inserted = idempotency_key::Entity::insert(row).exec_without_returning(self.writer()).await;
        match inserted.map_err(|error| StoreError::unique(error, "the idempotency key")) {
            Ok(_) => return Ok(Claim::New),
            Err(StoreError::Taken { .. }) => {}
            Err(error) => return Err(error),
        }
        let find = idempotency_key::Entity::find_by_id((scope.to_owned(), key.to_owned()));
        Ok(match find.one(self.writer()).await? {
            None => Claim::Running,
            Some(row) if row.request_sha256 != request.to_string() => Claim::Reused,
            Some(row) => match row.status {
                None => match self.what_came_of(row.act.as_deref()).await? {
                    Some(detail) => Claim::Unanswered { detail },
                    None => Claim::Running,
                },
                Some(status) => Claim::Answered(KeptAnswer {
                    status: u16::try_from(status).unwrap_or(200),
                    body: row.answer.unwrap_or_default(),
                    location: row.location,
                }),
            },
        })
    }

    /// Says under which act a claimed request is carried out. Before the act: from then on a repetition
    /// finds what came of it.
    ///
    /// # Errors
    /// [`StoreError`]; then the request must not be carried out.
    pub async fn tie_idempotency_key(&self, scope: &str, key: &str, act: &Act) -> Result<(), StoreError> {
        use idempotency_key::Column;
        let tied = idempotency_key::Entity::update_many()
            .col_expr(Column::Act, Expr::value(act.started.to_string()))
            .filter(Column::Scope.eq(scope))
            .filter(Column::Key.eq(key))
            .exec(self.writer())
            .await?;
        if tied.rows_affected == 1 { Ok(()) } else { Err(StoreError::Missing { what: "idempotency key" }) }
    }

    /// What the audit says of an act that succeeded; `None` while it is open, or when it did not.
    async fn what_came_of(&self, act: Option<&str>) -> Result<Option<String>, StoreError> {
        let Some(act) = act else { return Ok(None) };
        let finished = self.end_of_act(act).await?;
        Ok(finished.filter(|(outcome, _)| outcome == Outcome::Succeeded.name()).map(|(_, detail)| detail))
    }

    /// Keeps the answer to a claimed request.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_answer(&self, scope: &str, key: &str, answer: &KeptAnswer) -> Result<(), StoreError> {
        use idempotency_key::Column;
        idempotency_key::Entity::update_many()
            .col_expr(Column::Status, Expr::value(i64::from(answer.status)))
            .col_expr(Column::Answer, Expr::value(answer.body.clone()))
            .col_expr(Column::Location, Expr::value(answer.location.clone()))
            .filter(Column::Scope.eq(scope))
            .filter(Column::Key.eq(key))
            .exec(self.writer())
            .await?;
        Ok(())
    }

    /// Forgets a claim whose request did nothing, so that it may be repeated.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_idempotency_key(&self, scope: &str, key: &str) -> Result<(), StoreError> {
        use idempotency_key::Column;
        idempotency_key::Entity::delete_many()
            .filter(Column::Scope.eq(scope))
            .filter(Column::Key.eq(key))
            .exec(self.writer())
            .await?;
        Ok(())
    }

    /// Forgets answers that were kept long enough, and claims of requests that a crash cut off before
    /// anything came of them. Returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sweep_idempotency_keys(&self, now: UtcTime) -> Result<u64, StoreError> {
        use idempotency_key::Column;
        let old = idempotency_key::Entity::delete_many()
            .filter(Column::CreatedAt.lt(now.minus(KEEP).as_unix()))
            .exec(self.writer())
            .await?;
        let mut swept = old.rows_affected;
        let cut_off = idempotency_key::Entity::find()
            .filter(Column::Status.is_null())
            .filter(Column::CreatedAt.lt(now.minus(ABANDONED).as_unix()))
            .all(self.reader())
            .await?;
        for row in cut_off {
            // Carried out: a repetition must not do it again.
            if self.what_came_of(row.act.as_deref()).await?.is_none() {
                self.forget_idempotency_key(&row.scope, &row.key).await?;
                swept += 1;
            }
        }
        Ok(swept)
    }
}
