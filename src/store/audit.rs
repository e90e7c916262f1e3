//! The audit: append-only, two events an act. The database itself refuses an update.

use entity::audit_event;
use futures_util::future::BoxFuture;
#[cfg(feature = "test-util")]
use sea_orm::ConnectionTrait;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::script::Script;
use super::writer::Rows;
use super::{Store, StoreError, Transaction};
use crate::domain::audit::{Act, Outcome, Unopened};
use crate::domain::{Actor, AuditEventId, UtcTime};

/// How far back open acts are looked for.
const ORPHANS_LOOKED_FOR: std::time::Duration = std::time::Duration::from_secs(7 * 86_400);

/// What an audit listing may be narrowed to.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Only this action.
    pub action: Option<String>,
    /// Only this actor, as `person:<id>`, `token:<id>`, `host:<uid>` or `system:<name>`.
    pub actor: Option<String>,
    /// Only events before this one, for paging.
    pub before: Option<String>,
}

impl Store {
    /// Opens an act: commits its `started` event. If this fails, the act must not happen.
    ///
    /// * `object` — kind and id of what is acted on; no names, no addresses.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin_act(
        &self,
        actor: Actor,
        action: &'static str,
        object: Option<(&'static str, String)>,
        request_id: Option<String>,
        now: UtcTime,
    ) -> Result<Act, StoreError> {
        let act = Act { started: AuditEventId::new(), actor, action, object, request_id, unopened: None };
        self.writer.add(Events(vec![started(&act, now)])).await?;
        Ok(act)
    }

    /// As [`Self::begin_act`], of an act whose first commit is the one that holds its effect, or says
    /// that there is none: its `started` event is written there, and a crash before leaves nothing of it.
    pub fn act_on_commit(
        actor: Actor,
        action: &'static str,
        object: Option<(&'static str, String)>,
        request_id: Option<String>,
        now: UtcTime,
    ) -> Act {
        let unopened = Some(Unopened::new(now));
        Act { started: AuditEventId::new(), actor, action, object, request_id, unopened }
    }

    /// Closes an act outside a transaction, for outcomes that left no other trace.
    ///
    /// # Errors
    /// [`StoreError`]; a job will close it as `unknown`.
    pub async fn finish_act(
        &self,
        act: &Act,
        outcome: Outcome,
        detail: Option<&str>,
        now: UtcTime,
    ) -> Result<(), StoreError> {
        self.writer.add(Events(ending(act, outcome, detail, now).collect())).await
    }

    /// When the newest act was recorded: no later act may happen before it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn last_audited(&self) -> Result<Option<UtcTime>, StoreError> {
        // By id, which is ordered by time and indexed.
        let query = audit_event::Entity::find()
            .select_only()
            .column(audit_event::Column::At)
            .order_by_desc(audit_event::Column::Id)
            .into_tuple::<i64>();
        Ok(query.one(self.reader()).await?.map(UtcTime::from_unix))
    }

    /// The newest events first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit_events(
        &self,
        filter: &AuditFilter,
        limit: u64,
    ) -> Result<Vec<audit_event::Model>, StoreError> {
        let mut query = audit_event::Entity::find();
        if let Some(action) = &filter.action {
            query = query.filter(audit_event::Column::Action.eq(action));
        }
        if let Some(actor) = &filter.actor {
            query = query.filter(audit_event::Column::Actor.eq(actor));
        }
        if let Some(before) = &filter.before {
            query = query.filter(audit_event::Column::Id.lt(before));
        }
        Ok(query.order_by_desc(audit_event::Column::Id).limit(limit).all(self.reader()).await?)
    }

    /// Outcome and detail of an act that is finished. Where the answer to the commit of its effect was
    /// lost, whoever waited for it may have called it failed: that it succeeded stands with the effect.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_of_act(&self, act: &str) -> Result<Option<(String, String)>, StoreError> {
        let query = audit_event::Entity::find()
            .filter(audit_event::Column::Act.eq(act))
            .filter(audit_event::Column::Phase.eq("finished"))
            .order_by_asc(audit_event::Column::Id);
        let mut ends = query.all(self.reader()).await?;
        let succeeded = |row: &audit_event::Model| row.outcome.as_deref() == Some(Outcome::Succeeded.name());
        let place = ends.iter().position(succeeded).unwrap_or(0);
        let end = (place < ends.len()).then(|| ends.swap_remove(place));
        Ok(end.map(|row| (row.outcome.unwrap_or_default(), row.detail.unwrap_or_default())))
    }

    /// Closes, as `unknown`, acts that were started before `before` and never finished. Returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn close_orphaned_acts(&self, before: UtcTime, now: UtcTime) -> Result<u64, StoreError> {
        use sea_orm::sea_query::{Alias, Expr, ExprTrait, Query};
        // Older ones were closed by an earlier run; the whole audit is not read again.
        let oldest = before.minus(ORPHANS_LOOKED_FOR).as_unix();
        let closed = Query::select()
            .column(audit_event::Column::Act)
            .from(Alias::new("audit_event"))
            .and_where(Expr::col(audit_event::Column::Phase).eq("finished"))
            .and_where(Expr::col(audit_event::Column::At).gte(oldest))
            .to_owned();
        let orphans = audit_event::Entity::find()
            .filter(audit_event::Column::Phase.eq("started"))
            .filter(audit_event::Column::At.gte(oldest))
            .filter(audit_event::Column::At.lt(before.as_unix()))
            .filter(audit_event::Column::Id.not_in_subquery(closed))
            .all(self.reader())
            .await?;
        let count = orphans.len() as u64;
        for orphan in orphans {
            let row = audit_event::ActiveModel {
                id: Set(AuditEventId::new().to_string()),
                at: Set(now.as_unix()),
                phase: Set("finished".to_owned()),
                outcome: Set(Some(Outcome::Unknown.name().to_owned())),
                detail: Set(Some("the process ended before the outcome was written".to_owned())),
                ..orphan.into()
            };
            audit_event::Entity::insert(row).exec_without_returning(self.writer()).await?;
        }
        Ok(count)
    }
}

