//! The steps on the offline machine. They read the plan, the key and nothing else.

use anyhow::{Context, bail};
use serde_json::json;

use super::papers::{recovery_sheet, transcript};
use super::{OfflineArguments, passphrase, read, write_new};
use crate::cli::output::Output;
use crate::clock::{Clock, SystemClock};
use crate::domain::{Fingerprint, Secret};
use crate::keys::SystemEntropy;
use crate::pki::ceremony::Plan;
use crate::pki::{AuthorityCertificate, keygen, pem, sealed_key};

const KEY_FILE: &str = "root.key.pem";
const KEY_LABEL: &str = "ENCRYPTED PRIVATE KEY";
const ROOT_FILE: &str = "root.pem";
const OUTCOME_FILE: &str = "outcome.pem";
const TRANSCRIPT_FILE: &str = "transcript.txt";
const SHEET_FILE: &str = "recovery-sheet.txt";
/// Read by its owner alone.
const PRIVATE: u32 = 0o600;
/// Read by everyone.
const PUBLIC: u32 = 0o644;

/// `root`: key, certificate, transcript and recovery sheet.
pub(super) fn root(arguments: &OfflineArguments, output: Output) -> anyhow::Result<()> {
    let (plan, plan_sha256) = arguments.read_plan()?;
    let (key, spki) = keygen::generate_p256();
    let prepared = plan.prepare_root(&spki)?;
    for name in [KEY_FILE, ROOT_FILE, SHEET_FILE] {
        let path = arguments.file(name);
        if path.exists() {
            bail!("{} is there already; a ceremony overwrites nothing", path.display());
        }
    }
    let passphrase = passphrase::read(arguments.passphrase_file.as_deref(), true)?;
    let sealed = sealed_key::seal(key.expose(), passphrase.expose(), &SystemEntropy)?;
    let key_pem = pem::block(KEY_LABEL, &sealed);
    // Before its first signature the key is on the medium, and opens there.
    write_new(&arguments.file(KEY_FILE), &key_pem, PRIVATE)?;
    let key = open(&read(&arguments.file(KEY_FILE))?, &passphrase)?;
    let signature = keygen::sign_p256(key.expose(), prepared.tbs())?;
    let certificate = prepared.assemble(&signature)?;
    let root = plan.take_root(certificate.der())?;
    let (now, root_pem) = (SystemClock.now(), certificate.pem());
    let sheet = recovery_sheet(&plan, &plan_sha256, &root, now);
    write_new(&arguments.file(ROOT_FILE), &root_pem, PUBLIC)?;
    write_new(&arguments.file(SHEET_FILE), &sheet, PUBLIC)?;
    let facts = [
        ("root", format!("{}: {}", plan.root.name, plan.root.common_name)),
        ("root serial", plan.root.serial.to_string()),
        ("root valid", format!("{} to {}", plan.root.not_before, plan.root.not_after)),
        ("root certificate", root.fingerprint().to_string()),
        ("root public key", Fingerprint::of(root.spki_der()).to_string()),
    ];
    let files = [(KEY_FILE, key_pem.as_str()), (ROOT_FILE, &root_pem), (SHEET_FILE, &sheet)];
    let done = transcript(
        "root: the key was made and the root signed itself",
        &plan,
        &plan_sha256,
        &files,
        &facts,
        now,
    );
    append(arguments, &done)?;
    let text = format!(
        "{done}{sheet}\nPrint {SHEET_FILE}. Next: wicketgate ca ceremony sign --plan {} --plan-sha256 {plan_sha256} \
         --directory {}",
        arguments.plan.display(),
        arguments.directory.display()
    );
    output.answer(
        &text,
        &json!({
            "plan_sha256": plan_sha256, "certificate_sha256": root.fingerprint().to_string(),
            "key_file": arguments.file(KEY_FILE), "certificate_file": arguments.file(ROOT_FILE),
            "transcript_file": arguments.file(TRANSCRIPT_FILE), "recovery_sheet_file": arguments.file(SHEET_FILE),
        }),
    )
}

