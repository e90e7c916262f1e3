//! Rules of an access policy: who passes, from where, with which certificate, and for what.
//!
//! How they are read, in full:
//!
//! * Rules stand in an order, and the first one that fits decides: it allows or denies.
//! * A rule fits when all of its conditions do; a condition fits when any one of its values does. A rule without
//!   conditions fits everybody who is known. There is no negation: an exception is a rule that comes first.
//! * If none fits, the policy's four lists decide. A policy that has rules and no lists then lets nobody in.
//! * Only people with a known certificate get as far as the rules; nobody else passes a protected route.
//! * What cannot be read is read against whoever asks: if the certificate's names cannot be, a rule that allows
//!   does not fit, and one that denies does.
//! * If a path or a method can be read in more than one way, and one reading would be allowed and another denied,
//!   the request is refused as unclear. Nobody gets around a rule by spelling.
//! * Rules are judged for every request anew, and for what goes on whenever something changes.

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use super::id::{DeviceId, PersonId};
use super::network::Network;
use super::san::SanPattern;
use super::slug::Slug;

/// Rules of one policy, at most.
pub const MOST_RULES: usize = 64;
/// Values of one condition, at most.
pub const MOST_VALUES: usize = 256;
/// Longest name of a rule, in characters.
pub const MAX_NAME: usize = 64;
/// Path prefixes of all rules of one policy together, at most.
pub const MOST_PREFIXES: usize = 1_024;
/// Longest path prefix of a rule, in octets.
pub const MAX_PREFIX: usize = 256;
/// Greatest age of a certificate that can be named, in days: a hundred years.
pub const MAX_AGE_DAYS: u32 = 36_500;
/// Longest method, in octets.
const MAX_METHOD: usize = 32;

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessRule {
    /// What people call it; unique in its policy.
    pub name: String,
    /// What it does when it fits.
    pub effect: Effect,
    /// When it fits.
    #[serde(default)]
    pub when: When,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Lets in.
    Allow,
    /// Keeps out.
    Deny,
}

/// Conditions of a rule; an empty one is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct When {
    /// People by id.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub people: BTreeSet<PersonId>,
    /// Groups that the person is in.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<Slug>,
    /// Profiles that the certificate was issued under.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub profiles: BTreeSet<Slug>,
    /// Devices by id.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub devices: BTreeSet<DeviceId>,
    /// Authorities that signed the certificate, each one generation.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub authorities: BTreeSet<Slug>,
    /// Names in the certificate.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub sans: BTreeSet<SanPattern>,
    /// Whole days since the start of the certificate's validity, at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_age_min_days: Option<u32>,
    /// The same, at most: the last second of the last day fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_age_max_days: Option<u32>,
    /// Networks that the visitor calls from.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub networks: BTreeSet<Network>,
    /// Methods of the request, in capitals. `HEAD` is one of its own.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub methods: BTreeSet<String>,
    /// What the request's path begins with, in whole segments, as in a route.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub path_prefixes: BTreeSet<String>,
}

