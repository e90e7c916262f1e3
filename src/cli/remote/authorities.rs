//! `wicketgate ca …`: authorities, and how they are rolled over. Every step says what comes next.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Subcommand, ValueEnum};
use http::Method;
use serde_json::{Value, json};

use super::client::Client;
use super::{health, table};
use crate::cli::ceremony;
use crate::cli::output::Output;
use crate::domain::Slug;

/// Acts on authorities.
#[derive(Debug, Subcommand)]
pub(crate) enum CaAct {
    /// List them
    List,
    /// Show one
    Show { name: Slug },
    /// Say what is wrong or soon will be, with advice; fails if anything is
    Health,
    /// Make the next generation; nobody trusts it yet
    Stage {
        /// What it will sign
        #[arg(value_enum)]
        kind: Kind,
    },
    /// Take a staged one into client trust, at every edge
    Trust { name: Slug },
    /// Let a trusted one issue from now on; the one that did retires
    Activate { name: Slug },
    /// Take a trusted one out of client trust again
    RollBack { name: Slug },
    /// Stop one from issuing, without a successor
    Retire { name: Slug },
    /// Take one out of client trust for good
    Archive {
        name: Slug,
        /// How many active certificates break by it, exactly as `ca dependants` says
        #[arg(long, default_value_t = 0)]
        acknowledge: u64,
    },
    /// Show who would break if one were archived now
    Dependants { name: Slug },
    /// Write its certificate, and a root's cross-certificates, as PEM files for verifiers elsewhere
    Export {
        name: Slug,
        /// Where to
        #[arg(long, default_value = ".")]
        directory: PathBuf,
    },
    /// Make and use a root on another machine that is never online
    Ceremony {
        #[command(subcommand)]
        act: ceremony::Act,
    },
}

/// What can be staged.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// Signs issuing authorities
    Root,
    /// Signs client certificates
    Issuing,
}

pub(super) async fn run(act: CaAct, client: &Client, output: Output) -> anyhow::Result<()> {
    let post =
        async |path: String, body: Option<Value>| client.send(Method::POST, &path, body.as_ref(), None).await;
    let step = async |name: &Slug, verb: &str, body: Option<Value>| {
        post(format!("/api/v1/authorities/{name}/{verb}"), body).await
    };
    let answer = match act {
        CaAct::List => {
            let answer = client.send(Method::GET, "/api/v1/authorities?limit=200", None, None).await?;
            let columns = ["name", "kind", "state", "issuer", "not_after", "issues_until", "crl_next_update"];
            return output.answer(&table::show(&answer.body, &columns, ""), &answer.body);
        }
        CaAct::Show { name } => {
            let path = format!("/api/v1/authorities/{name}");
            let mut answer = client.send(Method::GET, &path, None, None).await?;
            let whole = answer.body.clone();
            let crosses = answer.body.as_object_mut().and_then(|shown| shown.remove("cross_certificates"));
            let columns = ["subject", "issuer", "not_after", "sha256"];
            let crosses = match crosses.as_ref().and_then(Value::as_array) {
                Some(all) if !all.is_empty() => {
                    format!("\nCross-certificates:\n{}", table::show(&json!({ "items": all }), &columns, ""))
                }
                _ => String::new(),
            };
            let text = format!("{}{crosses}\n{}", table::show(&answer.body, &[], ""), next(&whole));
            return output.answer(&text, &whole);
        }
        CaAct::Health => return health::run(client, output).await,
        CaAct::Dependants { name } => {
            let path = format!("/api/v1/authorities/{name}/dependants?limit=200");
            let answer = client.send(Method::GET, &path, None, None).await?;
            return output.answer(&dependants(&name, &answer.body), &answer.body);
        }
        CaAct::Export { name, directory } => return export(&name, &directory, client, output).await,
        CaAct::Ceremony { .. } => bail!("ceremonies do not ask the server"),
        CaAct::Stage { kind } => {
            let kind = match kind {
                Kind::Root => "root",
                Kind::Issuing => "issuing",
            };
            post("/api/v1/authorities".to_owned(), Some(json!({ "kind": kind }))).await?
        }
        CaAct::Trust { name } => step(&name, "trust", None).await?,
        CaAct::Activate { name } => step(&name, "issuance", None).await?,
        CaAct::RollBack { name } => step(&name, "rollback", None).await?,
        CaAct::Retire { name } => step(&name, "retirement", None).await?,
        CaAct::Archive { name, acknowledge } => {
            step(&name, "archival", Some(json!({ "acknowledge": acknowledge }))).await?
        }
    };
    output.answer(&next(&answer.body), &answer.body)
}

