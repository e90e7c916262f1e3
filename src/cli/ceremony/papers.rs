//! The papers of a ceremony: the transcript, which says what was done with which bytes, and the recovery
//! sheet, which is printed and put away with the key. Neither holds a secret.

use std::fmt::Write;

use crate::domain::{Fingerprint, UtcTime};
use crate::pki::AuthorityCertificate;
use crate::pki::ceremony::Plan;

/// One step in the transcript: what was made, and the SHA-256 of every file.
pub(super) fn transcript(
    step: &str,
    plan: &Plan,
    plan_sha256: &str,
    files: &[(&str, &str)],
    facts: &[(&str, String)],
    now: UtcTime,
) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(text, "{label:<26} {value}");
    };
    line("step", step);
    line("at (this machine)", &now.to_string());
    line("program", concat!("wicketgate ", env!("CARGO_PKG_VERSION")));
    line("installation", &plan.installation);
    line("plan SHA-256", plan_sha256);
    for (label, value) in facts {
        line(label, value);
    }
    for (name, content) in files {
        line(&format!("{name} SHA-256"), &Fingerprint::of(content.as_bytes()).to_string());
    }
    line("present, signed", "________________________    ________________________");
    text.push('\n');
    text
}

/// What whoever holds the key must know in twenty years.
pub(super) fn recovery_sheet(
    plan: &Plan,
    plan_sha256: &str,
    root: &AuthorityCertificate,
    now: UtcTime,
) -> String {
    let key = Fingerprint::of(root.spki_der());
    format!(
        "RECOVERY SHEET OF AN OFFLINE ROOT\n\
         =================================\n\n\
         Installation             {installation}\n\
         Root                     {name}: {common_name}\n\
         Serial                   {serial}\n\
         Valid                    {from} to {to}\n\
         Certificate SHA-256      {certificate}\n\
         Public key SHA-256       {key}\n\
         Plan SHA-256             {plan_sha256}\n\
         Made                     {now}\n\n\
         Medium 1 (root.key.pem)  kept at ________________________  by ________________________\n\
         Medium 2 (a copy)        kept at ________________________  by ________________________\n\
         Passphrase, envelope 1   kept at ________________________  by ________________________\n\
         Passphrase, envelope 2   kept at ________________________  by ________________________\n\n\
         This sheet holds no secret. Never keep a medium and a passphrase in one place.\n\n\
         To see that a medium still opens (yearly; prints the public key, nothing else):\n\
         \x20 openssl pkey -in root.key.pem -pubout -outform DER | sha256sum\n\
         The result must be the public key SHA-256 above.\n\n\
         To sign a new revocation list, before {list_ends}, or a new issuing authority:\n\
         \x20 1. running system:  wicketgate ca ceremony plan [--issuing]\n\
         \x20 2. review the plan; note its SHA-256 on paper\n\
         \x20 3. offline machine, with root.key.pem and root.pem in one directory:\n\
         \x20    wicketgate ca ceremony sign --plan ceremony.toml --plan-sha256 <from paper>\n\
         \x20 4. running system:  wicketgate ca ceremony import --plan ceremony.toml outcome.pem\n\n\
         If the key is lost: certificates go on passing until their issuing authority ends. Plan a new root\n\
         \x20 in good time (wicketgate ca ceremony plan --new-root) and roll over to it.\n\
         If the key or a passphrase may be in other hands: the same, at once, then archive the old root\n\
         \x20 (wicketgate ca archive {name}).\n",
        installation = plan.installation,
        name = plan.root.name,
        common_name = plan.root.common_name,
        serial = plan.root.serial,
        from = plan.root.not_before,
        to = plan.root.not_after,
        certificate = root.fingerprint(),
        list_ends = plan.list.next_update,
    )
}
