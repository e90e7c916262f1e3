//! What a route does to the answers of its app: headers that browsers protect people by, and harder cookies.

use serde::{Deserialize, Serialize};

/// Longest time for which browsers may be told to insist on https: ten years, as for sites.
const MOST_AGE_SECONDS: u64 = 315_360_000;
/// Least of it that lists of browsers take (hstspreload.org): a year.
const LEAST_PRELOAD_SECONDS: u64 = 31_536_000;
/// Longest value that is written by hand, in octets.
const MOST_OCTETS: usize = 4_096;

/// Headers of a route. An answer in which the app has set one itself keeps the app's, unless `replaces`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecurityHeaders {
    /// `Strict-Transport-Security`, in place of the site's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hsts: Option<Hsts>,
    /// `Content-Security-Policy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_security_policy: Option<String>,
    /// `X-Frame-Options`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame_options: Option<FrameOptions>,
    /// `X-Content-Type-Options: nosniff`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub content_type_options: bool,
    /// `Referrer-Policy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub referrer_policy: Option<ReferrerPolicy>,
    /// `Permissions-Policy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions_policy: Option<String>,
    /// They take the place of the app's own.
    #[serde(rename = "override", skip_serializing_if = "std::ops::Not::not")]
    pub replaces: bool,
}

/// For how long browsers insist on https (RFC 6797 §6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hsts {
    /// 0 to 315,360,000; 0 makes them forget.
    pub max_age_seconds: u64,
    /// For every name below this host, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub include_subdomains: bool,
    /// Lists that browsers come with may have this host.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub preload: bool,
}

/// Who may show a page inside of theirs (RFC 7034 §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FrameOptions {
    /// Nobody.
    Deny,
    /// Pages of the same site.
    SameOrigin,
}

/// What a browser says of where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReferrerPolicy {
    /// Nothing.
    NoReferrer,
    /// Everything, but nothing to plain http.
    NoReferrerWhenDowngrade,
    /// Everything, to the same origin only.
    SameOrigin,
    /// The origin.
    Origin,
    /// The origin, but nothing to plain http.
    StrictOrigin,
    /// Everything to the same origin, the origin to others.
    OriginWhenCrossOrigin,
    /// The same, but nothing to plain http.
    StrictOriginWhenCrossOrigin,
    /// Everything, to everybody.
    UnsafeUrl,
}

impl ReferrerPolicy {
    /// As it stands in the header.
    const fn word(self) -> &'static str {
        match self {
            Self::NoReferrer => "no-referrer",
            Self::NoReferrerWhenDowngrade => "no-referrer-when-downgrade",
            Self::SameOrigin => "same-origin",
            Self::Origin => "origin",
            Self::StrictOrigin => "strict-origin",
            Self::OriginWhenCrossOrigin => "origin-when-cross-origin",
            Self::StrictOriginWhenCrossOrigin => "strict-origin-when-cross-origin",
            Self::UnsafeUrl => "unsafe-url",
        }
    }
}

impl Hsts {
    /// As it stands in the header.
    pub fn value(&self) -> String {
        let mut value = format!("max-age={}", self.max_age_seconds);
        if self.include_subdomains {
            value.push_str("; includeSubDomains");
        }
        if self.preload {
            value.push_str("; preload");
        }
        value
    }
}

