//! How the API spells what a route does to the answers of its app.

use poem_openapi::{Enum, Object};

use crate::domain::route as domain;

/// Who may show a page inside of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase", remote = "domain::FrameOptions")]
enum FrameOptions {
    /// Nobody.
    Deny,
    /// Pages of the same site.
    SameOrigin,
}

/// What a browser says of where it comes from; the words are those of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "kebab-case", remote = "domain::ReferrerPolicy")]
enum ReferrerPolicy {
    NoReferrer,
    NoReferrerWhenDowngrade,
    SameOrigin,
    Origin,
    StrictOrigin,
    OriginWhenCrossOrigin,
    StrictOriginWhenCrossOrigin,
    UnsafeUrl,
}

/// With whose requests a cookie goes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case", remote = "domain::SameSite")]
enum SameSite {
    /// Those of other sites' pages, if they open this one.
    Lax,
    /// Those of the site's own pages only.
    Strict,
    /// Everybody's.
    None,
}

/// `Strict-Transport-Security`. It takes the place of the site's.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none)]
struct RouteHsts {
    /// 0 to 315,360,000; 0 makes browsers forget.
    max_age_seconds: u64,
    /// For every name below this host, too.
    include_subdomains: Option<bool>,
    /// For the lists that browsers come with: takes `include_subdomains` and a year (31,536,000), as they do.
    preload: Option<bool>,
}

/// Headers of answers. Where the app has set one itself, the app's stands.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none)]
pub(super) struct RouteHeaders {
    hsts: Option<RouteHsts>,
    /// `Content-Security-Policy`: up to 4,096 visible ASCII characters.
    content_security_policy: Option<String>,
    /// `X-Frame-Options`.
    frame_options: Option<FrameOptions>,
    /// `X-Content-Type-Options: nosniff`.
    content_type_options: Option<bool>,
    /// `Referrer-Policy`.
    referrer_policy: Option<ReferrerPolicy>,
    /// `Permissions-Policy`: up to 4,096 visible ASCII characters.
    permissions_policy: Option<String>,
    /// They take the place of the app's own.
    #[oai(rename = "override")]
    replaces: Option<bool>,
}

/// What every cookie of the app gets. Its name, value, domain and path are never touched; one for everybody's
/// requests (`SameSite=None`), and one whose name begins with `__Secure-` or `__Host-`, is made secure in any case.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none)]
pub(super) struct RouteCookies {
    /// `Secure`: never over plain http.
    secure: Option<bool>,
    /// `HttpOnly`: not for scripts.
    http_only: Option<bool>,
    /// `SameSite`, in place of the app's.
    same_site: Option<SameSite>,
}

/// Yes, or not said.
fn shown(given: bool) -> Option<bool> {
    given.then_some(true)
}

impl From<RouteHeaders> for domain::SecurityHeaders {
    fn from(headers: RouteHeaders) -> Self {
        let hsts = |hsts: RouteHsts| domain::Hsts {
            max_age_seconds: hsts.max_age_seconds,
            include_subdomains: hsts.include_subdomains.unwrap_or_default(),
            preload: hsts.preload.unwrap_or_default(),
        };
        Self {
            hsts: headers.hsts.map(hsts),
            content_security_policy: headers.content_security_policy,
            frame_options: headers.frame_options.map(Into::into),
            content_type_options: headers.content_type_options.unwrap_or_default(),
            referrer_policy: headers.referrer_policy.map(Into::into),
            permissions_policy: headers.permissions_policy,
            replaces: headers.replaces.unwrap_or_default(),
        }
    }
}

impl From<domain::SecurityHeaders> for RouteHeaders {
    fn from(headers: domain::SecurityHeaders) -> Self {
        let hsts = |hsts: domain::Hsts| RouteHsts {
            max_age_seconds: hsts.max_age_seconds,
            include_subdomains: shown(hsts.include_subdomains),
            preload: shown(hsts.preload),
        };
        Self {
            hsts: headers.hsts.map(hsts),
            content_security_policy: headers.content_security_policy,
            frame_options: headers.frame_options.map(Into::into),
            content_type_options: shown(headers.content_type_options),
            referrer_policy: headers.referrer_policy.map(Into::into),
            permissions_policy: headers.permissions_policy,
            replaces: shown(headers.replaces),
        }
    }
}

impl From<RouteCookies> for domain::CookieOptions {
    fn from(cookies: RouteCookies) -> Self {
        Self {
            secure: cookies.secure.unwrap_or_default(),
            http_only: cookies.http_only.unwrap_or_default(),
            same_site: cookies.same_site.map(Into::into),
        }
    }
}

impl From<domain::CookieOptions> for RouteCookies {
    fn from(cookies: domain::CookieOptions) -> Self {
        Self {
            secure: shown(cookies.secure),
            http_only: shown(cookies.http_only),
            same_site: cookies.same_site.map(Into::into),
        }
    }
}
