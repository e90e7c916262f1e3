//! The key derivation of PKCS#12 (RFC 7292 appendix B), for 3DES keys and for MACs.

use aws_lc_rs::digest::{Algorithm, Context};
use zeroize::Zeroize;

use super::Key;
use crate::domain::Secret;

/// What the derived octets are for (appendix B.3).
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    EncryptionKey = 1,
    Iv = 2,
    MacKey = 3,
}

/// Derives `length` octets from an ASCII password.
pub(super) fn derive(
    hash: &'static Algorithm,
    purpose: Purpose,
    password: &str,
    salt: &[u8],
    iterations: u32,
    length: usize,
) -> Key {
    let block = hash.block_len();
    // B.1: big-endian UTF-16 with a terminating zero character.
    let mut password: Vec<u8> = password.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect();
    let diversifier = vec![purpose as u8; block];
    let mut input = [stretched(salt, block), stretched(&password, block)].concat();
    password.zeroize();
    let mut output = Vec::with_capacity(length + hash.output_len());
    loop {
        let mut context = Context::new(hash);
        context.update(&diversifier);
        context.update(&input);
        let mut digest = context.finish();
        for _ in 1..iterations {
            digest = aws_lc_rs::digest::digest(hash, digest.as_ref());
        }
        output.extend_from_slice(digest.as_ref());
        if output.len() >= length {
            break;
        }
        let addend = stretched(digest.as_ref(), block);
        input.chunks_exact_mut(block).for_each(|chunk| add_with_one(chunk, &addend));
    }
    input.zeroize();
    output.truncate(length);
    Secret::new(output)
}

/// B.2 steps 2 and 3: repeated to a whole number of blocks; nothing stays nothing.
fn stretched(octets: &[u8], block: usize) -> Vec<u8> {
    octets.iter().copied().cycle().take(octets.len().div_ceil(block) * block).collect()
}

/// B.2 step 6 c: `chunk = (chunk + addend + 1) mod 2^(8 * length)`.
fn add_with_one(chunk: &mut [u8], addend: &[u8]) {
    let mut carry = 1u16;
    for (octet, add) in chunk.iter_mut().zip(addend).rev() {
        let sum = u16::from(*octet) + u16::from(*add) + carry;
        *octet = sum as u8;
        carry = sum >> 8;
    }
}
