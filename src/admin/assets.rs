//! The pages: console at the admin listener, portal at the door, and the document's own page. Embedded
//! at build time; a program built without the pages says so.

use poem::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use poem::{Body, IntoResponse, Response};
use rust_embed::Embed;

use super::document::openapi_document;
use super::error::Problem;
use super::listener::Entrance;

#[derive(Embed)]
#[folder = "$CARGO_MANIFEST_DIR/web/dist/console"]
#[allow_missing = true]
struct Console;

#[derive(Embed)]
#[folder = "$CARGO_MANIFEST_DIR/web/dist/portal"]
#[allow_missing = true]
struct Portal;

/// Nothing inline, nothing foreign, no markup from strings.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; \
     frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types svelte-trusted-html";
/// One year.
const HSTS: &str = "max-age=31536000";

/// The page or file at `path`.
pub fn serve(entrance: Entrance, method: &Method, path: &str) -> Response {
    if *method != Method::GET && *method != Method::HEAD {
        return Problem::method_not_allowed("GET, HEAD".to_owned()).into_response();
    }
    let (content_type, body, immutable) = match path {
        "/openapi.json" => ("application/json", openapi_document().into_bytes(), false),
        "/docs" => (HTML, include_bytes!("docs/index.html").to_vec(), false),
        "/docs/docs.js" => (JAVASCRIPT, include_bytes!("docs/docs.js").to_vec(), false),
        "/docs/docs.css" => (CSS, include_bytes!("docs/docs.css").to_vec(), false),
        _ => match page(entrance, path) {
            Some(found) => found,
            None => return Problem::not_found("page").into_response(),
        },
    };
    let cache = if immutable { "public, max-age=31536000, immutable" } else { "no-store" };
    let body = if *method == Method::HEAD { Vec::new() } else { body };
    Response::builder()
        .status(StatusCode::OK)
        .content_type(content_type)
        .header(header::CACHE_CONTROL, cache)
        .body(Body::from_vec(body))
}

fn page(entrance: Entrance, path: &str) -> Option<(&'static str, Vec<u8>, bool)> {
    let name = if path == "/" { "index.html" } else { path.strip_prefix('/')? };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
    if name.contains("..") || !name.bytes().all(plain) {
        return None;
    }
    let file = match entrance {
        Entrance::Console => Console::get(name),
        Entrance::Door => Portal::get(name),
        Entrance::Socket => return None,
    };
    match file {
        // The build names files below assets/ after their content.
        Some(file) => Some((content_type(name)?, file.data.into_owned(), name.starts_with("assets/"))),
        None if path == "/" => Some((HTML, include_bytes!("docs/unbuilt.html").to_vec(), false)),
        None => None,
    }
}

fn content_type(name: &str) -> Option<&'static str> {
    Some(match name.rsplit('.').next()? {
        "html" => HTML,
        "js" => JAVASCRIPT,
        "css" => CSS,
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "json" | "webmanifest" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        _ => return None,
    })
}

/// What every answer carries, pages and API alike.
pub fn protect(entrance: Entrance, response: &mut Response) {
    let headers = response.headers_mut();
    let fixed: [(HeaderName, &'static str); 6] = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Not at the console: it may share the name localhost with whatever else runs there.
    if entrance == Entrance::Door {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(HSTS));
    }
}

const HTML: &str = "text/html; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
