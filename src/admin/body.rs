//! Bodies in and out. What comes in is checked against the very schema that the OpenAPI document
//! publishes, and every fault is reported at once, by JSON pointer.

use std::time::Duration;

use bytes::Bytes;
use poem::http::{HeaderValue, StatusCode, header};
use poem::{Body as RawBody, IntoResponse, Request, RequestBody, Response};
use poem_openapi::payload::{ParsePayload, Payload};
use poem_openapi::registry::{
    MetaMediaType, MetaRequest, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry,
};
use poem_openapi::types::{ParseFromJSON, ToJSON, Type};
use poem_openapi::{ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions};
use serde_json::Value;
use tokio::io::AsyncReadExt;

use super::document::schemas;
use super::error::{FieldFault, Outcome, Problem};

/// Longest body, in bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// Longest configuration, in bytes: some thousand routes.
pub const MAX_CONFIGURATION: usize = 2 * 1024 * 1024;
/// How long a body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(15);
/// What is read of a refused body, in bytes.
const MOST_DISCARDED: u64 = 1024 * 1024;
/// How long that may take.
const DISCARDED_WITHIN: Duration = Duration::from_secs(2);
/// Longest string in a body, in characters, where the schema names no other bound: room for a
/// signing request of 16 KiB in base64.
const MAX_STRING: usize = 24 * 1024;
/// Longest list in a body where the schema names no other bound.
const MAX_ITEMS: usize = 1000;

/// A JSON body that fits its schema.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<T: Type> Payload for Body<T> {
    const CONTENT_TYPE: &'static str = JSON;

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: ParseFromJSON> ParsePayload for Body<T> {
    const IS_REQUIRED: bool = true;

    async fn from_request(request: &Request, body: &mut RequestBody) -> poem::Result<Self> {
        let bytes = read_up_to(most_of(request.uri().path()), body.take()?).await?;
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|error| Problem::bad_request(format!("The body is not valid JSON: {error}.")))?;
        let mut faults = Vec::new();
        check(&T::schema_ref(), &value, &mut String::new(), &mut faults);
        if !faults.is_empty() {
            return Err(Problem::fields(StatusCode::UNPROCESSABLE_ENTITY, faults).into());
        }
        let parsed = T::parse_from_json(Some(value)).map_err(|error| {
            let fault = FieldFault::new("", "invalid", error.into_message());
            Problem::fields(StatusCode::UNPROCESSABLE_ENTITY, vec![fault])
        })?;
        Ok(Self(parsed))
    }
}

impl<'a, T: ParseFromJSON> ApiExtractor<'a> for Body<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let content = vec![MetaMediaType { content_type: JSON, schema: T::schema_ref() }];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        match request.content_type().is_some_and(is_json) {
            true => <Self as ParsePayload>::from_request(request, body).await,
            false => Err(Problem::not_json().into()),
        }
    }
}

/// Reads a body to its end, if it is short enough and comes in time.
///
/// # Errors
/// 408, 413, or 400 when the connection breaks.
pub async fn read(body: RawBody) -> Outcome<Bytes> {
    read_up_to(MAX_BODY, body).await
}

/// Reads and forgets a body that is refused, a MiB of it at most and not for long.
pub async fn discard(body: RawBody) {
    let mut rest = body.into_async_read().take(MOST_DISCARDED);
    let _ = tokio::time::timeout(DISCARDED_WITHIN, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
}

/// The longest body that is taken at `path`.
pub fn most_of(path: &str) -> usize {
    if path == "/api/v1/configuration" { MAX_CONFIGURATION } else { MAX_BODY }
}

async fn read_up_to(most: usize, body: RawBody) -> Outcome<Bytes> {
    match tokio::time::timeout(BODY_WITHIN, body.into_bytes_limit(most)).await {
        Ok(read) => read.map_err(|error| Problem::from_poem(error.into())),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            "The body did not arrive in time.",
        )),
    }
}