/// What is wrong with the rules of a route with this path prefix: the place below the rules as a JSON pointer,
/// and why.
pub fn faults(rules: &[AccessRule], route_prefix: &str) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    if rules.len() > MOST_RULES {
        faults.push((String::new(), format!("may be {MOST_RULES} at most")));
    }
    if rules.iter().map(|rule| rule.when.path_prefixes.len()).sum::<usize>() > MOST_PREFIXES {
        faults.push((String::new(), format!("may have {MOST_PREFIXES} path prefixes in all at most")));
    }
    let mut names = HashSet::new();
    for (index, rule) in rules.iter().enumerate() {
        let mut fault = |place: &str, why: String| faults.push((format!("/{index}/{place}"), why));
        let length = rule.name.chars().count();
        if !(1..=MAX_NAME).contains(&length) || rule.name.chars().any(char::is_control) {
            fault("name", format!("must have 1 to {MAX_NAME} characters, none of them a control character"));
        } else if !names.insert(&rule.name) {
            fault("name", "is another rule's, too; each needs one of its own".to_owned());
        }
        let when = &rule.when;
        for (field, count) in when.counts() {
            if count > MOST_VALUES {
                fault(&format!("when/{field}"), format!("may have {MOST_VALUES} values at most"));
            }
        }
        let ages = [
            ("certificate_age_min_days", when.certificate_age_min_days),
            ("certificate_age_max_days", when.certificate_age_max_days),
        ];
        for (field, age) in ages {
            if age.is_some_and(|age| age > MAX_AGE_DAYS) {
                fault(&format!("when/{field}"), format!("must be 0 to {MAX_AGE_DAYS}"));
            }
        }
        if let (Some(least), Some(most)) = (when.certificate_age_min_days, when.certificate_age_max_days)
            && least > most
        {
            fault("when/certificate_age_min_days", "must not be more than the greatest age".to_owned());
        }
        for method in when.methods.iter().filter(|method| !is_method(method)) {
            let why = format!("must be methods in capitals such as GET, and {method:?} is none");
            fault("when/methods", why);
        }
        for prefix in &when.path_prefixes {
            if let Some(why) = prefix_fault(prefix) {
                fault("when/path_prefixes", format!("{prefix:?}: {why}"));
            } else if prefix.len() > MAX_PREFIX {
                fault("when/path_prefixes", format!("may have {MAX_PREFIX} characters each at most"));
            } else if !lies_below(prefix, route_prefix) && !lies_below(route_prefix, prefix) {
                let why = format!("{prefix:?} would never fit: the route is asked for {route_prefix} only");
                fault("when/path_prefixes", why);
            }
        }
    }
    faults
}

/// Names that there are, of which rules may speak.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Profiles.
    pub profiles: BTreeSet<Slug>,
    /// Authorities that sign or signed client certificates.
    pub authorities: BTreeSet<Slug>,
}

/// Names in the rules that are nobody's, so that a misspelt one lets nobody in and keeps nobody out: as
/// [`faults`] says it. Groups are free: whoever is put into one makes it.
pub fn unknown(rules: &[AccessRule], known: &Known) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    for (index, AccessRule { when, .. }) in rules.iter().enumerate() {
        for name in when.profiles.difference(&known.profiles) {
            faults.push((format!("/{index}/when/profiles"), format!("there is no profile {name}")));
        }
        for name in when.authorities.difference(&known.authorities) {
            let why = format!("there is no authority {name} that signs client certificates");
            faults.push((format!("/{index}/when/authorities"), why));
        }
    }
    faults
}

