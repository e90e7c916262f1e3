//! The subcommands and the request each of them is.

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

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
        /// A header that carries the person's address, for example X-WEBAUTH-USER
        #[arg(long)]
        plain_header: Option<String>,
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
        /// http://host:port
        #[arg(required = true)]
        targets: Vec<String>,
    },
    /// Show one: its options, and how the edge sees its targets
    Show { name: Slug },
    /// Change its targets or what is done with them
    Set {
        name: Slug,
        /// http://host:port; all of them, once each
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

/// One request, and how its answer is shown.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Option<Value>,
    /// Where the version that an edit needs is read.
    pub(super) version_of: Option<String>,
    pub(super) columns: &'static [&'static str],
    pub(super) done: &'static str,
}

impl Call {
    fn get(path: impl Into<String>, columns: &'static [&'static str]) -> Self {
        Self { method: Method::GET, path: path.into(), body: None, version_of: None, columns, done: "" }
    }

    fn post(path: impl Into<String>, body: Option<Value>, done: &'static str) -> Self {
        Self { method: Method::POST, path: path.into(), body, version_of: None, columns: &[], done }
    }

    fn edit(method: Method, path: String, body: Option<Value>, done: &'static str) -> Self {
        Self { method, version_of: Some(path.clone()), path, body, columns: &[], done }
    }

    fn delete(path: String, done: &'static str) -> Self {
        Self { method: Method::DELETE, path, body: None, version_of: None, columns: &[], done }
    }
}

impl Command {
    /// The request that this subcommand is.
    pub(super) fn call(self) -> anyhow::Result<Call> {
        Ok(match self {
            Self::Apply(_) | Self::Export(_) => anyhow::bail!("this takes more than one request"),
            Self::Cert { act } => certificates(act)?,
            Self::Ca { .. } => anyhow::bail!("acts on authorities say what comes next, too"),
            Self::Site { act } => sites(act),
            Self::Route { act } => routes(act),
            Self::Upstream { act: UpstreamAct::List } => Call::get("/api/v1/upstreams", &["name", "targets"]),
            Self::Upstream { act: UpstreamAct::Add { name, targets } } => {
                Call::post("/api/v1/upstreams", Some(json!({ "name": name, "targets": targets })), "")
            }
            Self::Upstream { act: UpstreamAct::Show { name } } => {
                Call::get(format!("/api/v1/upstreams/{name}"), &[])
            }
            Self::Upstream { act: UpstreamAct::Set { name, targets, options } } => {
                let mut body = json!({});
                if !targets.is_empty() {
                    body["targets"] = json!(targets);
                }
                if let Some(options) = options {
                    body["options"] = options;
                }
                Call::edit(Method::PATCH, format!("/api/v1/upstreams/{name}"), Some(body), "")
            }
            Self::Upstream { act: UpstreamAct::Remove { name } } => {
                Call::edit(Method::DELETE, format!("/api/v1/upstreams/{name}"), None, "Removed.")
            }
            Self::Person { act } => people(act),
            Self::Device { act: DeviceAct::List } => Call::get(
                "/api/v1/devices?limit=200",
                &["id", "name", "person_id", "state", "current_serial", "not_after"],
            ),
            Self::Device { act: DeviceAct::Revoke { id, reason } } => {
                Call::post(format!("/api/v1/devices/{id}/revocation"), Some(json!({ "reason": reason })), "")
            }
            Self::Token { act: TokenAct::List } => {
                Call::get("/api/v1/tokens", &["id", "name", "role", "expires_at", "last_used_at"])
            }
            Self::Token { act: TokenAct::Create { name, role, days } } => {
                let body = json!({ "name": name, "role": role, "expires_in_days": days });
                Call::post("/api/v1/tokens", Some(body), "")
            }
            Self::Token { act: TokenAct::Remove { id } } => {
                Call::delete(format!("/api/v1/tokens/{id}"), "Ended.")
            }
            Self::Job { act: JobAct::List } => {
                Call::get("/api/v1/jobs", &["name", "schedule", "running", "next_run_at", "description"])
            }
            Self::Job { act: JobAct::Run { name } } => {
                Call::post(format!("/api/v1/jobs/{name}/runs"), None, "It will run soon.")
            }
            Self::Alert { act: AlertAct::List } => {
                Call::get("/api/v1/alerts", &["severity", "kind", "object", "message", "raised_at"])
            }
        })
    }
}

