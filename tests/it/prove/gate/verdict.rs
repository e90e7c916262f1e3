//! What came of a request, in the same words for every path.

use der::{Decode, Encode};
use serde_json::Value;
use x509_cert::Certificate;

/// The verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// What it says, but for serial and key.
    Issued(Vec<String>),
    /// The rule: code, place and what it says.
    Refused(String),
}

impl Verdict {
    /// Of an answer of the API.
    pub(super) fn of(status: u16, body: &Value) -> Self {
        if status == 201 {
            return Self::Issued(all_but_key_and_serial(body["pem"].as_str().unwrap()));
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
        Self::Refused(format!("{status} {code} {}", errors.join("; ")).trim_end().to_owned())
    }
}

/// Everything but serial, key and key identifier: they differ between two certificates of any path.
fn all_but_key_and_serial(pem: &str) -> Vec<String> {
    use base64::Engine;
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    let certificate = Certificate::from_der(&der).unwrap();
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
