//! The request to the API that each subcommand is.

use http::Method;
use serde_json::{Value, json};

use super::commands::{
    AlertAct, CertAct, Command, DeviceAct, JobAct, PersonAct, RouteAct, SiteAct, TokenAct, UpstreamAct,
};

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
            Self::Route { act } => routes(act)?,
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
        SiteAct::Add { host, passthrough: Some(upstream), .. } => {
            let body = json!({
                "host": host, "kind": "passthrough", "upstream": upstream, "client_auth": "none",
                "certificate": "local", "hsts_max_age_seconds": 0, "enabled": true,
            });
            Call::post("/api/v1/sites", Some(body), "")
        }
        SiteAct::Add { host, client_auth, certificate, hsts, passthrough: None } => {
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

fn routes(act: RouteAct) -> anyhow::Result<Call> {
    Ok(match act {
        RouteAct::List => Call::get("/api/v1/routes", &["id", "host", "path_prefix", "upstream", "policy"]),
        RouteAct::Add { host, path_prefix, upstream, public, groups, policy, plain_header, options } => {
            let policy = match policy {
                Some(policy) => policy,
                None if public => json!({ "kind": "public" }),
                None => json!({ "kind": "known", "groups": groups }),
            };
            let mut body =
                json!({ "host": host, "path_prefix": path_prefix, "upstream": upstream, "policy": policy });
            if let Some(header) = plain_header {
                body["plain_header"] = header.into();
            }
            if let Some(options) = options {
                body["options"] = options;
            }
            Call::post("/api/v1/routes", Some(body), "")
        }
        RouteAct::Show { id } => Call::get(format!("/api/v1/routes/{id}"), &[]),
        RouteAct::Set { id, options, policy, maintenance } => {
            let given = [
                ("options", options),
                ("policy", policy),
                ("maintenance_enabled", maintenance.map(Value::from)),
            ];
            let body =
                given.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?))).collect();
            Call::edit(Method::PATCH, format!("/api/v1/routes/{id}"), Some(body), "")
        }
        RouteAct::Remove { id } => {
            Call::edit(Method::DELETE, format!("/api/v1/routes/{id}"), None, "Removed.")
        }
        RouteAct::Explain { .. } | RouteAct::Try { .. } => {
            anyhow::bail!("questions to policies are answered in sentences")
        }
    })
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
