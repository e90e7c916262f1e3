//! A private key under a passphrase, as every tool reads it: an EncryptedPrivateKeyInfo (RFC 5958 §3)
//! with PBES2, PBKDF2 with HMAC-SHA-256, AES-256-CBC (RFC 8018 §6.2). For the key of an offline root.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
    UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2;
use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use der::{Decode, SliceReader};
use zeroize::Zeroize;

use super::{encode, keygen, oid};
use crate::domain::{Entropy, Secret};

#[cfg(all(fuzzing, not(debug_assertions)))]
compile_error!("cfg(fuzzing) weakens keys: it is for fuzz targets, which are built with debug assertions");

/// Rounds of PBKDF2: about a quarter of a second, once a ceremony.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(if cfg!(fuzzing) { 2 } else { 600_000 }).unwrap();
/// A file that asks for more rounds is refused rather than waited for.
const MOST_ITERATIONS: u32 = if cfg!(fuzzing) { 100 } else { 10_000_000 };
/// Shortest passphrase, in characters. Six words of a word list have more.
pub const MIN_PASSPHRASE_CHARS: usize = 20;

/// Why a key was not sealed or opened.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealedKeyError {
    /// Too easily guessed.
    #[error("the passphrase must have at least {MIN_PASSPHRASE_CHARS} characters: take six random words")]
    Weak,
    /// Not an EncryptedPrivateKeyInfo that we write.
    #[error("not a private key under a passphrase (PBES2, AES-256-CBC)")]
    Format,
    /// Another passphrase, or the file was changed.
    #[error("the passphrase is not this key's, or the file was changed")]
    Wrong,
}

/// Seals a P-256 private key (PKCS#8 DER) under a passphrase.
///
/// # Errors
/// [`SealedKeyError::Weak`], [`SealedKeyError::Format`] when it is not such a key.
pub fn seal(key_pkcs8: &[u8], passphrase: &str, entropy: &dyn Entropy) -> Result<Vec<u8>, SealedKeyError> {
    if passphrase.chars().count() < MIN_PASSPHRASE_CHARS {
        return Err(SealedKeyError::Weak);
    }
    keygen::public_key(key_pkcs8).map_err(|_| SealedKeyError::Format)?;
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    entropy.fill(&mut salt);
    entropy.fill(&mut iv);
    let key = derive(passphrase, &salt, ITERATIONS);
    // Room for the padding: a reallocation would leave a copy of the key behind.
    let mut octets = Vec::with_capacity(key_pkcs8.len() + 16);
    octets.extend_from_slice(key_pkcs8);
    UnboundCipherKey::new(&AES_256, key.expose())
        .and_then(PaddedBlockEncryptingKey::cbc_pkcs7)
        .and_then(|key| {
            key.less_safe_encrypt(&mut octets, EncryptionContext::Iv128(FixedLength::from(iv))).map(drop)
        })
        .map_err(|_| {
            octets.zeroize();
            SealedKeyError::Format
        })?;
    let prf = encode::sequence(&[&encode::oid(oid::HMAC_WITH_SHA256), &encode::null()]);
    let rounds = encode::number(ITERATIONS.get().into());
    let kdf = encode::sequence(&[&encode::octets(&salt), &rounds, &prf]);
    let kdf = encode::sequence(&[&encode::oid(oid::PBKDF2), &kdf]);
    let cipher = encode::sequence(&[&encode::oid(oid::AES_256_CBC), &encode::octets(&iv)]);
    let algorithm = encode::sequence(&[&encode::oid(oid::PBES2), &encode::sequence(&[&kdf, &cipher])]);
    Ok(encode::sequence(&[&algorithm, &encode::octets(&octets)]))
}

/// Opens what [`seal`] made: the private key, PKCS#8 DER.
///
/// # Errors
/// [`SealedKeyError`].
pub fn open(sealed: &[u8], passphrase: &str) -> Result<Secret<Vec<u8>>, SealedKeyError> {
    let parsed = Sealed::from_der(sealed).ok().flatten().ok_or(SealedKeyError::Format)?;
    let key = derive(passphrase, parsed.salt, parsed.rounds);
    let mut octets = Secret::new(parsed.octets.to_vec()).expose().clone();
    let plain = UnboundCipherKey::new(&AES_256, key.expose())
        .and_then(PaddedBlockDecryptingKey::cbc_pkcs7)
        .and_then(|key| {
            let context = DecryptionContext::Iv128(FixedLength::from(parsed.iv));
            key.decrypt(&mut octets, context).map(|plain| plain.to_vec())
        });
    octets.zeroize();
    let plain = Secret::new(plain.map_err(|_| SealedKeyError::Wrong)?);
    // One wrong passphrase in 256 leaves lawful padding behind.
    keygen::public_key(plain.expose()).map_err(|_| SealedKeyError::Wrong)?;
    Ok(plain)
}

