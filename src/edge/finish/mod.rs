//! What a route does to the answers of its app, as its options say: headers of its own, harder cookies, compression.
//!
//! Made once per thread and version of the configuration. Routes without such options never come here. Refusals of
//! the edge's own stay as they are, but for HSTS, which is said of the host and not of a page.

mod coding;
mod cookies;
mod packed;
mod packer;

use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue, STRICT_TRANSPORT_SECURITY};
use http::{Request, Response};
use tokio::sync::Semaphore;

use super::answer::AnswerBody;
use crate::domain::route::{CookieOptions, RouteOptions};

pub(super) use coding::Asked;
pub(super) use packed::Packed;
pub(super) use packer::Packer;

/// What an edge spends on answers that it compresses, at most, in octets; a few pieces of what goes through come on top.
const MOST_MEMORY: usize = 96 * 1024 * 1024;
/// Answers that are compressed at a time, each for as long as its visitor takes it. Others go out as they are.
pub(super) const MOST_AT_ONCE: usize = MOST_MEMORY / packer::MOST_MEMORY;

/// What one route does to answers.
#[derive(Debug)]
pub(super) struct Finish {
    hsts: Option<Own>,
    headers: Vec<Own>,
    cookies: Option<CookieOptions>,
    is_compressing: bool,
}

/// A header of the route's.
#[derive(Clone, Debug)]
pub(super) struct Own {
    name: HeaderName,
    value: HeaderValue,
    replaces: bool,
}

impl Own {
    fn of(name: HeaderName, value: &str, replaces: bool) -> Option<Self> {
        Some(Self { name, value: HeaderValue::from_str(value).ok()?, replaces })
    }

    /// Puts it where the app has put none; or in any case, as the route says.
    pub(super) fn put(&self, headers: &mut HeaderMap) {
        if self.replaces || !headers.contains_key(&self.name) {
            headers.insert(self.name.clone(), self.value.clone());
        }
    }
}

impl Finish {
    /// What these options ask for. That values are values was checked with them.
    pub(super) fn of(options: &RouteOptions) -> Self {
        let mut finish = Self {
            hsts: None,
            headers: Vec::new(),
            cookies: options.cookies,
            is_compressing: options.compression,
        };
        if let Some(headers) = &options.headers {
            let hsts = headers.hsts.map(|hsts| hsts.value());
            finish.hsts = hsts.and_then(|value| Own::of(STRICT_TRANSPORT_SECURITY, &value, headers.replaces));
            for (name, value) in headers.fields() {
                finish.headers.extend(Own::of(HeaderName::from_static(name), value, headers.replaces));
            }
        }
        finish
    }

    /// What takes the place of the site's HSTS.
    pub(super) fn hsts(&self) -> Option<&Own> {
        self.hsts.as_ref()
    }

    /// What of a request matters for its answer.
    pub(super) fn asked<B>(&self, request: &Request<B>) -> Asked {
        match self.is_compressing {
            true => Asked::of(request),
            false => Asked::default(),
        }
    }

    /// Does it to an answer of the app.
    pub(super) fn apply(
        &self,
        mut response: Response<AnswerBody>,
        asked: Asked,
        room: &Arc<Semaphore>,
    ) -> Response<AnswerBody> {
        let headers = response.headers_mut();
        self.headers.iter().for_each(|own| own.put(headers));
        if let Some(cookies) = &self.cookies {
            cookies::harden(headers, *cookies);
        }
        match self.is_compressing {
            true => coding::compress(response, asked, room),
            false => response,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header::X_FRAME_OPTIONS;

    use super::*;

    #[test]
    fn the_apps_own_stands_unless_the_route_says_otherwise() {
        let text = r#"{"headers":{"frame_options":"deny","referrer_policy":"no-referrer","hsts":{"max_age_seconds":5}}}"#;
        let mut options: RouteOptions = serde_json::from_str(text).unwrap();
        for (replaces, frames) in [(false, "SAMEORIGIN"), (true, "DENY")] {
            options.headers.as_mut().unwrap().replaces = replaces;
            let finish = Finish::of(&options);
            let mut response = Response::new(AnswerBody::page("x".into()));
            let app = response.headers_mut();
            app.append(X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
            app.append(X_FRAME_OPTIONS, HeaderValue::from_static("ALLOWALL"));
            let asked = finish.asked(&Request::new(()));
            let finished = finish.apply(response, asked, &Arc::new(Semaphore::new(1)));
            let headers = finished.headers();
            assert_eq!(headers[X_FRAME_OPTIONS], frames);
            assert_eq!(headers.get_all(X_FRAME_OPTIONS).iter().count(), if replaces { 1 } else { 2 });
            assert_eq!(headers["referrer-policy"], "no-referrer");
            assert!(!headers.contains_key(STRICT_TRANSPORT_SECURITY), "that is put last, on refusals too");
            let mut empty = HeaderMap::new();
            finish.hsts().unwrap().put(&mut empty);
            assert_eq!(empty[STRICT_TRANSPORT_SECURITY], "max-age=5");
        }
    }
}