#[cfg(feature = "test-util")]
impl Store {
    /// Tries what nobody may, so that a test sees the database refuse it.
    ///
    /// # Errors
    /// Always, if the table is append-only.
    pub async fn try_to_change_the_audit(&self) -> Result<(), StoreError> {
        self.tamper("UPDATE audit_event SET actor = 'nobody'").await
    }

    /// Does to the database what an intruder would, or a disk.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn tamper(&self, sql: &str) -> Result<(), StoreError> {
        self.writer().execute_unprepared(sql).await?;
        Ok(())
    }

    /// Lets no event in any more whose phase is `phase`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn refuse_audit_events(&self, phase: &str) -> Result<(), StoreError> {
        self.tamper(&match self.is_sqlite() {
            true => format!(
                "CREATE TRIGGER audit_is_full BEFORE INSERT ON audit_event WHEN NEW.phase = '{phase}' \
                 BEGIN SELECT RAISE(ABORT, 'no space left'); END"
            ),
            false => format!(
                "CREATE FUNCTION audit_is_full() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN RAISE EXCEPTION 'no space left'; END $$; \
                 CREATE TRIGGER audit_is_full BEFORE INSERT ON audit_event FOR EACH ROW \
                 WHEN (NEW.phase = '{phase}') EXECUTE FUNCTION audit_is_full()"
            ),
        })
        .await
    }

    /// Lets events in again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn accept_audit_events(&self) -> Result<(), StoreError> {
        let on = if self.is_sqlite() { "" } else { " ON audit_event" };
        self.tamper(&format!("DROP TRIGGER audit_is_full{on}")).await
    }

    /// Makes a table changeable for whoever owns the database.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn allow_changes(&self, table: &str) -> Result<(), StoreError> {
        self.tamper(&match self.is_sqlite() {
            true => format!("DROP TRIGGER {table}_no_update; DROP TRIGGER {table}_no_delete"),
            false => format!("DROP TRIGGER {table}_append_only ON {table}"),
        })
        .await
    }

    /// How many serials were ever handed out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reserved_serials(&self) -> Result<u64, StoreError> {
        use sea_orm::PaginatorTrait;
        Ok(entity::serial::Entity::find().count(self.reader()).await?)
    }
}

impl Transaction {
    /// Closes an act in the transaction that holds its effect, so that both stand or neither does.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn finish_act(
        &self,
        act: &Act,
        outcome: Outcome,
        detail: Option<&str>,
        now: UtcTime,
    ) -> Result<(), StoreError> {
        let mut script = Script::on(self);
        add_events(&mut script, ending(act, outcome, detail, now));
        Ok(script.run().await?)
    }
}

/// Events of an act that are written together with those of others.
struct Events(Vec<audit_event::ActiveModel>);

impl Rows for Events {
    type Answer = ();

    fn write<'t>(
        all: &'t [Self],
        transaction: &'t Transaction,
    ) -> BoxFuture<'t, Result<Vec<()>, StoreError>> {
        Box::pin(async move {
            let mut script = Script::on(transaction);
            add_events(&mut script, all.iter().flat_map(|events| events.0.iter().cloned()));
            script.run().await?;
            Ok(vec![(); all.len()])
        })
    }
}

/// Adds events to what is about to be written. A `started` event may be there already, if the answer to
/// the commit that wrote it was lost.
pub(in crate::store) fn add_events(
    script: &mut Script<'_>,
    rows: impl IntoIterator<Item = audit_event::ActiveModel>,
) {
    let there = OnConflict::column(audit_event::Column::Id).do_nothing().to_owned();
    script.insert_plain(Some(&there), rows);
}

/// The events with which an act ends: the `finished` one, and before it the `started` one if it is owed.
pub(in crate::store) fn ending(
    act: &Act,
    outcome: Outcome,
    detail: Option<&str>,
    now: UtcTime,
) -> impl Iterator<Item = audit_event::ActiveModel> + use<> {
    let finished = event(act, AuditEventId::new(), "finished", Some(outcome), detail, now);
    owed_start(act).into_iter().chain([finished])
}

/// The `started` event of an act, if it is not known to be on record.
pub(in crate::store) fn owed_start(act: &Act) -> Option<audit_event::ActiveModel> {
    act.owes_start().map(|began| started(act, began))
}

fn started(act: &Act, began: UtcTime) -> audit_event::ActiveModel {
    event(act, act.started, "started", None, None, began)
}

fn event(
    act: &Act,
    id: AuditEventId,
    phase: &str,
    outcome: Option<Outcome>,
    detail: Option<&str>,
    now: UtcTime,
) -> audit_event::ActiveModel {
    audit_event::ActiveModel {
        id: Set(id.to_string()),
        at: Set(now.as_unix()),
        phase: Set(phase.to_owned()),
        act: Set(act.started.to_string()),
        actor: Set(act.actor.to_string()),
        action: Set(act.action.to_owned()),
        object_kind: Set(act.object.as_ref().map(|(kind, _)| (*kind).to_owned())),
        object_id: Set(act.object.as_ref().map(|(_, id)| id.clone())),
        outcome: Set(outcome.map(|outcome| outcome.name().to_owned())),
        detail: Set(detail.map(str::to_owned)),
        request_id: Set(act.request_id.clone()),
    }
}
