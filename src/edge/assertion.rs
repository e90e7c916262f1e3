//! `Wicketgate-Assertion`: a short-lived JWT that tells a backend who passed, signed so that it need
//! not trust the network between us (design, section 4, "To backends").

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use tracing::error;

use crate::domain::UtcTime;
use crate::live::{Configuration, Identity};

/// From `iat` to `exp`.
const LIFETIME: Duration = Duration::from_secs(60);
/// An assertion is used again until half of its life is over.
const REUSE: Duration = Duration::from_secs(30);

/// Signs assertions under the key of one configuration version.
pub(super) struct Signer {
    version: u64,
    key: EcdsaKeyPair,
    header: String,
    issuer: String,
}

/// A signed assertion and until when it may be sent.
#[derive(Clone, Debug)]
pub(super) struct Assertion {
    pub(super) value: HeaderValue,
    version: u64,
    signed_at: UtcTime,
}

impl Assertion {
    /// Whether `signer` would sign the same statement again.
    pub(super) fn made_by(&self, signer: &Signer) -> bool {
        self.version == signer.version
    }

    /// Whether it is young enough; a clock that went backwards makes it too old.
    pub(super) fn may_be_sent(&self, now: UtcTime) -> bool {
        now >= self.signed_at && now.since(self.signed_at) <= REUSE
    }
}

impl Signer {
    /// The signer of this configuration; `None` without a usable key, and then none is sent.
    pub(super) fn of(configuration: &Configuration) -> Option<Self> {
        let data = configuration.assertion.as_ref()?;
        match EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, data.key.0.expose()) {
            Ok(key) => {
                let header = serde_json::json!({ "alg": "ES256", "typ": "JWT", "kid": data.kid });
                Some(Self {
                    version: configuration.version,
                    key,
                    header: URL_SAFE_NO_PAD.encode(header.to_string()),
                    issuer: configuration.installation.clone(),
                })
            }
            Err(_) => {
                error!(kid = %data.kid, "the assertion key cannot be read; backends get no assertions");
                None
            }
        }
    }

    /// States that `identity` passed at `now`, to `audience` only.
    pub(super) fn sign(&self, identity: &Identity, audience: &str, now: UtcTime) -> Option<Assertion> {
        let claims = serde_json::json!({
            "iss": self.issuer,
            "sub": identity.person().id.to_string(),
            "aud": audience,
            "iat": now.as_unix(),
            "exp": now.plus(LIFETIME).as_unix(),
            // RFC 8705 §3.1.
            "cnf": { "x5t#S256": URL_SAFE_NO_PAD.encode(identity.fingerprint().0) },
        });
        let mut token = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.key.sign(&SystemRandom::new(), token.as_bytes()).ok()?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        Some(Assertion { value: HeaderValue::try_from(token).ok()?, version: self.version, signed_at: now })
    }
}
