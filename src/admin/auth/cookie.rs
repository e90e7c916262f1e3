//! The session cookie. `__Host-` makes browsers insist on Secure, Path=/ and no Domain, so that no
//! neighbouring host can set it; Lax keeps links from mails working.

use poem::http::{HeaderMap, header};

use crate::domain::Secret;

const NAME: &str = "__Host-session";

/// The header that sets the cookie for `max_age_seconds`.
pub fn set(secret: &Secret<String>, max_age_seconds: u64) -> String {
    format!("{NAME}={}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={max_age_seconds}", secret.expose())
}

/// The header that removes the cookie.
pub fn clear() -> String {
    format!("{NAME}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0")
}

/// The cookie's value in a request. Two cookies of that name are none.
pub fn read(headers: &HeaderMap) -> Option<String> {
    let pairs = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let mut found = pairs.filter(|(name, _)| *name == NAME).map(|(_, value)| value.to_owned());
    match (found.next(), found.next()) {
        (Some(value), None) => Some(value),
        _ => None,
    }
}