impl SecurityHeaders {
    /// Names and values of all but HSTS, which is not the app's answer alone.
    pub fn fields(&self) -> Vec<(&'static str, &str)> {
        let frames = self.frame_options.map(|options| match options {
            FrameOptions::Deny => "DENY",
            FrameOptions::SameOrigin => "SAMEORIGIN",
        });
        let all = [
            ("content-security-policy", self.content_security_policy.as_deref()),
            ("x-frame-options", frames),
            ("x-content-type-options", self.content_type_options.then_some("nosniff")),
            ("referrer-policy", self.referrer_policy.map(ReferrerPolicy::word)),
            ("permissions-policy", self.permissions_policy.as_deref()),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// What is wrong with them, below the options.
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |field: &str, why: String| faults.push((format!("/headers/{field}"), why));
        if let Some(hsts) = &self.hsts {
            if hsts.max_age_seconds > MOST_AGE_SECONDS {
                fault("hsts/max_age_seconds", format!("must be 0 to {MOST_AGE_SECONDS}"));
            }
            let is_listable = hsts.max_age_seconds >= LEAST_PRELOAD_SECONDS && hsts.include_subdomains;
            if hsts.preload && !is_listable {
                let why = format!(
                    "needs include_subdomains and a max_age_seconds of at least {LEAST_PRELOAD_SECONDS}: no list \
                     takes less (hstspreload.org)"
                );
                fault("hsts/preload", why);
            }
        }
        for (field, text) in [
            ("content_security_policy", &self.content_security_policy),
            ("permissions_policy", &self.permissions_policy),
        ] {
            if text.as_deref().is_some_and(|text| !is_value(text)) {
                let why = format!("must be 1 to {MOST_OCTETS} visible ASCII characters, with spaces between");
                fault(field, why);
            }
        }
        faults
    }
}

/// RFC 9110 §5.5, without what it tolerates.
fn is_value(text: &str) -> bool {
    let is_clean = text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    (1..=MOST_OCTETS).contains(&text.len()) && is_clean && text.trim() == text
}

/// What every cookie of the app has, whatever the app says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CookieOptions {
    /// `Secure`: never over plain http.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub secure: bool,
    /// `HttpOnly`: not for scripts.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub http_only: bool,
    /// `SameSite`, in place of the app's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_site: Option<SameSite>,
}

/// With whose requests a cookie goes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SameSite {
    /// Those of other sites' pages, if they open this one.
    Lax,
    /// Those of the site's own pages only.
    Strict,
    /// Everybody's. Browsers want `Secure` with it.
    None,
}

impl SameSite {
    /// As it stands in the header.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Lax => "Lax",
            Self::Strict => "Strict",
            Self::None => "None",
        }
    }

    /// The one that is written like this, in whatever case.
    pub fn from_word(word: &[u8]) -> Option<Self> {
        [Self::Lax, Self::Strict, Self::None]
            .into_iter()
            .find(|one| one.word().as_bytes().eq_ignore_ascii_case(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: Hsts = Hsts { max_age_seconds: 31_536_000, include_subdomains: true, preload: true };

    fn faulty(headers: SecurityHeaders) -> Vec<String> {
        headers.faults().into_iter().map(|(field, _)| field).collect()
    }

    #[test]
    fn a_host_is_for_lists_only_as_they_take_it() {
        assert_eq!(LISTED.value(), "max-age=31536000; includeSubDomains; preload");
        let of = |hsts| faulty(SecurityHeaders { hsts: Some(hsts), ..SecurityHeaders::default() });
        assert!(of(LISTED).is_empty());
        assert!(of(Hsts::default()).is_empty(), "browsers forget");
        assert_eq!(of(Hsts { max_age_seconds: 31_535_999, ..LISTED }), ["/headers/hsts/preload"]);
        assert_eq!(of(Hsts { include_subdomains: false, ..LISTED }), ["/headers/hsts/preload"]);
        assert_eq!(of(Hsts { max_age_seconds: 315_360_001, ..LISTED }), ["/headers/hsts/max_age_seconds"]);
    }

    #[test]
    fn no_value_carries_more_than_itself() {
        let long = "x".repeat(MOST_OCTETS + 1);
        for bad in ["", " x", "x ", "a\r\nset-cookie: b=1", "a\0", "a\tb", "ü", long.as_str()] {
            let text = Some(bad.to_owned());
            let headers = SecurityHeaders {
                content_security_policy: text.clone(),
                permissions_policy: text,
                ..SecurityHeaders::default()
            };
            assert_eq!(
                faulty(headers),
                ["/headers/content_security_policy", "/headers/permissions_policy"],
                "{bad:?}"
            );
        }
    }

    #[test]
    fn fields_are_those_that_are_given() {
        assert!(SecurityHeaders::default().fields().is_empty());
        let text = r#"{"content_security_policy":"default-src 'self'","frame_options":"sameorigin","content_type_options":true,"referrer_policy":"strict-origin-when-cross-origin","permissions_policy":"camera=()","override":true}"#;
        let headers: SecurityHeaders = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&headers).unwrap(), text);
        assert!(headers.replaces && headers.faults().is_empty());
        assert_eq!(
            headers.fields(),
            [
                ("content-security-policy", "default-src 'self'"),
                ("x-frame-options", "SAMEORIGIN"),
                ("x-content-type-options", "nosniff"),
                ("referrer-policy", "strict-origin-when-cross-origin"),
                ("permissions-policy", "camera=()"),
            ]
        );
    }
}
