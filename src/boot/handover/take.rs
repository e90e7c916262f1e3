//! The side that comes: what it asks of the process that serves, and how it keeps that one's edge up to date.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::wire::{Line, Told, VERSION, Word, is_end};
use crate::boot::sockets::Given;
use crate::live::{Ack, ConfigurationData, EdgeError, EdgeLink, Update};

/// For an answer about which there is nothing to think.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How often it is looked whether a configuration was tried.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// For jobs to finish their step, and for a database that is away to say so.
const STAND_BACK_WITHIN: Duration = Duration::from_secs(60);

/// Why nobody takes over. Whoever serves goes on.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// The socket is there and cannot be used.
    #[error("the process that serves cannot be reached at {path}")]
    Connect {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// It says nothing.
    #[error(
        "the process that serves does not answer; another one may be taking over at this moment. It goes on serving"
    )]
    Silent,
    /// It does not want to.
    #[error("the process that serves does not hand over: {0}. It goes on serving; restart it instead")]
    Refused(String),
    /// The line broke, or what came over it is none of our words.
    #[error("the hand-over broke off")]
    Broken(#[source] io::Error),
    /// There is nothing to serve with.
    #[error("no configuration is in force here, so that nothing could be served")]
    NothingInForce,
}

/// The process that serves until now. To the feed it is an edge, until its last connection has gone.
pub struct Predecessor {
    /// Held until the process ends: when it breaks, the other one's control plane starts again.
    line: Mutex<Option<Line>>,
    /// The configuration in force there.
    configuration: AtomicU64,
    is_gone: AtomicBool,
}

impl Predecessor {
    /// Looks for a process that serves, and gets copies of its sockets. `None` if there is none.
    ///
    /// # Errors
    /// [`TakeOverError`].
    pub async fn find(path: &Path) -> Result<Option<(Self, Vec<Given>)>, TakeOverError> {
        let stream = match UnixStream::connect(path).await {
            Ok(stream) => stream,
            Err(cause)
                if matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                return Ok(None);
            }
            Err(cause) => return Err(TakeOverError::Connect { path: path.to_owned(), cause }),
        };
        let mut line = Line::over(stream);
        let introduced = timeout(ANSWER_WITHIN, introduce(&mut line)).await;
        let (configuration, given) = introduced.map_err(|_| TakeOverError::Silent)??;
        let line = Mutex::new(Some(line));
        let configuration = AtomicU64::new(configuration);
        Ok(Some((Self { line, configuration, is_gone: AtomicBool::new(false) }, given)))
    }

    /// Has it let go of the database and the files. Its edge goes on.
    ///
    /// # Errors
    /// [`TakeOverError`]; then nothing may be touched.
    pub(in crate::boot) async fn stand_back(&self) -> Result<(), TakeOverError> {
        let mut line = self.line.lock().await;
        let line = line.as_mut().ok_or_else(|| TakeOverError::Broken(io::ErrorKind::NotConnected.into()))?;
        match timeout(STAND_BACK_WITHIN, line.ask(&Word::StandBack)).await {
            Ok(Ok(Word::StoodBack)) => Ok(()),
            Ok(answer) => Err(unwanted(answer)),
            Err(_) => Err(TakeOverError::Silent),
        }
    }

    /// Has it accept no more. If it has ended meanwhile, there is nobody who would.
    ///
    /// # Errors
    /// [`TakeOverError`]; then it serves on.
    pub(in crate::boot) async fn ready(&self, configuration: u64) -> Result<(), TakeOverError> {
        let mut slot = self.line.lock().await;
        let Some(line) = slot.as_mut() else { return Ok(()) };
        let answer = timeout(ANSWER_WITHIN, line.ask(&Word::Ready { configuration })).await;
        match answer {
            Ok(Ok(Word::Left)) => Ok(()),
            Ok(Err(error)) if is_end(&error) => {
                self.has_gone(&mut slot);
                Ok(())
            }
            Ok(answer) => Err(unwanted(answer)),
            Err(_) => Err(TakeOverError::Silent),
        }
    }

    /// What it has in force, and whether it still tries a configuration. `None` when it is no more.
    async fn tell(&self, told: Told) -> Result<Option<(Ack, bool)>, EdgeError> {
        let mut slot = self.line.lock().await;
        let Some(line) = slot.as_mut() else { return Ok(None) };
        let answer = line.ask(&Word::Told(Box::new(told))).await;
        match answer {
            Ok(Word::Took { configuration, epoch, is_trying }) => {
                self.configuration.store(configuration, Ordering::Release);
                Ok(Some((Ack { version: configuration, epoch }, is_trying)))
            }
            Err(error) if is_end(&error) => {
                self.has_gone(&mut slot);
                Ok(None)
            }
            answer => Err(EdgeError::Elsewhere(unwanted(answer).to_string())),
        }
    }

    fn has_gone(&self, slot: &mut Option<Line>) {
        *slot = None;
        self.is_gone.store(true, Ordering::Release);
        tracing::info!("The process that served before has ended");
    }
}

