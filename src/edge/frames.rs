//! The frames of HTTP/2 in what a visitor sends, as far as their heads tell: where each begins and ends, and of
//! which kind it is. Called by `guard` with every octet that is read, in whatever pieces; keeps nine of them.
//!
//! Refuses nothing: what is no HTTP/2 is walked as if it were, and h2, which reads the same octets, ends it.

/// Octets of the client's preface (RFC 9113 §3.4).
const PREFACE: usize = 24;
/// Octets of a frame before its content (RFC 9113 §4.1).
const HEAD: usize = 9;
/// Octets of content below which a frame of a body is small.
pub const SMALL: usize = 1_024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Where a visitor's octets stand.
#[derive(Clone, Debug)]
pub struct Frames {
    /// Octets of the frame's content that are to come; at first, of the preface.
    left: usize,
    head: [u8; HEAD],
    /// Octets of a head that have come.
    have: usize,
    in_data: bool,
    /// A block of header fields has begun and not ended.
    in_block: bool,
}

/// What has begun and not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// The preface, a block of header fields, or a frame that is not DATA.
    Head,
    /// A frame of a body.
    Data,
}

/// What came in one read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Blocks of header fields that began: requests and trailers.
    pub heads: u32,
    /// Streams that the visitor reset.
    pub resets: u32,
    /// Frames that carry nothing of a request: everything else but DATA, and DATA without data. Pieces of a
    /// block count, too.
    pub control: u32,
    /// Octets of DATA frames that began.
    pub data: usize,
    /// DATA frames that began with fewer octets than [`SMALL`].
    pub small: u32,
    /// Whether what is open at the end, if anything is, began in this read.
    pub began: bool,
}

impl Default for Frames {
    fn default() -> Self {
        Self { left: PREFACE, head: [0; HEAD], have: 0, in_data: false, in_block: false }
    }
}

impl Frames {
    /// Goes on by these octets.
    pub fn read(&mut self, octets: &[u8]) -> Tally {
        let (mut rest, mut tally) = (octets, Tally::default());
        // Inside of a frame's content, that is all.
        while self.left < rest.len() {
            rest = &rest[self.left..];
            self.left = 0;
            tally.began |= self.have == 0 && !self.in_block;
            let taken = rest.len().min(HEAD - self.have);
            self.head[self.have..self.have + taken].copy_from_slice(&rest[..taken]);
            self.have += taken;
            rest = &rest[taken..];
            if self.have == HEAD {
                self.have = 0;
                self.begin(&mut tally);
            }
        }
        self.left -= rest.len();
        tally
    }

    /// What has begun and not ended.
    pub fn open(&self) -> Option<Open> {
        match self.have > 0 || self.in_block || self.left > 0 {
            false => None,
            true if self.left > 0 && self.in_data => Some(Open::Data),
            true => Some(Open::Head),
        }
    }

    /// A head is whole.
    fn begin(&mut self, tally: &mut Tally) {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.left = u32::from_be_bytes([0, high, middle, low]) as usize;
        self.in_data = kind == DATA;
        match kind {
            HEADERS => {
                self.in_block = flags & END_HEADERS == 0;
                tally.heads += 1;
            }
            PUSH_PROMISE => {
                self.in_block = flags & END_HEADERS == 0;
                tally.control += 1;
            }
            CONTINUATION => {
                self.in_block &= flags & END_HEADERS == 0;
                tally.control += 1;
            }
            DATA if self.left > 0 || flags & END_STREAM != 0 => {
                tally.data += self.left;
                tally.small += u32::from(self.left < SMALL);
            }
            RST_STREAM => tally.resets += 1,
            _ => tally.control += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, content: &[u8]) -> Vec<u8> {
        let [.., high, middle, low] = content.len().to_be_bytes();
        [&[high, middle, low, kind, flags, 0, 0, 0, 1][..], content].concat()
    }

    fn after_preface() -> Frames {
        let mut frames = Frames::default();
        frames.read(&[0; PREFACE]);
        frames
    }

    /// Tallies over all, and the number of the read in which what is open began.
    fn over<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Frames, Tally, Option<usize>) {
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
        let began = frames.open().map(|_| began);
        (frames, sum, began)
    }

    #[test]
    fn each_kind_counts_as_what_it_is() {
        let cases: [(u8, u8, &[u8], Tally); 11] = [
            (HEADERS, END_HEADERS, b"head", Tally { heads: 1, ..Tally::default() }),
            (PUSH_PROMISE, END_HEADERS, b"head", Tally { control: 1, ..Tally::default() }),
            (CONTINUATION, END_HEADERS, b"", Tally { control: 1, ..Tally::default() }),
            (RST_STREAM, 0, &[0; 4], Tally { resets: 1, ..Tally::default() }),
            (PING, 0, &[0; 8], Tally { control: 1, ..Tally::default() }),
            (0x42, 0xff, b"unknown", Tally { control: 1, ..Tally::default() }),
            (DATA, 0, b"data", Tally { data: 4, small: 1, ..Tally::default() }),
            (DATA, 0, &[0; SMALL - 1], Tally { data: SMALL - 1, small: 1, ..Tally::default() }),
            (DATA, 0, &[0; SMALL], Tally { data: SMALL, ..Tally::default() }),
            (DATA, 0, b"", Tally { control: 1, ..Tally::default() }),
            (DATA, END_STREAM, b"", Tally { small: 1, ..Tally::default() }),
        ];
        for (kind, flags, content, tally) in cases {
            let mut frames = after_preface();
            assert_eq!(frames.read(&frame(kind, flags, content)), Tally { began: true, ..tally }, "{kind}");
            assert_eq!(frames.open(), None, "{kind}");
        }
    }

