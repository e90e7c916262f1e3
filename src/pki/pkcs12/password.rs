//! Passwords of PKCS#12 files.

use crate::domain::{Entropy, Secret};

/// A password that every importer takes: printable ASCII, not empty, at most `MAX_CHARS` characters.
#[derive(Clone, Debug)]
pub struct Password(Secret<String>);

impl Password {
    /// Makes one of 16 random characters in four groups: 80 bits, nothing that looks like something else.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut octets = [0; 16];
        entropy.fill(&mut octets);
        let mut text = String::with_capacity(19);
        for (at, octet) in octets.iter().enumerate() {
            if at > 0 && at.is_multiple_of(4) {
                text.push('-');
            }
            text.push(char::from(ALPHABET[usize::from(octet % 32)]));
        }
        zeroize::Zeroize::zeroize(&mut octets);
        Self(Secret::new(text))
    }

    /// Takes one that somebody chose.
    ///
    /// # Errors
    /// Refuses an empty, a long and a non-ASCII one: importers disagree on all three.
    pub fn new(text: impl Into<String>) -> Result<Self, PasswordError> {
        let text = Secret::new(text.into());
        let tidy = (1..=MAX_CHARS).contains(&text.expose().len())
            && text.expose().bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        if tidy { Ok(Self(text)) } else { Err(PasswordError) }
    }

    /// The text, to show once.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// Some importers stop reading, or refuse, at 32.
pub const MAX_CHARS: usize = 31;

/// 32 signs, so that five random bits choose one without bias; no `l`, `o`, `0`, `1`.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// The text cannot be a PKCS#12 password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must have 1 to {MAX_CHARS} printable ASCII characters")]
pub struct PasswordError;

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting;
    impl Entropy for Counting {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.iter_mut().enumerate().for_each(|(at, octet)| *octet = at as u8 * 17);
        }
    }

    #[test]
    fn a_generated_password_passes_its_own_rules() {
        let password = Password::generate(&Counting);
        assert_eq!(password.expose(), "atcv-exgz-i3k5-n7q9");
        assert!(Password::new(password.expose()).is_ok());
    }

    #[test]
    fn empty_long_and_foreign_ones_are_refused() {
        for bad in ["", "pässwörd", "tab\there", &"x".repeat(32)] {
            assert_eq!(Password::new(bad).err(), Some(PasswordError), "{bad}");
        }
        assert!(Password::new("x".repeat(31)).is_ok());
    }
}
