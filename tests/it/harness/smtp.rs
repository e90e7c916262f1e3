//! A real SMTP server: Postfix's `smtp-sink`, which keeps each mail in a file.

use std::path::PathBuf;

use super::guarded::{Guarded, Scratch};
use super::{accepts, free_port, peers, wait_for, wait_until};

/// What the server answers to a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Takes it.
    Accepts,
    /// Says "later" (4xx) to every recipient.
    Defers,
    /// Says "never" (5xx) to every recipient.
    Rejects,
}

/// The server. Dropping it stops it and removes its mails.
pub struct Sink {
    _process: Guarded,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    scratch: Scratch,
}

/// A mail as it arrived.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Recipients of the envelope.
    pub to: Vec<String>,
    /// Headers and body, as sent.
    pub raw: String,
}

impl Sink {
    /// Starts it; none when `smtp-sink` is missing.
    pub fn start(manner: Manner) -> Option<Self> {
        let program = peers::peer_text("smtp-sink")?;
        let scratch = Scratch::new("wicketgate-smtp-");
        let behaviour: &[&str] = match manner {
            Manner::Accepts => &[],
            Manner::Defers => &["-r", "RCPT"],
            Manner::Rejects => &["-f", "RCPT"],
        };
        for _ in 0..5 {
            let port = free_port();
            let address = format!("127.0.0.1:{port}");
            let mut command = vec![&*program];
            command.extend(behaviour);
            command.extend(["-d", "mail/m.", &address, "100"]);
            let process = Guarded::start(&scratch, "smtp-sink", "KILL", &command, &[]);
            let up = wait_for("smtp-sink to start", || {
                if accepts(port) { Some(true) } else { (!process.is_running()).then_some(false) }
            });
            if up {
                return Some(Self { _process: process, port, scratch });
            }
            eprintln!("{}", process.log());
        }
        panic!("smtp-sink does not start")
    }

    /// The mails that arrived whole, in no order.
    pub fn mails(&self) -> Vec<Mail> {
        let entries = std::fs::read_dir(self.scratch.path().join("mail")).into_iter().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.into_iter().filter_map(|path| read(&std::fs::read_to_string(path).ok()?)).collect()
    }

    /// Waits for a mail to `to`, the `nth` (from 1) that arrives for it.
    pub async fn mail_to(&self, to: &str, nth: usize) -> Mail {
        wait_until(&format!("mail {nth} to {to}"), async || {
            let mut fitting =
                self.mails().into_iter().filter(|mail| mail.to.iter().any(|address| address == to));
            fitting.nth(nth - 1)
        })
        .await
    }
}

/// Reads a dump: envelope as `X-…` headers, then the mail. One that is still being written has no end of
/// line, or no body yet.
fn read(dump: &str) -> Option<Mail> {
    let dump = dump.replace("\r\n", "\n");
    let argument = |line: &str| {
        let rest = line.strip_prefix("X-Rcpt-Args: <")?;
        Some(rest.split('>').next()?.to_owned())
    };
    let to: Vec<String> = dump.lines().filter_map(argument).collect();
    // smtp-sink writes its Received header after the envelope, when DATA begins.
    let raw = dump.split_once("\nReceived: ").and_then(|(_, rest)| Some(rest.split_once("\n")?.1))?;
    let raw = raw.trim_start_matches(['\t', ' ']).to_owned();
    (!to.is_empty() && raw.contains("\n\n") && raw.ends_with('\n')).then_some(Mail { to, raw })
}

#[tokio::test]
async fn a_mail_sent_with_lettre_arrives() {
    use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
    let Some(sink) = Sink::start(Manner::Accepts) else { return };
    let mail = Message::builder()
        .from("gate@example.com".parse().unwrap())
        .to("anna@example.com".parse().unwrap())
        .subject("A key")
        .body("Hello.\nhttps://door.example/#/invitation/x\n".to_owned())
        .unwrap();
    let transport: AsyncSmtpTransport<Tokio1Executor> =
        AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("127.0.0.1").port(sink.port).build();
    transport.send(mail).await.unwrap();
    let arrived = sink.mail_to("anna@example.com", 1).await;
    assert!(
        arrived.raw.contains("Subject: A key") && arrived.raw.contains("#/invitation/x"),
        "{}",
        arrived.raw
    );
}

#[tokio::test]
async fn a_sink_may_defer_and_reject() {
    use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
    for (manner, transient) in [(Manner::Defers, true), (Manner::Rejects, false)] {
        let Some(sink) = Sink::start(manner) else { return };
        let mail = Message::builder()
            .from("gate@example.com".parse().unwrap())
            .to("anna@example.com".parse().unwrap())
            .body(String::new())
            .unwrap();
        let transport: AsyncSmtpTransport<Tokio1Executor> =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("127.0.0.1").port(sink.port).build();
        let error = transport.send(mail).await.unwrap_err();
        assert_eq!((error.is_transient(), error.is_permanent()), (transient, !transient));
    }
}
