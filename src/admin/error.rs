//! The one envelope in which anything that went wrong leaves: RFC 9457, `application/problem+json`.
//!
//! Layers below speak through their error enums; the `From` impls here decide status and code. What an
//! outsider may read is `detail`; causes go to the log, once, here.

use std::error::Error as StdError;
use std::time::Duration;

use poem::error::{
    MethodNotAllowedError, NotFoundError, ParsePathError as PoemPathError, ReadBodyError, ResponseError,
};
use poem::http::{HeaderValue, StatusCode, header};
use poem::{Body, IntoResponse, Response};
use poem_openapi::error::{ContentTypeError, ParseParamError, ParsePathError, ParseRequestPayloadError};
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchemaRef, Registry};
use poem_openapi::types::{ToJSON, Type};
use poem_openapi::{ApiResponse, Object};

use crate::ca::{CheckpointError, EditProfileError, IssueError, RevokeError, ServerLeafError};
use crate::domain::Slug;
use crate::live::ConfigurationFault;
use crate::pki::profile::{Rule, RuleFault, Ruling};
use crate::store::StoreError;

/// One value of a request that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, Object)]
#[oai(rename = "FieldError")]
pub struct FieldFault {
    /// Where it is: a JSON pointer into the body, or `?name` for a query parameter.
    pub pointer: String,
    /// Stable name of what is wrong.
    pub code: String,
    /// What is wrong, for people.
    pub detail: String,
}

impl FieldFault {
    /// A fault at `pointer`.
    pub fn new(pointer: impl Into<String>, code: &str, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code: code.to_owned(), detail: detail.into() }
    }
}

/// What went wrong (RFC 9457).
#[derive(Clone, Debug, Object)]
#[oai(rename = "Problem", skip_serializing_if_is_none)]
struct ProblemBody {
    /// Always `about:blank`: `code` says what kind of problem it is.
    r#type: String,
    /// The status in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// Stable name of the problem.
    code: String,
    /// What happened, for people.
    detail: Option<String>,
    /// The values that cannot be taken.
    #[oai(skip_serializing_if_is_empty)]
    errors: Option<Vec<FieldFault>>,
}

/// A problem on its way out.
#[derive(Debug, thiserror::Error)]
#[error("{code}")]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    errors: Vec<FieldFault>,
    retry_after: Option<Duration>,
    allow: Option<String>,
}

/// What handlers answer with.
pub type Outcome<T> = Result<T, Problem>;

