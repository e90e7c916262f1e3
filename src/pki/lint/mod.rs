//! Our own rules, run on the final to-be-signed bytes inside `prepare_*`. They read the bytes back
//! with a decoder that had no part in writing them, so a fault of the writer shows here and not in
//! a phone. Each rule has a name and the section it enforces.

mod certificate;
mod crl;
mod ocsp;
#[cfg(test)]
mod tests;

pub use certificate::{
    lint_authority, lint_client, lint_cross, lint_ocsp_signer, lint_server, lint_under,
    lint_upstream_authority,
};
pub use crl::{lint_crl, lint_crl_under};
pub use ocsp::lint_ocsp;

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule's name.
    pub rule: &'static str,
    /// Where the rule comes from; a bare section is RFC 5280's.
    pub section: &'static str,
    /// What was found.
    pub detail: String,
}

/// The first finding in words.
pub(super) fn first(findings: &[Finding]) -> String {
    findings.first().map(|f| format!("{} ({}): {}", f.rule, f.section, f.detail)).unwrap_or_default()
}

/// Findings as they come up.
#[derive(Default)]
struct Report(Vec<Finding>);

impl Report {
    fn add(&mut self, rule: &'static str, section: &'static str, detail: impl Into<String>) {
        self.0.push(Finding { rule, section, detail: detail.into() });
    }

    /// Adds a finding unless `holds`.
    fn must(&mut self, holds: bool, rule: &'static str, section: &'static str, detail: impl Into<String>) {
        if !holds {
            self.add(rule, section, detail);
        }
    }
}
