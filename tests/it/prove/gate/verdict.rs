//! What came of a request, in the same words for every path.

use der::{Decode, Encode};
use serde_json::Value;
use wicketgate::pki::{cms, transfer};
use x509_cert::Certificate;

/// The verdict.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// What it says, but for serial and key.
    Issued(Vec<String>),
    /// Refused.
    Refused {
        /// The rule: status, code, place and what it says.
        rule: String,
        /// What a path says that has one sentence and no more.
        sentence: String,
    },
    /// Refused, with the sentence and no more.
    Told(String),
    /// Refused for its form, which is this path's alone, in its own words.
    #[expect(dead_code, reason = "its words are said when there is a difference")]
    InOwnWords(String),
}

impl Verdict {
    /// Of an answer of the API.
    pub(super) fn of(status: u16, body: &Value) -> Self {
        if status == 201 {
            return Self::Issued(all_but_key_and_serial(&der(body["pem"].as_str().unwrap())));
        }
        let code = body["code"].as_str().unwrap_or("no code");
        let errors = body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        let part = |error: &Value, name: &str| error[name].as_str().unwrap_or_default().to_owned();
        let say = |error: &Value| match part(error, "pointer") {
            // An invitation names its profile, so it has other words for the same rule.
            profile if profile == "/profile" => profile,
            pointer => format!("{pointer} {}", part(error, "detail")),
        };
        let errors: Vec<_> = errors.iter().map(say).collect();
        let rule = format!("{status} {code} {}", errors.join("; ")).trim_end().to_owned();
        Self::Refused { rule, sentence: sentence(status, body["detail"].as_str().unwrap_or_default()) }
    }

    /// Of an answer over EST.
    pub(super) fn of_est(status: u16, text: &str) -> Self {
        if status != 200 {
            return Self::Told(sentence(status, text.trim_end()));
        }
        let given = cms::certificates(&transfer::decode(text.as_bytes()).unwrap()).unwrap();
        assert_eq!(given.len(), 1);
        Self::Issued(all_but_key_and_serial(&given[0]))
    }

    /// A refusal by a rule of the API.
    pub(super) fn by(rule: &str, said: &str) -> Self {
        let status = rule.split(' ').next().unwrap().parse().unwrap();
        Self::Refused { rule: rule.to_owned(), sentence: sentence(status, said) }
    }

    /// Whether they are the same, as far as both have words for it.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Issued(one), Self::Issued(other)) => one == other,
            (Self::Refused { rule: one, .. }, Self::Refused { rule: other, .. }) => one == other,
            (Self::Refused { sentence, .. }, Self::Told(told))
            | (Self::Told(told), Self::Refused { sentence, .. }) => sentence == told,
            (Self::Refused { .. } | Self::Told(_), Self::InOwnWords(_))
            | (Self::InOwnWords(_), Self::Refused { .. } | Self::Told(_)) => true,
            _ => false,
        }
    }
}

/// Status and sentence; EST knows no 422 (RFC 7030 §4.2.3).
fn sentence(status: u16, said: &str) -> String {
    format!("{} {said}", if status == 422 { 400 } else { status })
}

fn der(pem: &str) -> Vec<u8> {
    use base64::Engine;
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

/// Everything but serial, key and key identifier: they differ between two certificates of any path.
fn all_but_key_and_serial(der: &[u8]) -> Vec<String> {
    let certificate = Certificate::from_der(der).unwrap();
    let tbs = certificate.tbs_certificate();
    let mut fields = vec![
        format!("{:?}", tbs.version()),
        hex(&tbs.issuer().to_der().unwrap()),
        hex(&tbs.subject().to_der().unwrap()),
        hex(&tbs.validity().to_der().unwrap()),
        hex(&tbs.subject_public_key_info().algorithm.to_der().unwrap()),
        hex(&tbs.signature().to_der().unwrap()),
    ];
    for extension in tbs.extensions().unwrap() {
        let own = extension.extn_id.to_string() == SUBJECT_KEY_IDENTIFIER;
        let value = if own { String::new() } else { hex(extension.extn_value.as_bytes()) };
        fields.push(format!("{} {} {value}", extension.extn_id, extension.critical));
    }
    fields
}

const SUBJECT_KEY_IDENTIFIER: &str = "2.5.29.14";

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
