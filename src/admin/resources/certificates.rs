//! Client certificates. Every one of them comes out of the authority's one gate.

use std::collections::HashMap;

use poem_openapi::param::{Path, Query};
use poem_openapi::{Enum, Object, OpenApi};

use super::Tag;
use super::inventory::{read_search, read_sort};
use crate::admin::auth::caller::{Call, Caller};
use crate::admin::body::{Body, Created, Shown};
use crate::admin::error::{Outcome, Problem};
use crate::admin::fields::{self, Faults};
use crate::admin::page::{Page, filter, parameter};
use crate::admin::services::Services;
use crate::admin::values::{Enforced, RevocationReason, When};
use crate::ca::{DeviceChoice, Grounds, IssueRequest, Issued};
use crate::domain::{DeviceId, PersonId, Serial, Slug, UtcTime, renewal};
use crate::pki::pem;
use crate::store::certificates::{self as rows, Standing};
use crate::store::inventory::{Inquiry, Listed, Place};
use crate::store::invitations::{Invitation, InvitationState};

/// Longest signing request in PEM, in characters: 16 KiB of DER in base64 and the text around it.
const MAX_CSR: usize = 24 * 1024;

/// Operations on certificates.
pub struct Api(pub Services);

/// Where a certificate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
enum CertificateState {
    /// It passes.
    Active,
    /// It was taken back.
    Revoked,
    /// It is past its end.
    Expired,
}

/// A client certificate.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct Certificate {
    /// Lower-case hexadecimal, two digits a byte.
    serial: String,
    state: CertificateState,
    person_id: String,
    device_id: String,
    device_name: String,
    profile: String,
    authority: String,
    /// The common name.
    subject: String,
    email: Option<String>,
    not_before: When,
    not_after: When,
    issued_at: When,
    revoked_at: Option<When>,
    revocation_reason: Option<RevocationReason>,
    /// Since when its key is thought to be in other hands.
    invalid_since: Option<When>,
    /// What a certificate and its renewals have in common.
    lineage: String,
    /// The newest certificate of the lineage that ends later and was not revoked.
    replaced_by: Option<String>,
    /// From when on its holder is asked to renew: a fraction of the lifetime before its end.
    renewal_opens_at: When,
    /// Whether it is to be renewed now: active, past that time, and without a successor.
    renewal_due: bool,
    /// Of the DER encoding.
    sha256: String,
    pem: String,
    /// What a client sends behind it.
    chain_pem: String,
    /// When it is taken back because its renewal took over.
    supersede_at: Option<When>,
    /// The version of the profile that it was issued under.
    profile_version: u64,
    /// Present when it ends before its profile says, because its authority does.
    capped_by_authority: Option<bool>,
    enforced: Option<Enforced>,
}

/// A page of certificates.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct CertificateList {
    items: Vec<Certificate>,
    next_cursor: Option<String>,
}

/// What is to be certified.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct NewCertificate {
    /// A PKCS#10 signing request, PEM. Only its key is used.
    #[oai(validator(max_length = 24576))]
    csr: String,
    /// The device, if it is on record.
    #[oai(validator(max_length = 36))]
    device_id: Option<String>,
    /// The name of the device, if it is new.
    #[oai(validator(max_length = 64))]
    device_name: Option<String>,
    /// For whom; yourself if absent.
    #[oai(validator(max_length = 36))]
    person_id: Option<String>,
    /// Under which profile; `device` if absent.
    #[oai(validator(max_length = 63))]
    profile: Option<String>,
    /// DNS names for it, given by an administrator below the profile's suffixes.
    #[oai(validator(max_items = 64))]
    dns_names: Option<Vec<String>>,
}

/// Why a certificate is taken back.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct CertificateRevocation {
    reason: RevocationReason,
    /// Since when its key is thought to be in other hands, if known.
    invalid_since: Option<When>,
}

/// A request for the successor of a certificate.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct Renewal {
    /// A PKCS#10 signing request, PEM, with a new key.
    #[oai(validator(max_length = 24576))]
    csr: String,
}

