//! One answer's compressor: octets in, fewer octets out. Knows nothing of HTTP.

use flate2::{Compress, Compression, FlushCompress, Status};
use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

use super::coding::Coding;

/// What one compressor has, at most, in octets. gzip: a window of 32 KiB takes 370 KiB with its tables, whatever
/// comes. zstd: see below.
pub(super) const MOST_MEMORY: usize = 768 * 1024;

/// Better than the least, and still faster than most networks.
const GZIP_LEVEL: u32 = 5;
/// RFC 1951: 32 KiB.
const GZIP_WINDOW_BITS: u8 = 15;
/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;
/// A window of 64 KiB; the level alone would take 2 MiB. The tables of what was seen are small in proportion.
const ZSTD_WINDOW_LOG: u32 = 16;
const ZSTD_HASH_LOG: u32 = 15;
const ZSTD_CHAIN_LOG: u32 = 14;
/// Room that is there whenever a compressor is asked to give, in octets.
const ROOM: usize = 16 * 1024;

/// A compressor in the middle of an answer.
pub(in crate::edge) enum Packer {
    Gzip(Box<Compress>),
    Zstd(Box<CCtx<'static>>),
}

/// The compressor has failed. The answer cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed;

impl Packer {
    /// A fresh one; none if there is no memory for it.
    pub(super) fn new(coding: Coding) -> Option<Self> {
        match coding {
            Coding::Gzip => {
                let level = Compression::new(GZIP_LEVEL);
                Some(Self::Gzip(Box::new(Compress::new_gzip(level, GZIP_WINDOW_BITS))))
            }
            Coding::Zstd => {
                let mut context = CCtx::try_create()?;
                for parameter in [
                    CParameter::CompressionLevel(ZSTD_LEVEL),
                    CParameter::WindowLog(ZSTD_WINDOW_LOG),
                    CParameter::HashLog(ZSTD_HASH_LOG),
                    CParameter::ChainLog(ZSTD_CHAIN_LOG),
                ] {
                    context.set_parameter(parameter).ok()?;
                }
                Some(Self::Zstd(Box::new(context)))
            }
        }
    }

    /// Takes `data`. What comes of it now is appended to `out`; the rest comes later.
    pub(super) fn pack(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), Failed> {
        match self {
            Self::Gzip(gzip) => deflate(gzip, data, FlushCompress::None, out),
            Self::Zstd(zstd) => {
                let mut input = InBuffer::around(data);
                while input.pos() < data.len() {
                    give(out, |output| zstd.compress_stream(output, &mut input))?;
                }
                Ok(())
            }
        }
    }

    /// Gives everything that was taken, so that the visitor can read it.
    pub(super) fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), Failed> {
        match self {
            Self::Gzip(gzip) => deflate(gzip, &[], FlushCompress::Sync, out),
            Self::Zstd(zstd) => {
                while give(out, |output| zstd.flush_stream(output))? > 0 {}
                Ok(())
            }
        }
    }

    /// Gives what is left, and the end. Called once, as the last.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Failed> {
        match self {
            Self::Gzip(gzip) => deflate(gzip, &[], FlushCompress::Finish, out),
            Self::Zstd(zstd) => {
                while give(out, |output| zstd.end_stream(output))? > 0 {}
                Ok(())
            }
        }
    }
}

/// One step of zstd behind what is in `out`, with room for it.
fn give(
    out: &mut Vec<u8>,
    step: impl FnOnce(&mut OutBuffer<'_, Vec<u8>>) -> Result<usize, usize>,
) -> Result<usize, Failed> {
    out.reserve(ROOM);
    let at = out.len();
    step(&mut OutBuffer::around_pos(out, at)).map_err(|_code| Failed)
}

fn deflate(
    gzip: &mut Compress,
    mut data: &[u8],
    flush: FlushCompress,
    out: &mut Vec<u8>,
) -> Result<(), Failed> {
    loop {
        out.reserve(ROOM);
        let before = gzip.total_in();
        let status = gzip.compress_vec(data, out, flush).map_err(|_| Failed)?;
        let taken = usize::try_from(gzip.total_in() - before).map_err(|_| Failed)?;
        data = data.get(taken..).ok_or(Failed)?;
        // Only where there was too little room is something left to be given.
        let has_room = out.len() < out.capacity();
        match flush {
            _ if status == Status::StreamEnd => return Ok(()),
            FlushCompress::None if data.is_empty() => return Ok(()),
            FlushCompress::Sync if has_room => return Ok(()),
            _ if has_room => return Err(Failed),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    /// What a reader makes of everything that was given so far, whole or not.
    fn unpacked(coding: Coding, packed: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        // A stream that is not at its end gives what there is, and then an error.
        let _ = match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(packed).read_to_end(&mut out),
            Coding::Zstd => zstd::stream::read::Decoder::new(packed).unwrap().read_to_end(&mut out),
        };
        out
    }

    fn is_whole(coding: Coding, packed: &[u8]) -> bool {
        let mut out = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(packed).read_to_end(&mut out).is_ok(),
            Coding::Zstd => zstd::stream::decode_all(packed).is_ok(),
        }
    }

    #[test]
    fn one_answer_takes_no_more_memory_than_is_said() {
        let Some(Packer::Zstd(mut zstd)) = Packer::new(Coding::Zstd) else { panic!("no compressor") };
        let mut out = Vec::new();
        let noise: Vec<u8> =
            (0..1_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut input = InBuffer::around(&noise);
        while input.pos() < noise.len() {
            give(&mut out, |output| zstd.compress_stream(output, &mut input)).unwrap();
        }
        assert!(zstd.sizeof() <= MOST_MEMORY, "{}", zstd.sizeof());
    }

    #[test]
    fn what_was_flushed_can_be_read_and_what_was_cut_off_is_not_whole() {
        for coding in [Coding::Gzip, Coding::Zstd] {
            let mut packer = Packer::new(coding).unwrap();
            let (mut out, mut taken) = (Vec::new(), Vec::new());
            let long = "third ".repeat(30_000);
            for piece in ["first", "second", long.as_str()] {
                packer.pack(piece.as_bytes(), &mut out).unwrap();
                packer.flush(&mut out).unwrap();
                taken.extend_from_slice(piece.as_bytes());
                assert_eq!(unpacked(coding, &out), taken, "{coding:?}");
                assert!(!is_whole(coding, &out), "{coding:?}");
            }
            packer.finish(&mut out).unwrap();
            assert!(is_whole(coding, &out) && out.len() < 5_000, "{coding:?}");
        }
    }

    fn pieces() -> impl Strategy<Value = Vec<(Vec<u8>, bool)>> {
        let noise = proptest::collection::vec(any::<u8>(), 0..3_000);
        let even = (any::<u8>(), 0..100_000_usize).prop_map(|(octet, length)| vec![octet; length]);
        proptest::collection::vec((prop_oneof![noise, even], any::<bool>()), 0..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_comes_out_is_what_went_in(pieces in pieces()) {
            for coding in [Coding::Gzip, Coding::Zstd] {
                let mut packer = Packer::new(coding).unwrap();
                let (mut out, mut taken) = (Vec::new(), Vec::new());
                for (piece, is_flushed) in &pieces {
                    packer.pack(piece, &mut out).unwrap();
                    taken.extend_from_slice(piece);
                    if *is_flushed {
                        packer.flush(&mut out).unwrap();
                    }
                }
                packer.finish(&mut out).unwrap();
                prop_assert!(is_whole(coding, &out));
                prop_assert_eq!(unpacked(coding, &out), taken);
            }
        }
    }
}
