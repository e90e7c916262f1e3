//! How the API spells access policies.

use std::collections::BTreeSet;

use poem_openapi::{Enum, Object};

use crate::admin::error::{Outcome, sentence};
use crate::admin::fields::{self, Faults, parsed};
use crate::domain::{self, AccessRules, AuthorityKind, rule};
use crate::store::Store;

/// Whether everyone passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub(super) enum AccessKind {
    /// Everyone, with or without a certificate.
    Public,
    /// Whoever presents a known certificate and is let in by a rule, or is on one of the lists; four empty lists
    /// and no rules let every known certificate pass.
    Known,
}

/// What a rule does when it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case", remote = "rule::Effect")]
pub(super) enum RuleEffect {
    /// Lets in.
    Allow,
    /// Keeps out.
    Deny,
}

/// When a rule fits: all conditions that are given have to, and of each condition any one value.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none)]
pub(super) struct RuleConditions {
    /// Ids of people.
    #[oai(validator(min_items = 1, max_items = 256))]
    people: Option<Vec<String>>,
    /// Names of groups.
    #[oai(validator(min_items = 1, max_items = 256))]
    groups: Option<Vec<String>>,
    /// Names of profiles that there are.
    #[oai(validator(min_items = 1, max_items = 256))]
    profiles: Option<Vec<String>>,
    /// Ids of devices.
    #[oai(validator(min_items = 1, max_items = 256))]
    devices: Option<Vec<String>>,
    /// Names of the authorities that signed the certificate. Each is one generation: add the successor before a
    /// roll-over.
    #[oai(validator(min_items = 1, max_items = 256))]
    authorities: Option<Vec<String>>,
    /// Names in the certificate, or `*` and how they end: `dns:a.example.com`, `dns:*.example.com`,
    /// `email:*@example.com`, `uri:urn:uuid:…`.
    #[oai(validator(min_items = 1, max_items = 256))]
    sans: Option<Vec<String>>,
    /// Whole days since the start of the certificate's validity, at least.
    #[oai(validator(minimum(value = "0"), maximum(value = "36500")))]
    certificate_age_min_days: Option<u32>,
    /// Whole days since the start of the certificate's validity, at most.
    #[oai(validator(minimum(value = "0"), maximum(value = "36500")))]
    certificate_age_max_days: Option<u32>,
    /// Networks that the visitor calls from: `10.0.0.0/8`, `2001:db8::/32`, or one address.
    #[oai(validator(min_items = 1, max_items = 256))]
    networks: Option<Vec<String>>,
    /// Methods, in capitals. `HEAD` is one of its own.
    #[oai(validator(min_items = 1, max_items = 256))]
    methods: Option<Vec<String>>,
    /// What the path begins with, in whole segments, from the root of the site. All rules of a policy may have
    /// 1,024 of them together.
    #[oai(validator(min_items = 1, max_items = 256))]
    path_prefixes: Option<Vec<String>>,
}

/// One rule of a policy.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none)]
pub(super) struct AccessRule {
    /// Unique in its policy; the access log names the rule that decided.
    #[oai(validator(min_length = 1, max_length = 64))]
    name: String,
    effect: RuleEffect,
    /// Without it the rule fits everybody who is known.
    when: Option<RuleConditions>,
}

/// Who may pass. Rules are asked first, in their order, and the first that fits decides. If none does, it is
/// enough to be on any one of the lists.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none)]
pub(super) struct AccessPolicy {
    kind: AccessKind,
    /// Ids of people.
    people: Option<Vec<String>>,
    /// Names of groups.
    groups: Option<Vec<String>>,
    /// Names of profiles.
    profiles: Option<Vec<String>>,
    /// Ids of devices.
    devices: Option<Vec<String>>,
    /// With rules and four empty lists, nobody passes whom no rule lets in.
    #[oai(validator(max_items = 64))]
    rules: Option<Vec<AccessRule>>,
}

impl AccessPolicy {
    /// Without the lists that are empty.
    pub(super) fn short(self) -> Self {
        let full = |list: Option<Vec<String>>| list.filter(|list| !list.is_empty());
        Self {
            kind: self.kind,
            people: full(self.people),
            groups: full(self.groups),
            profiles: full(self.profiles),
            devices: full(self.devices),
            rules: self.rules,
        }
    }
}

fn list(names: &Option<Vec<String>>) -> &[String] {
    names.as_deref().unwrap_or_default()
}

/// Reads a policy; faults are noted below `at`. What rules cannot be is [`check_rules`]' to say.
pub(super) fn read_policy(policy: &AccessPolicy, at: &str, faults: &mut Faults) -> domain::AccessPolicy {
    let at = format!("{at}/policy");
    let rules = policy.rules.as_deref().unwrap_or_default();
    let read = AccessRules {
        people: parsed(list(&policy.people), &format!("{at}/people"), faults),
        groups: parsed(list(&policy.groups), &format!("{at}/groups"), faults),
        profiles: parsed(list(&policy.profiles), &format!("{at}/profiles"), faults),
        devices: parsed(list(&policy.devices), &format!("{at}/devices"), faults),
        rules: rules
            .iter()
            .enumerate()
            .map(|(index, rule)| read_rule(rule, &format!("{at}/rules/{index}"), faults))
            .collect(),
    };
    match policy.kind {
        AccessKind::Known => domain::AccessPolicy::Known(read),
        AccessKind::Public => {
            if !read.is_open_to_all_known() {
                faults.add(&at, "not_allowed", "A public route has no lists and no rules.");
            }
            domain::AccessPolicy::Public
        }
    }
}

