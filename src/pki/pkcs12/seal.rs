//! The two suites: encryption and MAC, each with the algorithm identifier that says how.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{AES_256, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{hmac, pbkdf2};
use cbc::Encryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};
use der::asn1::ObjectIdentifier;
use des::TdesEde3;
use zeroize::Zeroize;

use super::kdf::{Purpose, derive};
use super::{Encoding, Password, Pkcs12Error};
use crate::domain::{Entropy, Secret};
use crate::pki::{encode, oid};

/// Everything that differs between the encodings.
pub(super) struct Suite {
    encoding: Encoding,
    iterations: NonZeroU32,
    mac_hash: &'static digest::Algorithm,
    mac_algorithm: hmac::Algorithm,
    mac_oid: ObjectIdentifier,
}

/// Octets and how they were encrypted.
pub(super) struct Encrypted {
    algorithm: Vec<u8>,
    octets: Vec<u8>,
}

impl Suite {
    pub(super) fn of(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Modern => Self {
                encoding,
                iterations: MODERN_ITERATIONS,
                mac_hash: &SHA256,
                mac_algorithm: hmac::HMAC_SHA256,
                mac_oid: oid::SHA256,
            },
            Encoding::Compat => Self {
                encoding,
                iterations: COMPAT_ITERATIONS,
                mac_hash: &SHA1_FOR_LEGACY_USE_ONLY,
                mac_algorithm: hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
                mac_oid: oid::SHA1,
            },
        }
    }

    pub(super) fn encrypt(
        &self,
        plain: &[u8],
        password: &Password,
        entropy: &dyn Entropy,
    ) -> Result<Encrypted, Pkcs12Error> {
        match self.encoding {
            Encoding::Modern => self.aes(plain, password, entropy),
            Encoding::Compat => self.triple_des(plain, password, entropy),
        }
    }

    /// RFC 8018 §6.2, appendix A.2 and A.4.
    fn aes(
        &self,
        plain: &[u8],
        password: &Password,
        entropy: &dyn Entropy,
    ) -> Result<Encrypted, Pkcs12Error> {
        let salt: [u8; 16] = random(entropy);
        let iv: [u8; 16] = random(entropy);
        let mut key = [0; 32];
        let secret = password.expose().as_bytes();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, self.iterations, &salt, secret, &mut key);
        let key = Secret::new(key);
        // Room for the padding: a reallocation would leave a copy of the key behind.
        let mut octets = Vec::with_capacity(plain.len() + 16);
        octets.extend_from_slice(plain);
        UnboundCipherKey::new(&AES_256, key.expose())
            .and_then(PaddedBlockEncryptingKey::cbc_pkcs7)
            .and_then(|key| {
                key.less_safe_encrypt(&mut octets, EncryptionContext::Iv128(FixedLength::from(iv))).map(drop)
            })
            .map_err(|_| {
                octets.zeroize();
                Pkcs12Error::Encrypt
            })?;
        let prf = encode::sequence(&[&encode::oid(oid::HMAC_WITH_SHA256), &encode::null()]);
        let iterations = encode::number(self.iterations.get().into());
        let kdf = encode::sequence(&[&encode::octets(&salt), &iterations, &prf]);
        let kdf = encode::sequence(&[&encode::oid(oid::PBKDF2), &kdf]);
        let cipher = encode::sequence(&[&encode::oid(oid::AES_256_CBC), &encode::octets(&iv)]);
        let parameters = encode::sequence(&[&kdf, &cipher]);
        Ok(Encrypted { algorithm: encode::sequence(&[&encode::oid(oid::PBES2), &parameters]), octets })
    }

    /// RFC 7292 appendix C: key and IV both from the password.
    fn triple_des(
        &self,
        plain: &[u8],
        password: &Password,
        entropy: &dyn Entropy,
    ) -> Result<Encrypted, Pkcs12Error> {
        let salt: [u8; 8] = random(entropy);
        let derive = |purpose, length| {
            derive(self.mac_hash, purpose, password.expose(), &salt, self.iterations.get(), length)
        };
        let (key, iv) = (derive(Purpose::EncryptionKey, 24), derive(Purpose::Iv, 8));
        let octets = Encryptor::<TdesEde3>::new_from_slices(key.expose(), iv.expose())
            .map_err(|_| Pkcs12Error::Encrypt)?
            .encrypt_padded_vec::<Pkcs7>(plain);
        let iterations = encode::number(self.iterations.get().into());
        let parameters = encode::sequence(&[&encode::octets(&salt), &iterations]);
        let identifier = encode::oid(oid::PBE_WITH_SHA_AND_3_KEY_TRIPLE_DES_CBC);
        Ok(Encrypted { algorithm: encode::sequence(&[&identifier, &parameters]), octets })
    }

    /// RFC 7292 §4 MacData over the AuthenticatedSafe. The salt has 8 octets: some importers take no other.
    pub(super) fn mac(&self, safe: &[u8], password: &Password, entropy: &dyn Entropy) -> Vec<u8> {
        let salt: [u8; 8] = random(entropy);
        let (rounds, length) = (self.iterations.get(), self.mac_hash.output_len());
        let key = derive(self.mac_hash, Purpose::MacKey, password.expose(), &salt, rounds, length);
        let tag = hmac::sign(&hmac::Key::new(self.mac_algorithm, key.expose()), safe);
        let algorithm = encode::sequence(&[&encode::oid(self.mac_oid), &encode::null()]);
        let digest_info = encode::sequence(&[&algorithm, &encode::octets(tag.as_ref())]);
        encode::sequence(&[&digest_info, &encode::octets(&salt), &encode::number(rounds.into())])
    }
}

impl Encrypted {
    /// RFC 5958 §3.
    pub(super) fn as_encrypted_private_key_info(&self) -> Vec<u8> {
        encode::sequence(&[&self.algorithm, &encode::octets(&self.octets)])
    }

    /// RFC 2315 §13: ContentInfo of type encryptedData, holding data.
    pub(super) fn as_encrypted_data(&self) -> Vec<u8> {
        let content = encode::sequence(&[
            &encode::oid(oid::PKCS7_DATA),
            &self.algorithm,
            &encode::context(0, &self.octets),
        ]);
        let encrypted = encode::sequence(&[&encode::number(0), &content]);
        let explicit = encode::context_constructed(0, &encrypted);
        encode::sequence(&[&encode::oid(oid::PKCS7_ENCRYPTED_DATA), &explicit])
    }
}

fn random<const N: usize>(entropy: &dyn Entropy) -> [u8; N] {
    let mut octets = [0; N];
    entropy.fill(&mut octets);
    octets
}

/// About 30 ms per derivation on a current core; there are three in a file.
const MODERN_ITERATIONS: NonZeroU32 = NonZeroU32::new(if cfg!(fuzzing) { 2 } else { 100_000 }).unwrap();
/// Old phones derive slowly, and an 80-bit password does not need more.
const COMPAT_ITERATIONS: NonZeroU32 = NonZeroU32::new(if cfg!(fuzzing) { 2 } else { 10_000 }).unwrap();
