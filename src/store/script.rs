//! Several statements in one trip to the database. A trip costs more than most of what is done at its
//! end: on SQLite two changes of thread, on PostgreSQL the network.

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
}

enum Part {
    Insert(InsertStatement),
    Update(UpdateStatement),
}

impl<'t> Script<'t> {
    /// Nothing yet.
    pub(in crate::store) fn on(transaction: &'t Transaction) -> Self {
        Self { connection: transaction.connection(), parts: Vec::new() }
    }

    /// Adds rows.
    pub(in crate::store) fn insert<A: ActiveModelTrait>(&mut self, rows: impl IntoIterator<Item = A>) {
        self.insert_unless(None, rows);
    }

    /// Adds rows, but for those that there are.
    pub(in crate::store) fn insert_unless<A: ActiveModelTrait>(
        &mut self,
        known: Option<&OnConflict>,
        rows: impl IntoIterator<Item = A>,
    ) {
        let mut rows = rows.into_iter().peekable();
        let mut add = |rows: &mut dyn Iterator<Item = A>| {
            let mut insert = <A::Entity as EntityTrait>::insert_many(rows).into_query();
            if let Some(known) = known {
                insert.on_conflict(known.clone());
            }
            self.parts.push(Part::Insert(insert));
        };
        match self.connection.get_database_backend() {
            // Of several rows in one statement it would have to be able to undo a part, and copies every
            // page before it touches it.
            DbBackend::Sqlite => rows.for_each(|row| add(&mut [row].into_iter())),
            _ if rows.peek().is_some() => add(&mut rows),
            _ => {}
        }
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
        let Self { connection, mut parts } = self;
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
                let parts = parts.iter().map(|part| match part {
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

/// One text of them all, with their values in the same order.
fn joined(backend: DbBackend, parts: impl Iterator<Item = Statement>) -> Statement {
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
