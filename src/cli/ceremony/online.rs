//! The steps on the running system: whoever may read its keys and database may take them. What they
//! change reaches edges as every change does, within a second.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;

use super::{ImportArguments, PlanArguments, read, write_new};
use crate::activate::Activation;
use crate::boot::{Start, open_store, vaults};
use crate::ca::{Brought, Ca, Wanted};
use crate::cli::init::NoEdges;
use crate::cli::output::Output;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::domain::Actor;
use crate::domain::audit::{Act, Outcome};
use crate::keys::SystemEntropy;
use crate::pki::ceremony::Plan;
use crate::pki::pem;
use crate::store::Store;

const DAY: Duration = Duration::from_secs(86_400);

/// `plan`.
pub(super) async fn plan(arguments: &PlanArguments, config: &Config, output: Output) -> anyhow::Result<()> {
    ensure!(!arguments.out.exists(), "{} is there already; choose another --out", arguments.out.display());
    let (store, ca) = open(config).await?;
    let wanted = Wanted {
        new_root: arguments.new_root,
        issuing: arguments.issuing,
        list_lifetime: DAY * arguments.list_days,
    };
    let now = SystemClock.now();
    let act = begin(&store, "ceremony.plan").await?;
    let planned = ca.plan_ceremony(wanted, &act, now).await;
    let text = close(&store, &act, planned).await?;
    write_new(&arguments.out, &text, 0o644)?;
    store.close().await;
    let sha256 = Plan::sha256(&text);
    let plan = Plan::from_text(&text)?;
    let next = match &plan.root.certificate_sha256 {
        None => {
            format!("wicketgate ca ceremony root --plan {} --plan-sha256 {sha256}", arguments.out.display())
        }
        Some(_) => {
            format!("wicketgate ca ceremony sign --plan {} --plan-sha256 {sha256}", arguments.out.display())
        }
    };
    let said = format!(
        "{text}\nWrote {}. Review it and note its SHA-256 on paper:\n\n  {sha256}\n\nNext, on the offline machine: {next}",
        arguments.out.display()
    );
    output.answer(&said, &json!({ "plan_file": arguments.out, "plan_sha256": sha256 }))
}

/// `import`.
pub(super) async fn import(
    arguments: &ImportArguments,
    config: &Config,
    output: Output,
) -> anyhow::Result<()> {
    let (plan_text, outcome) = (read(&arguments.plan)?, read(&arguments.outcome)?);
    let mut certificates = pem::blocks(&outcome, "CERTIFICATE").into_iter();
    let brought = Brought {
        root: certificates.next().context("the outcome holds no root certificate")?,
        issuing: certificates.next(),
        list: pem::first_block(&outcome, &["X509 CRL"]).context("the outcome holds no revocation list")?,
    };
    ensure!(certificates.next().is_none(), "the outcome holds more certificates than a ceremony makes");
    let (store, ca) = open(config).await?;
    let now = SystemClock.now();
    let act = begin(&store, "ceremony.import").await?;
    let imported = ca.import_ceremony(&plan_text, &brought, &act, now).await;
    let imported = close(&store, &act, imported).await?;
    store.close().await;
    let root = format!("{} is {}", imported.root.name, imported.root.state.name());
    let (issuing, next) = match &imported.issuing {
        Some(issuing) => {
            let verb = if issuing.state.is_in_force() { "activate" } else { "trust" };
            (
                format!(", {} is {}", issuing.name, issuing.state.name()),
                format!(" Next: `wicketgate ca {verb} {}`.", issuing.name),
            )
        }
        None => (String::new(), String::new()),
    };
    let said = format!(
        "{root}{issuing}. The root's list ends {}; the next ceremony is before that.{next}",
        imported.list_ends
    );
    output.answer(
        &said,
        &json!({
            "root": imported.root.name, "root_state": imported.root.state.name(),
            "issuing": imported.issuing.as_ref().map(|issuing| issuing.name.clone()),
            "issuing_state": imported.issuing.as_ref().map(|issuing| issuing.state.name()),
            "list_ends": imported.list_ends,
        }),
    )
}

async fn open(config: &Config) -> anyhow::Result<(Store, Ca)> {
    let vaults = Arc::new(vaults(config)?);
    let store = open_store(config, Start::Existing).await?;
    store.check_schema().await?;
    store.open_vaults(&vaults, &SystemEntropy, SystemClock.now()).await?;
    let ca = Ca::new(
        store.clone(),
        vaults,
        Arc::new(SystemEntropy),
        Arc::new(NoEdges),
        Activation::new("publish_crls"),
        config.pki_base_url(),
    );
    Ok((store, ca))
}

/// Opens the act in the name of whoever runs this.
async fn begin(store: &Store, action: &'static str) -> anyhow::Result<Act> {
    let uid = std::fs::metadata("/proc/self").context("cannot tell who runs this")?.uid();
    Ok(store.begin_act(Actor::Host { uid }, action, None, None, SystemClock.now()).await?)
}

/// Closes the act of what failed; what succeeded closed it itself.
async fn close<T, E>(store: &Store, act: &Act, result: Result<T, E>) -> anyhow::Result<T>
where
    E: std::error::Error + Send + Sync + 'static,
{
    if let Err(error) = &result {
        let said = error.to_string();
        store.finish_act(act, Outcome::Failed, Some(&said), SystemClock.now()).await?;
    }
    Ok(result?)
}
