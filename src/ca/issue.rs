//! Who gets a certificate: the checks before the gate, the same for a first certificate and a renewal.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Ca;
use super::gate::{GateError, Order, Passed};
use crate::domain::audit::Act;
use crate::domain::{DeviceId, Enforced, Hostname, InvitationId, LineageId, PersonId, Serial, Slug, UtcTime};
use crate::pki::csr::CsrError;
use crate::pki::{KeyPolicy, Profile, SigningRequest, chain};
use crate::store::StoreError;
use crate::store::authorities::Authority;
use crate::store::certificates::Certificate;
use crate::store::issuance::Standing;
use crate::store::people::{Device, Person};

/// Which device a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// One that is on record; it must be the person's.
    Existing(DeviceId),
    /// A new one of this name.
    New {
        /// What the person calls it.
        name: String,
    },
}

/// A request for a first certificate on a device. Whoever builds one has checked that the actor may.
#[derive(Clone, Debug)]
pub struct IssueRequest {
    /// For whom.
    pub person: PersonId,
    /// For which device.
    pub device: DeviceChoice,
    /// Under which profile.
    pub profile: Slug,
    /// PKCS#10, PEM. Only the public key is taken from it.
    pub csr_pem: String,
    /// DNS names that an administrator gives it; the profile says below which suffixes.
    pub dns_names: BTreeSet<Hostname>,
}

/// A certificate that was issued.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: Certificate,
    /// What its device is called.
    pub device_name: String,
    /// What a client sends behind it, DER.
    pub chain: Vec<Vec<u8>>,
    /// Whether it ends with its issuer, before its profile's lifetime is over.
    pub is_capped: bool,
    /// How many edges know it already.
    pub enforced: Enforced,
}

/// Why no certificate was issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The signing request cannot be used; the caller can fix it. -> 422
    #[error("the signing request was refused")]
    Csr(#[source] CsrError),
    /// There is no such person. -> 404
    #[error("there is no such person")]
    NoPerson,
    /// The person is shut out. -> 403
    #[error("the person is disabled")]
    PersonDisabled,
    /// There is no such device of this person's. -> 404
    #[error("there is no such device")]
    NoDevice,
    /// There is no such profile. -> 422
    #[error("there is no profile {0}")]
    NoProfile(Slug),
    /// There is no such certificate. -> 404
    #[error("there is no such certificate")]
    NoCertificate,
    /// It was revoked; a revoked certificate is not renewed. -> 409
    #[error("a revoked certificate cannot be renewed: enrol the device again")]
    Revoked,
    /// It has expired; its holder can no longer prove anything with it. -> 409
    #[error("an expired certificate cannot be renewed: enrol the device again")]
    Expired,
    /// The gate stayed shut.
    #[error(transparent)]
    Gate(#[from] GateError),
}

/// Whom and what a certificate is for.
struct Subject<'a> {
    person: &'a Person,
    device: Device,
    device_is_new: bool,
    invitation: Option<InvitationId>,
    predecessor: Option<Certificate>,
    profile: &'a Profile,
    authority: Option<&'a Authority>,
}

impl From<StoreError> for IssueError {
    fn from(error: StoreError) -> Self {
        Self::Gate(GateError::Store(error))
    }
}

impl IssueError {
    /// Whether it was found before what was kept of the rows was compared with them, or because it was
    /// old: nothing is on record yet, and with what the rows say now something else may come first.
    fn is_before_comparison(&self) -> bool {
        matches!(self, Self::Csr(_) | Self::NoDevice | Self::Gate(GateError::Outdated))
    }
}

impl Ca {
    pub(super) async fn issue_first(
        &self,
        request: &IssueRequest,
        invitation: Option<InvitationId>,
        act: &Act,
        now: UtcTime,
    ) -> Result<Issued, IssueError> {
        match self.try_first(request, invitation, act, now, false).await {
            Err(error) if error.is_before_comparison() => {
                self.try_first(request, invitation, act, now, true).await
            }
            done => done,
        }
    }