impl Problem {
    /// A problem with a sentence for people.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), errors: Vec::new(), retry_after: None, allow: None }
    }

    /// 400: the request cannot be read.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", detail)
    }

    /// 400 or 422: these values cannot be taken.
    pub fn fields(status: StatusCode, errors: Vec<FieldFault>) -> Self {
        let detail = match errors.as_slice() {
            [one] => one.detail.clone(),
            _ => "Some values cannot be taken.".to_owned(),
        };
        Self { errors, ..Self::new(status, "invalid_request", detail) }
    }

    /// 422: one value cannot be taken.
    pub fn field(pointer: &str, code: &str, detail: impl Into<String>) -> Self {
        Self::fields(StatusCode::UNPROCESSABLE_ENTITY, vec![FieldFault::new(pointer, code, detail)])
    }

    /// 401: nobody is signed in.
    pub fn not_signed_in() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "not_signed_in", "Sign in first.")
    }

    /// 403: whoever is signed in may not do this.
    pub fn not_allowed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "not_allowed", detail)
    }

    /// 404, also for what the caller may not know of.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("There is no such {what}."))
    }

    /// 409.
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 412: the object is no longer what the caller read.
    pub fn stale(what: &str) -> Self {
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            "precondition_failed",
            format!("Someone else changed {what} since you read it. Read it again."),
        )
    }

    /// 429, with the time after which trying again makes sense.
    pub fn rate_limited(wait: Duration) -> Self {
        let detail = "Too many attempts. Wait before you try again.";
        Self { retry_after: Some(wait), ..Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail) }
    }

    /// 405, with the methods that there are.
    pub fn method_not_allowed(allow: String) -> Self {
        let detail = format!("Only {allow} can be used here.");
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail) }
    }

    /// 503: nothing was done; trying again later is safe. The cause goes to the log.
    pub fn unavailable(cause: &(dyn StdError + 'static)) -> Self {
        tracing::error!(error = %chain(cause), "A request could not be served");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Try again later.")
    }

    /// 500: a fault of ours. The cause goes to the log.
    pub fn internal(cause: &str) -> Self {
        tracing::error!(error = %cause, "A request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something failed here. It is in the log.")
    }

    /// The same as a sentence of plain text, as RFC 7030 §4.2.3 wants it, asking for the secret of an
    /// invitation where one is missing.
    pub fn into_text(self) -> Response {
        let mut response = self.as_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = "Basic realm=\"enrolment\", charset=\"UTF-8\"";
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response.set_body(format!("{}\n", self.detail));
        response
    }

    /// With another status, where a protocol has its own.
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The stable name.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// What poem itself, or a layer that speaks poem, refused.
    pub fn from_poem(error: poem::Error) -> Self {
        if error.is::<Self>() {
            return error.downcast::<Self>().unwrap_or_else(|_| Self::internal("a problem changed its type"));
        }
        if let Some(param) = error.downcast_ref::<ParseParamError>() {
            let fault = FieldFault::new(format!("?{}", param.name), "invalid", param.reason.clone());
            return Self::fields(StatusCode::BAD_REQUEST, vec![fault]);
        }
        if error.is::<NotFoundError>() || error.is::<ParsePathError>() || error.is::<PoemPathError>() {
            return Self::not_found("resource");
        }
        if error.is::<MethodNotAllowedError>() {
            return Self::method_not_allowed(String::new());
        }
        if let Some(read) = error.downcast_ref::<ReadBodyError>() {
            return match read {
                ReadBodyError::PayloadTooLarge => Self::too_large(),
                _ => Self::bad_request("The body could not be read."),
            };
        }
        if error.is::<ContentTypeError>() {
            return Self::not_json();
        }
        if let Some(payload) = error.downcast_ref::<ParseRequestPayloadError>() {
            return Self::bad_request(payload.reason.clone());
        }
        let status = error.status();
        if status.is_client_error() {
            return Self::new(status, "invalid_request", "The request cannot be read.");
        }
        Self::internal(&error.to_string())
    }

    /// 413.
    pub fn too_large() -> Self {
        use super::body::{MAX_BODY, MAX_CONFIGURATION};
        let detail =
            format!("A body may have {MAX_BODY} bytes at most, a configuration {MAX_CONFIGURATION}.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", detail)
    }

    /// 415.
    pub fn not_json() -> Self {
        let detail = "The body must be sent as Content-Type: application/json.";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", detail)
    }
}

impl ResponseError for Problem {
    fn status(&self) -> StatusCode {
        self.status
    }

    fn as_response(&self) -> Response {
        let body = ProblemBody {
            r#type: "about:blank".to_owned(),
            title: self.status.canonical_reason().unwrap_or("Problem").to_owned(),
            status: self.status.as_u16(),
            code: self.code.to_owned(),
            detail: Some(self.detail.clone()).filter(|detail| !detail.is_empty()),
            errors: Some(self.errors.clone()).filter(|errors| !errors.is_empty()),
        };
        let mut response = Response::builder()
            .status(self.status)
            .content_type(PROBLEM_JSON)
            .body(Body::from_string(body.to_json_string()));
        let headers = response.headers_mut();
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(allow) = self.allow.as_deref().and_then(|allow| HeaderValue::try_from(allow).ok()) {
            headers.insert(header::ALLOW, allow);
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.as_response()
    }
}

impl ApiResponse for Problem {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "A problem.",
                status: None,
                status_range: None,
                content: vec![MetaMediaType { content_type: PROBLEM_JSON, schema: Self::schema() }],
                headers: vec![],
            }],
        }
    }

    fn register(registry: &mut Registry) {
        ProblemBody::register(registry);
    }
}

impl Problem {
    fn schema() -> MetaSchemaRef {
        ProblemBody::schema_ref()
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Taken { what } => Self::conflict("conflict", format!("{} is taken.", capital(what))),
            StoreError::Conflict { what } => Self::stale(what),
            StoreError::Missing { what } => Self::not_found(what),
            StoreError::Unavailable(_) | StoreError::Database(_) => Self::unavailable(&error),
            StoreError::Corrupt { .. } | StoreError::Schema { .. } | StoreError::File(_) => {
                Self::internal(&chain(&error))
            }
        }
    }
}

