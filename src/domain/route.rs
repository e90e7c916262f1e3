//! What holds for one route beyond who may pass: how often it may be asked, and how much may be sent to it.

use serde::{Deserialize, Serialize};

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
        faults
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

    #[test]
    fn what_was_written_without_options_has_none() {
        assert_eq!(serde_json::from_str::<RouteOptions>("{}").unwrap(), RouteOptions::default());
        assert!(RouteOptions::default().faults().is_empty());
        let text = r#"{"rate":[{"per":"person","requests":10,"seconds":60}],"max_body_mib":4}"#;
        let options: RouteOptions = serde_json::from_str(text).unwrap();
        assert_eq!(options, RouteOptions { rate: vec![RULE], max_body_mib: Some(4) });
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
            fields(RouteOptions { rate: vec![RULE, bad], max_body_mib: Some(0) }),
            ["/rate/1/requests", "/rate/1/seconds", "/rate/1/burst", "/max_body_mib"]
        );
        assert_eq!(fields(RouteOptions { rate: vec![RULE, RULE], max_body_mib: None }), ["/rate/1"]);
        let many = (1..=9).map(|requests| RateRule { requests, ..RULE }).collect();
        assert_eq!(fields(RouteOptions { rate: many, max_body_mib: None }), ["/rate"]);
    }
}