    async fn try_first(
        &self,
        request: &IssueRequest,
        invitation: Option<InvitationId>,
        act: &Act,
        now: UtcTime,
        afresh: bool,
    ) -> Result<Issued, IssueError> {
        let standing = self.0.store.standing(request.person, &request.profile, afresh).await?;
        let person = in_good_standing(standing.person.as_ref())?;
        let (device, device_is_new) = match &request.device {
            DeviceChoice::Existing(id) => {
                let device = self.0.store.device(*id).await?;
                (device.filter(|device| device.person == person.id).ok_or(IssueError::NoDevice)?, false)
            }
            DeviceChoice::New { name } => (new_device(person.id, name, now), true),
        };
        let profile = standing.profile.as_ref();
        let profile = profile.ok_or_else(|| IssueError::NoProfile(request.profile.clone()))?;
        let authority = standing.authority.as_ref();
        let subject =
            Subject { person, device, device_is_new, invitation, predecessor: None, profile, authority };
        self.check_and_pass(&subject, &standing, &request.csr_pem, &request.dns_names, act, now).await
    }

    pub(super) async fn issue_successor(
        &self,
        serial: Serial,
        csr_pem: &str,
        act: &Act,
        now: UtcTime,
    ) -> Result<Issued, IssueError> {
        match self.try_successor(serial, csr_pem, act, now, false).await {
            Err(error) if error.is_before_comparison() => {
                self.try_successor(serial, csr_pem, act, now, true).await
            }
            done => done,
        }
    }

    async fn try_successor(
        &self,
        serial: Serial,
        csr_pem: &str,
        act: &Act,
        now: UtcTime,
        afresh: bool,
    ) -> Result<Issued, IssueError> {
        let old = self.0.store.certificate(serial).await?.ok_or(IssueError::NoCertificate)?;
        if old.revoked.is_some() {
            return Err(IssueError::Revoked);
        }
        if now > old.not_after {
            return Err(IssueError::Expired);
        }
        let standing = self.0.store.standing(old.person, &old.profile, afresh).await?;
        let person = in_good_standing(standing.person.as_ref())?;
        let device = self.0.store.device(old.device).await?.ok_or(IssueError::NoDevice)?;
        let profile = standing.profile.as_ref().ok_or_else(|| IssueError::NoProfile(old.profile.clone()))?;
        let (authority, dns_names) = (standing.authority.as_ref(), read_dns_names(&old)?);
        let subject = Subject {
            person,
            device,
            device_is_new: false,
            invitation: None,
            predecessor: Some(old),
            profile,
            authority,
        };
        self.check_and_pass(&subject, &standing, csr_pem, &dns_names, act, now).await
    }

    async fn check_and_pass(
        &self,
        subject: &Subject<'_>,
        standing: &Arc<Standing>,
        csr_pem: &str,
        dns_names: &BTreeSet<Hostname>,
        act: &Act,
        now: UtcTime,
    ) -> Result<Issued, IssueError> {
        // Any kind of key that can be read: which ones the profile takes is one of its rules.
        let request = SigningRequest::from_pem(csr_pem, &KeyPolicy::ANY).map_err(IssueError::Csr)?;
        let predecessor = subject.predecessor.as_ref();
        let order = Order {
            person: subject.person,
            device: &subject.device,
            device_is_new: subject.device_is_new,
            invitation: subject.invitation,
            profile: subject.profile,
            authority: subject.authority,
            public_key: request.public_key(),
            lineage: predecessor.map_or_else(LineageId::new, |old| old.lineage),
            predecessor,
            dns_names,
        };
        let Passed { certificate, chain, is_capped } = self.pass_gate(&order, act, now).await?;
        self.0.store.keep_standing(standing);
        tracing::info!(
            cert.serial = %certificate.serial, cert.ends = %certificate.not_after,
            person.id = %certificate.person, device.id = %certificate.device, "Issued a client certificate"
        );
        let enforced = self.0.enforce.bring_register_up_to_date().await;
        let device_name = subject.device.name.clone();
        Ok(Issued { certificate, device_name, chain, is_capped, enforced })
    }
}

fn in_good_standing(person: Option<&Person>) -> Result<&Person, IssueError> {
    let person = person.ok_or(IssueError::NoPerson)?;
    if person.disabled { Err(IssueError::PersonDisabled) } else { Ok(person) }
}

/// The DNS names that an administrator gave the certificate; its successor keeps them while the profile
/// still admits them.
fn read_dns_names(certificate: &Certificate) -> Result<BTreeSet<Hostname>, StoreError> {
    let corrupt = |detail: String| StoreError::Corrupt { what: "a certificate", detail };
    chain::dns_names(&certificate.der).map_err(|error| corrupt(error.to_string()))
}

fn new_device(person: PersonId, name: &str, now: UtcTime) -> Device {
    Device { id: DeviceId::new(), person, name: name.to_owned(), created_at: now, version: 1 }
}
