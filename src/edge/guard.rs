//! What an HTTP/2 visitor may ask of us beside its requests, where h2 knows no bound: how long a head or a frame
//! may take, and how many frames and resets may come that no traffic accounts for.

use std::time::Duration;

use tokio::time::Instant;

use super::frames::{Frames, Open, SMALL};
use super::settings::EdgeSettings;

/// Frames that mean nothing for a request run out of the bucket so fast, a second.
const PER_SECOND: u64 = 64;
/// What the bucket holds. A client announces itself, acknowledges, and asks for windows in a few dozen; a browser
/// that leaves a page takes back all that is under way, 128 streams at most, and may do so again at once.
const MOST: u64 = 1_024;
/// One frame.
const UNIT: Duration = Duration::from_nanos(1_000_000_000 / PER_SECOND);
/// The bucket is full when it needs longer than this to run out.
const FULL: Duration = Duration::from_secs(MOST / PER_SECOND);
/// A stream that the visitor takes back. An exchange with an app may have begun for it.
const RESET: u32 = 4;
/// Who takes a request back that has lasted so long has waited for its answer: programs give up after a second or
/// more, and lines waver.
pub(super) const LONG: Duration = Duration::from_millis(900);
/// A stream that we gave up because the visitor did not take its answer.
const STALLED: u32 = 16;
/// A request that was answered accounts for so many: windows, priorities, a PING, and for two resets.
const ANSWERED: u32 = 8;
/// A piece of an answer, or of a tunnel, that was taken: clients may acknowledge each, for stream and connection,
/// and measure.
const TAKEN: u32 = 4;
/// So many octets of bodies, in either direction, account for one more. Some ask for a window every 4 KiB, twice.
const OCTETS: u64 = 1_024;
/// What one frame counts in a turn, in octets, beside those that it has: few octets may be much work.
const WORK: usize = SMALL;

/// The eye on one HTTP/2 connection.
#[derive(Debug)]
pub(super) struct Guard {
    frames: Frames,
    /// When that began which is open.
    since: Instant,
    bucket: Bucket,
    is_spent: bool,
}

impl Guard {
    /// From the end of the handshake on: the preface is due.
    pub(super) fn new(now: Instant) -> Self {
        Self { frames: Frames::default(), since: now, bucket: Bucket { empty_at: now }, is_spent: false }
    }

    /// These octets were read: how much of a turn they are. Asks the clock only where a frame ends.
    pub(super) fn read(&mut self, octets: &[u8], now: impl Fn() -> Instant) -> usize {
        let seen = self.frames.read(octets);
        if seen.began && self.frames.open().is_some() {
            self.since = now();
        }
        self.bucket.give_back(units(seen.data as u64));
        let cost = seen.control.saturating_add(seen.resets.saturating_mul(RESET));
        if cost > 0 {
            self.charge(cost, now());
        }
        let frames =
            seen.heads.saturating_add(seen.resets).saturating_add(seen.control).saturating_add(seen.small);
        octets.len().saturating_add((frames as usize).saturating_mul(WORK))
    }

    /// What has begun and not ended.
    pub(super) fn open(&self) -> Option<Open> {
        self.frames.open()
    }

    /// When that has to be whole which is open: a body's frame within the time of a pause, however much of it comes
    /// meanwhile.
    pub(super) fn deadline(&self, settings: &EdgeSettings) -> Option<(Instant, Open)> {
        self.frames.open().map(|open| match open {
            Open::Head => (self.since + settings.header_timeout, open),
            Open::Data => (self.since + settings.body_timeout, open),
        })
    }

    /// A request was answered to its end.
    pub(super) fn answered(&mut self) {
        self.bucket.give_back(ANSWERED);
    }

    /// An exchange is over that was at least [`LONG`]: that it was taken back, if it was, costs nothing.
    pub(super) fn lasted(&mut self) {
        self.bucket.give_back(RESET);
    }

    /// Pieces of answers or tunnels were taken, of so many octets together.
    pub(super) fn taken(&mut self, pieces: u64, octets: u64) {
        let pieces = u32::try_from(pieces).unwrap_or(u32::MAX);
        self.bucket.give_back(pieces.saturating_mul(TAKEN).saturating_add(units(octets)));
    }

    /// A stream was given up, as its visitor took nothing.
    pub(super) fn stalled(&mut self, now: Instant) {
        self.charge(STALLED, now);
    }

    /// Whether more was asked than may be: nothing is read any more.
    pub(super) fn is_spent(&self) -> bool {
        self.is_spent
    }

    fn charge(&mut self, cost: u32, now: Instant) {
        self.is_spent |= self.bucket.charge(cost, now);
    }
}

/// What these octets account for.
fn units(octets: u64) -> u32 {
    u32::try_from(octets / OCTETS).unwrap_or(u32::MAX)
}

/// A bucket with a hole in it.
#[derive(Debug)]
struct Bucket {
    empty_at: Instant,
}

impl Bucket {
    /// Puts this in: whether it runs over.
    fn charge(&mut self, cost: u32, now: Instant) -> bool {
        self.empty_at = self.empty_at.max(now) + UNIT * cost;
        self.empty_at.saturating_duration_since(now) > FULL
    }