#[OpenApi(prefix_path = "/api/v1/", tag = "Tag::Certificates")]
impl Api {
    /// Certificates: your own, or everyone's for an administrator
    ///
    /// Every order follows an index, so which there are depends on `state`: by `serial` (as usual) or
    /// `issued_at` without one, by `not_after` for `active` and `expired`, by `revoked_at` for `revoked`.
    /// A search of everyone's comes by what was found: serials, subjects, addresses, devices.
    #[oai(path = "/certificates", method = "get", operation_id = "listCertificates")]
    #[expect(clippy::too_many_arguments, reason = "each is a parameter of the query")]
    async fn list(
        &self,
        call: Call,
        /// `active`, `revoked` or `expired`
        state: Query<Option<String>>,
        person_id: Query<Option<String>>,
        device_id: Query<Option<String>>,
        /// How subject, e-mail address, device name or serial begins; at least two characters
        search: Query<Option<String>>,
        /// `serial`, `issued_at`, `not_after` or `revoked_at`; with `-` before it, greatest first
        sort: Query<Option<String>>,
        #[oai(validator(minimum(value = "1"), maximum(value = "200")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Outcome<Shown<CertificateList>> {
        let standing = match state.0.as_deref() {
            None => None,
            Some("active") => Some(Standing::Active),
            Some("revoked") => Some(Standing::Revoked),
            Some("expired") => Some(Standing::Expired),
            Some(_) => {
                return Err(parameter("state", "not_one_of", "Must be active, revoked or expired."));
            }
        };
        let page = Page::<Place>::read(&limit, &cursor)?;
        let inquiry = Inquiry {
            standing,
            person: call.caller()?.narrow(filter("person_id", &person_id)?)?,
            device: filter("device_id", &device_id)?,
            search: read_search(&search)?,
            sort: read_sort(&sort, standing)?,
            after: page.after.clone(),
        };
        if inquiry.after.as_ref().is_some_and(|after| !after.belongs_to(&inquiry)) {
            return Err(parameter("cursor", "invalid", "Is a cursor of another listing."));
        }
        let fetched = self.0.store().inventory(&inquiry, page.fetch(), call.now).await?;
        let (listed, next_cursor) = page.cut(fetched, |listed| listed.place.to_string());
        let successors = self.0.store().successors(listed.iter().map(|listed| &listed.certificate)).await?;
        let mut chains = HashMap::new();
        let mut items = Vec::with_capacity(listed.len());
        for Listed { certificate, device_name, .. } in listed {
            let authority = certificate.authority.clone();
            let chain = match chains.get(&authority) {
                Some(known) => String::clone(known),
                None => chain_pem(&self.0.ca().chain_of(&authority).await?),
            };
            chains.entry(authority).or_insert_with(|| chain.clone());
            let successor = successors.get(&certificate.serial).copied();
            items.push(show(certificate, device_name, successor, chain, call.now, None));
        }
        Ok(Shown::new(CertificateList { items, next_cursor }))
    }

    /// Issues a certificate
    #[oai(path = "/certificates", method = "post", operation_id = "issueCertificate")]
    async fn issue(&self, call: Call, body: Body<NewCertificate>) -> Outcome<Created<Certificate>> {
        let caller = call.caller()?;
        let invitation = self.invitation_of(caller, call.now).await?;
        let request = read_request(caller, body.0, invitation.as_ref())?;
        let (ca, act) = (self.0.ca(), call.act()?);
        let issued = match &invitation {
            Some(invitation) => ca.issue_invited(&request, invitation.id, act, call.now).await?,
            None => ca.issue(&request, act, call.now).await?,
        };
        Self::created(&call, issued)
    }

    /// One certificate
    #[oai(path = "/certificates/:serial", method = "get", operation_id = "getCertificate")]
    async fn show(&self, call: Call, serial: Path<String>) -> Outcome<Shown<Certificate>> {
        let certificate = self.reach(&call, &serial).await?;
        Ok(Shown::new(self.look(certificate, call.now, None).await?))
    }

    /// Revokes a certificate
    ///
    /// Again with the same reason changes nothing; with another it is refused, but for a rise to
    /// `keyCompromise`, which takes every certificate with the same key along, and out of
    /// `certificateHold`.
    #[oai(path = "/certificates/:serial/revocation", method = "post", operation_id = "revokeCertificate")]
    async fn revoke(
        &self,
        call: Call,
        serial: Path<String>,
        body: Body<CertificateRevocation>,
    ) -> Outcome<Shown<Certificate>> {
        let certificate = self.reach(&call, &serial).await?;
        let invalid_since = body.0.invalid_since.map(|since| since.0);
        let grounds = Grounds { reason: body.0.reason.into(), invalid_since };
        let revoked = self.0.ca().revoke_on(certificate.serial, grounds, call.act()?, call.now).await?;
        call.closed();
        let shown = self.look(revoked.certificate, call.now, Some(revoked.enforced.into())).await?;
        Ok(Shown::new(shown))
    }

