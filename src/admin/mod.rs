//! The admin server: the API, the console and the portal, over three entrances.
//!
//! [`AdminServer`] takes what it works with ([`Rooms`]) and where it listens ([`Listeners`]). Every API
//! request passes the guard (`guard.rs`), which reads the one table of operations (`operations.rs`):
//! what is not in it is denied. Handlers live in `resources/`, one file each.

mod assets;
mod auth;
mod body;
mod counted;
mod document;
mod error;
mod est;
mod fields;
mod guard;
mod host_checks;
mod idempotency;
mod listener;
mod ocsp;
mod operations;
mod page;
mod patience;
mod plan;
mod presented;
mod resources;
mod services;
mod settings;
mod sweeps;
mod values;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use poem::endpoint::BoxEndpoint;
use poem::{Endpoint, IntoEndpoint, IntoResponse, Request, Response, Server};
use poem_openapi::OpenApiService;
use tokio_util::sync::CancellationToken;

pub use auth::basic;
pub use auth::limits::{Allowance, Allowances};
pub use document::openapi_document;
pub use host_checks::{KeyFileModes, LEAST_FREE_BYTES, LowDisk, of_host};
pub use listener::{AdminSocket, DoorStream, Entrance, Listeners, Stream};
pub use ocsp::{OcspDesk, OcspLimits};
pub use operations::{Access, Audited, Budget, EST_OPERATIONS, OPERATIONS, Operation};
pub use patience::Patience;
pub use resources::setup::{SetupError, create_token as create_setup_token};
pub use resources::tokens::{NewAdminToken, create_for as create_token_for};
pub use services::Rooms;
pub use settings::AdminSettings;
pub use sweeps::sweeps;

use counted::Counted;
use error::Problem;
use est::Est;
use guard::{API, EST, Guard};
use listener::Visitor;
use presented::Presented;
use services::Services;

use crate::telemetry::metrics::AdminMetrics;

/// The admin server.
pub struct AdminServer {
    app: App,
    patience: Patience,
    metrics: Arc<AdminMetrics>,
    presented: Presented,
}

impl AdminServer {
    /// A server over these rooms. It listens nowhere yet.
    pub fn new(rooms: Rooms, settings: AdminSettings) -> Self {
        let presented = Presented::default();
        let services = Services::new(rooms, settings, presented.clone());
        let api = OpenApiService::new(resources::api(&services), "Wicketgate", env!("CARGO_PKG_VERSION"));
        let est = Guard::new(Est(services.clone()), services.clone(), EST);
        let app = App { api: Guard::new(api.into_endpoint(), services, API), est };
        Self { app, patience: Patience::default(), metrics: Arc::default(), presented }
    }

    /// Counting into these numbers.
    #[must_use]
    pub fn counting(self, metrics: Arc<AdminMetrics>) -> Self {
        Self { metrics, ..self }
    }

    /// With other deadlines for connections.
    #[must_use]
    pub fn patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// Serves until `stop`, then finishes what is under way, for at most `drain`.
    ///
    /// # Errors
    /// None of the network's: a connection that fails is that connection's end.
    pub async fn serve(
        self,
        listeners: Listeners,
        stop: CancellationToken,
        drain: Duration,
    ) -> io::Result<()> {
        let arrivals = listeners.start(self.patience, self.presented, &stop);
        Server::new_with_acceptor(arrivals)
            .name("admin")
            .idle_timeout(self.patience.idle)
            .run_with_graceful_shutdown(
                Counted::new(self.app, self.metrics),
                stop.cancelled_owned(),
                Some(drain),
            )
            .await
    }
}

/// API, EST and pages behind one another.
struct App {
    api: Guard<BoxEndpoint<'static>>,
    est: Guard<Est>,
}

impl Endpoint for App {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let Some(visitor) = Visitor::of(&request) else {
            return Ok(Problem::internal("a request without an entrance").into_response());
        };
        let path = request.uri().path();
        let mut response = if path.starts_with("/api/") {
            self.api.call(request).await?
        } else if visitor.entrance == Entrance::Door && path.starts_with("/.well-known/est/") {
            self.est.call(request).await?
        } else {
            assets::serve(visitor.entrance, request.method(), path)
        };
        assets::protect(visitor.entrance, &mut response);
        Ok(response)
    }
}