fn read_rule(rule: &AccessRule, at: &str, faults: &mut Faults) -> domain::AccessRule {
    let name = faults.take(&format!("{at}/name"), fields::name(&rule.name));
    let when = rule.when.as_ref().map(|when| read_conditions(when, &format!("{at}/when"), faults));
    domain::AccessRule {
        // With a fault, nothing of this is used.
        name: name.unwrap_or_default(),
        effect: rule.effect.into(),
        when: when.unwrap_or_default(),
    }
}

fn read_conditions(when: &RuleConditions, at: &str, faults: &mut Faults) -> domain::When {
    domain::When {
        people: parsed(list(&when.people), &format!("{at}/people"), faults),
        groups: parsed(list(&when.groups), &format!("{at}/groups"), faults),
        profiles: parsed(list(&when.profiles), &format!("{at}/profiles"), faults),
        devices: parsed(list(&when.devices), &format!("{at}/devices"), faults),
        authorities: parsed(list(&when.authorities), &format!("{at}/authorities"), faults),
        sans: parsed(list(&when.sans), &format!("{at}/sans"), faults),
        certificate_age_min_days: when.certificate_age_min_days,
        certificate_age_max_days: when.certificate_age_max_days,
        networks: parsed(list(&when.networks), &format!("{at}/networks"), faults),
        methods: list(&when.methods).iter().cloned().collect(),
        path_prefixes: list(&when.path_prefixes).iter().cloned().collect(),
    }
}

/// What cannot be said of the rules alone: whether they fit together, and a route with this prefix.
pub(super) fn check_rules(policy: &domain::AccessPolicy, path_prefix: &str, at: &str, faults: &mut Faults) {
    let domain::AccessPolicy::Known(known) = policy else { return };
    for (place, why) in rule::faults(&known.rules, path_prefix) {
        faults.add(&format!("{at}/policy/rules{place}"), "invalid", sentence(&why));
    }
}

/// The names that rules may give.
pub(super) async fn known_names(store: &Store) -> Outcome<rule::Known> {
    let (profiles, authorities) = (store.profiles().await?, store.authorities().await?);
    let issuing = authorities.into_iter().filter(|one| one.kind == AuthorityKind::Issuing);
    Ok(rule::Known {
        profiles: profiles.into_iter().map(|one| one.name).collect(),
        authorities: issuing.map(|one| one.name).collect(),
    })
}

/// Whether the rules give no other names.
pub(super) fn check_names(policy: &domain::AccessPolicy, known: &rule::Known, at: &str, faults: &mut Faults) {
    let domain::AccessPolicy::Known(own) = policy else { return };
    for (place, why) in rule::unknown(&own.rules, known) {
        faults.add(&format!("{at}/policy/rules{place}"), "unknown", sentence(&why));
    }
}

pub(super) fn show_policy(policy: &domain::AccessPolicy) -> AccessPolicy {
    fn list<T: ToString>(values: impl IntoIterator<Item = T>) -> Option<Vec<String>> {
        Some(values.into_iter().map(|value| value.to_string()).collect())
    }
    match policy {
        domain::AccessPolicy::Public => AccessPolicy {
            kind: AccessKind::Public,
            people: None,
            groups: None,
            profiles: None,
            devices: None,
            rules: None,
        },
        domain::AccessPolicy::Known(known) => AccessPolicy {
            kind: AccessKind::Known,
            people: list(&known.people),
            groups: list(&known.groups),
            profiles: list(&known.profiles),
            devices: list(&known.devices),
            rules: (!known.rules.is_empty()).then(|| known.rules.iter().map(show_rule).collect()),
        },
    }
}

fn show_rule(rule: &domain::AccessRule) -> AccessRule {
    fn some<T: ToString>(values: &BTreeSet<T>) -> Option<Vec<String>> {
        (!values.is_empty()).then(|| values.iter().map(ToString::to_string).collect())
    }
    let domain::AccessRule { name, effect, when } = rule;
    let conditions = RuleConditions {
        people: some(&when.people),
        groups: some(&when.groups),
        profiles: some(&when.profiles),
        devices: some(&when.devices),
        authorities: some(&when.authorities),
        sans: some(&when.sans),
        certificate_age_min_days: when.certificate_age_min_days,
        certificate_age_max_days: when.certificate_age_max_days,
        networks: some(&when.networks),
        methods: some(&when.methods),
        path_prefixes: some(&when.path_prefixes),
    };
    AccessRule {
        name: name.clone(),
        effect: (*effect).into(),
        when: (*when != domain::When::default()).then_some(conditions),
    }
}
