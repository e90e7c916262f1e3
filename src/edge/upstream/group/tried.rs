//! The targets that a request was sent to before.

/// Targets by their number, which no other has and none of which is 0. The first costs no allocation: few requests
/// have a second.
#[derive(Clone, Debug, Default)]
pub(in crate::edge) struct Tried {
    first: u64,
    more: Vec<u64>,
}

impl Tried {
    pub(in crate::edge::upstream) fn add(&mut self, target: u64) {
        match self.first {
            0 => self.first = target,
            _ => self.more.push(target),
        }
    }

    pub(super) fn has(&self, target: u64) -> bool {
        self.first == target || self.more.contains(&target)
    }
}
