//! The words of a hand-over: length and JSON, and with some of them open sockets. One side asks, the other answers.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::{Deserialize, Serialize};
use socket2::Socket;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use crate::boot::sockets::Service;
use crate::domain::{Change, Fingerprint, UtcTime};
use crate::live::ConfigurationData;

/// What is spoken; processes that speak another one do not take over from each other.
pub(super) const VERSION: u32 = 1;
/// Sockets that go with one word; the kernel takes at most 253 (SCM_MAX_FD).
pub(super) const AT_ONCE: usize = 64;
/// Octets of a word with sockets.
const SHORT: usize = 4096;
/// Octets of any word: the register of a large installation, and its configuration.
const LONGEST: usize = 512 * 1024 * 1024;

/// What one says to the other.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    /// New: the first word, of every version.
    Hello { version: u32 },
    /// New: the next address, please.
    Next,
    /// New: stop the control plane, and let go of the files.
    StandBack,
    /// New: a step of the feed.
    Told(Box<Told>),
    /// New: I serve from now on, with this configuration in force.
    Ready { configuration: u64 },
    /// Old: with the version of the configuration in force.
    Welcome { configuration: u64 },
    /// Old: no, and why.
    Refused { why: String },
    /// Old: sockets that listen on this address.
    Address { purpose: Service, configured: SocketAddr },
    /// Old: that was all.
    NoMore,
    /// Old: nobody here uses the database or the files.
    StoodBack,
    /// Old: what is in force here, and whether a configuration is still being tried.
    Took { configuration: u64, epoch: u64, is_trying: bool },
    /// Old: nothing more is accepted here.
    Left,
}

/// What an edge is told; see [`crate::live::Update`]. Register changes are in force with the answer; a configuration
/// is tried first, and later words say how that went.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) changes: Vec<Change>,
    pub(super) configuration: Option<ConfigurationData>,
    /// Of the configuration as it was sent: whoever reads something else does not know all of it.
    #[serde(default)]
    pub(super) configuration_hash: Option<String>,
    pub(super) as_of: Option<UtcTime>,
}

/// What a configuration looks like to whoever has it.
pub(super) fn hash_of(data: &ConfigurationData) -> Option<String> {
    serde_json::to_vec(data).ok().map(|octets| Fingerprint::of(&octets).to_string())
}

/// What it looks like to whoever reads it, and knows everything in it.
pub(super) fn hash_to_be(data: &ConfigurationData) -> Option<String> {
    let read: ConfigurationData = serde_json::from_slice(&serde_json::to_vec(data).ok()?).ok()?;
    hash_of(&read)
}

/// Between two processes.
pub(super) struct Line(UnixStream);

impl Line {
    pub(super) fn over(stream: UnixStream) -> Self {
        Self(stream)
    }

    pub(super) async fn say(&mut self, word: &Word) -> io::Result<()> {
        self.0.write_all(&framed(word)?).await
    }

