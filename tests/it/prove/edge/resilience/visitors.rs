//! Visitors of one upstream who ask again and again, and what they are answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::edge::client::{Answer, Body, Http, PATIENCE, Visitor, connect};
use crate::edge::fixture::{APP, Device, World};
use crate::prove::seed::Seed;

/// RFC 9110 §9.2.1: what may be sent twice.
const SAFE: [Method; 3] = [Method::GET, Method::HEAD, Method::OPTIONS];

/// What they do.
#[derive(Clone)]
pub(super) struct Habits {
    pub(super) path: String,
    /// The status that whoever asks safely has to get.
    pub(super) expect: u16,
    /// Between two requests of one of them, in milliseconds.
    pub(super) pause: u64,
    /// Requests of all of them, about.
    pub(super) most: u64,
}

/// What became of it.
#[derive(Default)]
pub(super) struct Tally {
    asked: AtomicU64,
    good: AtomicU64,
    posts: AtomicU64,
    lost_posts: AtomicU64,
    /// What a visitor saw who asked safely, and should not have seen.
    errors: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

impl Tally {
    /// Requests, POSTs among them.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// Safe requests that were answered as they have to be.
    pub(super) fn good(&self) -> u64 {
        self.good.load(Ordering::SeqCst)
    }

    /// POSTs, and how many of them failed.
    pub(super) fn posts(&self) -> (u64, u64) {
        (self.posts.load(Ordering::SeqCst), self.lost_posts.load(Ordering::SeqCst))
    }

    pub(super) fn errors(&self) -> Vec<String> {
        self.errors.lock().clone()
    }
}

/// Four of them at once: one over HTTP/1.1, two over one connection of HTTP/2, and one who POSTs.
pub(super) struct Visitors {
    pub(super) tally: Arc<Tally>,
    tasks: JoinSet<()>,
}

impl Visitors {
    /// They come. Who POSTs does so over `posting`.
    pub(super) async fn come(world: &Arc<World>, device: &Device, habits: &Habits, posting: Http) -> Self {
        let tally = Arc::new(Tally::default());
        let mut tasks = JoinSet::new();
        for (http, posts) in [(Http::One, false), (Http::Two, false), (posting, true)] {
            let visitor = connect(world, APP, Some(device), http).await;
            let twin = match &visitor {
                Visitor::Two(sender) if !posts => Some(Visitor::Two(sender.clone())),
                _ => None,
            };
            for (visitor, seed) in twin.into_iter().chain([visitor]).zip(1..) {
                let (world, device, habits) = (world.clone(), device.clone(), habits.clone());
                let one = One { world, device, habits, http, posts, tally: tally.clone() };
                tasks.spawn(one.go(visitor, Seed::of(seed)));
            }
        }
        Self { tally, tasks }
    }

    /// They leave, after what they are at.
    pub(super) async fn leave(self) -> Arc<Tally> {
        self.tally.is_over.store(true, Ordering::SeqCst);
        self.have_done().await
    }

    /// Waits until they have asked as often as they want to.
    pub(super) async fn have_done(mut self) -> Arc<Tally> {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(panicked) = ended {
                self.tally.errors.lock().push(panicked.to_string());
            }
        }
        self.tally
    }
}

/// One of them.
struct One {
    world: Arc<World>,
    device: Device,
    habits: Habits,
    http: Http,
    posts: bool,
    tally: Arc<Tally>,
}

impl One {
    async fn go(self, mut visitor: Visitor, mut seed: Seed) {
        let Habits { pause, most, .. } = self.habits;
        while !self.tally.is_over.load(Ordering::SeqCst) && self.tally.asked() < most {
            let method = if self.posts { Method::POST } else { seed.one_of(&SAFE).clone() };
            let number = self.tally.asked.fetch_add(1, Ordering::SeqCst) + 1;
            let request = self.request(&visitor, method.clone(), number);
            let answer = exchange(&mut visitor, request).await;
            if answer.is_err() {
                visitor = connect(&self.world, APP, Some(&self.device), self.http).await;
            }
            self.note(&method, number, answer);
            tokio::time::sleep(Duration::from_millis(pause / 2 + seed.below(pause + 1))).await;
        }
    }

    fn request(&self, visitor: &Visitor, method: Method, number: u64) -> Request<Body> {
        let mut request = visitor.request(method, APP, &self.habits.path);
        request.headers_mut().insert("x-number", HeaderValue::from(number));
        if self.posts {
            let body = Full::new(Bytes::from_static(b"once")).map_err(|never| match never {}).boxed();
            request = request.map(|_| body);
        }
        request
    }

    fn note(&self, method: &Method, number: u64, answer: Result<Answer, String>) {
        let (tally, said) = (&self.tally, number.to_string());
        if self.posts {
            tally.posts.fetch_add(1, Ordering::SeqCst);
            let is_lost = !answer.is_ok_and(|answer| answer.status == 200);
            tally.lost_posts.fetch_add(is_lost.into(), Ordering::SeqCst);
            return;
        }
        let fault = match answer {
            Err(why) => Some(why),
            Ok(Answer { status, headers, body }) => {
                let body_due = if *method == Method::HEAD { "" } else { said.as_str() };
                let is_due = status == self.habits.expect
                    && headers.get("x-number").is_some_and(|value| value.as_bytes() == said.as_bytes())
                    && body == body_due.as_bytes();
                (!is_due).then(|| format!("{status} {}", String::from_utf8_lossy(&body)))
            }
        };
        match fault {
            None => {
                tally.good.fetch_add(1, Ordering::SeqCst);
            }
            Some(fault) => {
                let path = &self.habits.path;
                tally.errors.lock().push(format!("{path}: {method} {number}, {:?}: {fault}", self.http));
            }
        }
    }
}

/// An answer, read to its end; or why there is none, or not all of it.
async fn exchange(visitor: &mut Visitor, request: Request<Body>) -> Result<Answer, String> {
    let answer = visitor.send(request).await.map_err(|error| format!("{error:?}"))?;
    let (parts, body) = answer.into_parts();
    let status = parts.status.as_u16();
    let body = timeout(PATIENCE, body.collect()).await.map_err(|_| format!("{status} and no end"))?;
    let body = body.map_err(|error| format!("{status} and then {error:?}"))?.to_bytes();
    Ok(Answer { status, headers: parts.headers, body })
}