/// `sign`: the issuing authority, if planned, and the root's list.
pub(super) fn sign(arguments: &OfflineArguments, output: Output) -> anyhow::Result<()> {
    let (plan, plan_sha256) = arguments.read_plan()?;
    let root_pem = read(&arguments.file(ROOT_FILE))?;
    let root_der = pem::first_block(&root_pem, &["CERTIFICATE"]);
    let root_der = root_der.with_context(|| format!("{ROOT_FILE} holds no certificate"))?;
    let root = plan.take_root(&root_der)?;
    let passphrase = passphrase::read(arguments.passphrase_file.as_deref(), false)?;
    let key = open(&read(&arguments.file(KEY_FILE))?, &passphrase)?;
    if keygen::public_key(key.expose())? != root.spki_der() {
        bail!("{KEY_FILE} is not the key of the root in {ROOT_FILE}");
    }
    let (outcome, facts) = signed(&plan, &root, &key)?;
    write_new(&arguments.file(OUTCOME_FILE), &outcome, PUBLIC)?;
    let now = SystemClock.now();
    let files = [(ROOT_FILE, root_pem.as_str()), (OUTCOME_FILE, &outcome)];
    let done = transcript("sign: the root signed what was planned", &plan, &plan_sha256, &files, &facts, now);
    append(arguments, &done)?;
    let text = format!(
        "{done}Next, on the running system: wicketgate ca ceremony import --plan {} {OUTCOME_FILE}",
        arguments.plan.display()
    );
    output.answer(
        &text,
        &json!({
            "plan_sha256": plan_sha256, "outcome_file": arguments.file(OUTCOME_FILE),
            "transcript_file": arguments.file(TRANSCRIPT_FILE),
        }),
    )
}

/// Root, issuing certificate and list in one file, and what the transcript says of them.
fn signed(
    plan: &Plan,
    root: &AuthorityCertificate,
    key: &Secret<Vec<u8>>,
) -> anyhow::Result<(String, Vec<(&'static str, String)>)> {
    let mut outcome = root.pem();
    let mut facts = vec![("root certificate", root.fingerprint().to_string())];
    if let (Some(prepared), Some(issuing)) = (plan.prepare_issuing(root)?, &plan.issuing) {
        let signature = keygen::sign_p256(key.expose(), prepared.tbs())?;
        let certificate = prepared.assemble(&signature)?;
        facts.push(("issuing authority", format!("{}: {}", issuing.name, issuing.common_name)));
        facts.push(("issuing serial", issuing.serial.to_string()));
        facts.push(("issuing public key", issuing.public_key_sha256.clone()));
        facts.push(("issuing certificate", certificate.fingerprint().to_string()));
        outcome.push_str(&certificate.pem());
    }
    let prepared = plan.prepare_list(root)?;
    let signature = keygen::sign_p256(key.expose(), prepared.tbs())?;
    let list = prepared.assemble(&signature)?;
    facts.push(("list number", list.number().to_string()));
    facts.push(("list until", plan.list.next_update.to_string()));
    facts.push(("list names", plan.list.revoked.len().to_string()));
    facts.push(("list", Fingerprint::of(list.der()).to_string()));
    outcome.push_str(&list.pem());
    Ok((outcome, facts))
}

fn open(key_pem: &str, passphrase: &Secret<String>) -> anyhow::Result<Secret<Vec<u8>>> {
    let sealed = pem::first_block(key_pem, &[KEY_LABEL]);
    let sealed = sealed.with_context(|| format!("{KEY_FILE} holds no private key under a passphrase"))?;
    Ok(sealed_key::open(&sealed, passphrase.expose())?)
}

/// Adds to the transcript, which both steps share.
fn append(arguments: &OfflineArguments, text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let path = arguments.file(TRANSCRIPT_FILE);
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(text.as_bytes())?;
    Ok(file.sync_all()?)
}