/// Where it stands, and what an administrator does next.
fn next(shown: &Value) -> String {
    let text = |key: &str| shown.get(key).and_then(Value::as_str).unwrap_or_default();
    let (name, kind, state) = (text("name"), text("kind"), text("state"));
    let enforced = match shown.get("enforced") {
        Some(enforced) => {
            let number = |key: &str| enforced.get(key).and_then(Value::as_u64).unwrap_or(0);
            format!(" {} of {} edges have it.", number("acknowledged"), number("edges"))
        }
        None => String::new(),
    };
    let then = match (state, kind) {
        ("trusted", "upstream") => format!(
            "It signs nothing yet and takes its predecessor's place by itself. Next: give `wicketgate ca export {name}` \
             to every backend that asks the edge for a certificate, beside what it trusts already."
        ),
        ("issuing", "upstream") => format!(
            "It signs the edge's own client certificate, and nothing else. A backend that asks for one trusts what \
             `wicketgate ca export {name}` writes, and only that: it lets in the edge, and no device."
        ),
        (_, "upstream") => "It signs nothing any more: backends need not trust it.".to_owned(),
        ("staged", "root") => format!(
            "Nobody trusts it yet. Next: `wicketgate ca trust {name}`, which also lets it and the old root vouch for \
             each other; `ca archive {name}` drops it."
        ),
        ("staged", _) => {
            format!("Nobody trusts it yet. Next: `wicketgate ca trust {name}`; `ca archive {name}` drops it.")
        }
        ("trusted", "root") => format!(
            "It is in client trust and signs nothing yet. Give verifiers elsewhere what `wicketgate ca export {name}` \
             writes; then `ca activate {name}`. Until then `ca roll-back {name}` takes it back."
        ),
        ("trusted", _) => format!(
            "Its leaves would pass, but it issues none yet. Next: `wicketgate ca activate {name}`. Until then \
             `ca roll-back {name}` takes it back."
        ),
        ("issuing", "root") => {
            "It signs issuing authorities from now on. Next: `wicketgate ca stage issuing`, so that \
                                leaves follow; the root before stays trusted."
                .to_owned()
        }
        ("issuing", _) => {
            "New certificates come from it; those of the one before pass until they end. Next: once \
                           `wicketgate ca dependants` of that one is empty, `ca archive` it."
                .to_owned()
        }
        ("retiring", _) => format!(
            "It issues no more; what it signed passes, and its lists go on. Next: `wicketgate ca dependants {name}`, \
             and `ca archive {name}` when nobody is left."
        ),
        ("archived", _) => {
            "Nothing under it passes any more. Its revocation list goes on until one after the end of \
                            its last certificate."
                .to_owned()
        }
        _ => String::new(),
    };
    format!("{name} is {state}.{enforced} {then}")
}

fn dependants(name: &Slug, shown: &Value) -> String {
    let number = |key: &str| shown.get(key).and_then(Value::as_u64).unwrap_or(0);
    let count = number("certificates");
    if count == 0 {
        return format!("Nobody would break. `wicketgate ca archive {name}` is safe now.");
    }
    let columns = ["serial", "device_name", "person_id", "not_after"];
    format!(
        "{count} active certificates of {} people on {} devices would break.\n{}\nThey renew by themselves before \
         they end. To go on at once: `wicketgate ca archive {name} --acknowledge {count}`.",
        number("people"),
        number("devices"),
        table::show(shown, &columns, "")
    )
}

async fn export(name: &Slug, directory: &Path, client: &Client, output: Output) -> anyhow::Result<()> {
    let shown = client.send(Method::GET, &format!("/api/v1/authorities/{name}"), None, None).await?.body;
    let text = |value: &Value, key: &str| {
        value.get(key).and_then(Value::as_str).map(str::to_owned).context("the server sent no certificate")
    };
    let mut files = vec![(format!("{name}.pem"), text(&shown, "pem")?)];
    for cross in shown.get("cross_certificates").and_then(Value::as_array).into_iter().flatten() {
        let file = format!("{}-by-{}.pem", text(cross, "subject")?, text(cross, "issuer")?);
        files.push((file, text(cross, "pem")?));
    }
    let mut written = Vec::new();
    for (file, pem) in files {
        let path = directory.join(file);
        std::fs::write(&path, pem).with_context(|| format!("cannot write {}", path.display()))?;
        written.push(path.display().to_string());
    }
    let hint = match shown.get("kind").and_then(Value::as_str) {
        Some("root") => {
            "A verifier that trusts only the root that vouches takes the cross-certificate as an intermediate."
        }
        Some("upstream") => "A backend that trusts it, and only it, for clients lets in the edge alone.",
        _ => "",
    };
    let text = format!("Wrote {}.\n{hint}", written.join(", "));
    output.answer(&text, &json!({ "name": name, "files": written }))
}
