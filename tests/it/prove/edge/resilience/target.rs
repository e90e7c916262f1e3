//! A target that falls ill at a word, in many ways, and a record of what reaches it.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

/// How late a slow target answers: within what it is given.
const LATE: Duration = Duration::from_millis(300);
/// What a body that never comes is said to be, in octets.
const PROMISED: usize = 1_000;

/// How a target does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    /// Nobody listens, and whatever was open is reset.
    Killed,
    /// Nobody listens; what is open ends in good manners.
    Refuses,
    /// Takes connections and closes them at once.
    Slams,
    /// Answers late, and well.
    Slow,
    /// Answers with this status.
    Says(u16),
    /// Sends a head, and nothing of the body that it promises.
    HangsInBody,
    /// Sends nothing.
    Hangs,
    /// Breaks off in the middle of a head.
    Breaks,
    /// Closes a kept connection without a word when the next request has come.
    Forgets,
}

impl Mood {
    /// All but well.
    pub(super) const SICK: [Self; 10] = [
        Self::Killed,
        Self::Refuses,
        Self::Slams,
        Self::Slow,
        Self::Says(500),
        Self::Says(503),
        Self::HangsInBody,
        Self::Hangs,
        Self::Breaks,
        Self::Forgets,
    ];

    /// Whether requests fail in a way that tells something of the target, so that its breaker opens.
    pub(super) fn fails(self) -> bool {
        !matches!(self, Self::Well | Self::Slow | Self::Forgets)
    }

    fn listens(self) -> bool {
        !matches!(self, Self::Killed | Self::Refuses)
    }

    /// Whether an idle connection stays open.
    fn keeps(self) -> bool {
        self.listens() && self != Self::Slams
    }
}

/// What has reached the targets of one upstream.
#[derive(Default)]
pub(super) struct Ledger {
    /// How often each request has come, by its number and whether it is a POST.
    arrivals: Mutex<HashMap<(u64, bool), u64>>,
    /// Kept connections that broke under a request that may be repeated: it comes once more, and that is no
    /// second try at another target.
    replaced: AtomicU64,
}

impl Ledger {
    /// Arrivals of requests that had come before, without those of a replaced connection.
    pub(super) fn again(&self) -> u64 {
        self.beyond_first(false).saturating_sub(self.replaced.load(Ordering::SeqCst))
    }

    /// POSTs that came more than once.
    pub(super) fn duplicates(&self) -> u64 {
        self.beyond_first(true)
    }

    fn beyond_first(&self, of_posts: bool) -> u64 {
        let arrivals = self.arrivals.lock();
        arrivals.iter().filter(|((_, is_post), _)| *is_post == of_posts).map(|(_, times)| times - 1).sum()
    }
}

/// One target.
pub(super) struct Target {
    pub(super) address: SocketAddr,
    mood: watch::Sender<Mood>,
    arrivals: AtomicU64,
    ledger: Arc<Ledger>,
    /// Holds the port while nobody listens on it, so that nobody else is given it.
    _port: Socket,
}

/// How a connection goes on.
enum Then {
    Stays,
    Ends,
    /// Without the head of an answer.
    Breaks,
}

