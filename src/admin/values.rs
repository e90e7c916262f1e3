//! Words of the house as the API spells them: the same names as in rows and logs.

use std::borrow::Cow;

use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type};
use poem_openapi::{Enum, Object};
use serde_json::Value;

use crate::domain::{self, UtcTime};

/// A UTC instant as RFC 3339 text.
#[derive(Clone, Copy, Debug)]
pub struct When(pub UtcTime);

impl Type for When {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "string(date-time)".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema::new_with_format("string", "date-time")))
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(Some(self).into_iter())
    }
}

impl ToJSON for When {
    fn to_json(&self) -> Option<Value> {
        Some(Value::String(self.0.to_string()))
    }
}

impl ParseFromJSON for When {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        let text = value.as_ref().and_then(Value::as_str).ok_or_else(ParseError::expected_input)?;
        Ok(Self(text.parse::<UtcTime>().map_err(ParseError::custom)?))
    }
}

impl From<UtcTime> for When {
    fn from(time: UtcTime) -> Self {
        Self(time)
    }
}

/// What a person or token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case", remote = "domain::Role")]
pub enum Role {
    /// Reaches only what is their own.
    Member,
    /// Runs the house.
    Administrator,
}

/// Why a certificate was taken back (RFC 5280, section 5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "camelCase", remote = "domain::RevocationReason")]
pub enum RevocationReason {
    /// No reason given.
    Unspecified,
    /// The private key is in other hands, or may be.
    KeyCompromise,
    /// The authority's key is.
    #[oai(rename = "cACompromise")]
    CaCompromise,
    /// The person left the group or changed their name.
    AffiliationChanged,
    /// A newer certificate of the lineage took over.
    Superseded,
    /// The device is no longer used.
    CessationOfOperation,
    /// Suspended.
    CertificateHold,
    /// The right to the certificate was withdrawn.
    PrivilegeWithdrawn,
    /// An attribute authority was compromised.
    #[oai(rename = "aACompromise")]
    AaCompromise,
}

/// How a site asks for a client certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case", remote = "domain::ClientAuth")]
pub enum ClientAuth {
    /// Never.
    None,
    /// Asks, takes any answer, and decides where a person can read why.
    Request,
    /// Whoever has no known certificate gets a TLS alert.
    Require,
}

/// How many edges are connected, and how many have taken the change over.
#[derive(Clone, Copy, Debug, Object)]
pub struct Enforced {
    /// Connected edges.
    pub edges: u32,
    /// Those that have it.
    pub acknowledged: u32,
}

impl From<domain::Enforced> for Enforced {
    fn from(enforced: domain::Enforced) -> Self {
        Self { edges: enforced.edges, acknowledged: enforced.acknowledged }
    }
}

/// The reason for taking something back.
#[derive(Clone, Copy, Debug, Object)]
#[oai(deny_unknown_fields)]
pub struct Revocation {
    /// Why.
    pub reason: RevocationReason,
}
