//! Values that are picked from a list. The names are those of the file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One JSON object a line, in Bunyan's fields.
    Json,
    /// Lines for human eyes.
    Text,
}

/// How the connection to the mail server is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SmtpEncryption {
    /// Not at all. Refused together with a password, except towards this host.
    None,
    /// STARTTLS, required (RFC 3207); port 587 by default.
    #[default]
    Starttls,
    /// TLS from the first byte (RFC 8314); port 465 by default.
    Implicit,
}

impl SmtpEncryption {
    /// The usual port for this kind of connection.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::None => 25,
            Self::Starttls => 587,
            Self::Implicit => 465,
        }
    }
}

/// How control of a host name is proven to the ACME server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AcmeChallenge {
    /// A token at `/.well-known/acme-challenge/` on port 80 (RFC 8555 §8.3).
    #[default]
    #[serde(rename = "http-01")]
    Http01,
    /// A handshake on port 443 (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
}

/// A version of TLS that the edge speaks. Older ones do not exist here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "1.3")]
    V13,
    /// TLS 1.2 (RFC 5246), with ECDHE and AEAD suites only.
    #[serde(rename = "1.2")]
    V12,
}

/// A cipher suite by its IANA name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the names are IANA's and say it all")]
pub enum Suite {
    #[serde(rename = "TLS_AES_128_GCM_SHA256")]
    Aes128GcmSha256,
    #[serde(rename = "TLS_AES_256_GCM_SHA384")]
    Aes256GcmSha384,
    #[serde(rename = "TLS_CHACHA20_POLY1305_SHA256")]
    Chacha20Poly1305Sha256,
    #[serde(rename = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")]
    EcdheEcdsaAes128GcmSha256,
    #[serde(rename = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384")]
    EcdheEcdsaAes256GcmSha384,
    #[serde(rename = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256")]
    EcdheEcdsaChacha20Poly1305Sha256,
    #[serde(rename = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")]
    EcdheRsaAes128GcmSha256,
    #[serde(rename = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384")]
    EcdheRsaAes256GcmSha384,
    #[serde(rename = "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256")]
    EcdheRsaChacha20Poly1305Sha256,
}

impl Suite {
    /// What `modern` stands for, in order of preference. AES-128 leads: a handshake under a SHA-384
    /// suite costs 11 % more, and 128 bits are enough.
    pub const MODERN: [Self; 9] = [
        Self::Aes128GcmSha256,
        Self::Aes256GcmSha384,
        Self::Chacha20Poly1305Sha256,
        Self::EcdheEcdsaAes128GcmSha256,
        Self::EcdheEcdsaAes256GcmSha384,
        Self::EcdheEcdsaChacha20Poly1305Sha256,
        Self::EcdheRsaAes128GcmSha256,
        Self::EcdheRsaAes256GcmSha384,
        Self::EcdheRsaChacha20Poly1305Sha256,
    ];

    /// The two bytes on the wire (IANA registry of TLS cipher suites).
    pub const fn code(self) -> u16 {
        match self {
            Self::Aes128GcmSha256 => 0x1301,
            Self::Aes256GcmSha384 => 0x1302,
            Self::Chacha20Poly1305Sha256 => 0x1303,
            Self::EcdheEcdsaAes128GcmSha256 => 0xc02b,
            Self::EcdheEcdsaAes256GcmSha384 => 0xc02c,
            Self::EcdheRsaAes128GcmSha256 => 0xc02f,
            Self::EcdheRsaAes256GcmSha384 => 0xc030,
            Self::EcdheRsaChacha20Poly1305Sha256 => 0xcca8,
            Self::EcdheEcdsaChacha20Poly1305Sha256 => 0xcca9,
        }
    }

    /// The version that the suite belongs to.
    pub const fn version(self) -> TlsVersion {
        match self {
            Self::Aes128GcmSha256 | Self::Aes256GcmSha384 | Self::Chacha20Poly1305Sha256 => TlsVersion::V13,
            _ => TlsVersion::V12,
        }
    }
}

/// An entry of `edge.tls.suites`: one suite, or the word `modern` for all of [`Suite::MODERN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SuiteChoice {
    /// The maintained list.
    Named(SuiteList),
    /// One suite.
    One(Suite),
}

/// A maintained list of suites.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SuiteList {
    /// TLS 1.3, and for TLS 1.2 only ECDHE with AEAD.
    Modern,
}