impl From<IssueError> for Problem {
    fn from(error: IssueError) -> Self {
        use crate::ca::GateError;
        match error {
            IssueError::Csr(cause) => Self::field("/csr", "csr_refused", sentence(&cause.to_string())),
            IssueError::NoPerson => Self::not_found("person"),
            IssueError::NoDevice => Self::not_found("device"),
            IssueError::NoCertificate => Self::not_found("certificate"),
            IssueError::NoProfile(name) => {
                Self::field("/profile", "unknown", format!("There is no profile {name}."))
            }
            IssueError::PersonDisabled | IssueError::Gate(GateError::PersonDisabled) => {
                Self::new(StatusCode::FORBIDDEN, "person_disabled", "The person is disabled.")
            }
            IssueError::Gate(GateError::InvitationUsed) => {
                Self::conflict("invitation_used", sentence(&error.to_string()))
            }
            IssueError::Gate(GateError::BlockedKey) => {
                Self::field("/csr", "key_blocked", sentence(&error.to_string()))
            }
            IssueError::Gate(GateError::Policy { ref profile, ref ruling }) => {
                refused_by_profile(profile, ruling)
            }
            IssueError::Revoked | IssueError::Gate(GateError::PredecessorRevoked) => {
                Self::conflict("certificate_revoked", sentence(&error.to_string()))
            }
            IssueError::Expired => Self::conflict("certificate_expired", sentence(&error.to_string())),
            IssueError::Gate(GateError::Store(cause)) => cause.into(),
            IssueError::Gate(GateError::OutlivesAuthority { .. }) => {
                Self::conflict("outlives_authority", sentence(&error.to_string()))
            }
            IssueError::Gate(GateError::Prepare(_)) => {
                tracing::warn!(error = %chain(&error), "The gate refused a certificate");
                Self::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "certificate_refused",
                    "The certificate was refused before it was signed.",
                )
            }
            IssueError::Gate(GateError::Compare(_)) => Self::internal(&chain(&error)),
            IssueError::Gate(_) => Self::unavailable(&error),
        }
    }
}

/// Which rule of which profile refused, at the field that it is about.
fn refused_by_profile(profile: &Slug, ruling: &Ruling) -> Problem {
    let pointer = match ruling.rule {
        Rule::BlockedKey | Rule::KeyReuse | Rule::KeyType | Rule::RenewalKey => "/csr",
        Rule::Requester | Rule::Group | Rule::DevicesPerPerson => "/profile",
        Rule::DnsNames => "/dns_names",
    };
    let fault = FieldFault::new(pointer, ruling.rule.name(), sentence(&ruling.because));
    let mut problem = Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "refused_by_profile",
        format!("Profile {profile} refuses: {}", sentence(&ruling.because)),
    );
    problem.errors.push(fault);
    problem
}

impl From<EditProfileError> for Problem {
    fn from(error: EditProfileError) -> Self {
        match error {
            EditProfileError::Store(cause) => cause.into(),
            EditProfileError::Faults(faults) => {
                let fault =
                    |fault: RuleFault| FieldFault::new(fault.pointer, "out_of_bounds", sentence(&fault.must));
                Self::fields(StatusCode::UNPROCESSABLE_ENTITY, faults.into_iter().map(fault).collect())
            }
        }
    }
}

impl From<RevokeError> for Problem {
    fn from(error: RevokeError) -> Self {
        match error {
            RevokeError::Missing(what) => Self::not_found(what),
            RevokeError::AlreadyRevoked(_) => Self::conflict("already_revoked", sentence(&error.to_string())),
            RevokeError::NotOnHold => Self::conflict("not_on_hold", sentence(&error.to_string())),
            RevokeError::InvalidSince { .. } => {
                Self::field("/invalid_since", "out_of_range", sentence(&error.to_string()))
            }
            RevokeError::Store(cause) => cause.into(),
        }
    }
}

impl From<CheckpointError> for Problem {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::NothingChained | CheckpointError::NotInitialised => {
                Self::conflict("nothing_to_sign", sentence(&error.to_string()))
            }
            CheckpointError::Broken { .. } => {
                Self::conflict("audit_chain_broken", sentence(&error.to_string()))
            }
            CheckpointError::Store(cause) => cause.into(),
            CheckpointError::Seal(_) | CheckpointError::Sign(_) => Self::unavailable(&error),
        }
    }
}

impl From<ServerLeafError> for Problem {
    fn from(error: ServerLeafError) -> Self {
        match error {
            ServerLeafError::Store(cause) => cause.into(),
            other => Self::unavailable(&other),
        }
    }
}

impl From<ConfigurationFault> for Problem {
    fn from(fault: ConfigurationFault) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "configuration_refused", sentence(&fault.to_string()))
    }
}

/// An error with its causes, for the log.
pub(super) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A message as a sentence for people.
pub(super) fn sentence(text: &str) -> String {
    let mut sentence = capital(text);
    if !sentence.ends_with('.') {
        sentence.push('.');
    }
    sentence
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

const PROBLEM_JSON: &str = "application/problem+json";
