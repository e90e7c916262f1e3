//! What a key ceremony is to make, as one file that people review.
//!
//! The running system writes the plan; the machine of the ceremony, which is never online, makes root,
//! issuing certificate and list from it; and the running system takes back only what is, byte for byte,
//! what the plan leads to. Both sides therefore use the same three `prepare_*` functions.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::authority::{AuthorityCertificate, AuthorityError};
use super::crl::{Crl, PreparedCrl, RevokedEntry, prepare_crl};
use super::issuer::{
    AuthorityKind, AuthorityTemplate, ISSUING_PATH_LEN, PrepareError, ROOT_PATH_LEN, prepare_authority,
    prepare_root,
};
use super::prepared::{AssembleError, Certificate, Prepared};
use super::read::Signed;
use crate::domain::{Fingerprint, RevocationReason, Serial, Slug, UtcTime};

/// The version of the plan's format.
const FORMAT: u32 = 1;
/// Longer plans are refused unread.
pub const MAX_OCTETS: usize = 1024 * 1024;

/// A ceremony, as it was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The version of this format.
    pub format: u32,
    /// What the installation is called.
    pub installation: String,
    /// When it was planned.
    pub planned_at: UtcTime,
    /// The root: to be made, or the one that signs.
    pub root: RootPlan,
    /// The issuing authority that is to be signed, if one is.
    pub issuing: Option<IssuingPlan>,
    /// The root's revocation list that is to be signed.
    pub list: ListPlan,
}

/// The root of a ceremony.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootPlan {
    /// The slug of this generation.
    pub name: Slug,
    /// Its common name.
    pub common_name: String,
    /// Its serial.
    pub serial: Serial,
    /// Start of validity, inclusive.
    pub not_before: UtcTime,
    /// End of validity, inclusive.
    pub not_after: UtcTime,
    /// What key it has.
    pub key: KeyChoice,
    /// How many authorities may stand below it; always [`ROOT_PATH_LEN`].
    pub path_length: u8,
    /// SHA-256 of its certificate if it was made before; absent when this ceremony makes it.
    pub certificate_sha256: Option<String>,
}

/// Keys of authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyChoice {
    /// ECDSA on NIST P-256, signing with SHA-256.
    #[serde(rename = "EC P-256")]
    P256,
}

/// The issuing authority of a ceremony. Its private key never leaves the running system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuingPlan {
    /// The slug of this generation.
    pub name: Slug,
    /// Its common name.
    pub common_name: String,
    /// Its serial.
    pub serial: Serial,
    /// Start of validity, inclusive.
    pub not_before: UtcTime,
    /// End of validity, inclusive.
    pub not_after: UtcTime,
    /// How many authorities may stand below it; always [`ISSUING_PATH_LEN`].
    pub path_length: u8,
    /// Its public key, SubjectPublicKeyInfo DER in base64.
    pub public_key: String,
    /// SHA-256 of that DER, to compare by eye.
    pub public_key_sha256: String,
    /// Where the root's list will be, plain HTTP.
    pub crl_url: String,
    /// Where the root's certificate will be, plain HTTP.
    pub issuer_url: String,
}

/// The root's revocation list of a ceremony.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListPlan {
    /// Greater than that of any list of this root before.
    pub number: u64,
    /// When it counts from.
    pub this_update: UtcTime,
    /// By when the next ceremony must have brought another.
    pub next_update: UtcTime,
    /// What it names.
    #[serde(default)]
    pub revoked: Vec<RevokedPlan>,
}

/// One entry of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedPlan {
    /// Its serial.
    pub serial: Serial,
    /// When it was revoked.
    pub at: UtcTime,
    /// Why.
    pub reason: RevocationReason,
}

