//! Open loop: requests go out when they are due, however long the answers before them take, and a late answer
//! counts from when its request was due.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::client::TlsStream;

use super::{KEPT, Sample, Visitors, finish, h1};
use crate::process;

/// What is due, and how long what was due took.
#[derive(Default)]
struct Course {
    due: RefCell<VecDeque<Instant>>,
    bell: Notify,
    took: RefCell<Vec<Duration>>,
}

/// * `pace` — requests a second.
pub(super) async fn measure(visitors: &Rc<Visitors>, pid: u32, pace: f64, span: Duration) -> Result<Sample> {
    let course = Rc::new(Course::default());
    let mut tasks = Vec::new();
    for _ in 0..KEPT {
        let stream = h1::open(visitors).await?;
        tasks.push(tokio::task::spawn_local(serve(visitors.clone(), course.clone(), stream)));
    }
    let (cpu, began) = (process::cpu_seconds(pid)?, Instant::now());
    let every = Duration::from_secs_f64(1.0 / pace);
    let mut next = began;
    while began.elapsed() < span {
        let now = Instant::now();
        while next <= now {
            course.due.borrow_mut().push_back(next);
            course.bell.notify_one();
            next += every;
        }
        // Timers are too coarse for this: the visitors' core spins instead.
        tokio::task::yield_now().await;
    }
    visitors.over.set(true);
    course.bell.notify_waiters();
    finish(tasks).await?;
    let mut took = course.took.take();
    took.sort_unstable();
    // Nearest rank.
    let percentile = |percent: usize| {
        let rank = (took.len() * percent).div_ceil(100);
        took.get(rank.saturating_sub(1)).map_or(f64::NAN, |took| took.as_secs_f64() * 1000.0)
    };
    let latency_ms = Some((percentile(50), percentile(99)));
    Ok(Sample { latency_ms, ..visitors.sample(pid, cpu, began)? })
}

/// Takes what is due until it is over and nothing is left.
async fn serve(visitors: Rc<Visitors>, course: Rc<Course>, mut stream: TlsStream<TcpStream>) {
    let (request, mut buffer) = (h1::request(visitors.page.path()), h1::buffer());
    loop {
        let due = course.due.borrow_mut().pop_front();
        match due {
            Some(due) => match h1::exchange(&mut stream, &request, &mut buffer).await {
                Ok(_) => {
                    visitors.count(1);
                    course.took.borrow_mut().push(due.elapsed());
                }
                Err(_) => return visitors.count_error(),
            },
            None if visitors.over.get() => return,
            None => course.bell.notified().await,
        }
    }
}
