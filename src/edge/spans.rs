//! What a collector is told of a request: our own span, and below it the call to the upstream. Attributes are
//! named by OpenTelemetry's conventions for HTTP; of person, certificate, query and headers they hold nothing.

use std::borrow::Cow;

use http::{Method, StatusCode, Version};

use super::access_log::{Entry, shown};
use super::respond::Code;
use super::trace::Ids;
use crate::clock::wall_nanos;
use crate::domain::Hostname;
use crate::live::Route;
use crate::telemetry::spans::{Span, SpanKind, Spans, Value};
use crate::telemetry::trace::{SpanId, TraceContext};

/// Longer paths are cut.
const MAX_PATH: usize = 1024;
/// `error.type` of an answer or a call that broke off.
const BROKEN_OFF: &str = "broken_off";

/// A request that is under way and recorded.
#[derive(Debug)]
pub(super) struct ServerSpan {
    spans: Spans,
    context: TraceContext,
    parent: Option<SpanId>,
    version: Version,
    began: u64,
}

impl ServerSpan {
    /// `None` when nobody wants it.
    pub(super) fn begin(
        spans: &Spans,
        context: TraceContext,
        parent: Option<SpanId>,
        version: Version,
    ) -> Option<Self> {
        (spans.are_wanted() && context.sampled).then(|| Self {
            spans: spans.clone(),
            context,
            parent,
            version,
            began: wall_nanos(),
        })
    }

    /// The call to the upstream of `route`.
    pub(super) fn pass_on(&self, ids: &Ids, method: &Method, route: &Route) -> ClientSpan {
        let attributes = vec![
            ("http.request.method", method_of(method)),
            ("wicketgate.upstream", Value::Text(route.upstream.name.to_string().into())),
        ];
        let context = self.context.child(ids);
        ClientSpan {
            context,
            spans: self.spans.clone(),
            span: Some(Span {
                context,
                parent: Some(self.context.span_id),
                kind: SpanKind::Client,
                name: name_of(method),
                began: wall_nanos(),
                ended: 0,
                attributes,
                failed: false,
            }),
        }
    }

    /// The answer has gone out, or as much of it as could.
    pub(super) fn end(self, entry: &Entry) {
        let mut attributes = vec![
            ("http.request.method", method_of(&entry.method)),
            ("url.scheme", Value::Text("https".into())),
            ("url.path", Value::Text(path_of(entry.uri.path()).into())),
            ("http.response.status_code", Value::Number(entry.status.as_u16())),
            ("network.protocol.name", Value::Text("http".into())),
            ("network.protocol.version", Value::Text(version_of(self.version).into())),
        ];
        attributes.extend(entry.host.as_ref().map(|host| ("server.address", text_of(host))));
        attributes
            .extend(entry.route.map(|route| ("wicketgate.route", Value::Text(route.to_string().into()))));
        let failed = entry.status.is_server_error() || !entry.whole;
        if let Some(code) = entry.code {
            attributes.push(("error.type", Value::Text(code.name().into())));
        } else if entry.status.is_server_error() {
            attributes.push(("error.type", Value::Text(entry.status.as_str().to_owned().into())));
        } else if !entry.whole {
            attributes.push(("error.type", Value::Text(BROKEN_OFF.into())));
        }
        self.spans.finish(Span {
            context: self.context,
            parent: self.parent,
            kind: SpanKind::Server,
            name: name_of(&entry.method),
            began: self.began,
            ended: wall_nanos(),
            attributes,
            failed,
        });
    }
}

/// A call to an upstream. One that is dropped before its end was broken off.
pub(super) struct ClientSpan {
    context: TraceContext,
    spans: Spans,
    span: Option<Span>,
}

impl ClientSpan {
    /// What the upstream is told: its work is part of this call.
    pub(super) const fn context(&self) -> TraceContext {
        self.context
    }

    /// The head of the answer is there, or there will be none.
    pub(super) fn end(mut self, outcome: Result<StatusCode, Code>) {
        match outcome {
            Ok(status) => {
                let is_fault = status.is_client_error() || status.is_server_error();
                let fault = is_fault.then(|| Cow::Owned(status.as_str().to_owned()));
                self.finish(Some(Value::Number(status.as_u16())), fault);
            }
            Err(code) => self.finish(None, Some(Cow::Borrowed(code.name()))),
        }
    }

    fn finish(&mut self, status: Option<Value>, fault: Option<Cow<'static, str>>) {
        let Some(mut span) = self.span.take() else { return };
        span.ended = wall_nanos();
        span.failed = fault.is_some();
        span.attributes.extend(status.map(|status| ("http.response.status_code", status)));
        span.attributes.extend(fault.map(|fault| ("error.type", Value::Text(fault))));
        self.spans.finish(span);
    }
}

impl Drop for ClientSpan {
    fn drop(&mut self) {
        self.finish(None, Some(Cow::Borrowed(BROKEN_OFF)));
    }
}

/// Few names, whatever visitors write.
fn known(method: &Method) -> Option<&'static str> {
    const KNOWN: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT"];
    KNOWN.into_iter().find(|name| *name == method.as_str())
}

fn method_of(method: &Method) -> Value {
    Value::Text(known(method).unwrap_or("_OTHER").into())
}

fn name_of(method: &Method) -> String {
    known(method).unwrap_or("HTTP").to_owned()
}

fn version_of(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}

fn text_of(host: &Hostname) -> Value {
    Value::Text(host.to_string().into())
}

/// The path as the access log shows it, and not all of a long one.
fn path_of(path: &str) -> String {
    let mut text = shown(path).into_owned();
    text.truncate(text.floor_char_boundary(MAX_PATH));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_few_and_paths_are_cut_between_characters() {
        let odd = Method::from_bytes(b"BREW").unwrap();
        assert_eq!((name_of(&odd).as_str(), method_of(&odd)), ("HTTP", Value::Text("_OTHER".into())));
        assert_eq!(name_of(&Method::PUT), "PUT");
        assert_eq!(path_of("/people/anna%40example.com"), "/people/anna@example.com", "so that it is found");
        let long = format!("/{}", "ä".repeat(MAX_PATH));
        assert_eq!(path_of(&long).len(), MAX_PATH - 1);
    }
}
