//! CRC-32C (Castagnoli; RFC 3720 §12.1), reflected.

const POLYNOMIAL: u32 = 0x82f6_3b78;
const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut octet = 0;
    while octet < table.len() {
        let mut value = octet as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[octet] = value;
        octet += 1;
    }
    table
}

/// The sum over all pieces, one after the other.
pub(super) fn of(pieces: [&[u8]; 3]) -> u32 {
    let mut sum = u32::MAX;
    for octet in pieces.into_iter().flatten() {
        sum = TABLE[usize::from(sum.to_le_bytes()[0] ^ octet)] ^ (sum >> 8);
    }
    !sum
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_sum_is_that_of_everybody_else() {
        assert_eq!(super::of([b"1234", b"", b"56789"]), 0xe306_9283);
        // RFC 3720 §B.4.
        assert_eq!(super::of([&[0; 32], b"", b""]), 0x8a91_36aa);
        assert_eq!(super::of([&[0xff; 32], b"", b""]), 0x62a8_ab43);
    }
}