fn certificates(act: CertAct) -> anyhow::Result<Call> {
    Ok(match act {
        CertAct::List { state, person, search, sort } => {
            let mut path = String::from("/api/v1/certificates?limit=200");
            if let Some(state) = state {
                path.push_str(&format!("&state={state}"));
            }
            if let Some(person) = person {
                path.push_str(&format!("&person_id={person}"));
            }
            for (name, value) in [("search", search), ("sort", sort)] {
                if let Some(value) = value {
                    let value =
                        percent_encoding::utf8_percent_encode(&value, percent_encoding::NON_ALPHANUMERIC);
                    path.push_str(&format!("&{name}={value}"));
                }
            }
            Call::get(path, &["serial", "state", "subject", "device_name", "not_after"])
        }
        CertAct::Show { serial } => Call::get(format!("/api/v1/certificates/{serial}"), &[]),
        CertAct::Revoke { serial, reason, invalid_since } => {
            let mut body = json!({ "reason": reason });
            if let Some(since) = invalid_since {
                body["invalid_since"] = json!(since);
            }
            Call::post(format!("/api/v1/certificates/{serial}/revocation"), Some(body), "")
        }
        CertAct::Release { serial } => Call::post(format!("/api/v1/certificates/{serial}/release"), None, ""),
        CertAct::Issue(_) => anyhow::bail!("issuing is more than one request"),
    })
}

fn sites(act: SiteAct) -> Call {
    match act {
        SiteAct::List => {
            Call::get("/api/v1/sites", &["host", "kind", "client_auth", "certificate_source", "enabled"])
        }
        SiteAct::Show { host } => Call::get(format!("/api/v1/sites/{host}"), &[]),
        SiteAct::Add { host, client_auth, certificate, hsts } => {
            let body = json!({
                "host": host, "client_auth": client_auth, "certificate": certificate,
                "hsts_max_age_seconds": hsts, "enabled": true,
            });
            Call::post("/api/v1/sites", Some(body), "")
        }
        SiteAct::Renew { host } => {
            Call::post(format!("/api/v1/sites/{host}/renewal"), None, "It will be renewed soon.")
        }
        SiteAct::Remove { host } => {
            Call::edit(Method::DELETE, format!("/api/v1/sites/{host}"), None, "Removed.")
        }
    }
}

fn routes(act: RouteAct) -> Call {
    match act {
        RouteAct::List => Call::get("/api/v1/routes", &["id", "host", "path_prefix", "upstream", "policy"]),
        RouteAct::Add { host, path_prefix, upstream, public, groups, plain_header } => {
            let policy = if public {
                json!({ "kind": "public" })
            } else {
                json!({ "kind": "known", "groups": groups })
            };
            let mut body =
                json!({ "host": host, "path_prefix": path_prefix, "upstream": upstream, "policy": policy });
            if let Some(header) = plain_header {
                body["plain_header"] = header.into();
            }
            Call::post("/api/v1/routes", Some(body), "")
        }
        RouteAct::Remove { id } => {
            Call::edit(Method::DELETE, format!("/api/v1/routes/{id}"), None, "Removed.")
        }
    }
}

fn people(act: PersonAct) -> Call {
    let switch = |id, disabled: bool| {
        Call::edit(Method::PATCH, format!("/api/v1/people/{id}"), Some(json!({ "disabled": disabled })), "")
    };
    match act {
        PersonAct::List => {
            Call::get("/api/v1/people?limit=200", &["id", "email", "name", "role", "groups", "disabled"])
        }
        PersonAct::Show { id } => Call::get(format!("/api/v1/people/{id}"), &[]),
        PersonAct::Add { email, name, role, groups } => {
            let body = json!({ "email": email, "name": name, "role": role, "groups": groups });
            Call::post("/api/v1/people", Some(body), "")
        }
        PersonAct::Invite { id, mail, device, hours } => {
            let mut body = json!({ "person_id": id, "send_mail": mail, "expires_in_hours": hours });
            if let Some(device) = device {
                body["device_name"] = device.into();
            }
            Call::post("/api/v1/invitations", Some(body), "")
        }
        PersonAct::Disable { id } => switch(id, true),
        PersonAct::Enable { id } => switch(id, false),
    }
}

fn client_auth(text: &str) -> Result<ClientAuth, String> {
    ClientAuth::from_name(text).ok_or_else(|| "must be none, request or require".to_owned())
}

fn role(text: &str) -> Result<Role, String> {
    Role::from_name(text).ok_or_else(|| "must be member or administrator".to_owned())
}
