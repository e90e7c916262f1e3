//! Who is behind a presented chain. The only constructor of [`Identity`], for handshakes and requests alike.
//!
//! The leaf's exact bytes are looked up in the register; the handshake has proven that the peer holds
//! its key. On record, active, in its dates, of a person in good standing, under an authority in
//! force: known. Everything else is refused, and only then is the chain read, to name the cause.

use std::fmt;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;

use super::register::{Register, Standing};
use crate::domain::{
    AuthorityKind, AuthorityRecord, DeviceId, Fingerprint, PersonRecord, RevocationReason, Serial, Slug,
    UtcTime,
};
use crate::pki::chain;

/// A person's device, known by a certificate that is on record. Only [`classify`] makes one.
#[derive(Clone, Debug)]
pub struct Identity {
    fingerprint: Fingerprint,
    serial: Serial,
    person: Arc<PersonRecord>,
    device: DeviceId,
    profile: Slug,
    authority: Arc<AuthorityRecord>,
    not_before: UtcTime,
    not_after: UtcTime,
}

impl Identity {
    /// SHA-256 of the certificate.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }
    /// The certificate's serial.
    pub fn serial(&self) -> Serial {
        self.serial
    }
    /// Whose device it is.
    pub fn person(&self) -> &Arc<PersonRecord> {
        &self.person
    }
    /// Which device it is.
    pub fn device(&self) -> DeviceId {
        self.device
    }
    /// The profile the certificate was issued under.
    pub fn profile(&self) -> &Slug {
        &self.profile
    }
    /// The authority that signed it.
    pub fn authority(&self) -> &Arc<AuthorityRecord> {
        &self.authority
    }
    /// The first second at which it passes.
    pub fn not_before(&self) -> UtcTime {
        self.not_before
    }
    /// The last second at which it passes.
    pub fn not_after(&self) -> UtcTime {
        self.not_after
    }

    /// Whether [`classify`] would make the same of it now, so that all that was made from it still holds.
    /// The same questions as there, without reading the certificate again. As there, whoever calls has
    /// read `register.epoch()` before.
    pub fn is_current(&self, now: UtcTime, register: &Register) -> bool {
        let Some(standing) = register.look_up(&self.fingerprint) else { return false };
        match judge(self.fingerprint, standing, now) {
            Classified::Known(again) => {
                Arc::ptr_eq(&again.person, &self.person)
                    && Arc::ptr_eq(&again.authority, &self.authority)
                    && (again.serial, again.device, again.not_before, again.not_after)
                        == (self.serial, self.device, self.not_before, self.not_after)
                    && again.profile == self.profile
            }
            Classified::None | Classified::Refused(_) => false,
        }
    }
}

/// What a chain turned out to be.
#[derive(Clone, Debug)]
pub enum Classified {
    /// No certificate was presented.
    None,
    /// One was presented, and does not pass.
    Refused(Refusal),
    /// A device of ours.
    Known(Identity),
}

/// Why a presented certificate does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The cause, told apart in logs, metrics and pages.
    pub cause: Cause,
    /// The presented serial, if it could be read. An attacker's text unless the cause says "on record".
    pub serial: Option<Serial>,
    /// The issuer that the certificate names, if it could be read.
    pub issuer: Option<Issuer>,
}

/// The issuer that a certificate names. It need not have signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Issuer {
    /// One of ours.
    Own(Slug),
    /// Somebody else: SHA-256 of the Name's DER. The text itself may be anything, people's addresses too.
    Foreign(Fingerprint),
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(name) => write!(f, "{name}"),
            Self::Foreign(name) => write!(f, "sha256:{name}"),
        }
    }
}

/// The causes of a refusal by certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// On record, but past its end.
    Expired,
    /// On record, but before its start.
    NotYetValid,
    /// On record, and revoked.
    Revoked(RevocationReason),
    /// On record, but its person is disabled or gone.
    PersonDisabled,
    /// On record, but its authority is no longer in force.
    AuthorityRetired,
    /// Signed by an authority of ours, but not recorded by the gate.
    NotOnRecord,
    /// Not for client authentication (a server's leaf, or an authority itself).
    WrongUsage,
    /// Names an authority of ours as its issuer, but that authority did not sign it.
    BadSignature,
    /// Signed by someone unknown to us.
    UnknownAuthority,
    /// Not a certificate we can read, or larger than we read.
    Unreadable,
}

