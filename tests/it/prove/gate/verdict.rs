//! What came of a request, in the same words for every path.

use der::{Decode, Encode};
use serde_json::Value;
use x509_cert::Certificate;
use x509_cert::serial_number::SerialNumber;

/// The verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The to-be-signed bytes but for the serial.
    Issued(Vec<u8>),
    /// The rule: code, place and what it says.
    Refused(String),
}

impl Verdict {
    /// Of an answer of the API.
    pub(super) fn of(status: u16, body: &Value) -> Self {
        if status == 201 {
            return Self::Issued(without_serial(body["pem"].as_str().unwrap()));
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

fn without_serial(pem: &str) -> Vec<u8> {
    use base64::Engine;
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    let certificate = Certificate::from_der(&der).unwrap();
    let tbs = certificate.tbs_certificate().to_der().unwrap();
    let serial: &SerialNumber = certificate.tbs_certificate().serial_number();
    let octets = serial.to_der().unwrap();
    let at = tbs.windows(octets.len()).position(|part| part == octets).unwrap();
    [&tbs[..at], &tbs[at + octets.len()..]].concat()
}
