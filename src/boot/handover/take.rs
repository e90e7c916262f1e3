//! The side that comes: what it asks of the process that serves, and how it keeps that one's edge up to date.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::wire::{Line, Told, VERSION, Word, hash_to_be, is_end};
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
    /// It was told something, and nobody knows whether it heard.
    #[error(
        "the process that serves does not follow what it is told. It goes on serving; restart it instead"
    )]
    Lost,
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
    /// A word is under way; or it was given up, and the next answer would be that one's.
    is_midway: AtomicBool,
    /// It refused, or did not answer: nothing that it is told any more is heard.
    is_lost: AtomicBool,
    /// It accepts no more.
    has_left: AtomicBool,
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
        let predecessor = Self {
            line: Mutex::new(Some(line)),
            configuration: AtomicU64::new(configuration),
            is_gone: AtomicBool::default(),
            is_midway: AtomicBool::default(),
            is_lost: AtomicBool::default(),
            has_left: AtomicBool::default(),
        };
        Ok(Some((predecessor, given)))
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
        match self.ask(&Word::Ready { configuration }).await? {
            Some(Word::Left) => {
                self.has_left.store(true, Ordering::Release);
                Ok(())
            }
            None => Ok(()),
            Some(answer) => Err(unwanted(Ok(answer))),
        }
    }

    /// Whether it may be replaced: it was told everything, or has been replaced already.
    ///
    /// # Errors
    /// [`TakeOverError::Lost`]; then whoever wants to replace it is to end.
    pub(in crate::boot) fn check(&self) -> Result<(), TakeOverError> {
        let follows = !self.is_lost.load(Ordering::Acquire) || self.has_left.load(Ordering::Acquire);
        if follows || self.is_gone() { Ok(()) } else { Err(TakeOverError::Lost) }
    }

    /// What it has in force, and whether it still tries a configuration. `None` when it is no more.
    async fn tell(&self, told: Told) -> Result<Option<(Ack, bool)>, EdgeError> {
        let elsewhere = |error: TakeOverError| EdgeError::Elsewhere(error.to_string());
        match self.ask(&Word::Told(Box::new(told))).await {
            Ok(Some(Word::Took { configuration, epoch, is_trying })) => {
                self.configuration.store(configuration, Ordering::Release);
                Ok(Some((Ack { version: configuration, epoch }, is_trying)))
            }
            Ok(None) => Ok(None),
            Ok(Some(answer)) => {
                self.lose().await;
                Err(elsewhere(unwanted(Ok(answer))))
            }
            Err(error) => Err(elsewhere(error)),
        }
    }

    /// Its answer; `None` when it is no more. Once it has refused or was silent, it is asked nothing any more.
    async fn ask(&self, word: &Word) -> Result<Option<Word>, TakeOverError> {
        let asking = async {
            let mut slot = self.line.lock().await;
            if self.is_lost.load(Ordering::Acquire) || self.is_midway.load(Ordering::Acquire) {
                return Err(TakeOverError::Lost);
            }
            let Some(line) = slot.as_mut() else { return Ok(None) };
            self.is_midway.store(true, Ordering::Release);
            let answer = line.ask(word).await;
            self.is_midway.store(false, Ordering::Release);
            match answer {
                Err(error) if is_end(&error) => {
                    self.has_gone(&mut slot);
                    Ok(None)
                }
                Ok(Word::Refused { .. }) | Err(_) => Err(unwanted(answer)),
                Ok(answer) => Ok(Some(answer)),
            }
        };
        let answer = timeout(ANSWER_WITHIN, asking).await.unwrap_or(Err(TakeOverError::Silent));
        if answer.is_err() {
            self.lose().await;
        }
        answer
    }

    /// It hears nothing any more. If it has left, the end of our words has it end its connections; before, it must
    /// not begin again until this process has ended.
    async fn lose(&self) {
        self.is_lost.store(true, Ordering::Release);
        if self.has_left.load(Ordering::Acquire)
            && let Some(line) = self.line.lock().await.as_mut()
        {
            line.hang_up().await;
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
        let configuration_hash = configuration.as_ref().and_then(hash_to_be);
        let changes = update.changes.to_vec();
        let mut told = Told { changes, configuration, configuration_hash, as_of: update.as_of };
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

    /// Notices by itself: it may be told nothing for long.
    fn is_gone(&self) -> bool {
        if let Ok(mut slot) = self.line.try_lock()
            && slot.as_ref().is_some_and(Line::has_ended)
        {
            self.has_gone(&mut slot);
        }
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

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;
    use crate::domain::UtcTime;

    #[tokio::test]
    async fn whoever_was_refused_asks_nothing_more_and_still_notices_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("handover.sock");
        let listener = UnixListener::bind(&place).unwrap();
        let update = Update { as_of: Some(UtcTime::from_unix(1)), ..Update::default() };
        let old = async {
            let mut line = Line::over(listener.accept().await.unwrap().0);
            let refused = Word::Refused { why: "not today".to_owned() };
            for answer in [Word::Welcome { configuration: 1 }, Word::NoMore, refused] {
                line.hear().await.unwrap();
                line.say(&answer).await.unwrap();
            }
            line
        };
        let new = async {
            let (found, _) = Predecessor::find(&place).await.unwrap().unwrap();
            assert!(found.check().is_ok());
            assert!(found.apply(&update).await.is_err());
            found
        };
        let (line, found) = tokio::join!(old, new);
        // Nobody would answer.
        assert!(matches!(found.check(), Err(TakeOverError::Lost)));
        assert!(found.apply(&update).await.is_err());
        assert!(matches!(found.ready(1).await, Err(TakeOverError::Lost)));
        assert!(!found.is_gone());
        drop(line);
        while !found.is_gone() {
            tokio::task::yield_now().await;
        }
    }
}
