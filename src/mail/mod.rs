//! Mail: letters written from templates that are part of the program, sealed into the outbox in the
//! transaction of what they tell, sent by a job. Without a mail server nothing is queued, and whoever
//! wanted to write learns it. No address is ever logged.

pub mod letters;
pub mod smtp;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::activate::Activation;
use crate::domain::UtcTime;
use crate::store::alerts::{NewAlert, Severity};
use crate::store::outbox::{DueMail, Outbox, OutgoingMail, SealedMail};
use crate::store::{Store, StoreError};
use crate::telemetry::metrics::{JobMetrics, Success};

pub use letters::{EndingItem, Letter};
pub use smtp::Smtp;

/// Pauses between attempts. When they are used up, a mail is given up: after about two days.
const PAUSES: [Duration; 8] = [
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(3600),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(6 * 3600),
    Duration::from_secs(12 * 3600),
    Duration::from_secs(24 * 3600),
];
/// From this attempt on, administrators are told that mail does not leave.
const ALERT_FROM: u32 = 3;
/// Mails read from the outbox at a time.
const BATCH: u64 = 20;

/// Alert: mails do not leave for now.
pub const MAIL_FAILING: &str = "mail_failing";
/// Alert: a mail was given up.
pub const MAIL_GIVEN_UP: &str = "mail_given_up";

/// Takes one mail to a mail server.
#[async_trait]
pub trait Carrier: Send + Sync {
    /// Hands the mail over. `id` is the stem of its Message-ID.
    ///
    /// # Errors
    /// [`CarryError`], whose text holds no address.
    async fn carry(&self, id: &str, mail: &OutgoingMail) -> Result<(), CarryError>;
}

/// Why a mail was not taken. No variant holds an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CarryError {
    /// The server cannot be reached, or does not let us in; no other mail would fare better.
    #[error("{0}")]
    Server(String),
    /// The server said "later" to this mail.
    #[error("{0}")]
    Later(String),
    /// The server said "never" to this mail.
    #[error("{0}")]
    Never(String),
}

/// Why a letter was not written.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// There is no mail server in the configuration.
    #[error("no mail server is configured")]
    NotConfigured,
    /// The template could not be filled in.
    #[error("the letter could not be written")]
    Template(#[from] askama::Error),
    /// The letter could not be sealed.
    #[error("the letter could not be sealed")]
    Seal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Who a letter is for.
#[derive(Clone, Copy, Debug)]
pub struct Recipient<'a> {
    /// Their address.
    pub email: &'a str,
    /// Their name.
    pub name: &'a str,
}

/// What one round of sending did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Mails that the server took.
    pub sent: u64,
    /// Mails that wait for another attempt.
    pub deferred: u64,
    /// Mails that were given up.
    pub given_up: u64,
}

/// Writes letters and sends what waits. Cheap to clone.
#[derive(Clone)]
pub struct Mailer(Arc<Inner>);

struct Inner {
    outbox: Outbox,
    carrier: Option<Box<dyn Carrier>>,
    installation: String,
    door_url: Option<String>,
    wake: Activation,
    metrics: Arc<JobMetrics>,
}

impl Mailer {
    /// A mailer that sends through `carrier`; without one it refuses to write.
    ///
    /// * `installation` — how letters are signed.
    /// * `door_url` — where device owners renew, for example `https://door.example.com`.
    /// * `wake` — the activation of the job `send_mail`.
    pub fn new(
        outbox: Outbox,
        carrier: Option<Box<dyn Carrier>>,
        installation: String,
        door_url: Option<String>,
        wake: Activation,
        metrics: Arc<JobMetrics>,
    ) -> Self {
        Self(Arc::new(Inner { outbox, carrier, installation, door_url, wake, metrics }))
    }

    /// Whether letters can be sent at all.
    pub fn is_configured(&self) -> bool {
        self.0.carrier.is_some()
    }