    /// Lifts the hold of a certificate
    ///
    /// Only `certificateHold` can be lifted; every other reason is final.
    #[oai(path = "/certificates/:serial/release", method = "post", operation_id = "releaseCertificate")]
    async fn release(&self, call: Call, serial: Path<String>) -> Outcome<Shown<Certificate>> {
        let certificate = self.reach(&call, &serial).await?;
        let released = self.0.ca().release(certificate.serial, call.act()?, call.now).await?;
        call.closed();
        let shown = self.look(released.certificate, call.now, Some(released.enforced.into())).await?;
        Ok(Shown::new(shown))
    }

    /// Issues the successor of a certificate, under today's policy
    ///
    /// At the door a device may ask without signing in, by presenting the certificate that it renews.
    #[oai(path = "/certificates/:serial/renewal", method = "post", operation_id = "renewCertificate")]
    async fn renew(
        &self,
        call: Call,
        serial: Path<String>,
        body: Body<Renewal>,
    ) -> Outcome<Created<Certificate>> {
        let certificate = self.reach(&call, &serial).await?;
        call.caller()?.reach_renewal(certificate.person, certificate.serial)?;
        let renewed = self.0.ca().renew(certificate.serial, &body.0.csr, call.act()?, call.now).await?;
        Self::created(&call, renewed)
    }
}

impl Api {
    async fn reach(&self, call: &Call, serial: &Path<String>) -> Outcome<rows::Certificate> {
        let missing = || Problem::not_found("certificate");
        let serial: Serial = serial.0.parse().map_err(|_| missing())?;
        let certificate = self.0.store().certificate(serial).await?.ok_or_else(missing)?;
        call.caller()?.reach(certificate.person, "certificate")?;
        Ok(certificate)
    }

    /// The invitation that the caller is using, while it still gives a certificate.
    async fn invitation_of(&self, caller: &Caller, now: UtcTime) -> Outcome<Option<Invitation>> {
        let Some(id) = caller.enrolment().and_then(|session| session.invitation) else { return Ok(None) };
        let invitation = self.0.store().invitation(id).await?;
        // Asked again where the certificate is stored; here, so that nothing is signed for nobody.
        let gives = |invitation: &Invitation| invitation.state(now) == InvitationState::Accepted;
        invitation.filter(gives).map(Some).ok_or_else(used_up)
    }

    /// The answer that a request had which issued this certificate.
    ///
    /// # Errors
    /// 404 when there is no such certificate.
    pub(in crate::admin) async fn issued_before(
        &self,
        serial: Serial,
        now: UtcTime,
    ) -> Outcome<Created<Certificate>> {
        let row = self.0.store().certificate(serial).await?;
        let row = row.ok_or_else(|| Problem::not_found("certificate"))?;
        let enforced = self.0.enforce().bring_register_up_to_date().await;
        let location = format!("/api/v1/certificates/{serial}");
        Ok(Created::at(location, self.look(row, now, Some(enforced.into())).await?))
    }

    fn created(call: &Call, issued: Issued) -> Outcome<Created<Certificate>> {
        call.closed();
        let location = format!("/api/v1/certificates/{}", issued.certificate.serial);
        let Issued { certificate, device_name, chain, enforced, .. } = issued;
        let enforced = Some(enforced.into());
        let mut shown = show(certificate, device_name, None, chain_pem(&chain), call.now, enforced);
        shown.capped_by_authority = issued.is_capped.then_some(true);
        Ok(Created::at(location, shown))
    }

    async fn look(
        &self,
        row: rows::Certificate,
        now: UtcTime,
        enforced: Option<Enforced>,
    ) -> Outcome<Certificate> {
        let device = self.0.store().device(row.device).await?;
        let chain = self.0.ca().chain_of(&row.authority).await?;
        let device_name = device.map(|device| device.name).unwrap_or_default();
        let successor = self.0.store().successors([&row]).await?.get(&row.serial).copied();
        Ok(show(row, device_name, successor, chain_pem(&chain), now, enforced))
    }
}

