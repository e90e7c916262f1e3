//! What holds for one route beyond who may pass: how often it may be asked, how much may be sent to it, what is done
//! to the answers of its app, and whether it is closed for a while.

mod answers;
mod maintenance;

use serde::{Deserialize, Serialize};

pub use answers::{CookieOptions, FrameOptions, Hsts, ReferrerPolicy, SameSite, SecurityHeaders};
pub use maintenance::{Allowed, Maintenance};

/// Rules of one route, at most.
const MOST_RULES: usize = 8;
/// Requests, or a burst, of one rule, at most. What it takes to refill the longest one fits into 64 bits of
/// nanoseconds.
const MOST_REQUESTS: u32 = 100_000;
/// Time of one rule, at most: a day.
const MOST_SECONDS: u32 = 86_400;
/// Body, at most: as for the edge as a whole.
const MOST_BODY_MIB: u32 = 1_048_576;

/// Whose requests one rule counts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RatePer {
    /// Those of an IPv4 address, or of an IPv6 /64.
    Source,
    /// Those of a device; of a source, where nobody known asks.
    Device,
    /// Those of a person, with all devices; of a source, where nobody known asks.
    Person,
    /// All of them. Asked last, so that what another rule refuses is not counted.
    Everyone,
}

/// How often a route may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RateRule {
    /// Whose requests are counted together.
    pub per: RatePer,
    /// So many: 1 to 100,000.
    pub requests: u32,
    /// In so many seconds: 1 to 86,400.
    pub seconds: u32,
    /// At once, after a pause: 1 to 100,000; without it, as many as `requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}

/// What is decided for one route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteOptions {
    /// How often it may be asked; each rule has to allow a request. None: as often as the edge allows.
    pub rate: Vec<RateRule>,
    /// Largest body of a request, in MiB: 1 to 1,048,576; without it, the edge's setting.
    pub max_body_mib: Option<u32>,
    /// What is added to answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<SecurityHeaders>,
    /// What cookies in answers have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookies: Option<CookieOptions>,
    /// Whether answers are compressed. On a page that shows a secret beside what a visitor's request says, its length
    /// then tells others of the secret (BREACH).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub compression: bool,
    /// Whether it is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Maintenance>,
}

impl RouteOptions {
    /// What is wrong with them: the field as a JSON pointer, and why.
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut within = |field: String, value: u32, most: u32| {
            if !(1..=most).contains(&value) {
                faults.push((field, format!("must be 1 to {most}")));
            }
        };
        for (index, rule) in self.rate.iter().enumerate() {
            within(format!("/rate/{index}/requests"), rule.requests, MOST_REQUESTS);
            within(format!("/rate/{index}/seconds"), rule.seconds, MOST_SECONDS);
            if let Some(burst) = rule.burst {
                within(format!("/rate/{index}/burst"), burst, MOST_REQUESTS);
            }
        }
        if let Some(mib) = self.max_body_mib {
            within("/max_body_mib".to_owned(), mib, MOST_BODY_MIB);
        }
        if self.rate.len() > MOST_RULES {
            faults.push(("/rate".to_owned(), format!("must have at most {MOST_RULES} rules")));
        }
        for (index, rule) in self.rate.iter().enumerate() {
            // It would be counted twice in one bucket.
            if self.rate[..index].contains(rule) {
                faults.push((format!("/rate/{index}"), "is there twice".to_owned()));
            }
        }
        faults.extend(self.headers.iter().flat_map(SecurityHeaders::faults));
        faults.extend(self.maintenance.iter().flat_map(Maintenance::faults));
        faults
    }

    /// Whether anything is done to the answers of its app.
    pub fn touches_answers(&self) -> bool {
        self.compression || self.headers.is_some() || self.cookies.is_some()
    }

    /// Closes the route, or opens it; what is said meanwhile, and who passes, stays for the next time.
    pub fn set_maintenance(&mut self, enabled: bool) {
        let mut maintenance = self.maintenance.take().unwrap_or_default();
        maintenance.enabled = enabled;
        self.maintenance = Some(maintenance).filter(|maintenance| *maintenance != Maintenance::default());
    }

    /// Largest body of a request in octets, if the route has a bound of its own.
    pub fn max_body(&self) -> Option<u64> {
        self.max_body_mib.map(|mib| u64::from(mib) * 1024 * 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: RateRule = RateRule { per: RatePer::Person, requests: 10, seconds: 60, burst: None };

    fn rated(rate: Vec<RateRule>) -> RouteOptions {
        RouteOptions { rate, ..RouteOptions::default() }
    }

    #[test]
    fn what_was_written_without_options_has_none() {
        assert_eq!(serde_json::from_str::<RouteOptions>("{}").unwrap(), RouteOptions::default());
        assert!(RouteOptions::default().faults().is_empty());
        let text = r#"{"rate":[{"per":"person","requests":10,"seconds":60}],"max_body_mib":4}"#;
        let options: RouteOptions = serde_json::from_str(text).unwrap();
        assert_eq!(options, RouteOptions { max_body_mib: Some(4), ..rated(vec![RULE]) });
        assert_eq!(
            (options.max_body(), serde_json::to_string(&options).unwrap()),
            (Some(4 << 20), text.into())
        );
    }

    #[test]
    fn each_fault_names_its_field() {
        let fields = |options: RouteOptions| -> Vec<_> {
            options.faults().into_iter().map(|(field, _)| field).collect()
        };
        let bad = RateRule { requests: 0, seconds: 86_401, burst: Some(100_001), ..RULE };
        assert_eq!(
            fields(RouteOptions { max_body_mib: Some(0), ..rated(vec![RULE, bad]) }),
            ["/rate/1/requests", "/rate/1/seconds", "/rate/1/burst", "/max_body_mib"]
        );
        assert_eq!(fields(rated(vec![RULE, RULE])), ["/rate/1"]);
        let many = (1..=9).map(|requests| RateRule { requests, ..RULE }).collect();
        assert_eq!(fields(rated(many)), ["/rate"]);
        let text = r#"{"headers":{"hsts":{"preload":true}},"maintenance":{"message":""}}"#;
        let options: RouteOptions = serde_json::from_str(text).unwrap();
        assert_eq!(fields(options), ["/headers/hsts/preload", "/maintenance/message"]);
    }

    #[test]
    fn a_route_is_closed_and_opened_and_keeps_what_it_says() {
        let mut options = RouteOptions::default();
        options.set_maintenance(true);
        assert_eq!(serde_json::to_string(&options.maintenance).unwrap(), r#"{"enabled":true}"#);
        options.set_maintenance(false);
        assert_eq!(options, RouteOptions::default());
        let told = Maintenance { message: Some("Until noon.".to_owned()), ..Maintenance::default() };
        options.maintenance = Some(told.clone());
        options.set_maintenance(true);
        options.set_maintenance(false);
        assert_eq!(options.maintenance, Some(told));
    }
}