    /// Writes and seals a letter. Queue it with [`Transaction::enqueue_mail`](crate::store::Transaction::enqueue_mail)
    /// in the transaction of what it tells, and call [`Mailer::wake`] after the commit.
    ///
    /// # Errors
    /// [`MailError::NotConfigured`] without a mail server.
    pub fn write(&self, to: Recipient<'_>, letter: &Letter<'_>) -> Result<SealedMail, MailError> {
        if self.0.carrier.is_none() {
            return Err(MailError::NotConfigured);
        }
        let mail = letter.write(to, &self.0.installation, self.0.door_url.as_deref())?;
        self.0.outbox.seal(letter.kind(), &mail).map_err(|error| MailError::Seal(Box::new(error)))
    }

    /// The activation of the job `send_mail`.
    pub fn activation(&self) -> &Activation {
        &self.0.wake
    }

    /// Has the outbox looked at soon.
    pub fn wake(&self) {
        self.0.wake.wake();
    }

    /// Sends what is due at `now`, until nothing is, the server fails, or `stop` says so.
    ///
    /// # Errors
    /// [`StoreError`]; a mail that was sent but not removed goes out a second time, under the same
    /// Message-ID.
    pub async fn send_due(&self, now: UtcTime, stop: impl Fn() -> bool) -> Result<Sent, StoreError> {
        let mut sent = Sent::default();
        let Some(carrier) = &self.0.carrier else { return Ok(sent) };
        'rounds: loop {
            let due = self.0.outbox.due_mails(now, BATCH).await?;
            if due.is_empty() {
                break;
            }
            for mail in due {
                if stop() || !self.send(carrier.as_ref(), mail, now, &mut sent).await? {
                    break 'rounds;
                }
            }
        }
        let waiting = self.store().waiting_mails().await?;
        self.0.metrics.mail_outbox.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        Ok(sent)
    }

    /// Returns whether another mail may be tried now.
    async fn send(
        &self,
        carrier: &dyn Carrier,
        due: DueMail,
        now: UtcTime,
        sent: &mut Sent,
    ) -> Result<bool, StoreError> {
        let Some(mail) = &due.mail else {
            self.give_up(&due, "it does not open: it was changed or sealed under another key", now).await?;
            sent.given_up += 1;
            return Ok(true);
        };
        let error = match carrier.carry(&due.id, mail).await {
            Ok(()) => {
                self.store().mail_sent(&due.id).await?;
                self.store().close_alert(MAIL_FAILING, "smtp", now).await?;
                self.0.metrics.mails.count(Success::Succeeded);
                sent.sent += 1;
                return Ok(true);
            }
            Err(error) => error,
        };
        let text = error.to_string();
        let pause = PAUSES.get(usize::try_from(due.attempts).unwrap_or(usize::MAX));
        match pause.filter(|_| !matches!(error, CarryError::Never(_))) {
            None => {
                self.give_up(&due, &text, now).await?;
                sent.given_up += 1;
            }
            Some(pause) => {
                self.store().mail_deferred(&due.id, &text, now.plus(*pause)).await?;
                sent.deferred += 1;
                if due.attempts + 1 >= ALERT_FROM {
                    let message = format!("Mail does not leave: {text}. Look at the mail server and [smtp].");
                    let severity = Severity::Warning;
                    let alert = NewAlert { kind: MAIL_FAILING, object: "smtp", message: &message, severity };
                    self.store().raise_alert(alert, now).await?;
                }
            }
        }
        Ok(!matches!(error, CarryError::Server(_)))
    }

    async fn give_up(&self, due: &DueMail, why: &str, now: UtcTime) -> Result<(), StoreError> {
        let message = format!("A mail ({}) was given up: {why}.", due.kind);
        let alert =
            NewAlert { kind: MAIL_GIVEN_UP, object: &due.id, message: &message, severity: Severity::Warning };
        self.store().raise_alert(alert, now).await?;
        self.store().mail_given_up(&due.id, why).await?;
        self.0.metrics.mails.count(Success::Failed);
        tracing::warn!(mail = due.id, kind = due.kind, "A mail was given up: {why}");
        Ok(())
    }

    fn store(&self) -> &Store {
        self.0.outbox.store()
    }
}
