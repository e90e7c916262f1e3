//! HTTP Basic (RFC 7617), as EST clients send the secret of an invitation.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use poem::http::{HeaderMap, header};

use crate::domain::Secret;

/// Longest value of the header that is looked at, in characters.
const MAX_VALUE: usize = 1024;

/// User name and password.
#[derive(Debug)]
pub struct Credentials {
    /// The name; may be empty.
    pub user: String,
    /// The password.
    pub password: Secret<String>,
}

/// Reads the credentials of a request; none when there are none of this scheme, or they are malformed.
pub fn read(headers: &HeaderMap) -> Option<Credentials> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok().filter(|value| value.len() <= MAX_VALUE)?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(Credentials { user: user.to_owned(), password: Secret::new(password.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Option<(String, String)> {
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
        read(&headers).map(|found| (found.user, found.password.expose().clone()))
    }

    #[test]
    fn the_first_colon_parts_name_and_password() {
        let expected = Some(("Aladdin".to_owned(), "open:sesame".to_owned()));
        assert_eq!(of("Basic QWxhZGRpbjpvcGVuOnNlc2FtZQ=="), expected);
        assert_eq!(of("basic QWxhZGRpbjpvcGVuOnNlc2FtZQ=="), expected);
        for value in ["Basic", "Basic !", "Basic QWxhZGRpbg==", "Bearer x", "Basic /w=="] {
            assert_eq!(of(value), None, "{value}");
        }
    }
}
