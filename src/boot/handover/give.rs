//! The side that serves: who may take over, what they get, and what goes on if they do not make it.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::SetOnce;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::take::Predecessor;
use super::wire::{AT_ONCE, Line, Told, VERSION, Word, hash_of, is_end};
use crate::boot::plain::Listening;
use crate::boot::plane::Plane;
use crate::boot::sockets::Sockets;
use crate::edge::Edge;
use crate::live::holder::Lent;
use crate::live::{EdgeLink, Holder, Update};

/// For a word of somebody who has been told to go on.
const WORD_WITHIN: Duration = Duration::from_secs(10);
/// How often connections are looked for that must not be there.
const CUT_EVERY: Duration = Duration::from_millis(100);
/// How long to wait after the system refused to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a successor finds us. Removed from the file system when dropped, unless it is the successor's by then.
pub(in crate::boot) struct Place {
    listener: UnixListener,
    path: PathBuf,
    /// Whoever made it: beside root the only one who may take over.
    owner: u32,
    is_given: bool,
}

impl Place {
    /// Listens at `path`, where nobody does.
    pub(in crate::boot) async fn bind(path: &Path) -> io::Result<Self> {
        match UnixStream::connect(path).await {
            // Nobody's; anything else, such as a full queue, is somebody's.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) =>
            {
                Self::replace(path)
            }
            _ => {
                let taken = format!("{} is served by another process", path.display());
                Err(io::Error::new(io::ErrorKind::AddrInUse, taken))
            }
        }
    }

