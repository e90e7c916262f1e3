//! Which public keys may be certified, and what to tell those whose key may not.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{self, ParsedPublicKey};
use der::Decode;
use der::asn1::{AnyRef, ObjectIdentifier, UintRef};
use serde::{Deserialize, Serialize};
use spki::SubjectPublicKeyInfoRef;

use super::oid;

/// What kind of key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// ECDSA on NIST P-256.
    P256,
    /// ECDSA on NIST P-384.
    P384,
    /// EdDSA on Curve25519.
    Ed25519,
    /// RSA.
    Rsa {
        /// Length of the modulus.
        bits: u32,
    },
}

/// Which kinds of key a profile takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPolicy {
    /// ECDSA P-256, which every device and browser can make.
    pub p256: bool,
    /// ECDSA P-384.
    pub p384: bool,
    /// Ed25519. Off by default: few key stores and browsers can present it in TLS.
    pub ed25519: bool,
    /// The shortest RSA modulus taken, in bits; `None` takes no RSA key. Never more than [`RSA_MAX_BITS`].
    pub rsa_min_bits: Option<u32>,
}

impl Default for KeyPolicy {
    fn default() -> Self {
        Self { p256: true, p384: true, ed25519: false, rsa_min_bits: Some(RSA_FLOOR_BITS) }
    }
}

impl KeyPolicy {
    /// Every kind of key that any profile may take: what can be read at all.
    pub const ANY: Self = Self { p256: true, p384: true, ed25519: true, rsa_min_bits: Some(RSA_FLOOR_BITS) };

    /// Whether this policy takes keys of this kind.
    ///
    /// # Errors
    /// [`KeyRefused`] names what to make instead.
    pub fn admit(&self, kind: KeyKind) -> Result<(), KeyRefused> {
        admit(kind, self)
    }
}

/// Longer RSA keys cost the edge more CPU per handshake than they are worth.
pub const RSA_MAX_BITS: u32 = 4096;
/// Shorter RSA keys are refused whatever the policy says.
pub const RSA_FLOOR_BITS: u32 = 2048;

/// A public key that passed a policy, in its one canonical encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    spki_der: Vec<u8>,
    kind: KeyKind,
    key_id: [u8; 20],
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// [`KeyRefused`] names what is wrong and what to do instead.
    pub fn from_spki_der(der: &[u8], policy: &KeyPolicy) -> Result<Self, KeyRefused> {
        let spki = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| KeyRefused::Malformed)?;
        let key = spki.subject_public_key.as_bytes().ok_or(KeyRefused::Malformed)?;
        let kind = match spki.algorithm.oid {
            oid::EC_PUBLIC_KEY => ec_kind(spki.algorithm.parameters, key)?,
            oid::ED25519 => ed25519_kind(spki.algorithm.parameters, key)?,
            oid::RSA_ENCRYPTION => rsa_kind(spki.algorithm.parameters, key)?,
            oid::RSASSA_PSS => return Err(KeyRefused::PssOnlyKey),
            other => return Err(KeyRefused::Algorithm(other.to_string())),
        };
        admit(kind, policy)?;
        let mut key_id = [0; 20];
        // RFC 7093 §2 method 1: the leftmost 160 bits of SHA-256 over the BIT STRING's value.
        key_id.copy_from_slice(&digest(&SHA256, key).as_ref()[..20]);
        Ok(Self { spki_der: der.to_vec(), kind, key_id })
    }

    /// The SubjectPublicKeyInfo, DER.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki_der
    }

    /// What kind of key it is.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// SHA-256 of the SubjectPublicKeyInfo: what block lists name keys by.
    pub fn sha256(&self) -> [u8; 32] {
        let mut octets = [0; 32];
        octets.copy_from_slice(digest(&SHA256, &self.spki_der).as_ref());
        octets
    }

    /// The key identifier, by RFC 7093 §2 method 1.
    pub fn key_id(&self) -> [u8; 20] {
        self.key_id
    }
}

/// Why a key is not certified. The texts speak to whoever made the key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefused {
    /// Not a SubjectPublicKeyInfo, or not in DER.
    #[error("the public key cannot be read; make a new key pair and request")]
    Malformed,
    /// Not an algorithm that we certify.
    #[error("keys of algorithm {0} are not accepted; make an EC P-256 key")]
    Algorithm(String),
    /// An RSA key that is bound to PSS by its own type.
    #[error(
        "RSA keys of type RSASSA-PSS are not accepted; make an EC P-256 key, or an RSA key of the plain type"
    )]
    PssOnlyKey,
    /// An elliptic curve that we do not certify.
    #[error("the curve {0} is not accepted; make an EC P-256 key")]
    Curve(String),
    /// Curve parameters spelt out, or a compressed point.
    #[error(
        "the EC key must name its curve and hold an uncompressed point; write it with `-pkeyopt ec_param_enc:named_curve`, uncompressed"
    )]
    EcEncoding,
    /// The numbers are no key of this algorithm.
    #[error("the public key is not a valid point of its curve; make a new key pair")]
    NotOnCurve,
    /// The profile does not take this kind.
    #[error("this profile does not accept {kind} keys; make an {instead} key")]
    NotInProfile {
        /// What was brought.
        kind: &'static str,
        /// What the profile takes.
        instead: &'static str,
    },
    /// The modulus is too short or too long.
    #[error("the RSA key has {bits} bits; it must have {min} to {max} (or make an EC P-256 key)", max = RSA_MAX_BITS)]
    RsaSize {
        /// Of the modulus.
        bits: u32,
        /// The policy's least.
        min: u32,
    },
    /// The public exponent is even, tiny or huge.
    #[error(
        "the RSA public exponent must be odd and between 65537 and 4294967295; make a new key with exponent 65537"
    )]
    RsaExponent,
    /// The modulus has a small factor, or the fingerprint of a broken generator (CVE-2017-15361).
    #[error("the RSA key is weak: {0}; make a new key with current software")]
    RsaWeak(&'static str),
}

