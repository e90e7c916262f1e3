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

/// Rows that go to the database at once, at most: each binds up to some thirty values, of which a statement
/// takes 32,766 on SQLite and 65,535 on PostgreSQL.
const MOST_ROWS: usize = 1_000;

/// Inserts and updates that depend on nothing but what was read before: the database may carry them out
/// in any order, and checks references after all of them or in the order in which they were added.
/// Of very many rows the first are carried out before the others. After an error none of it may stand.
pub(in crate::store) struct Script<'t> {
    connection: &'t DatabaseTransaction,
    parts: Vec<Part>,
}

struct Part {
    what: What,
    rows: usize,
    /// Whether it stops where it fails.
    stops: bool,
}

enum What {
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

    /// Adds rows that refer to no other table, but for those that there are. One statement on SQLite, too: it
    /// stops at the row that it cannot add and leaves those before, so that nothing must be kept for undoing
    /// a part of it.
    pub(in crate::store) fn insert_plain<A: ActiveModelTrait>(
        &mut self,
        known: Option<&OnConflict>,
        rows: impl IntoIterator<Item = A>,
    ) {
        self.add(known, rows, MOST_ROWS, true);
    }

    /// Adds rows, but for those that there are.
    pub(in crate::store) fn insert_unless<A: ActiveModelTrait>(
        &mut self,
        known: Option<&OnConflict>,
        rows: impl IntoIterator<Item = A>,
    ) {
        let at_once = match self.connection.get_database_backend() {
            // Of several rows in one statement it would have to be able to undo a part, and copies every
            // page before it touches it.
            DbBackend::Sqlite => 1,
            _ => MOST_ROWS,
        };
        self.add(known, rows, at_once, false);
    }

    fn add<A: ActiveModelTrait>(
        &mut self,
        known: Option<&OnConflict>,
        rows: impl IntoIterator<Item = A>,
        at_once: usize,
        stops: bool,
    ) {
        let mut rows = rows.into_iter();
        loop {
            let some: Vec<_> = rows.by_ref().take(at_once).collect();
            let count = some.len();
            if count == 0 {
                return;
            }
            let mut insert = <A::Entity as EntityTrait>::insert_many(some).into_query();
            if let Some(known) = known {
                insert.on_conflict(known.clone());
            }
            self.parts.push(Part { what: What::Insert(insert), rows: count, stops });
        }
    }

    /// Adds an insert as it is.
    pub(in crate::store) fn insert_by(&mut self, insert: InsertStatement) {
        self.parts.push(Part { what: What::Insert(insert), rows: 1, stops: false });
    }

    /// Adds an update.
    pub(in crate::store) fn update<E: EntityTrait>(&mut self, update: UpdateMany<E>) {
        self.parts.push(Part { what: What::Update(update.into_query()), rows: 1, stops: false });
    }

    /// Carries everything out.
    pub(in crate::store) async fn run(self) -> Result<(), DbErr> {
        let mut parts = self.parts.into_iter().peekable();
        while let Some(first) = parts.next() {
            let mut rows = first.rows;
            let mut together = vec![first];
            while let Some(next) = parts.next_if(|next| rows + next.rows <= MOST_ROWS) {
                rows += next.rows;
                together.push(next);
            }
            let statement = one_statement(self.connection.get_database_backend(), together);
            self.connection.execute_raw(statement).await?;
        }
        Ok(())
    }
}

fn one_statement(backend: DbBackend, mut parts: Vec<Part>) -> Statement {
    match (backend, parts.pop()) {
        // Where a statement may hold no others, one changes a table on its way to another.
        (DbBackend::Postgres, Some(last)) if !parts.is_empty() => {
            let mut with = WithClause::new();
            for (number, part) in parts.into_iter().enumerate() {
                let mut inner = CommonTableExpression::new();
                inner
                    .query(SubQueryStatement::from(part.what))
                    .table_name(Alias::new(format!("part_{number}")));
                with.cte(inner);
            }
            backend.build(&with.query(SubQueryStatement::from(last.what)))
        }
        (_, last) => {
            let parts = parts.iter().chain(&last).map(|part| match &part.what {
                What::Insert(insert) if part.stops => or_fail(backend.build(insert)),
                What::Insert(insert) => backend.build(insert),
                What::Update(update) => backend.build(update),
            });
            joined(backend, parts)
        }
    }
}

impl From<What> for SubQueryStatement {
    fn from(what: What) -> Self {
        match what {
            What::Insert(insert) => insert.into(),
            What::Update(update) => update.into(),
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
