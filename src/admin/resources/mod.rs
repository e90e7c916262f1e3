//! One file a resource: how it looks in JSON, and its operations.

pub mod alerts;
pub mod audit_chain;
pub mod audit_events;
pub mod authorities;
pub mod authority_steps;
pub mod certificates;
pub mod configuration;
pub mod devices;
pub mod health_findings;
pub mod installation;
mod inventory;
pub mod invitations;
pub mod jobs;
mod judge;
pub mod people;
mod policies;
pub mod policy_questions;
pub mod policy_trials;
pub mod profiles;
mod route_answers;
mod route_options;
pub mod routes;
pub mod sessions;
pub mod settings;
pub mod setup;
pub mod sites;
pub mod tokens;
mod upstream_discovery;
mod upstream_options;
pub mod upstreams;

use poem::http::StatusCode;
use poem_openapi::Tags;
use poem_openapi::param::Header;

use super::error::{Outcome, Problem};
use super::services::Services;

/// How the document groups operations.
#[derive(Tags)]
#[oai(rename_all = "snake_case")]
pub enum Tag {
    /// The installation itself.
    Installation,
    /// Signing in and out.
    Sessions,
    /// Humans and service accounts.
    People,
    /// What holds a private key.
    Devices,
    /// One-time links to an enrolment.
    Invitations,
    /// Client certificates.
    Certificates,
    /// The authorities behind them.
    Authorities,
    /// What client certificates may be.
    Profiles,
    /// Public host names.
    Sites,
    /// Paths, and who may pass.
    Routes,
    /// Where requests go.
    Upstreams,
    /// Sites, routes, upstreams and settings in one document.
    Configuration,
    /// What happens by itself.
    Jobs,
    /// What an administrator should know.
    Alerts,
    /// Who did what.
    AuditEvents,
    /// Keys for programs.
    Tokens,
    /// What is true of the installation as a whole.
    Settings,
}

/// Every resource.
pub type Api = (
    (installation::Api, setup::Api, sessions::Api, people::Api, devices::Api, invitations::Api),
    (
        certificates::Api,
        authorities::Api,
        authority_steps::Api,
        profiles::Api,
        tokens::Api,
        settings::Api,
        audit_events::Api,
    ),
    (
        sites::Api,
        routes::Api,
        policy_questions::Api,
        policy_trials::Api,
        upstreams::Api,
        jobs::Api,
        alerts::Api,
        health_findings::Api,
        configuration::Api,
        audit_chain::Api,
    ),
);

/// Every resource over these services.
pub fn api(services: &Services) -> Api {
    let s = || services.clone();
    (
        (
            installation::Api(s()),
            setup::Api(s()),
            sessions::Api(s()),
            people::Api(s()),
            devices::Api(s()),
            invitations::Api(s()),
        ),
        (
            certificates::Api(s()),
            authorities::Api(s()),
            authority_steps::Api(s()),
            profiles::Api(s()),
            tokens::Api(s()),
            settings::Api(s()),
            audit_events::Api(s()),
        ),
        (
            sites::Api(s()),
            routes::Api(s()),
            policy_questions::Api(s()),
            policy_trials::Api(s()),
            upstreams::Api(s()),
            jobs::Api(s()),
            alerts::Api(s()),
            health_findings::Api(s()),
            configuration::Api(s()),
            audit_chain::Api(s()),
        ),
    )
}

/// Checks what the caller read against what is there now.
///
/// # Errors
/// 428 without `If-Match`, 412 when it names another version.
fn check_version(if_match: &Header<Option<String>>, version: u64, what: &str) -> Outcome<()> {
    match &if_match.0 {
        None => Err(Problem::new(
            StatusCode::PRECONDITION_REQUIRED,
            "precondition_required",
            "Send If-Match with the ETag of what you read.",
        )),
        Some(_) => check_version_if_given(if_match, version, what),
    }
}

/// The same where `If-Match` may be left out.
fn check_version_if_given(if_match: &Header<Option<String>>, version: u64, what: &str) -> Outcome<()> {
    let current = format!("\"{version}\"");
    let fits = |given: &String| given.split(',').any(|tag| tag.trim() == current || tag.trim() == "*");
    if if_match.0.as_ref().is_none_or(fits) { Ok(()) } else { Err(Problem::stale(what)) }
}