/// Whether a Content-Type is JSON in the encoding that JSON has (RFC 8259 §8.1).
pub fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(JSON)
}

/// Checks `value` against a schema of the document, adding every fault.
fn check(schema: &MetaSchemaRef, value: &Value, pointer: &mut String, faults: &mut Vec<FieldFault>) {
    match schema {
        MetaSchemaRef::Inline(schema) => check_schema(schema, value, pointer, faults),
        MetaSchemaRef::Reference(name) => {
            if let Some(schema) = schemas().schemas.get(name) {
                check_schema(schema, value, pointer, faults);
            }
        }
    }
}

fn check_schema(schema: &MetaSchema, value: &Value, pointer: &mut String, faults: &mut Vec<FieldFault>) {
    for part in &schema.all_of {
        check(part, value, pointer, faults);
    }
    let mut fault = |code: &str, detail: String| faults.push(FieldFault::new(pointer.clone(), code, detail));
    match (schema.ty, value) {
        ("", _) => {}
        ("object", Value::Object(_)) => check_object(schema, value, pointer, faults),
        ("array", Value::Array(items)) => {
            let most = schema.max_items.unwrap_or(MAX_ITEMS);
            if items.len() > most {
                fault("too_many", format!("There may be {most} entries at most."));
            }
            let least = schema.min_items.unwrap_or(0);
            if items.len() < least {
                fault("too_few", format!("There must be at least {least}."));
            }
            if let Some(item) = &schema.items {
                for (index, value) in items.iter().enumerate().take(most) {
                    within(pointer, &index.to_string(), |pointer| check(item, value, pointer, faults));
                }
            }
        }
        ("string", Value::String(text)) => check_string(schema, text, &mut fault),
        ("integer", Value::Number(number)) => {
            let whole = number.as_i64().map(|whole| whole as f64);
            let fits = whole.is_some_and(|whole| {
                schema.minimum.is_none_or(|least| whole >= least)
                    && schema.maximum.is_none_or(|most| whole <= most)
            });
            if !fits {
                let least = schema.minimum.unwrap_or(0.0);
                let most = schema.maximum.unwrap_or(f64::from(u32::MAX));
                fault("out_of_range", format!("Must be a whole number from {least} to {most}."));
            }
        }
        ("boolean", Value::Bool(_)) => {}
        (wanted, _) => fault("wrong_type", format!("Must be of type {wanted}.")),
    }
}

fn check_string(schema: &MetaSchema, text: &str, fault: &mut impl FnMut(&str, String)) {
    let most = schema.max_length.unwrap_or(MAX_STRING);
    let least = schema.min_length.unwrap_or(0);
    let length = text.chars().count();
    if length > most {
        fault("too_long", format!("May have {most} characters at most."));
    }
    if length < least {
        let detail = if least == 1 {
            "Must not be empty.".to_owned()
        } else {
            format!("Must have at least {least} characters.")
        };
        fault("too_short", detail);
    }
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        fault("control_character", "Must not contain control characters.".to_owned());
    }
    if !schema.enum_items.is_empty() && !schema.enum_items.iter().any(|item| item == text) {
        let names: Vec<_> = schema.enum_items.iter().filter_map(Value::as_str).collect();
        fault("not_one_of", format!("Must be one of {}.", names.join(", ")));
    }
}

fn check_object(schema: &MetaSchema, value: &Value, pointer: &mut String, faults: &mut Vec<FieldFault>) {
    let Value::Object(fields) = value else { return };
    for name in &schema.required {
        if fields.get(*name).is_none_or(Value::is_null) {
            faults.push(FieldFault::new(format!("{pointer}/{name}"), "required", "Is missing."));
        }
    }
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        match schema.properties.iter().find(|(known, _)| known == name) {
            Some((_, schema)) => within(pointer, name, |pointer| check(schema, value, pointer, faults)),
            None => {
                let place = format!("{pointer}/{}", escape(name));
                faults.push(FieldFault::new(place, "unknown_field", "Is not a field of this object."));
            }
        }
    }
}

