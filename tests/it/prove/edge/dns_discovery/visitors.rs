//! Visitors who ask safely, again and again, and what they should not have seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::comes;
use crate::edge::client::{Http, Visitor, connect, read};
use crate::edge::fixture::{APP, World};

/// Between two requests of one of them.
const PAUSE: Duration = Duration::from_millis(40);

#[derive(Default)]
struct Tally {
    asked: AtomicU64,
    good: AtomicU64,
    errors: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

/// Those who ask for one path.
pub(super) struct Visitors {
    tally: Arc<Tally>,
    tasks: JoinSet<()>,
}

impl Visitors {
    pub(super) async fn come(world: &Arc<World>, path: &str) -> Self {
        let tally = Arc::new(Tally::default());
        let mut tasks = JoinSet::new();
        for http in [Http::One, Http::Two] {
            let visitor = connect(world, APP, None, http).await;
            tasks.spawn(ask(world.clone(), visitor, http, path.to_owned(), tally.clone()));
        }
        Self { tally, tasks }
    }

    /// Requests that were answered as they have to be.
    pub(super) fn good(&self) -> u64 {
        self.tally.good.load(Ordering::SeqCst)
    }

    /// Waits for so many more good answers; whether they came.
    pub(super) async fn are_served(&self, more: u64) -> bool {
        let from = self.good();
        comes(|| self.good() >= from + more).await
    }

    /// They leave, after what they are at. How often they asked, and what went wrong.
    pub(super) async fn leave(mut self) -> (u64, Vec<String>) {
        self.tally.is_over.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(panicked) = ended {
                self.tally.errors.lock().push(panicked.to_string());
            }
        }
        (self.tally.asked.load(Ordering::SeqCst), std::mem::take(&mut *self.tally.errors.lock()))
    }
}

async fn ask(world: Arc<World>, mut visitor: Visitor, http: Http, path: String, tally: Arc<Tally>) {
    while !tally.is_over.load(Ordering::SeqCst) {
        tally.asked.fetch_add(1, Ordering::SeqCst);
        let request = visitor.request(Method::GET, APP, &path);
        match visitor.send(request).await {
            Ok(answer) => {
                let answer = read(answer).await;
                if answer.status == 200 && answer.body.starts_with(b"127.") {
                    tally.good.fetch_add(1, Ordering::SeqCst);
                } else {
                    let text = String::from_utf8_lossy(&answer.body).into_owned();
                    tally.errors.lock().push(format!("{http:?}: {} {text}", answer.status));
                }
            }
            Err(error) => {
                tally.errors.lock().push(format!("{http:?}: {error:?}"));
                visitor = connect(&world, APP, None, http).await;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
