//! Counts every request by its operation, status class and duration. Stands outside of everything else,
//! so that what the guard turns away is counted too.

use std::sync::Arc;
use std::time::Instant;

use poem::http::Method;
use poem::{Endpoint, Request, Response};

use super::operations::{EST_OPERATIONS, Found, OPERATIONS, find};
use crate::telemetry::metrics::AdminMetrics;
use crate::telemetry::metrics::instruments::Gauge;

/// The operation of everything outside the API: pages and their files.
const PAGE: &str = "page";
/// The operation of what is not in the table. One word, whatever a visitor wrote into the path.
const NONE: &str = "none";

/// An endpoint that counts.
pub(super) struct Counted<E> {
    inner: E,
    metrics: Arc<AdminMetrics>,
}

impl<E> Counted<E> {
    pub(super) fn new(inner: E, metrics: Arc<AdminMetrics>) -> Self {
        Self { inner, metrics }
    }
}

impl<E: Endpoint<Output = Response>> Endpoint for Counted<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let _under_way = UnderWay::of(&self.metrics.http.active);
        let operation = operation(request.method(), request.uri().path());
        let begun = Instant::now();
        let answer = self.inner.call(request).await;
        let status = answer.as_ref().map_or_else(poem::Error::status, Response::status);
        self.metrics.answered(operation, status.as_u16(), begun.elapsed());
        answer
    }
}

fn operation(method: &Method, path: &str) -> &'static str {
    let table = match path {
        path if path.starts_with("/api/") => OPERATIONS,
        path if path.starts_with("/.well-known/est") => EST_OPERATIONS,
        _ => return PAGE,
    };
    match find(table, method, path) {
        Found::Operation(operation, _) => operation.id,
        Found::OtherMethods(_) | Found::Nothing => NONE,
    }
}

/// One request under way, also if its visitor hangs up.
struct UnderWay<'a>(&'a Gauge);

impl<'a> UnderWay<'a> {
    fn of(gauge: &'a Gauge) -> Self {
        gauge.rise();
        Self(gauge)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fall();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visitor_cannot_make_up_operations() {
        assert_eq!(operation(&Method::GET, "/api/v1/people"), "listPeople");
        assert_eq!(operation(&Method::GET, "/api/v1/people/42"), "getPerson");
        for (method, path) in
            [(Method::GET, "/api/v1/x42"), (Method::PUT, "/api/v1/people"), (Method::GET, "/api/")]
        {
            assert_eq!(operation(&method, path), NONE, "{method} {path}");
        }
        assert_eq!(operation(&Method::GET, "/x42"), PAGE);
    }
}
