//! A set of targets of one upstream, by where they stand.

/// Up to 64 places of targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::edge) struct Places(u64);

impl Places {
    /// Most that there are.
    pub(in crate::edge) const MOST: usize = u64::BITS as usize;

    pub(in crate::edge) fn add(&mut self, place: usize) {
        self.0 |= 1 << place;
    }

    pub(super) fn has(self, place: usize) -> bool {
        self.0 & (1 << place) != 0
    }

    pub(super) fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        (0..Self::MOST).filter(move |place| self.has(*place))
    }

    /// The one at this position, which is below the count.
    pub(super) fn nth(self, position: usize) -> usize {
        self.iter().nth(position).unwrap_or_default()
    }
}
