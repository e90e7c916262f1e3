//! Certificate serial numbers, ours and strangers'.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::entropy::Entropy;
use super::hex::Hex;

/// Octets of a serial that we make: six that say when, and 80 random bits, more than the 64
/// that CA/Browser Forum BR 7.1 asks for. The first octet is never zero and its high bit is clear, so
/// the DER INTEGER is always exactly this long.
pub const OWN_OCTETS: usize = 16;
/// Leading octets of our own serials that hold the milliseconds since 1970 when it was made: what is made
/// one after another lies together in every index, however many there are. Nothing depends on it.
const TIME_OCTETS: usize = 6;
/// RFC 5280 §4.1.2.2: at most 20 octets.
pub const MAX_OCTETS: usize = 20;

/// A positive certificate serial number of 1 to 20 octets, without leading zero octets.
///
/// Shown and stored as lower-case hexadecimal, two digits an octet, no separator.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial {
    len: u8,
    octets: [u8; MAX_OCTETS],
}

impl Serial {
    /// A fresh serial of [`OWN_OCTETS`] octets, which nobody can foretell.
    pub fn random(entropy: &dyn Entropy) -> Self {
        let mut all = [0; MAX_OCTETS];
        let (seconds, nanoseconds) = uuid::Timestamp::now(uuid::NoContext).to_unix();
        let milliseconds = seconds.saturating_mul(1_000).saturating_add(u64::from(nanoseconds / 1_000_000));
        let (time, random) = all[..OWN_OCTETS].split_at_mut(TIME_OCTETS);
        time.copy_from_slice(&milliseconds.to_be_bytes()[8 - TIME_OCTETS..]);
        // A clock that stands before 2004 or behind 6429 still gives a positive number of this length.
        time[0] = (time[0] & 0x7f).max(1);
        entropy.fill(random);
        Self { len: OWN_OCTETS as u8, octets: all }
    }

    /// A serial from the content octets of a DER INTEGER (big-endian, sign octet allowed).
    ///
    /// # Errors
    /// Refuses zero, negative numbers and more than 20 octets.
    pub fn from_der_octets(content: &[u8]) -> Result<Self, ParseSerialError> {
        if content.first().is_none_or(|first| *first >= 0x80) {
            return Err(ParseSerialError);
        }
        let start = content.iter().position(|octet| *octet != 0).ok_or(ParseSerialError)?;
        let significant = &content[start..];
        if significant.len() > MAX_OCTETS {
            return Err(ParseSerialError);
        }
        let mut octets = [0; MAX_OCTETS];
        octets[..significant.len()].copy_from_slice(significant);
        Ok(Self { len: significant.len() as u8, octets })
    }

    /// The significant octets, big-endian, without a sign octet.
    pub fn as_octets(&self) -> &[u8] {
        &self.octets[..usize::from(self.len)]
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(self.as_octets()).fmt(f)
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

/// The text or octets are not a positive serial of at most 20 octets.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a serial number in lower-case hexadecimal, two digits an octet, at most 20 octets")]
pub struct ParseSerialError;

impl FromStr for Serial {
    type Err = ParseSerialError;
    fn from_str(text: &str) -> Result<Self, ParseSerialError> {
        let digits = text.as_bytes();
        let tidy = digits.iter().all(|d| matches!(d, b'0'..=b'9' | b'a'..=b'f'));
        if !tidy || digits.is_empty() || !digits.len().is_multiple_of(2) || digits.len() > 2 * MAX_OCTETS {
            return Err(ParseSerialError);
        }
        let nibble = |digit: u8| if digit <= b'9' { digit - b'0' } else { digit - b'a' + 10 };
        let mut octets = [0; MAX_OCTETS];
        for (octet, pair) in octets.iter_mut().zip(digits.chunks_exact(2)) {
            *octet = nibble(pair[0]) << 4 | nibble(pair[1]);
        }
        if octets[0] == 0 {
            return Err(ParseSerialError); // a leading zero octet would give one number two names
        }
        Ok(Self { len: (digits.len() / 2) as u8, octets })
    }
}

impl Serialize for Serial {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Serial {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Ones;
    impl Entropy for Ones {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(0xff);
        }
    }

    #[test]
    fn own_serials_are_positive_and_of_fixed_length() {
        let serial = Serial::random(&Ones);
        assert_eq!(serial.as_octets().len(), OWN_OCTETS);
        assert!((1..0x80).contains(&serial.as_octets()[0]));
        assert_eq!(serial.as_octets()[TIME_OCTETS..], [0xff; 10], "the rest is random");
    }

    #[test]
    fn own_serials_come_in_the_order_of_time() {
        let earlier = Serial::random(&Ones);
        let mut later = (0..).map(|_| Serial::random(&Ones)).filter(|later| *later != earlier);
        assert!(earlier.to_string() < later.next().unwrap().to_string());
    }

    #[test]
    fn zero_negative_and_overlong_serials_are_refused() {
        for bad in [&[][..], &[0], &[0x80], &[0x7f; 21]] {
            assert_eq!(Serial::from_der_octets(bad), Err(ParseSerialError));
        }
        for bad in ["", "0", "00", "0A", "zz", "00ff"] {
            assert_eq!(bad.parse::<Serial>(), Err(ParseSerialError), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn text_and_der_agree(octets in proptest::collection::vec(any::<u8>(), 1..=20)) {
            if let Ok(serial) = Serial::from_der_octets(&octets) {
                prop_assert_eq!(serial.to_string().parse::<Serial>(), Ok(serial));
            }
        }
    }
}