/// A socket on this address that shares it with others of this process.
fn bound(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

/// Waits until a mood `is_so`.
async fn until(moods: &mut watch::Receiver<Mood>, is_so: impl Fn(Mood) -> bool) {
    // Whoever sends lives as long as the target.
    let _ = moods.wait_for(|mood| is_so(*mood)).await;
}

impl Target {
    /// One that is well.
    pub(super) fn start(ledger: &Arc<Ledger>) -> Arc<Self> {
        let port = bound((Ipv4Addr::LOCALHOST, 0).into());
        let target = Arc::new(Self {
            address: port.local_addr().unwrap().as_socket().unwrap(),
            mood: watch::Sender::new(Mood::Well),
            arrivals: AtomicU64::new(0),
            ledger: ledger.clone(),
            _port: port,
        });
        tokio::spawn(target.clone().listen());
        target
    }

    /// As it is written in a configuration.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on.
    pub(super) fn becomes(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// Requests that came.
    pub(super) fn arrivals(&self) -> u64 {
        self.arrivals.load(Ordering::SeqCst)
    }

    async fn listen(self: Arc<Self>) {
        let mut moods = self.mood.subscribe();
        loop {
            until(&mut moods, Mood::listens).await;
            let socket = bound(self.address);
            socket.listen(1_024).unwrap();
            socket.set_nonblocking(true).unwrap();
            let listener = TcpListener::from_std(socket.into()).unwrap();
            tokio::select! {
                () = self.accept(&listener) => {}
                () = until(&mut moods, |mood| !mood.listens()) => {}
            }
        }
    }

    async fn accept(self: &Arc<Self>, listener: &TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            if *self.mood.borrow() != Mood::Slams {
                tokio::spawn(self.clone().serve(stream));
            }
        }
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let mut moods = self.mood.subscribe();
        let (mut unread, mut is_kept) = (Vec::new(), false);
        loop {
            let asked = tokio::select! {
                asked = Asked::read(&mut stream, &mut unread) => asked,
                () = until(&mut moods, |mood| !mood.keeps()) => None,
            };
            let Some(asked) = asked else { break };
            self.arrivals.fetch_add(1, Ordering::SeqCst);
            *self.ledger.arrivals.lock().entry((asked.number, asked.is_post())).or_default() += 1;
            match answer(&mut stream, &mut moods, &asked, is_kept).await {
                Then::Stays => is_kept = true,
                Then::Ends => break,
                Then::Breaks => {
                    if is_kept && !asked.is_post() {
                        self.ledger.replaced.fetch_add(1, Ordering::SeqCst);
                    }
                    break;
                }
            }
        }
        if *self.mood.borrow() == Mood::Killed {
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    }
}

async fn answer(
    stream: &mut TcpStream,
    moods: &mut watch::Receiver<Mood>,
    asked: &Asked,
    is_kept: bool,
) -> Then {
    let mood = *moods.borrow();
    let is_another = |now: Mood| now != mood;
    let (text, then) = match mood {
        Mood::Well => (asked.answer(200, ""), Then::Stays),
        Mood::Refuses => (asked.answer(200, "connection: close\r\n"), Then::Ends),
        Mood::Killed | Mood::Slams => return Then::Breaks,
        Mood::Slow => match timeout(LATE, until(moods, is_another)).await {
            Ok(()) if !moods.borrow().keeps() => return Then::Breaks,
            Ok(()) | Err(_) => (asked.answer(200, ""), Then::Stays),
        },
        Mood::Says(status) => (asked.answer(status, ""), Then::Stays),
        Mood::HangsInBody if !asked.is_head() => {
            let head = format!("HTTP/1.1 200 Said\r\ncontent-length: {PROMISED}\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            until(moods, is_another).await;
            return Then::Ends;
        }
        Mood::Hangs | Mood::HangsInBody => {
            until(moods, is_another).await;
            return Then::Breaks;
        }
        Mood::Breaks => ("HTTP/1.1 200 Said\r\ncontent-le".to_owned(), Then::Breaks),
        Mood::Forgets if is_kept => return Then::Breaks,
        Mood::Forgets => (asked.answer(200, ""), Then::Stays),
    };
    match stream.write_all(text.as_bytes()).await {
        Ok(()) => then,
        Err(_) => Then::Ends,
    }
}

/// A request.
struct Asked {
    method: String,
    number: u64,
}

impl Asked {
    /// The next one, if there is one.
    async fn read(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<Self> {
        let mut buffer = [0; 4_096];
        loop {
            if let Some((asked, length)) = Self::parse(unread) {
                unread.drain(..length);
                return Some(asked);
            }
            match stream.read(&mut buffer).await {
                Ok(octets @ 1..) => unread.extend_from_slice(&buffer[..octets]),
                Ok(0) | Err(_) => return None,
            }
        }
    }

    /// One that is whole, and its length.
    fn parse(unread: &[u8]) -> Option<(Self, usize)> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Request::new(&mut headers);
        let httparse::Status::Complete(start) = head.parse(unread).unwrap() else { return None };
        let number = |name: &str| {
            let line = head.headers.iter().find(|line| line.name.eq_ignore_ascii_case(name))?;
            String::from_utf8_lossy(line.value).parse::<u64>().ok()
        };
        let end = start + number("content-length").unwrap_or(0) as usize;
        let (method, number) = (head.method.unwrap_or_default().to_owned(), number("x-number").unwrap_or(0));
        (unread.len() >= end).then_some((Self { method, number }, end))
    }

    fn is_post(&self) -> bool {
        self.method == "POST"
    }

    fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// An answer that says which request it is for.
    fn answer(&self, status: u16, more: &str) -> String {
        let body = self.number.to_string();
        let head = format!(
            "HTTP/1.1 {status} Said\r\nx-number: {body}\r\n{more}content-length: {}\r\n\r\n",
            body.len()
        );
        if self.is_head() { head } else { head + &body }
    }
}
