//! What a draft of a policy would say to those who were seen at its route.

use poem_openapi::param::Path;
use poem_openapi::{Object, OpenApi};

use super::Tag;
use super::judge::{Judge, Visitor, Wanted};
use super::policies::{AccessPolicy, check_names, check_rules, known_names, read_policy};
use crate::admin::auth::caller::Call;
use crate::admin::body::{Body, Shown};
use crate::admin::error::{Outcome, Problem};
use crate::admin::fields::Faults;
use crate::admin::services::Services;
use crate::admin::values::When;
use crate::domain::{RouteId, Sighting};
use crate::live::{Classified, Identity};
use crate::telemetry::redact::redact;

/// Trials of policies.
pub struct Api(pub Services);

/// A policy that is tried instead of saved.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct PolicyDraft {
    policy: AccessPolicy,
}

/// A certificate for which the draft would end otherwise.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct ChangedAccess {
    would_be_admitted: bool,
    /// The rule that decides: the draft's.
    rule: Option<String>,
    /// Whether the policy of that time let it in.
    was_admitted: bool,
    person_id: String,
    person_name: String,
    device_id: String,
    device_name: String,
    serial: String,
    method: String,
    path: String,
    source: String,
    at: When,
}

/// What a draft would say to those who were seen at the route lately.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct PolicyTrial {
    /// Certificates that were seen there and still pass. People without a certificate are not remembered.
    tried: u64,
    /// Certificates that were seen there and do not pass any more, whatever the policy.
    gone: u64,
    would_be_refused: u64,
    would_be_admitted: u64,
    /// When the first of them was seen.
    since: Option<When>,
    /// Those who would be refused or let in and now are not, newest first.
    changed: Vec<ChangedAccess>,
}

#[OpenApi(prefix_path = "/api/v1/", tag = "Tag::Routes")]
impl Api {
    /// Says who of those who were seen at a route lately would be refused, or let in, by another policy
    ///
    /// Tried is one request per certificate and connection, seen by this edge only: it keeps the newest of each
    /// certificate at each route in memory, a thousand in all, of which each route has its share. What rules
    /// about methods and paths would say to other requests is not found out. Both policies are asked now: what
    /// counts is who people are today.
    #[oai(path = "/routes/:id/policy-trials", method = "post", operation_id = "tryPolicy")]
    async fn try_policy(
        &self,
        call: Call,
        id: Path<String>,
        body: Body<PolicyDraft>,
    ) -> Outcome<Shown<PolicyTrial>> {
        let missing = || Problem::not_found("route");
        let id: RouteId = id.0.parse().map_err(|_| missing())?;
        let route = self.0.store().route(id).await?.ok_or_else(missing)?;
        let mut faults = Faults::default();
        let draft = read_policy(&body.0.policy, "", &mut faults);
        if faults.is_empty() {
            check_rules(&draft, &route.path_prefix, "", &mut faults);
            check_names(&draft, &known_names(self.0.store()).await?, "", &mut faults);
        }
        faults.none()?;
        let (in_force, draft) = (Judge::of(&route.policy, &route)?, Judge::of(&draft, &route)?);
        let seen = self.0.edge().sightings.at(route.id);
        let since = seen.iter().map(|sighting| sighting.at).min().map(When::from);
        let mut trial = PolicyTrial {
            tried: 0,
            gone: 0,
            would_be_refused: 0,
            would_be_admitted: 0,
            since,
            changed: Vec::new(),
        };
        let serials: Vec<_> = seen.iter().map(|sighting| sighting.serial).collect();
        let certificates = self.0.store().certificates_by_serial(&serials).await?;
        let mut devices = Vec::new();
        for sighting in seen {
            let certificate = certificates.get(&sighting.serial);
            let visitor = Visitor::of(&self.0, certificate.map(|one| &*one.der), call.now);
            let Classified::Known(identity) = &visitor.who else {
                trial.gone += 1;
                continue;
            };
            trial.tried += 1;
            let wanted = Wanted { method: &sighting.method, path: &sighting.path, source: sighting.source };
            let (before, after) = (in_force.ask(&visitor, &wanted), draft.ask(&visitor, &wanted));
            match (before.is_ok(), after.is_ok()) {
                (true, false) => trial.would_be_refused += 1,
                (false, true) => trial.would_be_admitted += 1,
                _ => continue,
            }
            let rule = draft.rule(&after);
            trial.changed.push(ChangedAccess::of(&sighting, identity, after.is_ok(), rule));
            devices.push(identity.device());
        }
        let names = self.0.store().names_of_devices(&devices).await?;
        for (one, device) in trial.changed.iter_mut().zip(&devices) {
            one.device_name = names.get(device).cloned().unwrap_or_default();
        }
        Ok(Shown::new(trial))
    }
}

impl ChangedAccess {
    /// Without the device's name.
    fn of(sighting: &Sighting, identity: &Identity, would_be_admitted: bool, rule: Option<String>) -> Self {
        Self {
            would_be_admitted,
            rule,
            was_admitted: sighting.admitted,
            person_id: identity.person().id.to_string(),
            person_name: identity.person().name.clone(),
            device_id: identity.device().to_string(),
            device_name: String::new(),
            serial: sighting.serial.to_string(),
            method: sighting.method.to_string(),
            // As in the access log: what apps put into paths is not ours to show.
            path: redact(&sighting.path).into_owned(),
            source: sighting.source.to_string(),
            at: sighting.at.into(),
        }
    }
}