impl When {
    fn counts(&self) -> [(&'static str, usize); 9] {
        [
            ("people", self.people.len()),
            ("groups", self.groups.len()),
            ("profiles", self.profiles.len()),
            ("devices", self.devices.len()),
            ("authorities", self.authorities.len()),
            ("sans", self.sans.len()),
            ("networks", self.networks.len()),
            ("methods", self.methods.len()),
            ("path_prefixes", self.path_prefixes.len()),
        ]
    }
}

/// Whether these are letters, digits and hyphens that nobody reads as another method.
fn is_method(text: &str) -> bool {
    (1..=MAX_METHOD).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-')
}

fn lies_below(path: &str, prefix: &str) -> bool {
    prefix == "/" || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Why this cannot be what a path begins with; nothing if it can.
pub fn prefix_fault(prefix: &str) -> Option<&'static str> {
    // What browsers and proxies rewrite before it reaches us would make a prefix that never fits.
    let plain = prefix.bytes().all(|b| b.is_ascii_graphic() && !b"?#\\%;\"<>^`{|}".contains(&b));
    // Nor do some tell `x.` from `x`, see `(S(x))` or a script's name, so that no path there would be clear.
    let is_clear = |one: &str| {
        !one.is_empty()
            && !one.ends_with('.')
            && !one.contains(":$")
            && !one.to_ascii_lowercase().ends_with(".php")
    };
    let is_cookieless = |one: &str| matches!(one.as_bytes(), [b'(', _, b'(', ..]);
    let segments = prefix.split('/').skip(1).all(|one| is_clear(one) && !is_cookieless(one));
    let is_sound = prefix == "/" || (prefix.starts_with('/') && plain && segments);
    (!is_sound).then_some(
        "must be / or start with /, not end with one, and have plain segments: no % ? # or ;, none that ends in a \
         dot or .php, is a session like (S(…)), or has a stream (:$)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, when: When) -> AccessRule {
        AccessRule { name: name.into(), effect: Effect::Deny, when }
    }

    #[test]
    fn each_fault_names_its_place() {
        let paths = |paths: &[&str]| When {
            path_prefixes: paths.iter().map(|path| (*path).to_owned()).collect(),
            ..When::default()
        };
        let methods = When { methods: ["get".to_owned()].into(), ..When::default() };
        let ages =
            When { certificate_age_min_days: Some(9), certificate_age_max_days: Some(8), ..When::default() };
        let many = When { devices: (0..257).map(|_| DeviceId::new()).collect(), ..When::default() };
        let rules = [
            rule("", When::default()),
            rule("twice", methods),
            rule("twice", ages),
            rule("many", many),
            rule("paths", paths(&["/app/x", "/app", "/"])),
            rule("elsewhere", paths(&["/apple"])),
            rule("unclear", paths(&["/app/%78"])),
            rule("old", When { certificate_age_max_days: Some(40_000), ..When::default() }),
        ];
        let places: Vec<_> = faults(&rules, "/app").into_iter().map(|(place, _)| place).collect();
        assert_eq!(
            places,
            [
                "/0/name",
                "/1/when/methods",
                "/2/name",
                "/2/when/certificate_age_min_days",
                "/3/when/devices",
                "/5/when/path_prefixes",
                "/6/when/path_prefixes",
                "/7/when/certificate_age_max_days",
            ]
        );
        let many: Vec<_> = (0..65).map(|number| rule(&number.to_string(), When::default())).collect();
        assert_eq!(faults(&many, "/").len(), 1);
        assert!(faults(&many[..64], "/").is_empty());
        let numbered: Vec<_> = (0..205).map(|number| format!("/{number}")).collect();
        let numbered = paths(&numbered.iter().map(String::as_str).collect::<Vec<_>>());
        let wide: Vec<_> = (0..5).map(|number| rule(&number.to_string(), numbered.clone())).collect();
        assert_eq!(faults(&wide, "/").len(), 1);
        assert!(faults(&wide[..4], "/").is_empty());
    }

    #[test]
    fn names_that_are_nobodys_are_told_and_groups_are_free() {
        let slugs =
            |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<BTreeSet<Slug>>();
        let known = Known { profiles: slugs(&["device"]), authorities: slugs(&["issuing-g1"]) };
        let good = When {
            groups: slugs(&["nobody-yet"]),
            profiles: slugs(&["device"]),
            authorities: slugs(&["issuing-g1"]),
            ..When::default()
        };
        let bad = When {
            profiles: slugs(&["device", "devcie"]),
            authorities: slugs(&["issuing-g2"]),
            ..When::default()
        };
        let places: Vec<_> = unknown(&[rule("good", good), rule("bad", bad)], &known)
            .into_iter()
            .map(|(place, _)| place)
            .collect();
        assert_eq!(places, ["/1/when/profiles", "/1/when/authorities"]);
    }

    #[test]
    fn rules_are_written_as_short_as_can_be() {
        let text =
            r#"{"name":"office","effect":"allow","when":{"networks":["10.0.0.0/8"],"methods":["GET"]}}"#;
        let rule: AccessRule = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&rule).unwrap(), text);
        assert!(serde_json::from_str::<AccessRule>(r#"{"name":"x","effect":"maybe"}"#).is_err());
        let odd = r#"{"name":"x","effect":"deny","when":{"not_people":[]}}"#;
        assert!(serde_json::from_str::<AccessRule>(odd).is_err());
    }
}