fn within(pointer: &mut String, name: &str, visit: impl FnOnce(&mut String)) {
    let length = pointer.len();
    pointer.push('/');
    pointer.push_str(&escape(name));
    visit(pointer);
    pointer.truncate(length);
}

/// RFC 6901 §3, and short enough to be sent back.
fn escape(name: &str) -> String {
    name.chars().take(64).collect::<String>().replace('~', "~0").replace('/', "~1")
}

/// An answer with a JSON body.
#[derive(Debug)]
pub struct Reply<const STATUS: u16, T> {
    body: T,
    version: Option<u64>,
    location: Option<String>,
    cookie: Option<String>,
}

/// 200 with a body.
pub type Shown<T> = Reply<200, T>;
/// 201 with what was made and where it is.
pub type Created<T> = Reply<201, T>;

impl<T> Shown<T> {
    /// 200.
    pub fn new(body: T) -> Self {
        Self { body, version: None, location: None, cookie: None }
    }
}

impl<T> Created<T> {
    /// 201; `location` is the path of what was made.
    pub fn at(location: String, body: T) -> Self {
        Self { body, version: None, location: Some(location), cookie: None }
    }
}

impl<const STATUS: u16, T> Reply<STATUS, T> {
    /// With the ETag of this version.
    #[must_use]
    pub fn version(self, version: u64) -> Self {
        Self { version: Some(version), ..self }
    }

    /// With a cookie.
    #[must_use]
    pub fn cookie(self, cookie: String) -> Self {
        Self { cookie: Some(cookie), ..self }
    }
}

impl<const STATUS: u16, T: ToJSON> IntoResponse for Reply<STATUS, T> {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(STATUS).unwrap_or(StatusCode::OK);
        let mut response = Response::builder()
            .status(status)
            .content_type(JSON)
            .body(RawBody::from_string(self.body.to_json_string()));
        let headers = response.headers_mut();
        let extra = [
            (header::ETAG, self.version.map(|version| format!("\"{version}\""))),
            (header::LOCATION, self.location),
            (header::SET_COOKIE, self.cookie),
        ];
        for (name, value) in extra {
            if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                headers.insert(name, value);
            }
        }
        response
    }
}

impl<const STATUS: u16, T: Type + ToJSON> ApiResponse for Reply<STATUS, T> {
    fn meta() -> MetaResponses {
        let content = vec![MetaMediaType { content_type: JSON, schema: T::schema_ref() }];
        one_response(STATUS, if STATUS == 201 { "Made." } else { "Done." }, content)
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

/// An answer without a body.
#[derive(Debug, Default)]
pub struct Bare<const STATUS: u16> {
    cookie: Option<String>,
}

/// 204.
pub type NoContent = Bare<204>;
/// 202.
pub type Accepted = Bare<202>;

impl<const STATUS: u16> Bare<STATUS> {
    /// Without anything.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a cookie.
    pub fn with_cookie(cookie: String) -> Self {
        Self { cookie: Some(cookie) }
    }
}

impl<const STATUS: u16> IntoResponse for Bare<STATUS> {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(STATUS).unwrap_or(StatusCode::NO_CONTENT);
        let mut response = Response::builder().status(status).finish();
        if let Some(cookie) = self.cookie.and_then(|cookie| HeaderValue::try_from(cookie).ok()) {
            response.headers_mut().insert(header::SET_COOKIE, cookie);
        }
        response
    }
}

impl<const STATUS: u16> ApiResponse for Bare<STATUS> {
    fn meta() -> MetaResponses {
        one_response(STATUS, if STATUS == 202 { "It will be done." } else { "Done." }, vec![])
    }

    fn register(_registry: &mut Registry) {}
}

fn one_response(status: u16, description: &'static str, content: Vec<MetaMediaType>) -> MetaResponses {
    let response =
        MetaResponse { description, status: Some(status), status_range: None, content, headers: vec![] };
    MetaResponses { responses: vec![response] }
}

const JSON: &str = "application/json";
