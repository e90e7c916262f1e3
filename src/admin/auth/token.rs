//! API tokens: `wkt_`, 30 characters of base62 (178 bits), and the CRC-32 of those 30 in base62, so that
//! a scanner can tell a leaked token from noise and we need not ask the database about noise.

use crate::domain::{Entropy, Secret};

const PREFIX: &str = "wkt_";
const RANDOM: usize = 30;
const CHECK: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A fresh token.
pub fn fresh(entropy: &dyn Entropy) -> Secret<String> {
    let mut random = zeroize::Zeroizing::new(String::with_capacity(RANDOM));
    let mut octet = [0];
    while random.len() < RANDOM {
        entropy.fill(&mut octet);
        // 248 is the largest multiple of 62 in an octet: beyond it, some characters would be likelier.
        if octet[0] < 248 {
            random.push(char::from(ALPHABET[usize::from(octet[0] % 62)]));
        }
    }
    Secret::new(format!("{PREFIX}{}{}", *random, checksum(random.as_bytes())))
}

/// Whether `text` has the form and the checksum of a token.
pub fn is_well_formed(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(PREFIX) else { return false };
    rest.len() == RANDOM + CHECK
        && rest.bytes().all(|b| b.is_ascii_alphanumeric())
        && rest[RANDOM..] == checksum(&rest.as_bytes()[..RANDOM])
}

fn checksum(random: &[u8]) -> String {
    let mut rest = crc32(random) as usize;
    let mut digits = [ALPHABET[0]; CHECK];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[rest % 62];
        rest /= 62;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

/// CRC-32 as in ISO 3309, bit by bit: 30 characters do not need a table.
fn crc32(octets: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for octet in octets {
        crc ^= u32::from(*octet);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting(parking_lot::Mutex<u8>);
    impl Entropy for Counting {
        fn fill(&self, buffer: &mut [u8]) {
            for octet in buffer {
                let mut next = self.0.lock();
                *octet = *next;
                *next = next.wrapping_add(37);
            }
        }
    }

    #[test]
    fn the_checksum_is_the_common_crc() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_fresh_token_is_well_formed_and_a_typo_is_not() {
        let token = fresh(&Counting(parking_lot::Mutex::new(5)));
        assert!(is_well_formed(token.expose()), "{}", token.expose());
        assert_eq!(token.expose().len(), 40);
        let mut typo = token.expose().clone();
        let other = if typo.as_bytes()[10] == b'a' { "b" } else { "a" };
        typo.replace_range(10..11, other);
        assert!(!is_well_formed(&typo));
        assert!(!is_well_formed("wkt_ä"));
    }
}
