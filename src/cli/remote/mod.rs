//! Everything a running installation is asked for: people, devices' certificates, sites, routes, jobs.
//! Each subcommand is one or two requests to the API, so it can do exactly what a token can.

mod apply;
mod authorities;
mod calls;
mod client;
mod commands;
mod health;
mod issue;
mod policy;
pub(super) mod table;

pub(super) use authorities::CaAct;
pub(super) use client::{Client, Reach, client_tls};
pub(super) use commands::Command;

use super::output::Output;
use commands::RouteAct;

/// Runs a subcommand and prints what the API answered.
pub(super) async fn run(command: Command, client: &Client, output: Output) -> anyhow::Result<()> {
    if let Command::Cert { act: commands::CertAct::Issue(arguments) } = command {
        return issue::run(arguments, client, output).await;
    }
    if let Command::Ca { act } = command {
        return authorities::run(act, client, output).await;
    }
    let command = match command {
        Command::Route { act: act @ (RouteAct::Explain { .. } | RouteAct::Try { .. }) } => {
            return policy::run(act, client, output).await;
        }
        Command::Apply(arguments) => return apply::apply(arguments, client, output).await,
        Command::Export(arguments) => return apply::export(arguments, client, output).await,
        other => other,
    };
    let call = command.call()?;
    let etag = match &call.version_of {
        // An edit names the version it was made from; here that is the one that stands now.
        Some(path) => client.send(http::Method::GET, path, None, None).await?.etag,
        None => None,
    };
    let answer = client.send(call.method, &call.path, call.body.as_ref(), etag.as_deref()).await?;
    output.answer(&table::show(&answer.body, call.columns, call.done), &answer.body)
}
