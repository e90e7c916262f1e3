//! `wicketgate init`: makes what `serve` needs and leaves alone what is there.

use std::sync::Arc;

use clap::Args;

use super::output::Output;
use crate::activate::{Activation, Enforce};
use crate::boot::{Start, initialise, open_store, private_directory, vaults};
use crate::ca::Ca;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, KeySource};
use crate::domain::Enforced;
use crate::keys::{Kek, Purpose, SystemEntropy};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Make no root here: it and the issuing authority come from a key ceremony (`ca ceremony plan`)
    #[arg(long)]
    offline_root: bool,
}

pub(super) async fn run(arguments: Arguments, config: Config, output: Output) -> anyhow::Result<()> {
    let mut made = Vec::new();
    for (purpose, source) in
        [(Purpose::Server, &config.keys.server), (Purpose::Authority, &config.keys.authority)]
    {
        let KeySource::File(path) = source else { continue };
        if path.exists() {
            continue;
        }
        if let Some(parent) = path.parent() {
            use std::os::unix::fs::DirBuilderExt;
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        Kek::create_file(purpose, path, &SystemEntropy)?;
        made.push(path.display().to_string());
    }
    let vaults = Arc::new(vaults(&config)?);
    private_directory(&config.server.data_dir)?;
    let store = open_store(&config, Start::CreateIfMissing).await?;
    store.migrate(None).await?;
    let now = SystemClock.now();
    store.open_vaults(&vaults, &SystemEntropy, now).await?;
    let ca = Ca::new(
        store.clone(),
        vaults.clone(),
        Arc::new(SystemEntropy),
        Arc::new(NoEdges),
        Activation::new("publish_crls"),
        config.pki_base_url(),
    );
    if arguments.offline_root {
        ca.keep_root_offline().await?;
    }
    initialise(&store, &vaults, &ca, &config, now).await?;
    ca.publish_crls(now).await?;
    let authorities: Vec<_> =
        ca.authorities().await?.iter().map(|authority| authority.name.to_string()).collect();
    store.close().await;
    let text = format!(
        "The installation is ready: {}.\n{}{}Next: `wicketgate setup-link` prints the one-time link for the first \
         administrator once `wicketgate serve` runs.",
        authorities.join(", "),
        made.iter()
            .map(|path| format!("Made {path}; keep a copy where backups of this host do not go.\n"))
            .collect::<String>(),
        if arguments.offline_root {
            "No certificate can be issued before `wicketgate ca ceremony plan`, and what follows it.\n"
        } else {
            ""
        },
    );
    output.answer(&text, &serde_json::json!({ "authorities": authorities, "key_files": made }))
}

/// No edge runs yet; the first `serve` tells it everything.
pub(super) struct NoEdges;

#[async_trait::async_trait]
impl Enforce for NoEdges {
    async fn bring_up_to_date(&self) -> Enforced {
        Enforced::default()
    }
}
