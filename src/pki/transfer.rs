//! Base64 as EST carries it (RFC 7030 §4.1.3, RFC 8951 §3): the alphabet of RFC 4648 §4 with padding,
//! broken into lines or not. Nothing else: no armour, no other alphabet, no stray characters.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Characters of a line that we write (RFC 2045 §6.8).
const LINE: usize = 76;

/// In lines of 76 characters, CRLF behind each.
pub fn encode(octets: &[u8]) -> String {
    let base64 = STANDARD.encode(octets);
    let mut text = String::with_capacity(base64.len() + base64.len() / LINE * 2 + 2);
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push_str("\r\n");
        rest = after;
    }
    text
}

/// The octets behind the text; line breaks, and blanks at the ends of lines, are passed over.
///
/// # Errors
/// [`TransferError`] says what is wrong.
pub fn decode(text: &[u8]) -> Result<Vec<u8>, TransferError> {
    if text.windows(5).any(|window| window == b"-----") {
        return Err(TransferError::Armoured);
    }
    let mut base64 = Vec::with_capacity(text.len());
    for line in text.split(|octet| *octet == b'\n') {
        base64.extend_from_slice(line.trim_ascii());
    }
    if base64.is_empty() {
        return Err(TransferError::Empty);
    }
    STANDARD.decode(base64).map_err(|_| TransferError::NotBase64)
}

/// Why a text is not a transfer encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// There is nothing.
    #[error("the body is empty")]
    Empty,
    /// PEM.
    #[error("the body is PEM: send the base64 of the DER without the BEGIN and END lines")]
    Armoured,
    /// Something else.
    #[error("the body is not base64 with padding (RFC 4648 section 4); line breaks are fine")]
    NotBase64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_written_reads_back(octets in proptest::collection::vec(any::<u8>(), 1..500)) {
            let text = encode(&octets);
            prop_assert!(text.split("\r\n").all(|line| line.len() <= LINE));
            prop_assert_eq!(decode(text.as_bytes()).unwrap(), octets);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn only_line_breaks_are_forgiven() {
        for text in ["AAEC", "AA\r\nEC\r\n", "AA\nEC", " AAEC \n", "A\nA\nE\nC"] {
            assert_eq!(decode(text.as_bytes()).unwrap(), [0, 1, 2], "{text:?}");
        }
        for (text, fault) in [
            ("", TransferError::Empty),
            ("\r\n \n", TransferError::Empty),
            ("AAE", TransferError::NotBase64),
            ("AAEC====", TransferError::NotBase64),
            ("AA EC", TransferError::NotBase64),
            ("AA-_", TransferError::NotBase64),
            ("-----BEGIN CERTIFICATE REQUEST-----\nAAEC\n", TransferError::Armoured),
        ] {
            assert_eq!(decode(text.as_bytes()), Err(fault), "{text:?}");
        }
    }
}