    /// Takes this out. What is not in it is not kept for later.
    fn give_back(&mut self, cost: u32) {
        self.empty_at = self.empty_at.checked_sub(UNIT * cost).unwrap_or(self.empty_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    const RST_STREAM: [u8; 13] = [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8];
    const SECOND: Duration = Duration::from_secs(1);

    fn guard(now: Instant) -> Guard {
        let mut guard = Guard::new(now);
        guard.read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", || now);
        guard
    }

    #[test]
    fn a_flood_is_over_when_the_bucket_is_full() {
        for (frame, most) in [(&PING[..], MOST), (&RST_STREAM[..], MOST / u64::from(RESET))] {
            let now = Instant::now();
            let mut guard = guard(now);
            for number in 0..most {
                guard.read(frame, || now);
                assert!(!guard.is_spent(), "{number}");
            }
            guard.read(frame, || now);
            assert!(guard.is_spent());
        }
    }

    #[test]
    fn a_few_all_the_time_are_none_too_many() {
        let mut now = Instant::now();
        let mut guard = guard(now);
        for _ in 0..100_000 {
            now += SECOND / 64;
            guard.read(&PING, || now);
        }
        assert!(!guard.is_spent());
    }

    #[test]
    fn traffic_accounts_for_what_comes_with_it() {
        let now = Instant::now();
        let mut guard = guard(now);
        for _ in 0..10_000 {
            // One of two is taken back, and windows are asked for.
            guard.read(&[&RST_STREAM[..], &PING].concat(), || now);
            guard.answered();
            // A download whose every 4 KiB are acknowledged twice.
            guard.read(&PING.repeat(8), || now);
            guard.taken(1, 16 * 1_024);
            // An event of a stream that never ends.
            guard.read(&PING.repeat(3), || now);
            guard.taken(1, 40);
            // A full frame of an upload.
            guard.read(&[&[0, 0x40, 0, 0, 0, 0, 0, 0, 1][..], &[0; 16 * 1_024], &PING].concat(), || now);
            assert!(!guard.is_spent());
        }
    }

    #[test]
    fn whoever_has_waited_for_an_answer_may_take_the_request_back() {
        let now = Instant::now();
        let mut guard = guard(now);
        for _ in 0..10_000 {
            guard.read(&RST_STREAM, || now);
            guard.lasted();
        }
        assert!(!guard.is_spent());
    }

    #[test]
    fn what_was_given_back_is_not_kept_for_a_flood() {
        let now = Instant::now();
        let mut guard = guard(now);
        (0..1_000_000).for_each(|_| guard.answered());
        guard.read(&PING.repeat(1_025), || now);
        assert!(guard.is_spent());
    }

    #[test]
    fn whoever_lets_answers_lie_is_sent_away() {
        let now = Instant::now();
        let mut guard = guard(now);
        (0..64).for_each(|_| guard.stalled(now));
        assert!(!guard.is_spent());
        guard.stalled(now);
        assert!(guard.is_spent());
    }

    #[test]
    fn what_is_open_has_its_deadline_from_its_beginning() {
        let settings = EdgeSettings::default();
        let began = Instant::now();
        let head = (began + settings.header_timeout, Open::Head);
        let body = (began + settings.body_timeout, Open::Data);
        let mut guard = Guard::new(began);
        assert_eq!(guard.deadline(&settings), Some(head), "the preface is due");
        guard.read(&[0; 24], || began);
        assert_eq!(guard.deadline(&settings), None);
        guard.read(&[0, 0, 4, 1, 0, 0, 0, 0, 1, 0, 0], || began);
        // The rest of it, and pieces of the block.
        for octets in [&[0, 0][..], &[0, 0, 1, 9, 0, 0, 0, 0, 1, 0], &[0, 0, 1, 9, 0, 0, 0, 0, 1]] {
            guard.read(octets, || began + SECOND);
            assert_eq!(guard.deadline(&settings), Some(head));
        }
        guard.read(&[&[0][..], &[0, 0, 0, 9, 4, 0, 0, 0, 1]].concat(), || began + SECOND);
        assert_eq!(guard.deadline(&settings), None);
        guard.read(&[0, 0, 4, 0, 0, 0, 0, 0, 1, 0], || began);
        assert_eq!(guard.deadline(&settings), Some(body), "a frame of a body");
    }

    #[test]
    fn small_frames_use_up_a_turn_as_large_ones_do() {
        let now = Instant::now();
        let mut guard = guard(now);
        assert_eq!(guard.read(&PING.repeat(2), || now), 2 * PING.len() + 2 * WORK);
        let data = [&[0, 0x40, 0, 0, 0, 0, 0, 0, 1][..], &[0; 16 * 1_024]].concat();
        assert_eq!(guard.read(&data, || now), data.len());
        let drop = [0, 0, 1, 0, 0, 0, 0, 0, 1, b'x'];
        assert_eq!(guard.read(&drop.repeat(3), || now), 3 * drop.len() + 3 * WORK);
    }
}
