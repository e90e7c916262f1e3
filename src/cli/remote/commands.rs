//! The subcommands, as they are typed.

use std::net::IpAddr;

use clap::Subcommand;
use clap::builder::BoolishValueParser;
use serde_json::Value;

use super::{CaAct, apply, issue};
use crate::domain::{
    ClientAuth, DeviceId, Hostname, PersonId, RevocationReason, Role, RouteId, Serial, Slug, TokenId, UtcTime,
};

/// What a running installation can be asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make sites, routes, upstreams and settings what a file says: all of it, or nothing
    Apply(apply::ApplyArguments),
    /// Print sites, routes, upstreams and settings as a file for `apply`
    Export(apply::ExportArguments),
    /// Client certificates
    Cert {
        #[command(subcommand)]
        act: CertAct,
    },
    /// Authorities, and rolling them over
    Ca {
        #[command(subcommand)]
        act: CaAct,
    },
    /// Sites and their server certificates
    Site {
        #[command(subcommand)]
        act: SiteAct,
    },
    /// Routes from a site's paths to upstreams
    Route {
        #[command(subcommand)]
        act: RouteAct,
    },
    /// Upstreams
    Upstream {
        #[command(subcommand)]
        act: UpstreamAct,
    },
    /// People
    Person {
        #[command(subcommand)]
        act: PersonAct,
    },
    /// Devices
    Device {
        #[command(subcommand)]
        act: DeviceAct,
    },
    /// API tokens
    Token {
        #[command(subcommand)]
        act: TokenAct,
    },
    /// Jobs
    Job {
        #[command(subcommand)]
        act: JobAct,
    },
    /// Alerts
    Alert {
        #[command(subcommand)]
        act: AlertAct,
    },
}

/// Acts on client certificates.
#[derive(Debug, Subcommand)]
pub(crate) enum CertAct {
    /// List them
    List {
        /// Only these
        #[arg(long, value_parser = ["active", "revoked", "expired"])]
        state: Option<String>,
        /// Only this person's
        #[arg(long)]
        person: Option<PersonId>,
        /// Only those whose subject, e-mail address, device name or serial begins like this
        #[arg(long)]
        search: Option<String>,
        /// serial or issued_at; not_after with --state active or expired; revoked_at with --state
        /// revoked; with - before it, greatest first
        #[arg(long, allow_hyphen_values = true)]
        sort: Option<String>,
    },
    /// Show one
    Show { serial: Serial },
    /// Make a key here, have it certified, and write key, certificate and PKCS#12 files
    Issue(issue::Arguments),
    /// Take one back; it is out at every edge when this returns
    Revoke {
        serial: Serial,
        /// Why (RFC 5280 names, for example keyCompromise)
        #[arg(long, default_value = "unspecified")]
        reason: RevocationReason,
        /// Since when its key is thought to be in other hands, for example 2026-11-23T18:00:00Z
        #[arg(long)]
        invalid_since: Option<UtcTime>,
    },
    /// Lift the hold of one that was revoked with certificateHold
    Release { serial: Serial },
}

/// Acts on sites.
#[derive(Debug, Subcommand)]
pub(crate) enum SiteAct {
    /// List them
    List,
    /// Show one
    Show { host: Hostname },
    /// Serve a host name
    Add {
        host: Hostname,
        /// How it asks for client certificates: none, request or require
        #[arg(long, default_value = "request", value_parser = client_auth)]
        client_auth: ClientAuth,
        /// Where its certificate comes from
        #[arg(long, default_value = "acme", value_parser = ["acme", "local"])]
        certificate: String,
        /// Strict-Transport-Security max-age in seconds; 0 sends none
        #[arg(long, default_value_t = 0)]
        hsts: u64,
        /// Pass connections through to this upstream unread: it has the certificate
        #[arg(long, value_name = "UPSTREAM", conflicts_with_all = ["client_auth", "certificate", "hsts"])]
        passthrough: Option<Slug>,
    },
    /// Renew its server certificate now
    Renew { host: Hostname },
    /// Stop serving it, with its routes
    Remove { host: Hostname },
}

