//! Chance that can be repeated: one number says everything that a seeded run does.

/// SplitMix64. Good enough to choose with, and for nothing else.
pub(crate) struct Seed(u64);

impl Seed {
    pub(crate) fn of(number: u64) -> Self {
        Self(number)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    /// One of them.
    pub(crate) fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }
}

#[test]
fn the_same_seed_chooses_the_same() {
    let draw = |number| (0..5).map(|_| Seed::of(number).below(100)).collect::<Vec<_>>();
    assert_eq!(draw(7), draw(7));
    let mut seed = Seed::of(7);
    assert_ne!(seed.number(), seed.number());
}
