//! The visitors: raw HTTP over rustls on one thread, so that they cost less than any proxy. What counts is
//! the proxy's time on its own core, so they need not be faster than it, only many enough.

mod h1;
mod h2;
mod idle;
mod paced;
mod tls;

use std::cell::Cell;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificates::{HOST, Material};
use super::peers::Target;
use super::process;

pub(crate) use tls::Group;

/// Visitors with a kept HTTP/1.1 connection each.
const KEPT: usize = 64;
/// HTTP/2 connections.
const MULTIPLEXED: usize = 16;
/// Visitors that come anew each time.
const COMING: usize = 16;
/// How long a visitor may take over its last exchange.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// 1 KiB.
    Small,
    /// 100 KiB.
    Large,
}

impl Page {
    pub(crate) const fn octets(self) -> usize {
        match self {
            Self::Small => 1024,
            Self::Large => 100 * 1024,
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Small => "/some/page?with=query",
            Self::Large => "/large/page?with=query",
        }
    }

    /// At once on one HTTP/2 connection.
    const fn streams(self) -> usize {
        match self {
            Self::Small => 32,
            Self::Large => 8,
        }
    }
}

/// How a proxy is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Requests over kept HTTP/1.1 connections; handshakes are done before the clock starts.
    Kept(Page),
    /// Requests over kept HTTP/2 connections.
    Streams(Page),
    /// TCP, full TLS handshake with client certificate, one request, close.
    Handshakes(Group),
    /// Requests at [`Conditions::pace`], however fast they are answered.
    Paced,
    /// Connections that do nothing after one request.
    Idle,
}

/// What does not depend on the load.
pub(crate) struct Conditions<'a> {
    pub(crate) material: &'a Material,
    pub(crate) span: Duration,
    /// Requests a second, for [`Load::Paced`].
    pub(crate) pace: f64,
    /// Connections, for [`Load::Idle`].
    pub(crate) idle: usize,
}

/// One measurement.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) done: u64,
    pub(crate) errors: u64,
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    /// From when a request should have gone out to the end of its answer: median and 99th percentile.
    pub(crate) latency_ms: Option<(f64, f64)>,
    /// Resident memory of an idle connection.
    pub(crate) kib_each: Option<f64>,
}

impl Sample {
    pub(crate) fn per_second(&self) -> f64 {
        self.done as f64 / self.seconds
    }

    /// The proxy's time on its core for one request, or one connection.
    pub(crate) fn cpu_micros(&self) -> f64 {
        self.cpu_seconds / self.done.max(1) as f64 * 1_000_000.0
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>8.0}/s {:>7.1} µs", self.per_second(), self.cpu_micros())?;
        if let Some((p50, p99)) = self.latency_ms {
            write!(f, ", p50 {p50:.3} ms, p99 {p99:.3} ms")?;
        }
        if let Some(kib) = self.kib_each {
            write!(f, ", {kib:.1} KB each")?;
        }
        write!(f, ", {} errors", self.errors)
    }
}

/// What the visitors of one measurement share.
struct Visitors {
    connector: TlsConnector,
    host: ServerName<'static>,
    address: SocketAddr,
    page: Page,
    done: Cell<u64>,
    errors: Cell<u64>,
    over: Cell<bool>,
}

/// A visitor that is ready to begin.
type Visitor = Pin<Box<dyn Future<Output = ()>>>;

/// Measures a target under a load.
pub(crate) async fn run(target: &Target, load: Load, conditions: &Conditions<'_>) -> Result<Sample> {
    let (pid, span) = (target.pid(), conditions.span);
    let visitors = Visitors::new(target, load, conditions.material)?;
    let ready = match load {
        Load::Kept(_) => h1::kept(&visitors).await?,
        Load::Streams(_) => h2::kept(&visitors).await?,
        Load::Handshakes(_) => h1::coming(&visitors),
        Load::Paced => return paced::measure(&visitors, pid, conditions.pace, span).await,
        Load::Idle => return idle::measure(&visitors, pid, conditions.idle).await,
    };
    closed_loop(&visitors, pid, ready, span).await
}

/// The head that a backend sees of a visitor's request.
pub(crate) async fn seen(target: &Target, material: &Material) -> Result<String> {
    let visitors = Visitors::new(target, Load::Kept(Page::Small), material)?;
    let mut stream = visitors.connect().await?;
    let mut buffer = h1::buffer();
    h1::exchange(&mut stream, &h1::request("/seen"), &mut buffer).await?;
    Ok(String::from_utf8_lossy(&buffer).into_owned())
}

/// Everybody asks again as soon as they are answered.
async fn closed_loop(visitors: &Visitors, pid: u32, ready: Vec<Visitor>, span: Duration) -> Result<Sample> {
    let (cpu, began) = (process::cpu_seconds(pid)?, Instant::now());
    let tasks: Vec<_> = ready.into_iter().map(tokio::task::spawn_local).collect();
    tokio::time::sleep(span).await;
    let sample = visitors.sample(pid, cpu, began)?;
    visitors.over.set(true);
    finish(tasks).await?;
    Ok(sample)
}

/// Lets everybody end what they are at.
async fn finish(tasks: Vec<JoinHandle<()>>) -> Result<()> {
    for task in tasks {
        tokio::time::timeout(PATIENCE, task).await.context("a visitor is not answered")??;
    }
    Ok(())
}

impl Visitors {
    fn new(target: &Target, load: Load, material: &Material) -> Result<Rc<Self>> {
        let (protocol, page, group) = match load {
            Load::Kept(page) => ("http/1.1", page, Group::X25519),
            Load::Streams(page) => ("h2", page, Group::X25519),
            Load::Handshakes(group) => ("http/1.1", Page::Small, group),
            Load::Paced | Load::Idle => ("http/1.1", Page::Small, Group::X25519),
        };
        Ok(Rc::new(Self {
            connector: TlsConnector::from(Arc::new(tls::config(material, protocol, group)?)),
            host: ServerName::try_from(HOST)?,
            address: target.address(),
            page,
            done: Cell::new(0),
            errors: Cell::new(0),
            over: Cell::new(false),
        }))
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        // A close without lingering in TIME_WAIT, or the ports run out.
        stream.set_zero_linger()?;
        Ok(self.connector.connect(self.host.clone(), stream).await?)
    }

    fn count(&self, answers: u64) {
        self.done.set(self.done.get() + answers);
    }

    fn count_error(&self) {
        self.errors.set(self.errors.get() + 1);
    }

    /// What happened since `began`, when the target had used `cpu` seconds.
    fn sample(&self, pid: u32, cpu: f64, began: Instant) -> Result<Sample> {
        if self.done.get() == 0 {
            bail!("it answered nothing");
        }
        Ok(Sample {
            done: self.done.get(),
            errors: self.errors.get(),
            seconds: began.elapsed().as_secs_f64(),
            cpu_seconds: process::cpu_seconds(pid)? - cpu,
            ..Sample::default()
        })
    }
}
