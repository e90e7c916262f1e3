//! `wicketgate migrate`: the one way in which a PostgreSQL schema changes.

use super::output::Output;
use crate::boot::{Start, open_store};
use crate::config::Config;

pub(super) async fn run(config: &Config, output: Output) -> anyhow::Result<()> {
    let store = open_store(config, Start::CreateIfMissing).await?;
    store.migrate(None).await?;
    store.close().await;
    output.answer("The database's schema is up to date.", &serde_json::json!({ "migrated": true }))
}
