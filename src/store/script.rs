//! Several statements in one trip to the database. A trip costs more than most of what is done at its
//! end: on SQLite two changes of thread, on PostgreSQL the network.

use sea_orm::sea_query::{
    Alias, CommonTableExpression, InsertStatement, SubQueryStatement, UpdateStatement, WithClause,
};
use sea_orm::{
    ActiveModelTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait, QueryTrait, Statement, UpdateMany,
};

use super::Transaction;

/// Inserts and updates that depend on nothing but what was read before: the database may carry them out
/// in any order, and checks references after all of them or in the order in which they were added.
/// After an error none of it may stand.
#[derive(Debug, Default)]
pub(in crate::store) struct Script(Vec<Part>);

#[derive(Debug)]
enum Part {
    Insert(InsertStatement),
    Update(UpdateStatement),
}

impl Script {
    /// Adds rows; of none nothing comes.
    pub(in crate::store) fn insert<A: ActiveModelTrait>(&mut self, rows: impl IntoIterator<Item = A>) {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_some() {
            self.0.push(Part::Insert(<A::Entity as EntityTrait>::insert_many(rows).into_query()));
        }
    }

    /// Adds an insert as it is.
    pub(in crate::store) fn insert_by(&mut self, insert: InsertStatement) {
        self.0.push(Part::Insert(insert));
    }

    /// Adds an update.
    pub(in crate::store) fn update<E: EntityTrait>(&mut self, update: UpdateMany<E>) {
        self.0.push(Part::Update(update.into_query()));
    }

    /// Carries everything out.
    pub(in crate::store) async fn run(mut self, transaction: &Transaction) -> Result<(), DbErr> {
        let connection = transaction.connection();
        let backend = connection.get_database_backend();
        let Some(last) = self.0.pop() else { return Ok(()) };
        let statement = match backend {
            // Where a statement may hold no others, one changes a table on its way to another.
            DbBackend::Postgres if !self.0.is_empty() => {
                let mut with = WithClause::new();
                for (number, part) in self.0.into_iter().enumerate() {
                    let mut inner = CommonTableExpression::new();
                    inner
                        .query(SubQueryStatement::from(part))
                        .table_name(Alias::new(format!("part_{number}")));
                    with.cte(inner);
                }
                backend.build(&with.query(SubQueryStatement::from(last)))
            }
            _ => {
                let parts = self.0.iter().chain([&last]).map(|part| match part {
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
