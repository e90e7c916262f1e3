//! One test, two databases: what holds on SQLite holds on PostgreSQL.

use tempfile::TempDir;

use super::postgres;

/// A fresh, empty database of either kind.
pub enum TestDatabase {
    /// A file in a directory of its own.
    Sqlite(TempDir),
    /// A database on the shared server.
    Postgres(postgres::Database<'static>),
}

impl TestDatabase {
    /// An empty SQLite file.
    pub fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    /// An empty PostgreSQL database; none when PostgreSQL is missing.
    pub fn postgres() -> Option<Self> {
        postgres::fresh().map(Self::Postgres)
    }

    /// A copy of it, as long as nobody has this one open.
    pub fn twin(&self) -> Self {
        match self {
            Self::Sqlite(directory) => {
                let copy = tempfile::tempdir().unwrap();
                for entry in std::fs::read_dir(directory.path()).unwrap() {
                    let entry = entry.unwrap();
                    std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
                }
                Self::Sqlite(copy)
            }
            Self::Postgres(database) => Self::Postgres(database.twin()),
        }
    }

    /// Its URL, as the configuration takes it.
    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(directory) => format!("sqlite:{}", directory.path().join("test.db").display()),
            Self::Postgres(database) => database.url(),
        }
    }
}

/// Makes a module with the same asynchronous test on SQLite and on PostgreSQL.
///
/// ```ignore
/// on_both_databases! {
///     async fn a_person_is_found_by_address(database) {
///         let store = Store::open(&database.url(), 5).await.unwrap();
///     }
/// }
/// ```
#[macro_export]
macro_rules! on_both_databases {
    ($($(#[$meta:meta])* async fn $name:ident($database:ident) $body:block)+) => {
        $($(#[$meta])*
        async fn $name($database: &$crate::harness::database::TestDatabase) $body

        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                Box::pin(super::$name(&$crate::harness::database::TestDatabase::sqlite())).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgresql() {
                let Some(database) = $crate::harness::database::TestDatabase::postgres() else { return };
                Box::pin(super::$name(&database)).await;
            }
        })+
    };
}

on_both_databases! {
    async fn a_fresh_database_takes_the_schema(database) {
        let store = wicketgate::store::Store::create(&database.url(), 3).await.unwrap();
        assert_eq!(store.is_sqlite(), matches!(database, TestDatabase::Sqlite(_)));
        store.migrate(None).await.unwrap();
        store.check_schema().await.unwrap();
        store.close().await;
    }
}
