//! The log of an edge's copy on disk: any bytes are whole frames and a torn rest, and any frame that opens
//! is understood or refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wicketgate::live::journal;

fuzz_target!(|bytes: &[u8]| {
    let (frames, torn) = journal::frames(bytes);
    let whole: usize = frames.iter().map(|frame| 4 + frame.len()).sum();
    assert_eq!(whole + torn, bytes.len());
    for frame in frames {
        let _ = journal::is_understood(frame);
    }
    let _ = journal::is_understood(bytes);
});