    /// The next word. Not to be given up halfway.
    pub(super) async fn hear(&mut self) -> io::Result<Word> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).await?;
        let length = u32::from_be_bytes(length) as usize;
        if length > LONGEST {
            return Err(senseless("a word that is too long"));
        }
        let mut octets = vec![0; length];
        self.0.read_exact(&mut octets).await?;
        understood(&octets)
    }

    /// Says something and hears the answer.
    pub(super) async fn ask(&mut self, word: &Word) -> io::Result<Word> {
        self.say(word).await?;
        self.hear().await
    }

    /// Says a short word, and gives copies of at most [`AT_ONCE`] sockets with it.
    pub(super) async fn say_with(&mut self, word: &Word, sockets: &[StdListener]) -> io::Result<()> {
        let octets = framed(word)?;
        let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
        let stream = &self.0;
        let send = || -> io::Result<usize> {
            let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
                return Err(senseless("too many sockets for one word"));
            }
            let octets = [IoSlice::new(&octets)];
            rustix::net::sendmsg(stream, &octets, &mut control, SendFlags::NOSIGNAL).map_err(io::Error::from)
        };
        let sent = stream.async_io(Interest::WRITABLE, send).await?;
        // Far below what the kernel buffers, on a line on which nothing else is under way.
        if sent == octets.len() { Ok(()) } else { Err(senseless("half a word went out")) }
    }

    /// Hears a short word with the sockets that come with it. Nothing else may be under way.
    pub(super) async fn hear_with(&mut self) -> io::Result<(Word, Vec<StdListener>)> {
        let mut octets = vec![0; SHORT];
        let stream = &self.0;
        let receive = || -> io::Result<(usize, Vec<OwnedFd>)> {
            let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut into = [IoSliceMut::new(&mut octets)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            let got =
                rustix::net::recvmsg(stream, &mut into, &mut control, flags).map_err(io::Error::from)?;
            let mut sockets = Vec::new();
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(received) = message {
                    sockets.extend(received);
                }
            }
            Ok((got.bytes, sockets))
        };
        let (length, sockets) = stream.async_io(Interest::READABLE, receive).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let word = match octets[..length].split_first_chunk::<4>() {
            Some((said, word)) if u32::from_be_bytes(*said) as usize == word.len() => understood(word)?,
            _ => return Err(senseless("a word that is not whole")),
        };
        Ok((word, sockets.into_iter().map(listening).collect::<io::Result<_>>()?))
    }

    /// Whether the other side has ended. Nothing may be under way: what it says unasked is lost.
    pub(super) fn has_ended(&self) -> bool {
        match self.0.try_read(&mut [0; SHORT]) {
            Ok(octets) => octets == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Says nothing more, ever. The line goes on until the other side ends it.
    pub(super) async fn hang_up(&mut self) {
        let _ = self.0.shutdown().await;
    }

    /// Waits until the other side has ended, whatever it still says.
    pub(super) async fn ended(&mut self) {
        let mut octets = vec![0; SHORT];
        while self.0.read(&mut octets).await.is_ok_and(|read| read > 0) {}
    }
}

/// Whether the other side has ended, and not only said something senseless.
pub(super) fn is_end(error: &io::Error) -> bool {
    error.kind() != io::ErrorKind::InvalidData
}

fn framed(word: &Word) -> io::Result<Vec<u8>> {
    let mut octets = vec![0; 4];
    serde_json::to_writer(&mut octets, word)?;
    let length = u32::try_from(octets.len() - 4).map_err(|_| senseless("a word that is too long"))?;
    octets[..4].copy_from_slice(&length.to_be_bytes());
    Ok(octets)
}

fn understood(octets: &[u8]) -> io::Result<Word> {
    serde_json::from_slice(octets).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn senseless(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Nobody accepts from what does not listen.
fn listening(socket: OwnedFd) -> io::Result<StdListener> {
    let socket = Socket::from(socket);
    if !socket.is_listener()? {
        return Err(senseless("a socket that does not listen"));
    }
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Delta, RevocationReason};

    fn pair() -> (Line, Line) {
        let (one, other) = UnixStream::pair().unwrap();
        (Line::over(one), Line::over(other))
    }

    #[tokio::test]
    async fn sockets_come_with_their_word_and_go_on_listening() {
        let (mut old, mut new) = pair();
        let socket = StdListener::bind("127.0.0.1:0").unwrap();
        let configured = socket.local_addr().unwrap();
        let word = Word::Address { purpose: Service::Https, configured };
        let many: Vec<_> = (0..AT_ONCE).map(|_| socket.try_clone().unwrap()).collect();
        old.say_with(&word, &many).await.unwrap();
        drop((socket, many));
        let (word, sockets) = new.hear_with().await.unwrap();
        assert!(
            matches!(word, Word::Address { purpose: Service::Https, configured: at } if at == configured)
        );
        assert_eq!(sockets.len(), AT_ONCE);
        let _visitor = std::net::TcpStream::connect(configured).unwrap();
        assert!(sockets[0].accept().is_ok());
        // And one without any, on the same line.
        old.say(&Word::NoMore).await.unwrap();
        let (word, sockets) = new.hear_with().await.unwrap();
        assert!(matches!(word, Word::NoMore) && sockets.is_empty());
    }

    #[tokio::test]
    async fn what_does_not_listen_is_not_taken() {
        let (mut old, mut new) = pair();
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let word = Word::Address { purpose: Service::Http, configured: listener.local_addr().unwrap() };
        let stream = StdListener::from(OwnedFd::from(stream));
        old.say_with(&word, &[stream]).await.unwrap();
        assert!(new.hear_with().await.is_err_and(|error| !is_end(&error)));
    }

    #[tokio::test]
    async fn nonsense_is_told_from_an_end() {
        for octets in [&b"\0\0\0\x02{}"[..], b"\0\0\0\x04nope", b"\xff\xff\xff\xff"] {
            let (mut one, other) = UnixStream::pair().unwrap();
            one.write_all(octets).await.unwrap();
            let error = Line::over(other).hear().await.err().unwrap();
            assert!(!is_end(&error), "{error}");
        }
        let (one, mut other) = pair();
        assert!(!other.has_ended());
        drop(one);
        other.0.readable().await.unwrap();
        assert!(other.has_ended());
        assert!(other.hear().await.is_err_and(|error| is_end(&error)));
        assert!(other.say(&Word::Next).await.is_err_and(|error| is_end(&error)));
    }

    #[tokio::test]
    async fn whoever_hangs_up_still_hears_the_end() {
        let (mut one, mut other) = pair();
        one.hang_up().await;
        assert!(other.hear().await.is_err_and(|error| is_end(&error)));
        assert!(!one.has_ended());
        drop(other);
        one.ended().await;
        assert!(one.has_ended());
    }

    /// A process of another release reads them: whoever changes what they look like counts `VERSION` up.
    #[test]
    fn what_an_edge_is_told_stays_what_it_is() {
        let told = Told {
            changes: vec![
                Change {
                    epoch: 6,
                    delta: Delta::Revoked {
                        fingerprint: Fingerprint([1; 32]),
                        at: UtcTime::from_unix(0),
                        reason: RevocationReason::KeyCompromise,
                    },
                },
                Change { epoch: 7, delta: Delta::Released { fingerprint: Fingerprint([2; 32]) } },
            ],
            as_of: Some(UtcTime::from_unix(60)),
            ..Told::default()
        };
        let (one, two) = ("01".repeat(32), "02".repeat(32));
        let pinned = serde_json::json!({ "told": {
            "changes": [
                { "epoch": 6, "delta": {
                    "delta": "revoked", "fingerprint": one, "at": "1970-01-01T00:00:00Z", "reason": "keyCompromise",
                } },
                { "epoch": 7, "delta": { "delta": "released", "fingerprint": two } },
            ],
            "configuration": null,
            "configuration_hash": null,
            "as_of": "1970-01-01T00:01:00Z",
        } });
        assert_eq!((VERSION, serde_json::to_value(Word::Told(Box::new(told))).unwrap()), (1, pinned));
        let took = Word::Took { configuration: 1, epoch: 2, is_trying: true };
        let pinned = serde_json::json!({ "took": { "configuration": 1, "epoch": 2, "is_trying": true } });
        assert_eq!(serde_json::to_value(took).unwrap(), pinned);
        let first = r#"{"told":{"changes":[],"configuration":null,"as_of":null}}"#;
        assert!(matches!(understood(first.as_bytes()).unwrap(), Word::Told(_)));
    }

    #[tokio::test]
    async fn the_first_word_stays_what_it_is() {
        let hello = framed(&Word::Hello { version: 7 }).unwrap();
        assert_eq!(&hello[4..], br#"{"hello":{"version":7}}"#);
        let later = br#"{"hello":{"version":9,"more":true}}"#;
        assert!(matches!(understood(later).unwrap(), Word::Hello { version: 9 }));
    }
}