    /// Listens at `path` instead of whoever did until now.
    pub(in crate::boot) fn replace(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        // Between bind and chmod the directory's own mode keeps others out.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        let owner = std::fs::metadata(path)?.uid();
        Ok(Self { listener, path: path.to_owned(), owner, is_given: false })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_given {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// What a successor takes over, and what ends with that.
pub(in crate::boot) struct Estate {
    pub(in crate::boot) edge: Arc<Edge>,
    pub(in crate::boot) holder: Arc<Holder>,
    pub(in crate::boot) plane: Arc<Plane>,
    pub(in crate::boot) sockets: Arc<Sockets>,
    pub(in crate::boot) listening: Listening,
    /// Set when somebody else serves.
    pub(in crate::boot) is_given: Arc<SetOnce<()>>,
    pub(in crate::boot) following: Arc<Following>,
    /// Who served before, and may still have connections that only this process tells who is revoked.
    pub(in crate::boot) predecessor: Option<Arc<Predecessor>>,
}

/// How far another process's configurations are followed.
#[derive(Default)]
pub(in crate::boot) struct Following {
    trying: AtomicUsize,
    /// The newest could not be.
    is_behind: AtomicBool,
    /// The one in force says something that this program does not know.
    is_partial: AtomicBool,
}

/// Why somebody did not take over.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    /// The line broke, or what came over it is none of our words.
    #[error("it ended or broke off before it was ready")]
    Line(#[from] io::Error),
    #[error("it took too long")]
    Late,
    #[error("{0}")]
    Refused(String),
}

/// Waits for successors, one after the other, until one has taken over; then keeps the edge up to date for as long
/// as it has connections.
///
/// * `ends` — nobody may begin to take over any more.
/// * `stop` — the process ends.
pub(in crate::boot) async fn give(
    estate: Estate,
    mut place: Place,
    ends: CancellationToken,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            accepted = place.listener.accept() => accepted,
            () = ends.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let owner = place.owner;
        let Some(outcome) = stop.run_until_cancelled(Box::pin(estate.serve(stream, owner))).await else {
            return;
        };
        match outcome {
            Ok(line) => {
                place.is_given = true;
                drop(place);
                stop.run_until_cancelled(estate.follow_to_the_end(line)).await;
                return;
            }
            Err(trouble) => {
                tracing::warn!(
                    error = &trouble as &dyn std::error::Error,
                    "A process wanted to take over and did not: this one goes on"
                );
            }
        }
    }
}

/// Tells the service manager which process is the service. Without one there is nobody to tell.
fn announce(process: Option<u32>) {
    if let Some(process) = process {
        let _ = sd_notify::notify(&[NotifyState::MainPid(process)]);
    }
}

/// Whether this user may have what `owner` has.
fn may_take_over(user: u32, owner: u32) -> bool {
    user == 0 || user == owner
}

impl Estate {
    /// From the first word until somebody else serves, or nothing has changed.
    async fn serve(&self, stream: UnixStream, owner: u32) -> Result<Line, Trouble> {
        let peer = stream.peer_cred()?;
        let user = peer.uid();
        let mut line = Line::over(stream);
        if !may_take_over(user, owner) {
            return refuse(&mut line, "only the user that it runs as, and root, may take over").await;
        }
        self.show(&mut line).await?;
        let lent = match self.stand_back().await {
            Ok(lent) => lent,
            Err(error) => {
                self.go_on(None).await;
                return refuse(&mut line, &error).await;
            }
        };
        match self.see_it_start(&mut line, peer.pid()).await {
            Ok(()) => {
                self.let_go();
                Ok(line)
            }
            Err(trouble) => {
                self.go_on(lent).await;
                Err(trouble)
            }
        }
    }

    /// Gives copies of every socket. Nothing has changed until it is asked to stand back.
    async fn show(&self, line: &mut Line) -> Result<(), Trouble> {
        match heard(line).await? {
            Word::Hello { version: VERSION } => {}
            Word::Hello { version } => {
                let why = format!("it speaks version {VERSION} of the hand-over, not {version}");
                return refuse(line, &why).await;
            }
            _ => return refuse(line, "a hand-over begins with another word").await,
        }
        // Who is revoked is told to them from here, and from nowhere else.
        if self.predecessor.as_ref().is_some_and(|before| !before.is_gone()) {
            let why = "connections of the process before it are still leaving; try again when they have left";
            return refuse(line, why).await;
        }
        line.say(&Word::Welcome { configuration: self.configuration() }).await?;
        for given in self.sockets.copies()? {
            let Some(purpose) = given.purpose else { continue };
            for sockets in given.sockets.chunks(AT_ONCE) {
                let Word::Next = heard(line).await? else {
                    return refuse(line, "more addresses were to be asked for").await;
                };
                line.say_with(&Word::Address { purpose, configured: given.configured }, sockets).await?;
            }
        }
        let Word::Next = heard(line).await? else {
            return refuse(line, "more addresses were to be asked for").await;
        };
        line.say(&Word::NoMore).await?;
        match heard(line).await? {
            Word::StandBack => Ok(()),
            _ => refuse(line, "it was to be asked to stand back").await,
        }
    }

    /// Stops what may exist only once.
    async fn stand_back(&self) -> Result<Option<Lent>, String> {
        tracing::info!("Another process takes over: console, portal and renewals pause");
        self.edge.shut_door(true);
        self.plane.stop().await;
        self.holder.lend_journal().await.map_err(|error| error.to_string())
    }

    /// Waits for the other process to be ready, and is its edge meanwhile. No deadline: while it lives, it may be
    /// using what was let go of.
    async fn see_it_start(&self, line: &mut Line, process: Option<i32>) -> Result<(), Trouble> {
        line.say(&Word::StoodBack).await?;
        loop {
            let why = match line.hear().await {
                Ok(Word::Told(told)) => {
                    line.say(&self.follow(*told).await).await?;
                    continue;
                }
                Ok(Word::Ready { configuration }) => {
                    // Before this one may end, or that would look like the end of the service; and not sooner,
                    // or the end of the other one would.
                    announce(process.and_then(|id| u32::try_from(id).ok()));
                    if let Err(error) = line.say(&Word::Left).await {
                        announce(Some(std::process::id()));
                        return Err(error.into());
                    }
                    let is_behind = configuration != self.configuration()
                        || self.following.is_partial.load(Ordering::Acquire);
                    self.following.is_behind.store(is_behind, Ordering::Release);
                    return Ok(());
                }
                Err(error) if is_end(&error) => return Err(error.into()),
                Ok(_) | Err(_) => "it does not understand what it is told",
            };
            // It must end before anything here begins again.
            line.say(&Word::Refused { why: why.to_owned() }).await?;
            line.ended().await;
            return Err(Trouble::Refused(why.to_owned()));
        }
    }

    /// As if nobody had come.
    async fn go_on(&self, lent: Option<Lent>) {
        if let Some(lent) = lent
            && let Err(error) = self.holder.take_journal_back(lent).await
        {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "The edge's snapshot cannot be written any more, so that nothing is acknowledged: restart"
            );
        }
        self.plane.resume();
        self.edge.shut_door(false);
    }

    /// Accepts no more, on any socket.
    fn let_go(&self) {
        // The copies first, so that what the other one has not taken closes with its last visitor.
        self.sockets.close();
        self.edge.stop_accepting();
        self.listening.end();
        let _ = self.is_given.set(());
    }

    /// Is the other process's edge until the process ends, and ends every connection if it is told nothing any more:
    /// who is revoked then would stay.
    async fn follow_to_the_end(&self, mut line: Line) {
        loop {
            if self.following.is_behind.load(Ordering::Acquire) {
                tracing::warn!(
                    "Another configuration is in force where connections go: those that are left end"
                );
                self.edge.cut();
            }
            if let Ok(Word::Told(told)) = line.hear().await
                && line.say(&self.follow(*told).await).await.is_ok()
            {
                continue;
            }
            loop {
                // And those that have not shaken hands yet.
                self.edge.cut();
                tokio::time::sleep(CUT_EVERY).await;
            }
        }
    }

    /// Applies a step of the feed; a configuration beside the steps that come after it.
    async fn follow(&self, told: Told) -> Word {
        let Told { changes, configuration, configuration_hash, as_of } = told;
        let update = Update { changes: changes.into(), as_of, ..Update::default() };
        // Nothing is written down here, so that nothing can fail.
        let _ = self.holder.apply(&update).await;
        if let Some(data) = configuration {
            self.following.trying.fetch_add(1, Ordering::AcqRel);
            let (holder, following) = (self.holder.clone(), self.following.clone());
            // What a newer program has added to it would not be heeded here.
            let is_partial = configuration_hash.is_some() && configuration_hash != hash_of(&data);
            tokio::spawn(async move {
                let update = Update { configuration: Some(Arc::new(data)), ..Update::default() };
                let followed = holder.apply(&update).await;
                if let Err(error) = &followed {
                    tracing::warn!(
                        error = error as &dyn std::error::Error,
                        "A configuration was not followed"
                    );
                }
                if followed.is_ok() {
                    following.is_partial.store(is_partial, Ordering::Release);
                }
                following.is_behind.store(followed.is_err() || is_partial, Ordering::Release);
                following.trying.fetch_sub(1, Ordering::AcqRel);
            });
        }
        Word::Took {
            configuration: self.configuration(),
            epoch: self.holder.register().epoch(),
            is_trying: self.following.trying.load(Ordering::Acquire) > 0,
        }
    }

    fn configuration(&self) -> u64 {
        self.holder.data().map_or(0, |data| data.version)
    }
}

async fn heard(line: &mut Line) -> Result<Word, Trouble> {
    Ok(timeout(WORD_WITHIN, line.hear()).await.map_err(|_| Trouble::Late)??)
}

async fn refuse<T>(line: &mut Line, why: &str) -> Result<T, Trouble> {
    line.say(&Word::Refused { why: why.to_owned() }).await?;
    Err(Trouble::Refused(why.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_user_and_root_take_over() {
        assert!(may_take_over(1000, 1000) && may_take_over(0, 1000) && may_take_over(0, 0));
        assert!(!may_take_over(1001, 1000) && !may_take_over(1000, 0));
    }
}