fn derive(passphrase: &str, salt: &[u8], rounds: NonZeroU32) -> Secret<[u8; 32]> {
    let mut key = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, passphrase.as_bytes(), &mut key);
    Secret::new(key)
}

struct Sealed<'a> {
    salt: &'a [u8],
    rounds: NonZeroU32,
    iv: [u8; 16],
    octets: &'a [u8],
}

impl<'a> Sealed<'a> {
    /// `None` for other algorithms than ours.
    fn from_der(sealed: &'a [u8]) -> der::Result<Option<Self>> {
        AnyRef::from_der(sealed)?.sequence(|reader| {
            let algorithm = AnyRef::decode(reader)?;
            let octets = <&OctetStringRef>::decode(reader)?.as_bytes();
            let found = algorithm.sequence(|reader| {
                let scheme = ObjectIdentifier::decode(reader)?;
                let parameters = AnyRef::decode(reader)?;
                let (kdf, cipher) = parameters.sequence(|reader| {
                    Ok::<_, der::Error>((AnyRef::decode(reader)?, AnyRef::decode(reader)?))
                })?;
                let kdf = kdf.sequence(Self::kdf)?;
                let cipher = cipher.sequence(|reader: &mut SliceReader<'a>| {
                    let id = ObjectIdentifier::decode(reader)?;
                    Ok::<_, der::Error>((id, <&OctetStringRef>::decode(reader)?.as_bytes()))
                })?;
                Ok::<_, der::Error>((scheme == oid::PBES2, kdf, cipher))
            })?;
            let (true, Some((salt, rounds)), (oid::AES_256_CBC, iv)) = found else { return Ok(None) };
            let Ok(iv) = iv.try_into() else { return Ok(None) };
            Ok(Some(Self { salt, rounds, iv, octets }))
        })
    }

    fn kdf(reader: &mut SliceReader<'a>) -> der::Result<Option<(&'a [u8], NonZeroU32)>> {
        let id = ObjectIdentifier::decode(reader)?;
        AnyRef::decode(reader)?.sequence(|reader| {
            let salt = <&OctetStringRef>::decode(reader)?.as_bytes();
            let rounds = u32::decode(reader)?;
            let prf = AnyRef::decode(reader)?.sequence(|reader| {
                let id = ObjectIdentifier::decode(reader)?;
                AnyRef::decode(reader)?;
                Ok::<_, der::Error>(id)
            })?;
            let ours = id == oid::PBKDF2 && prf == oid::HMAC_WITH_SHA256 && rounds <= MOST_ITERATIONS;
            Ok(NonZeroU32::new(rounds).filter(|_| ours).map(|rounds| (salt, rounds)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::fixtures::Counting;

    const PASSPHRASE: &str = "correct horse battery staple";

    #[test]
    fn a_sealed_key_opens_with_its_passphrase_alone_and_unchanged() {
        let (key, _) = keygen::generate_p256();
        let mut sealed = seal(key.expose(), PASSPHRASE, &Counting(7)).unwrap();
        assert_eq!(open(&sealed, PASSPHRASE).unwrap().expose(), key.expose());
        assert_eq!(open(&sealed, "correct horse battery stable").unwrap_err(), SealedKeyError::Wrong);
        let last = sealed.len() - 1;
        sealed[last] ^= 1;
        assert_eq!(open(&sealed, PASSPHRASE).unwrap_err(), SealedKeyError::Wrong);
        assert_eq!(open(&sealed[..last], PASSPHRASE).unwrap_err(), SealedKeyError::Format);
        assert_eq!(open(key.expose(), PASSPHRASE).unwrap_err(), SealedKeyError::Format);
    }

    #[test]
    fn a_short_passphrase_seals_nothing() {
        let (key, _) = keygen::generate_p256();
        assert_eq!(
            seal(key.expose(), "0123456789012345678", &Counting(1)).unwrap_err(),
            SealedKeyError::Weak
        );
        assert_eq!(seal(b"no key", PASSPHRASE, &Counting(1)).unwrap_err(), SealedKeyError::Format);
    }
}
