//! Several statements in one trip to the database. A trip costs more than most of what is done at its
//! end: on SQLite two changes of thread, on PostgreSQL the network.

use std::collections::BTreeSet;

use sea_orm::sea_query::{
    Alias, CommonTableExpression, InsertStatement, OnConflict, SubQueryStatement, UpdateStatement, WithClause,
};
use sea_orm::{
    ActiveModelTrait, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityTrait, QueryTrait,
    Statement, UpdateMany,
};

use super::Transaction;

/// Inserts and updates that depend on nothing but what was read before: the database may carry them out
/// in any order, and checks references after all of them or in the order in which they were added.
/// After an error none of it may stand.
pub(in crate::store) struct Script<'t> {
    connection: &'t DatabaseTransaction,
    parts: Vec<Part>,
    /// Those of the parts that stop where they fail.
    stopping: BTreeSet<usize>,
}

enum Part {
    Insert(InsertStatement),
    Update(UpdateStatement),
}

impl<'t> Script<'t> {
    /// Nothing yet.
    pub(in crate::store) fn on(transaction: &'t Transaction) -> Self {
        Self { connection: transaction.connection(), parts: Vec::new(), stopping: BTreeSet::new() }
    }

    /// Adds rows.
    pub(in crate::store) fn insert<A: ActiveModelTrait>(&mut self, rows: impl IntoIterator<Item = A>) {
        self.insert_unless(None, rows);
    }

    /// Adds rows that refer to no other table, but for those that there are. One statement on SQLite, too: it
    /// stops at the row that it cannot add and leaves those before, so that nothing must be kept for undoing
    /// a part of it.
    pub(in crate::store) fn insert_plain<A: ActiveModelTrait>(
        &mut self,
        known: Option<&OnConflict>,
        rows: impl IntoIterator<Item = A>,
    ) {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_some() {
            self.stopping.insert(self.parts.len());
            self.add(known, rows);
        }
    }

    /// Adds rows, but for those that there are.
    pub(in crate::store) fn insert_unless<A: ActiveModelTrait>(
        &mut self,
        known: Option<&OnConflict>,
        rows: impl IntoIterator<Item = A>,
    ) {
        let mut rows = rows.into_iter().peekable();
        match self.connection.get_database_backend() {
            // Of several rows in one statement it would have to be able to undo a part, and copies every
            // page before it touches it.
            DbBackend::Sqlite => rows.for_each(|row| self.add(known, [row])),
            _ if rows.peek().is_some() => self.add(known, rows),
            _ => {}
        }
    }

    fn add<A: ActiveModelTrait>(&mut self, known: Option<&OnConflict>, rows: impl IntoIterator<Item = A>) {
        let mut insert = <A::Entity as EntityTrait>::insert_many(rows).into_query();
        if let Some(known) = known {
            insert.on_conflict(known.clone());
        }
        self.parts.push(Part::Insert(insert));
    }

    /// Adds an insert as it is.
    pub(in crate::store) fn insert_by(&mut self, insert: InsertStatement) {
        self.parts.push(Part::Insert(insert));
    }

    /// Adds an update.
    pub(in crate::store) fn update<E: EntityTrait>(&mut self, update: UpdateMany<E>) {
        self.parts.push(Part::Update(update.into_query()));
    }

    /// Carries everything out.
    pub(in crate::store) async fn run(self) -> Result<(), DbErr> {
        let Self { connection, mut parts, stopping } = self;
        let backend = connection.get_database_backend();
        let Some(last) = parts.pop() else { return Ok(()) };
        let statement = match backend {
            // Where a statement may hold no others, one changes a table on its way to another.
            DbBackend::Postgres if !parts.is_empty() => {
                let mut with = WithClause::new();
                for (number, part) in parts.into_iter().enumerate() {
                    let mut inner = CommonTableExpression::new();
                    inner
                        .query(SubQueryStatement::from(part))
                        .table_name(Alias::new(format!("part_{number}")));
                    with.cte(inner);
                }
                backend.build(&with.query(SubQueryStatement::from(last)))
            }
            _ => {
                parts.push(last);
                let parts = parts.iter().enumerate().map(|(place, part)| match part {
                    Part::Insert(insert) if stopping.contains(&place) => or_fail(backend.build(insert)),
                    Part::Insert(insert) => backend.build(insert),
                    Part::Update(update) => backend.build(update),
                });
                joined(backend, parts)
            }
        };
        connection.execute_raw(statement).await?;
        Ok(())
    }
}

impl From<Part> for SubQueryStatement {
    fn from(part: Part) -> Self {
        match part {
            Part::Insert(insert) => insert.into(),
            Part::Update(update) => update.into(),
        }
    }
}

/// SQLite's way to stop at the first fault; others know only the statement as a whole.
fn or_fail(mut insert: Statement) -> Statement {
    if insert.db_backend == DbBackend::Sqlite {
        insert.sql = insert.sql.replacen("INSERT INTO", "INSERT OR FAIL INTO", 1);
    }
    insert
}

/// One text of them all, with their values in the same order.
pub(in crate::store) fn joined(backend: DbBackend, parts: impl Iterator<Item = Statement>) -> Statement {
    let (mut sql, mut values) = (String::new(), Vec::new());
    for part in parts {
        if !sql.is_empty() {
            sql.push_str("; ");
        }
        sql.push_str(&part.sql);
        values.extend(part.values.into_iter().flat_map(|values| values.0));
    }
    Statement::from_sql_and_values(backend, sql, values)
}
