//! Frames of HTTP/2 as they come in, in pieces of any size: counted the same however they are cut, and as somebody
//! counts them who has all of them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wicketgate::edge::frames::{Frames, Open, SMALL, Tally};

const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// All that was counted, what is open, and in which read that began.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Tally, Option<Open>, Option<usize>) {
    let (mut frames, mut sum, mut began) = (Frames::default(), Tally::default(), 0);
    for (number, piece) in pieces.enumerate() {
        let tally = frames.read(piece);
        sum.heads += tally.heads;
        sum.resets += tally.resets;
        sum.control += tally.control;
        sum.data += tally.data;
        sum.small += tally.small;
        if tally.began {
            began = number;
        }
    }
    let open = frames.open();
    (sum, open, open.map(|_| began))
}

/// The frames whose heads are there.
fn model(mut rest: &[u8]) -> (Tally, Option<Open>) {
    let (mut sum, mut in_block) = (Tally::default(), false);
    while let [high, middle, low, kind, flags, _, _, _, _, content @ ..] = rest {
        let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        let ends_block = flags & 4 != 0;
        match *kind {
            0 if length == 0 && flags & 1 == 0 => sum.control += 1,
            0 => (sum.data, sum.small) = (sum.data + length, sum.small + u32::from(length < SMALL)),
            1 => (sum.heads, in_block) = (sum.heads + 1, !ends_block),
            3 => sum.resets += 1,
            5 => (sum.control, in_block) = (sum.control + 1, !ends_block),
            9 => (sum.control, in_block) = (sum.control + 1, in_block && !ends_block),
            _ => sum.control += 1,
        }
        if content.len() < length {
            return (sum, Some(if *kind == 0 { Open::Data } else { Open::Head }));
        }
        rest = &content[length..];
    }
    (sum, (in_block || !rest.is_empty()).then_some(Open::Head))
}

fuzz_target!(|input: &[u8]| {
    let Some((size, rest)) = input.split_first() else { return };
    let all = [&PREFACE[..], rest].concat();
    let size = usize::from(*size).max(1);
    let (sum, open, began) = read(all.chunks(size));
    let (by_octet, open_by_octet, first) = read(all.chunks(1));
    let (at_once, open_at_once, _) = read(std::iter::once(&all[..]));
    assert_eq!((sum, open), (by_octet, open_by_octet));
    assert_eq!((sum, open), (at_once, open_at_once));
    assert_eq!((sum, open), model(rest));
    assert_eq!(began, first.map(|octet| octet / size));
});
