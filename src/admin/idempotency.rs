//! `Idempotency-Key`: a POST that is repeated with the same key by the same actor gets the answer that
//! it got the first time, for 24 hours. Secrets are not kept: a repeated answer says that they were
//! delivered.

use poem::http::{HeaderName, HeaderValue, StatusCode, header};
use poem::{Body, Request, Response};
use serde_json::Value;

use super::auth::caller::{Caller, Proof};
use super::body;
use super::error::{Outcome, Problem};
use super::operations::Operation;
use super::resources;
use super::services::Services;
use crate::domain::audit::{self, Act};
use crate::domain::{Fingerprint, UtcTime};
use crate::store::idempotency::{Claim, KeptAnswer};

const KEY: &str = "idempotency-key";
/// What may be carried out again when only its answer was lost: a second time changes nothing.
const DONE_AGAIN_IS_DONE_ONCE: &[&str] =
    &["revokeCertificate", "revokeDevice", "runJob", "renewSite", "acknowledgeAlert"];
/// Says that an answer is a repetition.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What becomes of a request.
pub enum Replay {
    /// It was answered before.
    Answer(Response),
    /// It is to be served, and its answer kept if there is a claim.
    Go(Option<Claimed>),
}

/// A key that is claimed for the request under way.
pub struct Claimed {
    scope: String,
    key: String,
}

/// Looks the request's key up and claims it.
///
/// # Errors
/// 400 for a key that cannot be one, 409 when the key is taken or its request is under way.
pub async fn begin(
    services: &Services,
    operation: &Operation,
    caller: Option<&Caller>,
    request: &mut Request,
    now: UtcTime,
) -> Outcome<Replay> {
    let Some(value) = request.headers().get(KEY).filter(|_| operation.takes_idempotency_key()) else {
        return Ok(Replay::Go(None));
    };
    let key = value.to_str().unwrap_or_default().to_owned();
    if !(1..=128).contains(&key.len()) || !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Problem::bad_request("Idempotency-Key must have 1 to 128 visible ASCII characters."));
    }
    let body = body::read(request.take_body()).await?;
    let digest = Fingerprint::of(&[request.uri().path().as_bytes(), b"\n", &body].concat());
    request.set_body(body);
    let scope = scope(caller, operation.id);
    Ok(match services.store().claim_idempotency_key(&scope, &key, digest, now).await? {
        Claim::New => Replay::Go(Some(Claimed { scope, key })),
        Claim::Answered(answer) => Replay::Answer(repeat(answer)),
        Claim::Unanswered { detail } if DONE_AGAIN_IS_DONE_ONCE.contains(&operation.id) => {
            tracing::info!(
                operation = operation.id,
                detail,
                "An answer was lost; its request is served again"
            );
            Replay::Go(Some(Claimed { scope, key }))
        }
        Claim::Unanswered { detail } => {
            let claimed = Claimed { scope, key };
            Replay::Answer(claimed.answer_again(services, operation, &detail, now).await?)
        }
        Claim::Running => {
            return Err(Problem::conflict(
                "request_in_progress",
                "The same request is being served at this moment.",
            ));
        }
        Claim::Reused => {
            return Err(Problem::conflict(
                "idempotency_key_reused",
                "This Idempotency-Key belongs to another request.",
            ));
        }
    })
}

/// Whose keys these are: one person's session, enrolments and tokens do not see each other's answers.
fn scope(caller: Option<&Caller>, operation: &str) -> String {
    let Some(caller) = caller else { return format!("visitor {operation}") };
    let proof = match &caller.proof {
        Proof::Session(session) => match session.invitation {
            Some(invitation) => format!("invitation {invitation}"),
            None => "session".to_owned(),
        },
        Proof::Token(_) => "token".to_owned(),
        Proof::Certificate(identity) => format!("certificate {}", identity.serial()),
        Proof::Host { .. } => "host".to_owned(),
    };
    format!("{} {proof} {operation}", caller.actor())
}

/// Whether an answer is kept: when all went well, and when something failed after the act was
/// committed, because a repetition would do it twice.
fn is_kept(status: StatusCode, committed: bool) -> bool {
    status.is_success() || (committed && status.is_server_error())
}

