//! Probes and metrics. `/livez` says that the process runs; `/readyz` says that it serves, and an edge
//! serves without its database.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::Control;
use super::plain::{Answer, Listening, reply, serve};
use crate::live::Holder;
use crate::telemetry::Metrics;

/// How long a probe waits to say whether the database answers.
const DATABASE_WITHIN: Duration = Duration::from_millis(500);

#[derive(Clone)]
pub(super) struct Health {
    pub(super) holder: Arc<Holder>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) control: Arc<ArcSwapOption<Control>>,
}

pub(super) fn listen(
    listener: TcpListener,
    health: Health,
    tasks: &mut JoinSet<()>,
    listening: &Listening,
) -> io::Result<SocketAddr> {
    let answer = move |request, _| {
        let health = health.clone();
        async move { health.answer(request).await }
    };
    serve(listener, answer, tasks, listening)
}

impl Health {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        match request.uri().path() {
            "/livez" => reply(StatusCode::OK, "text/plain", "ok\n"),
            "/readyz" => self.ready(request.uri().query() == Some("verbose")).await,
            "/metrics" => reply(StatusCode::OK, "text/plain; version=0.0.4", self.metrics()),
            "/jwks.json" => match self.holder.document("jwks.json") {
                Some(document) => reply(StatusCode::OK, document.content_type, document.body),
                None => reply(StatusCode::NOT_FOUND, "text/plain", "no assertion key yet\n"),
            },
            _ => reply(
                StatusCode::NOT_FOUND,
                "text/plain",
                "try /livez, /readyz?verbose, /metrics or /jwks.json\n",
            ),
        }
    }

    async fn ready(&self, verbose: bool) -> Answer {
        let snapshot = self.holder.snapshot().is_some();
        let database = match self.control.load_full().filter(|_| verbose) {
            Some(control) => {
                let answer = tokio::time::timeout(DATABASE_WITHIN, control.store().ping()).await;
                answer.is_ok_and(|ping| ping.is_ok())
            }
            None => false,
        };
        let status = if snapshot { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut text = String::from(if snapshot { "ready\n" } else { "not ready\n" });
        if verbose {
            let mark = |ok| if ok { "ok" } else { "missing" };
            let _ = writeln!(text, "edge.snapshot {}", mark(snapshot));
            let is_sealed = self.metrics.edge.sealed.value() > 0;
            let _ = writeln!(
                text,
                "edge.protected {}",
                if is_sealed { "closed: a stranger got in" } else { "ok" }
            );
            let _ = writeln!(
                text,
                "edge.register epoch {} as of {}",
                self.holder.register().epoch(),
                self.holder.register().as_of()
            );
            let _ = writeln!(text, "admin.database {} (the edge serves without it)", mark(database));
        }
        reply(status, "text/plain", text)
    }

    fn metrics(&self) -> String {
        let edge = &self.metrics.edge;
        let register = self.holder.register();
        edge.register_epoch.set(i64::try_from(register.epoch()).unwrap_or(i64::MAX));
        edge.register_certificates.set(i64::try_from(register.len()).unwrap_or(i64::MAX));
        edge.feed_fresh.set(register.as_of());
        self.metrics.render()
    }
}
