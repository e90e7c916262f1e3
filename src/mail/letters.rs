//! What the house writes, as text and as HTML. Templates are compiled in; names are escaped in HTML.

use std::time::Duration;

use askama::Template;

use super::Recipient;
use crate::domain::{DeviceId, UtcTime};
use crate::store::outbox::OutgoingMail;

/// A letter that is to be written.
#[derive(Clone, Copy, Debug)]
pub enum Letter<'a> {
    /// The one-time link to an enrolment.
    Invitation {
        /// The device that it is for, if it has a name.
        device: Option<&'a str>,
        /// The link, with the token in its fragment.
        link: &'a str,
        /// Until when it works.
        expires_at: UtcTime,
    },
    /// To a device's owner: the renewal of its certificate is open.
    RenewalDue {
        /// The device.
        device: &'a str,
        /// Its identity, for the link.
        device_id: DeviceId,
        /// End of validity.
        ends_at: UtcTime,
        /// What is left of it.
        left: Duration,
    },
    /// To a device's owner: its certificate ends soon.
    ExpiryWarning {
        /// The device.
        device: &'a str,
        /// End of validity.
        ends_at: UtcTime,
        /// What is left of it.
        left: Duration,
    },
    /// To administrators: what ends soon.
    ExpiryDigest {
        /// One line each.
        items: &'a [EndingItem],
    },
    /// To administrators: a site's server certificate cannot be renewed.
    RenewalFailed {
        /// The site.
        host: &'a str,
        /// Why.
        error: &'a str,
        /// Until when the current one serves; none when there is only a local one.
        ends_at: Option<UtcTime>,
        /// When it is tried again.
        next_attempt_at: UtcTime,
    },
}

/// A line of the digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndingItem {
    /// What ends, in words. No e-mail address.
    pub what: String,
    /// End of validity.
    pub ends_at: UtcTime,
    /// What is left of it.
    pub left: Duration,
}

impl Letter<'_> {
    /// The kind in rows and logs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Invitation { .. } => "invitation",
            Self::RenewalDue { .. } => "renewal_due",
            Self::ExpiryWarning { .. } => "expiry_warning",
            Self::ExpiryDigest { .. } => "expiry_digest",
            Self::RenewalFailed { .. } => "renewal_failed",
        }
    }

    /// Fills in the templates.
    pub(super) fn write(
        &self,
        to: Recipient<'_>,
        installation: &str,
        door: Option<&str>,
    ) -> Result<OutgoingMail, askama::Error> {
        let person = to.name;
        let (subject, text, html) = match *self {
            Self::Invitation { device, link, expires_at } => {
                let expires = plain_time(expires_at);
                let text = InvitationText { installation, person, device, link, expires: &expires };
                let html = InvitationHtml { installation, person, device, link, expires: &expires };
                (format!("Your invitation to {installation}"), text.render()?, html.render()?)
            }
            Self::RenewalDue { device, device_id, ends_at, left } => {
                let (ends, left) = (plain_time(ends_at), plain_span(left));
                let link = door.map(|door| format!("{door}/#/devices/{device_id}/renew"));
                let link = link.as_deref();
                let text = RenewalDueText { installation, person, device, ends: &ends, left: &left, link };
                let html = RenewalDueHtml { installation, person, device, ends: &ends, left: &left, link };
                (format!("Renew the certificate of {device} within {left}"), text.render()?, html.render()?)
            }
            Self::ExpiryWarning { device, ends_at, left } => {
                let (ends, left) = (plain_time(ends_at), plain_span(left));
                let text = ExpiryWarningText { installation, person, device, ends: &ends, left: &left, door };
                let html = ExpiryWarningHtml { installation, person, device, ends: &ends, left: &left, door };
                (format!("The certificate of {device} ends in {left}"), text.render()?, html.render()?)
            }
            Self::ExpiryDigest { items } => {
                let items: Vec<_> = items.iter().map(Line::of).collect();
                let text = ExpiryDigestText { installation, person, items: &items };
                let html = ExpiryDigestHtml { installation, person, items: &items };
                let subject = match items.as_slice() {
                    [one] => format!("{} ends in {}", one.what, one.left),
                    several => format!("{} certificates end soon", several.len()),
                };
                (subject, text.render()?, html.render()?)
            }
            Self::RenewalFailed { host, error, ends_at, next_attempt_at } => {
                let (ends, next) = (ends_at.map(plain_time), plain_time(next_attempt_at));
                let ends = ends.as_deref();
                let text = RenewalFailedText { installation, person, host, error, ends, next: &next };
                let html = RenewalFailedHtml { installation, person, host, error, ends, next: &next };
                (format!("The certificate of {host} is not renewed"), text.render()?, html.render()?)
            }
        };
        Ok(OutgoingMail { to: to.email.to_owned(), name: to.name.to_owned(), subject, text, html })
    }
}

#[derive(Template)]
#[template(path = "invitation.txt", config = "src/mail/askama.toml")]
struct InvitationText<'a> {
    installation: &'a str,
    person: &'a str,
    device: Option<&'a str>,
    link: &'a str,
    expires: &'a str,
}

#[derive(Template)]
#[template(path = "invitation.html", config = "src/mail/askama.toml")]
struct InvitationHtml<'a> {
    installation: &'a str,
    person: &'a str,
    device: Option<&'a str>,
    link: &'a str,
    expires: &'a str,
}

