//! `wicketgate agent`: enrols a machine once, and keeps its key and certificate fresh by EST.

mod directory;
mod est;
mod rotate;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use url::Url;

use super::output::{Output, complain};
use super::sentence;
use crate::clock::{Clock, SystemClock};
use crate::domain::{Entropy, Secret};
use crate::keys::SystemEntropy;
use directory::{Directory, Pair, Settings};
use est::EstError;

/// Longest sleep before the clock is looked at again: it may jump, and machines sleep.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// After the first failure.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// After many failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// About a machine's own key and certificate
#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Make a key and get its first certificate with an invitation
    Enrol(Enrol),
    /// Keep the certificate fresh until told to stop
    Run(Run),
    /// Renew the certificate now
    Renew(Keep),
}

#[derive(Debug, Args)]
pub(crate) struct Enrol {
    #[command(flatten)]
    keep: Keep,
    /// The door [default: the one that the invitation's link names]
    #[arg(long, value_name = "URL")]
    door: Option<Url>,
    /// The invitation: its link, its token, or @FILE with either; `ps` shows what is not in a file
    // One token in 64 begins with a hyphen.
    #[arg(long, value_name = "TOKEN|URL|@FILE", allow_hyphen_values = true)]
    invitation: String,
    /// What the device is called
    #[arg(long)]
    name: String,
    /// PEM file with the root certificate of the door [default: the system's roots]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Enrol even though the directory holds a certificate: it was revoked
    #[arg(long)]
    again: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    keep: Keep,
    /// Do what is due, then stop
    #[arg(long)]
    once: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Keep {
    /// Where key and certificate lie: key.pem, cert.pem, chain.pem, bundle.pem
    #[arg(long)]
    dir: PathBuf,
    /// Shell command to run when a new certificate is in use, for example `systemctl reload nginx`
    #[arg(long, value_name = "COMMAND")]
    hook: Option<String>,
}

pub(super) async fn run(agent: Agent, output: Output) -> anyhow::Result<()> {
    match agent {
        Agent::Enrol(arguments) => enrol(arguments, output).await,
        Agent::Renew(keep) => {
            let directory = Directory::open(&keep.dir)?;
            let current = rotate::take_up(&directory)?.context(NOT_ENROLLED)?;
            let pair = rotate::renew(&directory, &current).await?;
            rotate::hook(&directory, &pair, keep.hook.as_deref()).await?;
            report(&pair, "Renewed", output)
        }
        Agent::Run(Run { keep, once: true }) => {
            let directory = Directory::open(&keep.dir)?;
            let (pair, renewed) = look(&directory, keep.hook.as_deref()).await?;
            report(&pair, if renewed { "Renewed" } else { "Nothing is due for" }, output)
        }
        Agent::Run(Run { keep, once: false }) => keep_fresh(&keep).await,
    }
}

async fn enrol(arguments: Enrol, output: Output) -> anyhow::Result<()> {
    let (token, origin) = read_invitation(&arguments.invitation)?;
    let door = arguments.door.or(origin).context("say where: --door, or the link of the invitation")?;
    let server_ca = match &arguments.ca {
        Some(path) => Some(std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?),
        None => None,
    };
    let directory = Directory::open(&arguments.keep.dir)?;
    let hook = arguments.keep.hook.as_deref();
    let current = rotate::take_up(&directory)?;
    if let Some(pair) = current.filter(|pair| !arguments.again && SystemClock.now() <= pair.not_after) {
        rotate::hook(&directory, &pair, hook).await?;
        return report(&pair, "Enrolled already, with", output);
    }
    directory.keep_settings(&Settings::new(&door, arguments.name), server_ca.as_deref())?;
    let pair = rotate::enrol(&directory, &token).await?;
    rotate::hook(&directory, &pair, hook).await?;
    report(&pair, "Enrolled with", output)
}

/// Does what is due: a renewal, one that an earlier run asked for, a hook. Returns what is in use and
/// whether it is new.
async fn look(directory: &Directory, hook: Option<&str>) -> anyhow::Result<(Pair, bool)> {
    let current = rotate::take_up(directory)?.context(NOT_ENROLLED)?;
    let waits = directory.pending()?.is_some_and(|pending| pending.renews.as_ref() == Some(&current.serial));
    let due = waits || SystemClock.now() >= rotate::due_at(&current);
    let pair = if due { rotate::renew(directory, &current).await? } else { current };
    rotate::hook(directory, &pair, hook).await?;
    Ok((pair, due))
}

/// Looks until the process ends, at whatever moment: every step can be the last.
async fn keep_fresh(keep: &Keep) -> anyhow::Result<()> {
    let directory = Directory::open(&keep.dir)?;
    // What will never get better is said at once.
    rotate::take_up(&directory)?.context(NOT_ENROLLED)?;
    let mut failures = 0;
    loop {
        let pause = match look(&directory, keep.hook.as_deref()).await {
            Ok((pair, renewed)) => {
                failures = 0;
                if renewed {
                    complain(&format!("renewed {}, until {}", pair.serial, pair.not_after));
                }
                rotate::due_at(&pair).since(SystemClock.now()).clamp(FIRST_PAUSE, LOOK_EVERY)
            }
            Err(error) => {
                let pause = pause(failures, retry_after(&error), &SystemEntropy);
                failures += 1;
                complain(&format!("{}; again in {} s", sentence(&error), pause.as_secs()));
                pause
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// How long to wait after a failure: twice as long each time, a half of it by chance, and never less
/// than the door asked for.
fn pause(failures: u32, asked: Option<Duration>, entropy: &dyn Entropy) -> Duration {
    let full = FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE);
    let mut octets = [0; 4];
    entropy.fill(&mut octets);
    let chance = f64::from(u32::from_be_bytes(octets)) / f64::from(u32::MAX);
    let own = full.div_f64(2.0) + full.div_f64(2.0).mul_f64(chance);
    asked.map_or(own, |asked| asked + own.min(FIRST_PAUSE)).max(own)
}

fn retry_after(error: &anyhow::Error) -> Option<Duration> {
    match error.downcast_ref::<EstError>() {
        Some(EstError::Refused { retry_after, .. }) => *retry_after,
        _ => None,
    }
}

/// The token, and the door's origin if a link was given.
fn read_invitation(text: &str) -> anyhow::Result<(Secret<String>, Option<Url>)> {
    let read;
    let text = match text.strip_prefix('@') {
        Some(file) => {
            let path = Path::new(file);
            read = std::fs::read_to_string(path).with_context(|| format!("cannot read {file}"))?;
            read.trim()
        }
        None => text.trim(),
    };
    if !text.contains("://") {
        return Ok((Secret::new(text.to_owned()), None));
    }
    let mut url = Url::parse(text).context("the invitation is not a link")?;
    let Some(token) = url.fragment().and_then(|fragment| fragment.strip_prefix("/invitation/")) else {
        bail!("the link is not one of an invitation: it has no token in it");
    };
    let token = Secret::new(token.to_owned());
    url.set_fragment(None);
    url.set_path("/");
    Ok((token, Some(url)))
}

fn report(pair: &Pair, done: &str, output: Output) -> anyhow::Result<()> {
    let renews_at = rotate::due_at(pair);
    let text = format!("{done} {}, until {}; renewed from {renews_at} on.", pair.serial, pair.not_after);
    let object = json!({
        "serial": pair.serial, "not_after": pair.not_after.to_string(), "renews_at": renews_at.to_string(),
    });
    output.answer(&text, &object)
}

const NOT_ENROLLED: &str = "there is no certificate to keep fresh: run `wicketgate agent enrol` first";

#[cfg(test)]
mod tests {
    use super::*;

    struct Always(u8);

    impl Entropy for Always {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(self.0);
        }
    }

    #[test]
    fn pauses_grow_to_an_hour_and_obey_the_door() {
        assert_eq!(pause(0, None, &Always(255)), FIRST_PAUSE);
        assert_eq!(pause(3, None, &Always(255)), FIRST_PAUSE * 8);
        assert_eq!(pause(3, None, &Always(0)), FIRST_PAUSE * 4);
        assert_eq!(pause(60, None, &Always(255)), LONGEST_PAUSE);
        let asked = Duration::from_secs(7200);
        assert!(pause(0, Some(asked), &Always(0)) >= asked && pause(60, Some(asked), &Always(9)) >= asked);
    }

    #[test]
    fn an_invitation_is_a_token_or_a_link() {
        let (token, door) = read_invitation("abc").unwrap();
        assert_eq!((token.expose().as_str(), door), ("abc", None));
        let (token, door) = read_invitation("https://door.example:8443/#/invitation/abc").unwrap();
        assert_eq!((token.expose().as_str(), door.unwrap().as_str()), ("abc", "https://door.example:8443/"));
        assert!(read_invitation("https://door.example/").is_err());
    }
}
