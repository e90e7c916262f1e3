//! `wicketgate rewrap`: after a new key was put in front of a key file, wraps every data key under it.
//! Sealed columns do not change, so a serving process goes on undisturbed; it reads the new file at
//! its next start.

use super::output::Output;
use crate::boot::{Start, open_store, vaults};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::keys::SystemEntropy;

pub(super) async fn run(config: &Config, output: Output) -> anyhow::Result<()> {
    let vaults = vaults(config)?;
    let store = open_store(config, Start::Existing).await?;
    store.check_schema().await?;
    store.open_vaults(&vaults, &SystemEntropy, SystemClock.now()).await?;
    let count = store.rewrap_data_keys(&vaults).await?;
    store.close().await;
    let text = match count {
        0 => "Every data key is wrapped under the newest key already.".to_owned(),
        _ => {
            format!(
                "{count} data keys are wrapped under the newest key now. Restart wicketgate once, which seals \
                 the edge's own copy anew, before the old key leaves the file."
            )
        }
    };
    output.answer(&text, &serde_json::json!({ "rewrapped": count }))
}