/// Acts on routes.
#[derive(Debug, Subcommand)]
pub(crate) enum RouteAct {
    /// List them
    List,
    /// Lead a path of a site to an upstream
    Add {
        host: Hostname,
        /// `/` or `/segment…`
        path_prefix: String,
        upstream: Slug,
        /// Let everyone pass, without a certificate
        #[arg(long)]
        public: bool,
        /// Only people in these groups
        #[arg(long, value_delimiter = ',', conflicts_with = "public")]
        groups: Vec<Slug>,
        /// Who may pass, as the API takes it, for example '{"kind":"known","rules":[…]}'
        #[arg(long, value_name = "JSON", value_parser = json_object, conflicts_with_all = ["public", "groups"])]
        policy: Option<Value>,
        /// A header that carries the person's address, for example X-WEBAUTH-USER
        #[arg(long)]
        plain_header: Option<String>,
        /// As the API takes them, for example '{"rate":[{"per":"person","requests":100,"seconds":10}]}'
        #[arg(long, value_name = "JSON", value_parser = json_object)]
        options: Option<Value>,
    },
    /// Show one
    Show { id: RouteId },
    /// Change who may pass, how often it may be asked and what else holds for it, or close it for maintenance
    Set {
        id: RouteId,
        /// As the API takes them, for example '{"max_body_mib":64}'; what is left out goes back to its default
        #[arg(long, value_name = "JSON", value_parser = json_object, required_unless_present_any = ["policy", "maintenance"])]
        options: Option<Value>,
        /// As the API takes it, for example '{"kind":"known","groups":["staff"]}'; all of it. Try it first
        #[arg(long, value_name = "JSON", value_parser = json_object)]
        policy: Option<Value>,
        /// Close it (on), or open it (off), and leave its other options
        #[arg(long, value_name = "on|off", value_parser = BoolishValueParser::new())]
        maintenance: Option<bool>,
    },
    /// Say what the edge would answer to a request, and which rule decides
    Explain {
        host: Hostname,
        /// Without ? and what follows
        path: String,
        #[arg(long, default_value = "GET")]
        method: String,
        /// The address that the visitor calls from
        #[arg(long, default_value = "127.0.0.1")]
        source: IpAddr,
        /// The certificate that the visitor presents [default: none]
        #[arg(long)]
        serial: Option<Serial>,
        /// The device that presents its current certificate
        #[arg(long, conflicts_with = "serial")]
        device: Option<DeviceId>,
    },
    /// Say who of those seen at a route lately another policy would refuse, or let in; nothing is changed
    Try {
        id: RouteId,
        /// As the API takes it, for example '{"kind":"known","groups":["staff"]}'
        #[arg(long, value_name = "JSON", value_parser = json_object)]
        policy: Value,
    },
    /// Remove one
    Remove { id: RouteId },
}

/// Acts on upstreams.
#[derive(Debug, Subcommand)]
pub(crate) enum UpstreamAct {
    /// List them
    List,
    /// Name a pool of targets
    Add {
        name: Slug,
        /// http://host:port, https://host:port or unix:/path
        #[arg(required = true)]
        targets: Vec<String>,
    },
    /// Show one: its options, and how the edge sees its targets
    Show { name: Slug },
    /// Change its targets or what is done with them
    Set {
        name: Slug,
        /// http://host:port, https://host:port or unix:/path; all of them, once each
        #[arg(long = "target")]
        targets: Vec<String>,
        /// As the API takes them, for example '{"balance":"round_robin"}'; what is left out goes back to its default
        #[arg(long, value_name = "JSON", value_parser = json_object)]
        options: Option<Value>,
    },
    /// Remove one that no route leads to
    Remove { name: Slug },
}

fn json_object(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("must be a JSON object".to_owned()),
        Err(error) => Err(format!("is not JSON: {error}")),
    }
}

/// Acts on people.
#[derive(Debug, Subcommand)]
pub(crate) enum PersonAct {
    /// List them
    List,
    /// Show one
    Show { id: PersonId },
    /// Add one
    Add {
        email: String,
        name: String,
        /// member or administrator
        #[arg(long, default_value = "member", value_parser = role)]
        role: Role,
        /// Groups they are in
        #[arg(long, value_delimiter = ',')]
        groups: Vec<Slug>,
    },
    /// Make a one-time link with which they enrol a device
    Invite {
        id: PersonId,
        /// Send it by mail, too
        #[arg(long)]
        mail: bool,
        /// What the device will be called
        #[arg(long)]
        device: Option<String>,
        /// How long the link lives, at most 72
        #[arg(long, default_value_t = 24)]
        hours: u32,
    },
    /// Shut them out, everywhere and at once
    Disable { id: PersonId },
    /// Let them in again
    Enable { id: PersonId },
}

/// Acts on devices.
#[derive(Debug, Subcommand)]
pub(crate) enum DeviceAct {
    /// List them
    List,
    /// Revoke all certificates of one
    Revoke {
        id: DeviceId,
        /// Why (RFC 5280 names)
        #[arg(long, default_value = "cessationOfOperation")]
        reason: RevocationReason,
    },
}

/// Acts on tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenAct {
    /// List them
    List,
    /// Make one; it is shown once
    Create {
        name: String,
        /// member or administrator
        #[arg(long, default_value = "member", value_parser = role)]
        role: Role,
        /// Days until it ends, at most 365
        #[arg(long, default_value_t = 90)]
        days: u32,
    },
    /// End one
    Remove { id: TokenId },
}

/// Acts on jobs.
#[derive(Debug, Subcommand)]
pub(crate) enum JobAct {
    /// List them with their last and next runs
    List,
    /// Run one soon
    Run { name: String },
}

/// Acts on alerts.
#[derive(Debug, Subcommand)]
pub(crate) enum AlertAct {
    /// List them
    List,
}

fn client_auth(text: &str) -> Result<ClientAuth, String> {
    ClientAuth::from_name(text).ok_or_else(|| "must be none, request or require".to_owned())
}

fn role(text: &str) -> Result<Role, String> {
    Role::from_name(text).ok_or_else(|| "must be member or administrator".to_owned())
}