#[derive(Template)]
#[template(path = "renewal_due.txt", config = "src/mail/askama.toml")]
struct RenewalDueText<'a> {
    installation: &'a str,
    person: &'a str,
    device: &'a str,
    ends: &'a str,
    left: &'a str,
    link: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "renewal_due.html", config = "src/mail/askama.toml")]
struct RenewalDueHtml<'a> {
    installation: &'a str,
    person: &'a str,
    device: &'a str,
    ends: &'a str,
    left: &'a str,
    link: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "expiry_warning.txt", config = "src/mail/askama.toml")]
struct ExpiryWarningText<'a> {
    installation: &'a str,
    person: &'a str,
    device: &'a str,
    ends: &'a str,
    left: &'a str,
    door: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "expiry_warning.html", config = "src/mail/askama.toml")]
struct ExpiryWarningHtml<'a> {
    installation: &'a str,
    person: &'a str,
    device: &'a str,
    ends: &'a str,
    left: &'a str,
    door: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "expiry_digest.txt", config = "src/mail/askama.toml")]
struct ExpiryDigestText<'a> {
    installation: &'a str,
    person: &'a str,
    items: &'a [Line<'a>],
}

#[derive(Template)]
#[template(path = "expiry_digest.html", config = "src/mail/askama.toml")]
struct ExpiryDigestHtml<'a> {
    installation: &'a str,
    person: &'a str,
    items: &'a [Line<'a>],
}

#[derive(Template)]
#[template(path = "renewal_failed.txt", config = "src/mail/askama.toml")]
struct RenewalFailedText<'a> {
    installation: &'a str,
    person: &'a str,
    host: &'a str,
    error: &'a str,
    ends: Option<&'a str>,
    next: &'a str,
}

#[derive(Template)]
#[template(path = "renewal_failed.html", config = "src/mail/askama.toml")]
struct RenewalFailedHtml<'a> {
    installation: &'a str,
    person: &'a str,
    host: &'a str,
    error: &'a str,
    ends: Option<&'a str>,
    next: &'a str,
}

struct Line<'a> {
    what: &'a str,
    ends: String,
    left: String,
}

impl<'a> Line<'a> {
    fn of(item: &'a EndingItem) -> Self {
        Self { what: &item.what, ends: plain_time(item.ends_at), left: plain_span(item.left) }
    }
}

/// `2026-11-23 12:00 UTC`.
fn plain_time(time: UtcTime) -> String {
    let text = time.to_string();
    let day = text.get(..10).unwrap_or_default();
    let minute = text.get(11..16).unwrap_or_default();
    format!("{day} {minute} UTC")
}

/// The largest unit that fits at least twice, rounded down, so that nobody is told too much.
fn plain_span(span: Duration) -> String {
    let seconds = span.as_secs();
    match (seconds / 86_400, seconds / 3600, seconds / 60) {
        (days, ..) if days >= 2 => format!("{days} days"),
        (_, hours, _) if hours >= 2 => format!("{hours} hours"),
        (.., minutes) => format!("{minutes} minutes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANNA: Recipient<'_> = Recipient { email: "anna@example.com", name: "Anna <b>" };

    #[test]
    fn names_are_escaped_in_html_and_plain_in_text() {
        let letter = Letter::Invitation {
            device: Some("Anna's \"phone\" & <script>"),
            link: "https://door.example.com/#/invitation/abc",
            expires_at: "2026-11-26T12:30:00Z".parse().unwrap(),
        };
        let mail = letter.write(ANNA, "Gate & Co", None).unwrap();
        assert!(!mail.html.contains("<script>") && !mail.html.contains("Anna <b>"), "{}", mail.html);
        assert!(mail.text.contains("Anna's \"phone\" & <script>"), "{}", mail.text);
        for body in [&mail.html, &mail.text] {
            assert!(body.contains("https://door.example.com/#/invitation/abc"), "{body}");
            assert!(body.contains("2026-11-26 12:30 UTC"), "{body}");
        }
    }

    #[test]
    fn every_letter_says_what_it_is_about() {
        let at: UtcTime = "2026-12-01T00:00:00Z".parse().unwrap();
        let items = [EndingItem {
            what: "server certificate of app".into(),
            ends_at: at,
            left: Duration::from_secs(90_000),
        }];
        let left = Duration::from_secs(30 * 86_400);
        for (letter, fact) in [
            (Letter::ExpiryWarning { device: "phone", ends_at: at, left }, "30 days"),
            (
                Letter::RenewalDue { device: "phone", device_id: DeviceId::new(), ends_at: at, left },
                "https://door.example/#/devices/",
            ),
            (Letter::ExpiryDigest { items: &items }, "server certificate of app"),
            (
                Letter::RenewalFailed {
                    host: "app.example",
                    error: "no DNS",
                    ends_at: None,
                    next_attempt_at: at,
                },
                "no DNS",
            ),
        ] {
            let mail = letter.write(ANNA, "Gate", Some("https://door.example")).unwrap();
            assert!(mail.text.contains(fact) && mail.html.contains(fact), "{}\n{}", mail.text, mail.html);
        }
    }

    #[test]
    fn spans_are_rounded_down() {
        for (seconds, text) in
            [(90_000, "25 hours"), (172_800, "2 days"), (7_199, "119 minutes"), (0, "0 minutes")]
        {
            assert_eq!(plain_span(Duration::from_secs(seconds)), text);
        }
    }
}
