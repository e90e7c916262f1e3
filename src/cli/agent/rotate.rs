//! The agent's steps. Each can be the last before a power cut: the key and its request are on disk before
//! the request leaves, a version is whole before it has its name, one rename puts it into use, and the
//! next run finds out where the last one ended.

use std::process::Stdio;

use anyhow::Context;
use http::StatusCode;
use tokio::process::Command;

use super::directory::{Directory, Pair, Pending};
use super::est::{Door, EstError};
use crate::clock::{Clock, SystemClock};
use crate::crash;
use crate::domain::{Fingerprint, Secret, UtcTime, renewal};
use crate::pki::{chain, continuity, keygen};

/// Gets the first certificate, or the one that an earlier run asked for.
pub(super) async fn enrol(directory: &Directory, token: &Secret<String>) -> anyhow::Result<Pair> {
    let settings = directory.settings()?;
    let pending = match directory.pending()?.filter(|pending| pending.renews.is_none()) {
        Some(pending) => pending,
        None => {
            let (key, _) = keygen::generate_p256();
            let request = keygen::client_csr(key.expose(), &settings.name)?;
            wait(directory, Pending { key, request, renews: None })?
        }
    };
    let door = Door::new(&settings.door()?, directory.server_ca().as_deref(), None)?;
    let authorities = door.authorities().await?;
    crash::reach("agent.before_request");
    let answer = door.enrol(&settings.name, token, &pending.request).await;
    let answer = give_up_what_is_refused(directory, answer)?;
    use_certificate(directory, &pending, answer, &authorities)
}

/// Gets the successor of the certificate in use, or the one that an earlier run asked for.
pub(super) async fn renew(directory: &Directory, current: &Pair) -> anyhow::Result<Pair> {
    let settings = directory.settings()?;
    let pending =
        match directory.pending()?.filter(|pending| pending.renews.as_ref() == Some(&current.serial)) {
            Some(pending) => pending,
            None => {
                let (key, _) = keygen::generate_p256();
                let leaf = current.chain.first().context("there is no certificate to renew")?;
                let request = continuity::renewal_request(key.expose(), leaf)?;
                wait(directory, Pending { key, request, renews: Some(current.serial.clone()) })?
            }
        };
    let door = Door::new(&settings.door()?, directory.server_ca().as_deref(), Some(current))?;
    let authorities = door.authorities().await?;
    crash::reach("agent.before_request");
    let answer = door.renew(&pending.request).await;
    let answer = give_up_what_is_refused(directory, answer)?;
    use_certificate(directory, &pending, answer, &authorities)
}

/// Forgets a waiting key whose certificate is in use already: the run before ended between the two.
pub(super) fn take_up(directory: &Directory) -> anyhow::Result<Option<Pair>> {
    let current = directory.current()?;
    if let (Some(current), Some(pending)) = (&current, directory.pending()?)
        && current.has_key(&pending.key)
    {
        directory.drop_pending()?;
    }
    directory.tidy()?;
    Ok(current)
}

/// When the certificate is to be renewed: a while before people would be asked to, spread by its bytes.
pub(super) fn due_at(pair: &Pair) -> UtcTime {
    let leaf = pair.chain.first().map(Vec::as_slice).unwrap_or_default();
    let mut seed = [0; 8];
    seed.copy_from_slice(&Fingerprint::of(leaf).0[..8]);
    renewal::machine_renews_at(pair.not_before, pair.not_after, u64::from_be_bytes(seed))
}

/// Runs the hook unless it has run for this certificate. A hook that fails is run again next time.
pub(super) async fn hook(directory: &Directory, pair: &Pair, command: Option<&str>) -> anyhow::Result<()> {
    let Some(command) = command.filter(|_| !directory.is_hooked(&pair.serial)) else { return Ok(()) };
    crash::reach("agent.before_hook");
    let status = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        // What it says is not the answer of this program.
        .stdout(std::io::stderr())
        .env("WICKETGATE_AGENT_CERT", directory.file("cert.pem"))
        .env("WICKETGATE_AGENT_KEY", directory.file("key.pem"))
        .env("WICKETGATE_AGENT_SERIAL", &pair.serial)
        .status()
        .await
        .context("the hook cannot be run")?;
    anyhow::ensure!(
        status.success(),
        "the hook failed ({status}); the new certificate is in use all the same"
    );
    crash::reach("agent.after_hook");
    directory.note_hooked(&pair.serial)
}

fn wait(directory: &Directory, pending: Pending) -> anyhow::Result<Pending> {
    directory.drop_pending()?;
    directory.keep_pending(&pending)?;
    Ok(pending)
}

/// A request that the door calls bad will not get better: the next run makes another, with another key.
fn give_up_what_is_refused<T>(directory: &Directory, answer: Result<T, EstError>) -> anyhow::Result<T> {
    if let Err(EstError::Refused { status: StatusCode::BAD_REQUEST, .. }) = &answer {
        directory.drop_pending()?;
    }
    Ok(answer?)
}

/// Checks that the answer certifies our key under one of the authorities, and puts it into use.
fn use_certificate(
    directory: &Directory,
    pending: &Pending,
    answer: Vec<Vec<u8>>,
    authorities: &[Vec<u8>],
) -> anyhow::Result<Pair> {
    crash::reach("agent.after_answer");
    let (serial, chain) = check(pending, answer, authorities, SystemClock.now())?;
    directory.install(pending, &chain, &serial)?;
    directory.drop_pending()?;
    crash::reach("agent.after_pending_dropped");
    directory.tidy()?;
    directory.current()?.context("the certificate that was put into use is not there")
}

/// The serial, and the certificate with its issuer behind it.
fn check(
    pending: &Pending,
    answer: Vec<Vec<u8>>,
    authorities: &[Vec<u8>],
    now: UtcTime,
) -> Result<(String, Vec<Vec<u8>>), EstError> {
    let nonsense = |what: &str| EstError::Nonsense(what.to_owned());
    let [leaf] =
        <[Vec<u8>; 1]>::try_from(answer).map_err(|_| nonsense("it holds not exactly one certificate"))?;
    let view = chain::read_leaf(&leaf).map_err(|error| nonsense(&error.to_string()))?;
    let own = keygen::public_key(pending.key.expose()).map_err(|error| nonsense(&error.to_string()))?;
    if view.spki_der != own {
        return Err(nonsense("it certifies another key"));
    }
    if !view.client_auth || now > view.not_after {
        return Err(nonsense("it is over, or not for clients"));
    }
    let serial = view.serial.ok_or_else(|| nonsense("it has no serial"))?;
    let issuer = authorities.iter().find(|authority| {
        chain::read_leaf(authority).is_ok_and(|authority| {
            authority.subject_der == view.issuer_der && chain::signed_by(&leaf, &authority.spki_der)
        })
    });
    let issuer = issuer.cloned().ok_or_else(|| nonsense("none of the door's authorities signed it"))?;
    Ok((serial.to_string(), vec![leaf, issuer]))
}