impl Claimed {
    /// Ties the claim to the act under which its request is carried out.
    ///
    /// # Errors
    /// 503; nothing was done.
    pub async fn tie(&self, services: &Services, act: &Act) -> Outcome<()> {
        let tied = services.store().tie_idempotency_key(&self.scope, &self.key, act).await;
        tied.map_err(|error| Problem::unavailable(&error))
    }

    /// Forgets the key: nothing was done under it.
    pub async fn forget(self, services: &Services) {
        report(services.store().forget_idempotency_key(&self.scope, &self.key).await);
    }

    /// The answer to a request that was carried out by a process that died before it kept the answer.
    async fn answer_again(
        self,
        services: &Services,
        operation: &Operation,
        detail: &str,
        now: UtcTime,
    ) -> Outcome<Response> {
        let Some(serial) = audit::issued_serial(detail) else {
            return Err(Problem::conflict(
                "answer_lost",
                "This request was carried out, but its answer was lost. Read what it made instead of repeating it.",
            ));
        };
        let api = resources::certificates::Api(services.clone());
        let response = poem::IntoResponse::into_response(api.issued_before(serial, now).await?);
        let mut response = self.finish(services, operation, true, response).await;
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        Ok(response)
    }

    /// Keeps the answer, or forgets the key if nothing was done.
    pub async fn finish(
        self,
        services: &Services,
        operation: &Operation,
        committed: bool,
        response: Response,
    ) -> Response {
        let store = services.store();
        if !is_kept(response.status(), committed) {
            report(store.forget_idempotency_key(&self.scope, &self.key).await);
            return response;
        }
        let (parts, body) = response.into_parts();
        let Ok(bytes) = body.into_bytes().await else {
            if !committed {
                report(store.forget_idempotency_key(&self.scope, &self.key).await);
            }
            return Problem::internal("an answer of ours could not be read").into();
        };
        let location = parts.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
        let answer = KeptAnswer {
            status: parts.status.as_u16(),
            body: without_secret(&bytes, operation.secret),
            location: location.map(str::to_owned),
        };
        report(store.keep_answer(&self.scope, &self.key, &answer).await);
        Response::from_parts(parts, Body::from_bytes(bytes))
    }
}

fn without_secret(body: &[u8], secret: Option<&str>) -> String {
    let Some(secret) = secret else { return String::from_utf8_lossy(body).into_owned() };
    match serde_json::from_slice(body) {
        Ok(Value::Object(mut fields)) => {
            if fields.remove(secret).is_some() {
                fields.insert("secret_already_delivered".to_owned(), Value::Bool(true));
            }
            Value::Object(fields).to_string()
        }
        _ => String::new(),
    }
}

fn repeat(answer: KeptAnswer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let content_type = match status.is_success() {
        true => "application/json",
        false => "application/problem+json",
    };
    let mut response = match answer.body.is_empty() {
        true => Response::builder().status(status).finish(),
        false => Response::builder().status(status).content_type(content_type).body(answer.body),
    };
    let headers = response.headers_mut();
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    if let Some(location) = answer.location.and_then(|location| HeaderValue::try_from(location).ok()) {
        headers.insert(header::LOCATION, location);
    }
    response
}

/// The request was served; what is lost is only its repetition.
fn report(kept: Result<(), crate::store::StoreError>) {
    if let Err(error) = kept {
        tracing::error!(error = %error, "An answer could not be kept for its Idempotency-Key");
    }
}

impl From<Problem> for Response {
    fn from(problem: Problem) -> Self {
        poem::IntoResponse::into_response(problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_committed_is_not_done_again_though_its_answer_failed() {
        for (status, committed, kept) in [
            (StatusCode::CREATED, true, true),
            (StatusCode::CREATED, false, true),
            (StatusCode::INTERNAL_SERVER_ERROR, true, true),
            (StatusCode::SERVICE_UNAVAILABLE, false, false),
            (StatusCode::CONFLICT, false, false),
        ] {
            assert_eq!(is_kept(status, committed), kept, "{status} {committed}");
        }
    }
}