impl Cause {
    /// The name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Revoked(_) => "revoked",
            Self::PersonDisabled => "person_disabled",
            Self::AuthorityRetired => "authority_retired",
            Self::NotOnRecord => "not_on_record",
            Self::WrongUsage => "wrong_eku",
            Self::BadSignature => "bad_signature",
            Self::UnknownAuthority => "unknown_authority",
            Self::Unreadable => "unreadable",
        }
    }

    /// The stable code a visitor reads (design, section 4, "Refusals at the edge").
    pub const fn code(self) -> &'static str {
        match self {
            Self::Expired => "certificate_expired",
            Self::Revoked(_) => "certificate_revoked",
            Self::PersonDisabled => "access_denied",
            Self::NotYetValid
            | Self::AuthorityRetired
            | Self::NotOnRecord
            | Self::WrongUsage
            | Self::BadSignature
            | Self::UnknownAuthority
            | Self::Unreadable => "certificate_untrusted",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Says who is behind `chain` (leaf first) at `now`, as far as `register` knows.
///
/// Total: never panics and never waits, whatever the bytes. The caller has checked the proof of
/// possession (CertificateVerify), and reads `register.epoch()` before calling.
pub fn classify(chain: &[CertificateDer<'_>], now: UtcTime, register: &Register) -> Classified {
    let Some(leaf) = chain.first() else { return Classified::None };
    let fingerprint = Fingerprint::of(leaf);
    match register.look_up(&fingerprint) {
        Some(standing) => judge(fingerprint, standing, now),
        None => Classified::Refused(name_cause(leaf, now, register)),
    }
}

/// What a certificate on record is at `now`.
fn judge(fingerprint: Fingerprint, standing: Standing, now: UtcTime) -> Classified {
    let issuer = || standing.authority.as_ref().map(|authority| Issuer::Own(authority.name.clone()));
    let refuse =
        |cause| Classified::Refused(Refusal { cause, serial: Some(standing.serial), issuer: issuer() });
    // Revocation first: it is what the visitor must hear, whatever else is wrong.
    if let Some((_, reason)) = standing.revoked {
        return refuse(Cause::Revoked(reason));
    }
    // RFC 5280 §4.1.2.5: both ends inclusive.
    if now > standing.not_after {
        return refuse(Cause::Expired);
    }
    if now < standing.not_before {
        return refuse(Cause::NotYetValid);
    }
    let Some(authority) = standing.authority.as_ref().filter(|authority| {
        authority.kind == AuthorityKind::Issuing
            && authority.state.is_in_force()
            && now <= authority.not_after
    }) else {
        return refuse(Cause::AuthorityRetired);
    };
    let Some(person) = standing.person.filter(|person| !person.disabled) else {
        return refuse(Cause::PersonDisabled);
    };
    Classified::Known(Identity {
        fingerprint,
        serial: standing.serial,
        person,
        device: standing.device,
        profile: standing.profile,
        authority: authority.clone(),
        not_before: standing.not_before,
        not_after: standing.not_after,
    })
}

/// Reads a leaf that is not on record, only to say why it does not pass.
fn name_cause(leaf: &[u8], now: UtcTime, register: &Register) -> Refusal {
    let Ok(view) = chain::read_leaf(leaf) else {
        return Refusal { cause: Cause::Unreadable, serial: None, issuer: None };
    };
    let serial = view.serial;
    let authorities = register.authorities();
    let named: Vec<_> = authorities.iter().filter(|authority| authority.subject == view.issuer_der).collect();
    let signer = named.iter().find(|authority| chain::signed_by(leaf, &authority.spki));
    let cause = match signer {
        None if named.is_empty() => Cause::UnknownAuthority,
        None => Cause::BadSignature,
        Some(authority) if authority.kind != AuthorityKind::Issuing || view.is_ca || !view.client_auth => {
            Cause::WrongUsage
        }
        Some(authority) if !authority.state.is_in_force() => Cause::AuthorityRetired,
        // It never was on record, so this is a fact about its text only.
        Some(_) if now > view.not_after => Cause::Expired,
        Some(_) => Cause::NotOnRecord,
    };
    let issuer = match signer.or(named.first()) {
        Some(authority) => Issuer::Own(authority.name.clone()),
        None => Issuer::Foreign(Fingerprint::of(&view.issuer_der)),
    };
    Refusal { cause, serial, issuer: Some(issuer) }
}
