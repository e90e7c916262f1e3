//! `wicketgate check`: everything that would keep `serve` from starting, all at once.

use std::net::{SocketAddr, TcpListener};

use super::output::Output;
use crate::boot::{Start, open_store, vaults};
use crate::config::{Config, ConfigFaults, DatabaseUrl, Fault, probe};

pub(super) async fn run(config: Config, output: Output) -> anyhow::Result<()> {
    let mut faults = probe(&config);
    faults.extend(ports(&config));
    if let Err(fault) = vaults(&config) {
        let known = faults.iter().any(|fault| fault.key.starts_with("keys."));
        if !known {
            faults.push(Fault::of_key("keys", fault.to_string()));
        }
    }
    faults.extend(database(&config).await);
    if !faults.is_empty() {
        return Err(ConfigFaults(faults).into());
    }
    let file = config.file.as_ref().map_or("the defaults".to_owned(), |file| file.display().to_string());
    output.answer(
        &format!("{file}: nothing found that would keep wicketgate from starting"),
        &serde_json::json!({ "faults": [] }),
    )
}

fn ports(config: &Config) -> Vec<Fault> {
    let mut wanted: Vec<(String, SocketAddr)> = Vec::new();
    wanted.extend(
        config.edge.https.iter().enumerate().map(|(at, address)| (format!("edge.https[{at}]"), *address)),
    );
    wanted.extend(
        config.edge.http.iter().enumerate().map(|(at, address)| (format!("edge.http[{at}]"), *address)),
    );
    wanted.push(("admin.listen".to_owned(), config.admin.listen));
    wanted.push(("health.listen".to_owned(), config.health.listen));
    wanted.extend(config.pki.listen.map(|address| ("pki.listen".to_owned(), address)));
    wanted
        .into_iter()
        .filter_map(|(key, address)| {
            let error = TcpListener::bind(address).err()?;
            Some(Fault::of_value(key, &address.to_string(), format!("cannot listen there: {error}")))
        })
        .collect()
}

async fn database(config: &Config) -> Option<Fault> {
    let shown = match &config.database.url {
        DatabaseUrl::Sqlite(path) => format!("sqlite:{}", path.display()),
        DatabaseUrl::Postgres(url) => url.expose().clone(),
    };
    let fault = |reason: String| Some(Fault::of_value("database.url", &shown, reason));
    let store = match open_store(config, Start::Existing).await {
        Ok(store) => store,
        Err(error) => {
            return fault(format!("{}; is it there? `wicketgate init` makes a new one", chain(&error)));
        }
    };
    let checked = if store.is_sqlite() { store.ping().await } else { store.check_schema().await };
    store.close().await;
    checked.err().and_then(|error| fault(chain(&error)))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
