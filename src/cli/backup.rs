//! `wicketgate backup` and `wicketgate restore`.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use super::output::Output;
use crate::boot::{Start, database_url, open_store, private_directory, vaults};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::live::journal::Held;
use crate::store::backup::{self, Backup};

#[derive(Debug, Args)]
pub(super) struct BackupArguments {
    /// The directory to make; it must not be there
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct RestoreArguments {
    /// The directory that `backup` made
    #[arg(value_name = "DIR")]
    from: PathBuf,
    /// Put it in the place of the installation that is there
    #[arg(long)]
    replace: bool,
}

/// Takes a backup, also while the installation is served.
pub(super) async fn take(arguments: BackupArguments, config: &Config, output: Output) -> anyhow::Result<()> {
    let vaults = vaults(config)?;
    let store = open_store(config, Start::Existing).await?;
    let taken = store.back_up(&arguments.to, vaults.authority.kek(), SystemClock.now()).await;
    store.close().await;
    let manifest = taken?;
    let directory = arguments.to.display().to_string();
    let text = format!(
        "{directory} holds {} rows of {} tables. The key files are not in it, and it cannot be restored without \
         them: keep a copy of them elsewhere.",
        manifest.rows(),
        manifest.parts.len()
    );
    let told = serde_json::json!({
        "directory": directory, "installation": manifest.installation, "rows": manifest.rows(),
        "tables": manifest.parts.len(), "epoch": manifest.epoch, "taken_at": manifest.taken_at().to_string(),
    });
    output.answer(&text, &told)
}

/// Puts a backup in place, while nothing serves.
pub(super) async fn put_back(
    arguments: RestoreArguments,
    config: &Config,
    output: Output,
) -> anyhow::Result<()> {
    let vaults = vaults(config)?;
    let backup = Backup::open(&arguments.from, vaults.authority.kek())?;
    backup.check_keys(&vaults)?;
    if std::os::unix::net::UnixStream::connect(config.admin_socket()).is_ok() {
        bail!("a wicketgate process serves this installation; stop it first");
    }
    private_directory(&config.server.data_dir)?;
    let edge = config.server.data_dir.join("edge");
    // Also one without a control plane, whose database was away.
    let _held = edge.exists().then(|| Held::take(&edge)).transpose()?;
    let restored =
        backup::restore(&database_url(config), &backup, arguments.replace, SystemClock.now()).await?;
    let manifest = backup.manifest();
    let kept = restored.kept.map(|path| path.display().to_string());
    let mut text = format!(
        "The installation is as it was at {}: {} rows. Open invitations were revoked and everyone is signed out. \
         API tokens and passwords are those of that time: revoke again what was revoked since.",
        manifest.taken_at(),
        manifest.rows()
    );
    if let Some(kept) = &kept {
        text.push_str(&format!("\nWhat was there before is kept as {kept}."));
    }
    let told = serde_json::json!({
        "installation": manifest.installation, "rows": manifest.rows(),
        "taken_at": manifest.taken_at().to_string(), "kept": kept,
    });
    output.answer(&text, &told)
}