fn admit(kind: KeyKind, policy: &KeyPolicy) -> Result<(), KeyRefused> {
    let instead = if policy.p256 {
        "EC P-256"
    } else if policy.p384 {
        "EC P-384"
    } else if policy.ed25519 {
        "Ed25519"
    } else {
        "RSA"
    };
    let refused = |kind| Err(KeyRefused::NotInProfile { kind, instead });
    match kind {
        KeyKind::P256 if !policy.p256 => refused("EC P-256"),
        KeyKind::P384 if !policy.p384 => refused("EC P-384"),
        KeyKind::Ed25519 if !policy.ed25519 => refused("Ed25519"),
        KeyKind::Rsa { bits } => match policy.rsa_min_bits.map(|min| min.max(RSA_FLOOR_BITS)) {
            None => refused("RSA"),
            Some(min) if !(min..=RSA_MAX_BITS).contains(&bits) => Err(KeyRefused::RsaSize { bits, min }),
            Some(_) => Ok(()),
        },
        KeyKind::P256 | KeyKind::P384 | KeyKind::Ed25519 => Ok(()),
    }
}

fn ec_kind(parameters: Option<AnyRef<'_>>, point: &[u8]) -> Result<KeyKind, KeyRefused> {
    // RFC 5480 §2.1.1: namedCurve only; §2.2: uncompressed must be supported, compressed may be.
    let curve: ObjectIdentifier =
        parameters.and_then(|any| any.decode_as().ok()).ok_or(KeyRefused::EcEncoding)?;
    let (kind, algorithm, octets) = match curve {
        oid::PRIME256V1 => (KeyKind::P256, &signature::ECDSA_P256_SHA256_ASN1, 65),
        oid::SECP384R1 => (KeyKind::P384, &signature::ECDSA_P384_SHA384_ASN1, 97),
        other => return Err(KeyRefused::Curve(other.to_string())),
    };
    if point.len() != octets || point.first() != Some(&UNCOMPRESSED) {
        return Err(KeyRefused::EcEncoding);
    }
    ParsedPublicKey::new(algorithm, point).map_err(|_| KeyRefused::NotOnCurve)?;
    Ok(kind)
}

fn ed25519_kind(parameters: Option<AnyRef<'_>>, key: &[u8]) -> Result<KeyKind, KeyRefused> {
    // RFC 8410 §3: the parameters are absent.
    if parameters.is_some() || key.len() != 32 {
        return Err(KeyRefused::Malformed);
    }
    Ok(KeyKind::Ed25519)
}

fn rsa_kind(parameters: Option<AnyRef<'_>>, key: &[u8]) -> Result<KeyKind, KeyRefused> {
    // RFC 3279 §2.3.1: the parameters are NULL.
    if !parameters.is_some_and(AnyRef::is_null) {
        return Err(KeyRefused::Malformed);
    }
    let (modulus, exponent) = AnyRef::from_der(key)
        .and_then(|any| any.sequence(|r| Ok::<_, der::Error>((UintRef::decode(r)?, UintRef::decode(r)?))))
        .map_err(|_| KeyRefused::Malformed)?;
    let modulus = modulus.as_bytes();
    let bits = modulus.len() as u32 * 8 - modulus.first().map_or(0, |first| first.leading_zeros());
    // Before any arithmetic: the length bounds the work below.
    if bits > RSA_MAX_BITS {
        return Err(KeyRefused::RsaSize { bits, min: RSA_FLOOR_BITS });
    }
    let exponent = exponent.as_bytes();
    let value = exponent.iter().take(8).fold(0u64, |sum, octet| sum << 8 | u64::from(*octet));
    if exponent.len() > 4 || value < 65_537 || value.is_multiple_of(2) {
        return Err(KeyRefused::RsaExponent);
    }
    if bits >= RSA_FLOOR_BITS {
        weaknesses(modulus)?;
    }
    Ok(KeyKind::Rsa { bits })
}

/// CA/Browser Forum Baseline Requirements §6.1.1.3 as good practice: small factors, and the
/// fingerprint of the ROCA generator (Nemec et al., CCS 2017, §2.3.2: every such modulus is a power
/// of 65537 modulo each small prime).
fn weaknesses(modulus: &[u8]) -> Result<(), KeyRefused> {
    let residue = |prime: u32| modulus.iter().fold(0u32, |sum, octet| (sum << 8 | u32::from(*octet)) % prime);
    let primes = || (2u32..752).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d)));
    if primes().any(|prime| residue(prime) == 0) {
        return Err(KeyRefused::RsaWeak("its modulus has a small factor"));
    }
    let is_power = |prime: u32| {
        let (wanted, step) = (residue(prime), 65_537 % prime);
        let mut power = 1 % prime;
        (0..prime).any(|_| {
            let found = power == wanted;
            power = power * step % prime;
            found
        })
    };
    if primes().skip(1).take_while(|prime| *prime <= ROCA_LARGEST_PRIME).all(is_power) {
        return Err(KeyRefused::RsaWeak("it was made by the generator of CVE-2017-15361 (ROCA)"));
    }
    Ok(())
}

/// First octet of an uncompressed point (SEC 1 §2.3.3).
const UNCOMPRESSED: u8 = 0x04;
/// The product of the first 39 primes divides the generator's modulus at every key size.
const ROCA_LARGEST_PRIME: u32 = 167;

#[cfg(test)]
mod tests;