    #[test]
    fn what_is_open_is_told_from_its_first_octet_on() {
        let mut frames = Frames::default();
        assert_eq!(frames.open(), Some(Open::Head), "the preface is due");
        frames.read(&[0; PREFACE]);
        assert_eq!(frames.open(), None);
        let data = frame(DATA, 0, b"data");
        for (at, open) in [(1, Some(Open::Head)), (9, Some(Open::Data)), (12, Some(Open::Data)), (13, None)] {
            let mut frames = frames.clone();
            assert!(frames.read(&data[..at]).began, "{at}");
            assert_eq!(frames.open(), open, "{at}");
        }
        frames.read(&frame(HEADERS, 0, b"half"));
        for _ in 0..3 {
            assert!(!frames.read(&frame(CONTINUATION, 0, b"more")).began, "it is still the same block");
            assert_eq!(frames.open(), Some(Open::Head));
        }
        assert!(!frames.read(&frame(CONTINUATION, END_HEADERS, b"end")).began);
        assert_eq!(frames.open(), None);
    }

    #[test]
    fn a_next_frame_in_the_same_read_is_what_began() {
        let mut frames = after_preface();
        assert!(frames.read(&[0]).began);
        let rest = [&frame(PING, 0, &[0; 8])[1..], &[0][..]].concat();
        assert!(frames.read(&rest).began);
        assert!(!frames.read(&[0]).began, "nothing ends here, nothing begins");
    }

    fn some_frames() -> impl Strategy<Value = Vec<u8>> {
        let one = (0_u8..12, any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40));
        proptest::collection::vec(one, 0..20).prop_map(|all| {
            all.iter().flat_map(|(kind, flags, content)| frame(*kind, *flags, content)).collect::<Vec<u8>>()
        })
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            whole in prop_oneof![some_frames(), proptest::collection::vec(any::<u8>(), 0..300)],
            cuts in proptest::collection::vec(1_usize..50, 1..20),
            torn in 0_usize..40,
        ) {
            let whole = [&[0; PREFACE][..], &whole[..whole.len().saturating_sub(torn)]].concat();
            let mut pieces = Vec::new();
            let mut rest = &whole[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            let (frames, sum, began) = over(pieces.iter().copied());
            let (by_octet, octet_sum, first) = over(whole.chunks(1));
            let (at_once, whole_sum, _) = over(std::iter::once(&whole[..]));
            prop_assert_eq!((sum, sum), (octet_sum, whole_sum));
            prop_assert_eq!((frames.open(), frames.open()), (by_octet.open(), at_once.open()));
            // The piece in which the first octet of what is open came.
            let piece_of = |octet: usize| {
                let mut end = 0;
                pieces.iter().position(|piece| {
                    end += piece.len();
                    octet < end
                })
            };
            prop_assert_eq!(began, first.and_then(piece_of));
        }

        #[test]
        fn whole_frames_are_counted_as_a_plain_reader_does(whole in some_frames()) {
            let mut frames = after_preface();
            let tally = frames.read(&whole);
            let (mut kinds, mut rest, mut data) = (Vec::new(), &whole[..], 0);
            let mut in_block = false;
            while let [high, middle, low, kind, flags, _, _, _, _, content @ ..] = rest {
                let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
                kinds.push((*kind, length == 0 && flags & END_STREAM == 0));
                data += if *kind == DATA { length } else { 0 };
                in_block = match *kind {
                    HEADERS | PUSH_PROMISE => flags & END_HEADERS == 0,
                    CONTINUATION => in_block && flags & END_HEADERS == 0,
                    _ => in_block,
                };
                rest = &content[length..];
            }
            let count = |wanted: &dyn Fn(u8, bool) -> bool| {
                kinds.iter().filter(|(kind, is_nothing)| wanted(*kind, *is_nothing)).count() as u32
            };
            prop_assert_eq!(tally.heads, count(&|kind, _| kind == HEADERS));
            prop_assert_eq!(tally.resets, count(&|kind, _| kind == RST_STREAM));
            let is_control = |kind, is_nothing| match kind {
                HEADERS | RST_STREAM => false,
                DATA => is_nothing,
                _ => true,
            };
            prop_assert_eq!(tally.control, count(&is_control));
            // None is larger here.
            prop_assert_eq!(tally.small, count(&|kind, is_nothing| kind == DATA && !is_nothing));
            prop_assert_eq!(tally.data, data);
            prop_assert_eq!(frames.open(), in_block.then_some(Open::Head));
        }
    }
}
