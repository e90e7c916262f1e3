//! Connections that have asked once and say nothing more: what each costs in memory.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{Sample, Visitors, finish, h1};
use crate::process;

/// Connections that are opened at one time.
const AT_ONCE: usize = 32;
/// Time to give memory back.
const SETTLE: Duration = Duration::from_secs(2);
/// Of so many connections one is asked again, to see that it was still open.
const ASK_EVERY: usize = 100;
/// Files a process has open beside its connections.
const OTHER_FILES: usize = 500;

/// Those that are to come, and those that are there.
struct Crowd {
    left: Cell<usize>,
    there: RefCell<Vec<TlsStream<TcpStream>>>,
}

pub(super) async fn measure(visitors: &Rc<Visitors>, pid: u32, count: usize) -> Result<Sample> {
    let (files, _) = process::open_files()?;
    if usize::try_from(files).unwrap_or(usize::MAX) < count + OTHER_FILES {
        bail!("{count} connections need more than {files} open files (ulimit -n)");
    }
    // What the first visitor needs, all need together.
    drop(h1::open(visitors).await?);
    tokio::time::sleep(SETTLE).await;
    let before = process::resident_kib(pid)?;
    let (cpu, began) = (process::cpu_seconds(pid)?, Instant::now());
    let crowd = Rc::new(Crowd { left: Cell::new(count), there: RefCell::default() });
    let visitor = || tokio::task::spawn_local(come(visitors.clone(), crowd.clone()));
    let tasks = std::iter::repeat_with(visitor).take(AT_ONCE).collect();
    finish(tasks).await?;
    let sample = visitors.sample(pid, cpu, began)?;
    tokio::time::sleep(SETTLE).await;
    let more = process::resident_kib(pid)? - before;
    let mut there = crowd.there.take();
    let (request, mut buffer) = (h1::request(visitors.page.path()), h1::buffer());
    for stream in there.iter_mut().step_by(ASK_EVERY) {
        if h1::exchange(stream, &request, &mut buffer).await.is_err() {
            visitors.count_error();
        }
    }
    Ok(Sample { kib_each: Some(more / there.len() as f64), errors: visitors.errors.get(), ..sample })
}

async fn come(visitors: Rc<Visitors>, crowd: Rc<Crowd>) {
    while let Some(left) = crowd.left.get().checked_sub(1) {
        crowd.left.set(left);
        match h1::open(&visitors).await {
            Ok(stream) => {
                visitors.count(1);
                crowd.there.borrow_mut().push(stream);
            }
            Err(_) => visitors.count_error(),
        }
    }
}