fn chain_pem(chain: &[Vec<u8>]) -> String {
    chain.iter().map(|der| pem::block("CERTIFICATE", der)).collect()
}

fn show(
    row: rows::Certificate,
    device_name: String,
    replaced_by: Option<Serial>,
    chain_pem: String,
    now: UtcTime,
    enforced: Option<Enforced>,
) -> Certificate {
    let state = match row.revoked {
        Some(_) => CertificateState::Revoked,
        None if row.not_after < now => CertificateState::Expired,
        None => CertificateState::Active,
    };
    let opens_at = renewal::opens_at(row.not_before, row.not_after);
    let is_active = state == CertificateState::Active;
    Certificate {
        serial: row.serial.to_string(),
        state,
        person_id: row.person.to_string(),
        device_id: row.device.to_string(),
        device_name,
        profile: row.profile.to_string(),
        authority: row.authority.to_string(),
        subject: row.subject,
        email: row.email,
        not_before: row.not_before.into(),
        not_after: row.not_after.into(),
        issued_at: row.issued_at.into(),
        revoked_at: row.revoked.map(|(at, _)| at.into()),
        revocation_reason: row.revoked.map(|(_, reason)| reason.into()),
        invalid_since: row.invalid_since.map(When),
        lineage: row.lineage.to_string(),
        replaced_by: replaced_by.map(|serial| serial.to_string()),
        renewal_opens_at: opens_at.into(),
        renewal_due: is_active && replaced_by.is_none() && opens_at <= now,
        supersede_at: row.supersede_at.filter(|_| row.revoked.is_none()).map(Into::into),
        profile_version: row.profile_version,
        capped_by_authority: None,
        sha256: row.fingerprint.to_string(),
        pem: pem::block("CERTIFICATE", &row.der),
        chain_pem,
        enforced,
    }
}

fn used_up() -> Problem {
    Problem::conflict("invitation_used", "This invitation gave its certificate already, or was taken back.")
}

/// Reads what is asked for, and checks that this caller may.
fn read_request(
    caller: &Caller,
    body: NewCertificate,
    invitation: Option<&Invitation>,
) -> Outcome<IssueRequest> {
    let mut faults = Faults::default();
    let person = faults.take_if("/person_id", body.person_id.as_deref().map(str::parse::<PersonId>));
    let device = faults.take_if("/device_id", body.device_id.as_deref().map(str::parse::<DeviceId>));
    let name = faults.take_if("/device_name", body.device_name.as_deref().map(fields::name));
    let profile = faults.take_if("/profile", body.profile.as_deref().map(str::parse::<Slug>));
    let dns_names = fields::parsed(body.dns_names.as_deref().unwrap_or_default(), "/dns_names", &mut faults);
    if body.csr.len() > MAX_CSR {
        faults.add("/csr", "too_long", "The signing request is too long.");
    }
    let name = match invitation {
        Some(invitation) => {
            if device.is_some() {
                faults.add("/device_id", "not_allowed", "An invitation is for a new device.");
            }
            if profile.as_ref().is_some_and(|profile| *profile != invitation.profile) {
                faults.add("/profile", "not_allowed", "The invitation is for another profile.");
            }
            invitation.device_name.clone().or(name)
        }
        None => name,
    };
    let device = match (device, name) {
        (Some(_), Some(_)) if invitation.is_none() => {
            faults.add("/device_name", "not_allowed", "Give device_id or device_name, not both.");
            None
        }
        (Some(id), _) => Some(DeviceChoice::Existing(id)),
        (None, Some(name)) => Some(DeviceChoice::New { name }),
        (None, None) => {
            if body.device_id.is_none() && body.device_name.is_none() {
                faults.add("/device_name", "required", "Give device_id or device_name.");
            }
            None
        }
    };
    let device = faults.unless(device)?;
    let person = match person {
        Some(person) => person,
        None => caller.own().map_err(|_| Problem::field("/person_id", "required", "Is missing."))?.id,
    };
    caller.reach(person, "person")?;
    let profile = match (profile, invitation) {
        (Some(profile), _) => profile,
        (None, Some(invitation)) => invitation.profile.clone(),
        (None, None) => crate::pki::Profile::device().name,
    };
    Ok(IssueRequest { person, device, profile, csr_pem: body.csr, dns_names })
}