#[async_trait]
impl EdgeLink for Predecessor {
    /// Answers when the old edge has acted on it, or is no more. One step at a time and in order, however long that
    /// takes: what it missed, it would never hear of.
    async fn apply(&self, update: &Update) -> Result<Ack, EdgeError> {
        let known = self.configuration.load(Ordering::Acquire);
        let as_asked = Ack { version: known, epoch: update.changes.last().map_or(0, |change| change.epoch) };
        let new = update.configuration.as_ref().filter(|data| data.version != known);
        let configuration = new.map(|data| ConfigurationData::clone(data));
        let is_new = configuration.is_some();
        if update.changes.is_empty() && !is_new && update.as_of.is_none() {
            return Ok(as_asked);
        }
        let mut told = Told { changes: update.changes.to_vec(), configuration, as_of: update.as_of };
        loop {
            match self.tell(told).await? {
                None => return Ok(as_asked),
                Some((ack, is_trying)) if !(is_new && is_trying) => return Ok(ack),
                Some(_) => {}
            }
            // The line is free meanwhile: a revocation waits for no trial of a configuration.
            tokio::time::sleep(LOOK_EVERY).await;
            told = Told::default();
        }
    }

    fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Acquire)
    }
}

/// The first words, up to the last socket. Returns the version of the configuration in force there.
async fn introduce(line: &mut Line) -> Result<(u64, Vec<Given>), TakeOverError> {
    let welcome = line.ask(&Word::Hello { version: VERSION }).await;
    let configuration = match welcome {
        Ok(Word::Welcome { configuration }) => configuration,
        answer => return Err(unwanted(answer)),
    };
    let mut given: Vec<Given> = Vec::new();
    loop {
        line.say(&Word::Next).await.map_err(TakeOverError::Broken)?;
        match line.hear_with().await.map_err(TakeOverError::Broken)? {
            (Word::NoMore, _) => return Ok((configuration, given)),
            (Word::Address { purpose, configured }, sockets) if !sockets.is_empty() => {
                let next = Given { purpose: Some(purpose), configured, sockets };
                add(&mut given, next).map_err(TakeOverError::Broken)?;
            }
            (word, _) => return Err(unwanted(Ok(word))),
        }
    }
}

/// Many sockets of one address come in pieces.
fn add(given: &mut Vec<Given>, next: Given) -> io::Result<()> {
    let port = |given: &Given| given.sockets.first().map(std::net::TcpListener::local_addr).transpose();
    if let Some(last) = given.last_mut()
        && last.purpose == next.purpose
        && port(last)? == port(&next)?
    {
        last.sockets.extend(next.sockets);
        return Ok(());
    }
    given.push(next);
    Ok(())
}

/// What is wrong with an answer that is not the one that was asked for.
fn unwanted(answer: io::Result<Word>) -> TakeOverError {
    match answer {
        Ok(Word::Refused { why }) => TakeOverError::Refused(why),
        Ok(_) => TakeOverError::Refused("it says something else than was asked".to_owned()),
        Err(error) => TakeOverError::Broken(error),
    }
}
