//! Why a certificate was taken back.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// RFC 5280 §5.3.1 CRLReason, with its camelCase names. `removeFromCRL` exists only on delta CRLs
/// and is not a reason a caller can give; 7 is unused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[repr(u8)]
pub enum RevocationReason {
    /// No reason given; the extension is omitted from the CRL (RFC 5280 §5.3.1).
    Unspecified = 0,
    /// The private key is in other hands, or may be.
    KeyCompromise = 1,
    /// The authority's key is.
    #[serde(rename = "cACompromise")]
    CaCompromise = 2,
    /// The person left the group or changed their name.
    AffiliationChanged = 3,
    /// A newer certificate of the lineage took over.
    Superseded = 4,
    /// The device is no longer used.
    CessationOfOperation = 5,
    /// Suspended; the only reason that can be lifted.
    CertificateHold = 6,
    /// The right to the certificate was withdrawn.
    PrivilegeWithdrawn = 9,
    /// An attribute authority was compromised.
    #[serde(rename = "aACompromise")]
    AaCompromise = 10,
}

impl RevocationReason {
    /// Every reason, in the order of its code.
    pub const ALL: [Self; 9] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::CaCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::CertificateHold,
        Self::PrivilegeWithdrawn,
        Self::AaCompromise,
    ];

    /// The CRLReason code.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The reason with this CRLReason code, if there is one.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// The RFC 5280 name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::CaCompromise => "cACompromise",
            Self::AffiliationChanged => "affiliationChanged",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
            Self::CertificateHold => "certificateHold",
            Self::PrivilegeWithdrawn => "privilegeWithdrawn",
            Self::AaCompromise => "aACompromise",
        }
    }
}

impl fmt::Display for RevocationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text is not a reason a caller can give.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be one of unspecified, keyCompromise, cACompromise, affiliationChanged, superseded, \
     cessationOfOperation, certificateHold, privilegeWithdrawn, aACompromise"
)]
pub struct ParseReasonError;

impl FromStr for RevocationReason {
    type Err = ParseReasonError;
    fn from_str(text: &str) -> Result<Self, ParseReasonError> {
        Self::ALL.into_iter().find(|reason| reason.name() == text).ok_or(ParseReasonError)
    }
}
