//! Octets as lower-case hexadecimal, two digits an octet, no separator.

use std::fmt;

/// Octets, shown as hexadecimal.
#[derive(Clone, Copy, Debug)]
pub struct Hex<'a>(pub &'a [u8]);

/// Octets as hexadecimal.
pub fn hex(octets: &[u8]) -> String {
    Hex(octets).to_string()
}

impl Hex<'_> {
    /// Puts the digits at the end of `text`.
    pub fn push_to(self, text: &mut String) {
        for octet in self.0 {
            text.push(char::from(digit(octet >> 4)));
            text.push(char::from(digit(octet & 0x0f)));
        }
    }
}

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A chunk at a time: each write has a price.
        for octets in self.0.chunks(32) {
            let mut digits = [0; 64];
            for (pair, octet) in digits.chunks_exact_mut(2).zip(octets) {
                pair.copy_from_slice(&[digit(octet >> 4), digit(octet & 0x0f)]);
            }
            f.write_str(std::str::from_utf8(&digits[..2 * octets.len()]).unwrap_or_default())?;
        }
        Ok(())
    }
}

const fn digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_octet_has_its_two_digits(octets in proptest::collection::vec(any::<u8>(), 0..100)) {
            let plain: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
            prop_assert_eq!(Hex(&octets).to_string(), plain);
        }
    }
}
