//! `wicketgate cert issue`: the key is made here and stays here.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use http::Method;
use serde_json::{Value, json};

use super::client::Client;
use crate::cli::output::Output;
use crate::domain::PersonId;
use crate::keys::SystemEntropy;
use crate::pki::{keygen, pem, pkcs12};

/// What to issue and where to write it.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// For whom
    #[arg(long)]
    person: PersonId,
    /// What the device is called
    #[arg(long)]
    device: String,
    /// Directory for <name>.key, <name>.pem and <name>.p12; existing files are not touched
    #[arg(long, default_value = ".")]
    directory: PathBuf,
    /// Name of the files
    #[arg(long, default_value = "device")]
    name: String,
    /// Encoding of the .p12 file: compat is for old phones and macOS
    #[arg(long, value_enum, default_value_t = Encoding::Modern)]
    p12: Encoding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Encoding {
    Modern,
    Compat,
}

pub(super) async fn run(arguments: Arguments, client: &Client, output: Output) -> anyhow::Result<()> {
    let path = |ending: &str| arguments.directory.join(format!("{}.{ending}", arguments.name));
    let (key_file, certificate_file, p12_file) = (path("key"), path("pem"), path("p12"));
    for file in [&key_file, &certificate_file, &p12_file] {
        anyhow::ensure!(!file.exists(), "{} is there already; choose another --name", file.display());
    }
    let (key, _) = keygen::generate_p256();
    // The key is on disk before anyone certifies it: a lost answer loses nothing.
    write_private(&key_file, keygen::private_key_pem(key.expose()).expose().as_bytes())?;
    let csr = keygen::client_csr_pem(key.expose(), &arguments.device)?;
    let body = json!({ "csr": csr, "device_name": arguments.device, "person_id": arguments.person });
    let answer = client.send(Method::POST, "/api/v1/certificates", Some(&body), None).await;
    let issued = match answer {
        Ok(answer) => answer.body,
        Err(error) => {
            let _ = std::fs::remove_file(&key_file);
            return Err(error);
        }
    };
    let chain_pem: Vec<&str> = issued
        .get("chain_pem")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let leaf_pem = issued.get("pem").and_then(Value::as_str).context("the server sent no certificate")?;
    write_private(&certificate_file, [&[leaf_pem], chain_pem.as_slice()].concat().concat().as_bytes())?;
    let leaf = pem::blocks(leaf_pem, "CERTIFICATE").pop().context("the server sent no certificate")?;
    let chain: Vec<Vec<u8>> = chain_pem.iter().flat_map(|text| pem::blocks(text, "CERTIFICATE")).collect();
    let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
    let password = pkcs12::Password::generate(&SystemEntropy);
    let encoding = match arguments.p12 {
        Encoding::Modern => pkcs12::Encoding::Modern,
        Encoding::Compat => pkcs12::Encoding::Compat,
    };
    let p12 =
        pkcs12::write(encoding, key.expose(), &leaf, &chain, &arguments.device, &password, &SystemEntropy)?;
    write_private(&p12_file, &p12)?;
    let serial = issued.get("serial").and_then(Value::as_str).unwrap_or_default();
    let text = format!(
        "Issued {serial}.\n  key          {}\n  certificate  {}\n  PKCS#12      {}\n  its password, shown only here: {}",
        key_file.display(),
        certificate_file.display(),
        p12_file.display(),
        password.expose()
    );
    let object = json!({
        "serial": serial, "key_file": key_file, "certificate_file": certificate_file,
        "p12_file": p12_file, "p12_password": password.expose(),
    });
    output.answer(&text, &object)
}

fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(bytes)?;
    Ok(file.sync_all()?)
}
