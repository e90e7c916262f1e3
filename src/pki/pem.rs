//! PEM as people paste it: text around the block, Windows line ends and unwrapped base64 are fine.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroize;

/// The content of the first block with one of these labels, if it is valid base64.
pub fn first_block(text: &str, labels: &[&str]) -> Option<Vec<u8>> {
    labels.iter().find_map(|label| {
        let (_, after) = text.split_once(&format!("-----BEGIN {label}-----"))?;
        let (body, _) = after.split_once(&format!("-----END {label}-----"))?;
        let base64: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        STANDARD.decode(base64).ok()
    })
}

/// One block, lines of 64 characters, a newline at the end (RFC 7468 §2).
///
/// Private keys pass through, so nothing is reallocated and the one intermediate copy is wiped.
pub fn block(label: &str, der: &[u8]) -> String {
    let mut base64 = STANDARD.encode(der);
    let mut text = String::with_capacity(base64.len() + base64.len() / 64 + 2 * label.len() + 40);
    for part in ["-----BEGIN ", label, "-----\n"] {
        text.push_str(part);
    }
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    for part in ["-----END ", label, "-----\n"] {
        text.push_str(part);
    }
    base64.zeroize();
    text
}

/// The contents of every block with this label, in order; what is not base64 is left out.
pub fn blocks(text: &str, label: &str) -> Vec<Vec<u8>> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    text.split(&begin)
        .skip(1)
        .filter_map(|after| {
            let (body, _) = after.split_once(&end)?;
            let base64: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
            STANDARD.decode(base64).ok()
        })
        .collect()
}