/// Why a plan or what came of it is refused.
#[derive(Debug, thiserror::Error)]
pub enum CeremonyError {
    /// Not a plan that we write.
    #[error("the plan cannot be read: {0}")]
    Plan(String),
    /// Another version wrote it.
    #[error("the plan has format {0}, and this program knows {FORMAT}")]
    Format(u32),
    /// The key in it is not the one that its digest names.
    #[error("the issuing authority's public key in the plan is not the one that its SHA-256 names")]
    PublicKey,
    /// This ceremony makes no root, or makes one where an existing one was given.
    #[error("{0}")]
    Root(&'static str),
    /// The certificate of the root cannot be read.
    #[error("the root's certificate cannot be used")]
    RootCertificate(#[from] AuthorityError),
    /// The bytes would break a rule.
    #[error("what the plan leads to is refused")]
    Prepare(#[from] PrepareError),
    /// What was brought is not what the plan leads to, or not signed by its root.
    #[error("the {what} is not, byte for byte, what the plan leads to")]
    Differs {
        /// Which of the things that were brought.
        what: &'static str,
    },
}

impl Plan {
    /// A plan in this program's format.
    pub fn new(
        installation: String,
        planned_at: UtcTime,
        root: RootPlan,
        issuing: Option<IssuingPlan>,
        list: ListPlan,
    ) -> Self {
        Self { format: FORMAT, installation, planned_at, root, issuing, list }
    }

    /// The file, with a line for the people who review it.
    ///
    /// # Errors
    /// [`CeremonyError::Plan`]; a fault of this program.
    pub fn to_text(&self) -> Result<String, CeremonyError> {
        let body = toml::to_string(self).map_err(|error| CeremonyError::Plan(error.to_string()))?;
        Ok(format!(
            "# The plan of a key ceremony of Wicketgate. Review every line; the ceremony makes exactly this.\n\
             # Whoever changes a character makes another plan, which the running system will not take.\n\n{body}"
        ))
    }

    /// Reads a plan.
    ///
    /// # Errors
    /// [`CeremonyError::Plan`], [`CeremonyError::Format`], [`CeremonyError::PublicKey`].
    pub fn from_text(text: &str) -> Result<Self, CeremonyError> {
        if text.len() > MAX_OCTETS {
            return Err(CeremonyError::Plan("it is too long".to_owned()));
        }
        let plan: Self = toml::from_str(text).map_err(|error| CeremonyError::Plan(error.to_string()))?;
        if plan.format != FORMAT {
            return Err(CeremonyError::Format(plan.format));
        }
        // They are there to be reviewed; what is made has these and no others.
        let issuing_length = plan.issuing.as_ref().map_or(ISSUING_PATH_LEN, |issuing| issuing.path_length);
        if (plan.root.path_length, issuing_length) != (ROOT_PATH_LEN, ISSUING_PATH_LEN) {
            let must = format!("path_length must be {ROOT_PATH_LEN} for a root, {ISSUING_PATH_LEN} below it");
            return Err(CeremonyError::Plan(must));
        }
        if let Some(issuing) = &plan.issuing {
            issuing.spki()?;
        }
        Ok(plan)
    }

    /// What a plan is known by: SHA-256 of its file, hexadecimal.
    pub fn sha256(text: &str) -> String {
        Fingerprint::of(text.as_bytes()).to_string()
    }

    /// The root that this ceremony makes, for the key `spki`.
    ///
    /// # Errors
    /// [`CeremonyError::Root`] when it makes none, [`CeremonyError::Prepare`].
    pub fn prepare_root(&self, spki: &[u8]) -> Result<Prepared, CeremonyError> {
        if self.root.certificate_sha256.is_some() {
            return Err(CeremonyError::Root(
                "this plan is for a root that there is already: go on with `sign`",
            ));
        }
        let template = AuthorityTemplate {
            kind: AuthorityKind::Root,
            serial: self.root.serial,
            spki_der: spki,
            common_name: &self.root.common_name,
            organization: None,
            not_before: self.root.not_before,
            not_after: self.root.not_after,
            crl_urls: &[],
            issuer_urls: &[],
        };
        Ok(prepare_root(&template)?)
    }

    /// The issuing authority's certificate under `root`; none if this ceremony signs none.
    ///
    /// # Errors
    /// [`CeremonyError::Prepare`], [`CeremonyError::PublicKey`].
    pub fn prepare_issuing(&self, root: &AuthorityCertificate) -> Result<Option<Prepared>, CeremonyError> {
        let Some(issuing) = &self.issuing else { return Ok(None) };
        let (crl_urls, issuer_urls) = ([issuing.crl_url.clone()], [issuing.issuer_url.clone()]);
        let template = AuthorityTemplate {
            kind: AuthorityKind::Issuing,
            serial: issuing.serial,
            spki_der: &issuing.spki()?,
            common_name: &issuing.common_name,
            organization: None,
            not_before: issuing.not_before,
            not_after: issuing.not_after,
            crl_urls: &crl_urls,
            issuer_urls: &issuer_urls,
        };
        Ok(Some(prepare_authority(root, &template)?))
    }

    /// The root's list.
    ///
    /// # Errors
    /// [`CeremonyError::Prepare`].
    pub fn prepare_list(&self, root: &AuthorityCertificate) -> Result<PreparedCrl, CeremonyError> {
        let entries: Vec<_> = self.list.revoked.iter().map(RevokedPlan::entry).collect();
        let ListPlan { number, this_update, next_update, .. } = self.list;
        Ok(prepare_crl(root, number, this_update, next_update.min(root.not_after()), &entries, None)?)
    }

    /// Takes a root that was brought: the planned one, signed by itself, or the very one that was named.
    ///
    /// # Errors
    /// [`CeremonyError::Differs`], [`CeremonyError::RootCertificate`].
    pub fn take_root(&self, der: &[u8]) -> Result<AuthorityCertificate, CeremonyError> {
        let root = AuthorityCertificate::from_der(der)?;
        match &self.root.certificate_sha256 {
            Some(known) if root.fingerprint().to_string() == *known => {}
            Some(_) => return Err(CeremonyError::Differs { what: "root" }),
            None => same(self.prepare_root(root.spki_der())?, der, "root").map(drop)?,
        }
        Ok(root)
    }

    /// Takes the issuing authority's certificate that was brought.
    ///
    /// # Errors
    /// [`CeremonyError::Differs`], also when one was brought that was not planned, or the reverse.
    pub fn take_issuing(
        &self,
        root: &AuthorityCertificate,
        der: Option<&[u8]>,
    ) -> Result<Option<Certificate>, CeremonyError> {
        let what = "issuing authority's certificate";
        match (self.prepare_issuing(root)?, der) {
            (Some(prepared), Some(der)) => same(prepared, der, what).map(Some),
            (None, None) => Ok(None),
            _ => Err(CeremonyError::Differs { what }),
        }
    }

    /// Takes the root's list that was brought.
    ///
    /// # Errors
    /// [`CeremonyError::Differs`].
    pub fn take_list(&self, root: &AuthorityCertificate, der: &[u8]) -> Result<Crl, CeremonyError> {
        let differs = || CeremonyError::Differs { what: "revocation list" };
        let prepared = self.prepare_list(root)?;
        let signed = Signed::from_der(der).map_err(|_| differs())?;
        let list = prepared.assemble(signed.signature).map_err(|_: AssembleError| differs())?;
        if list.der() == der { Ok(list) } else { Err(differs()) }
    }
}

impl IssuingPlan {
    /// Its SubjectPublicKeyInfo, DER.
    ///
    /// # Errors
    /// [`CeremonyError::PublicKey`].
    pub fn spki(&self) -> Result<Vec<u8>, CeremonyError> {
        let spki = STANDARD.decode(&self.public_key).map_err(|_| CeremonyError::PublicKey)?;
        let right = Fingerprint::of(&spki).to_string() == self.public_key_sha256;
        if right { Ok(spki) } else { Err(CeremonyError::PublicKey) }
    }
}

impl RevokedPlan {
    fn entry(&self) -> RevokedEntry {
        RevokedEntry { serial: self.serial, revoked_at: self.at, reason: self.reason, invalid_since: None }
    }
}

/// The signature that was brought, on the bytes that were planned, gives what was brought.
fn same(prepared: Prepared, der: &[u8], what: &'static str) -> Result<Certificate, CeremonyError> {
    let differs = || CeremonyError::Differs { what };
    let signed = Signed::from_der(der).map_err(|_| differs())?;
    let certificate = prepared.assemble(signed.signature).map_err(|_: AssembleError| differs())?;
    if certificate.der() == der { Ok(certificate) } else { Err(differs()) }
}

#[cfg(test)]
mod tests;
