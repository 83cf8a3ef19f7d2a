//! Random numbers from a seed: xorshift64*, so that libc suffices.

#[derive(Clone, Copy, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        // The state must not be zero, and small seeds must differ soon.
        let mut random = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        random.next();
        random
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Returns a number below `end`.
    pub(super) const fn below(&mut self, end: u32) -> u32 {
        (((self.next() >> 32) * end as u64) >> 32) as u32
    }

    /// Returns true once in `times` on average.
    pub(super) const fn one_in(&mut self, times: u32) -> bool {
        self.below(times) == 0
    }

    /// Returns `yes` or 0, as flags.
    pub(super) const fn maybe(&mut self, yes: i32) -> i32 {
        if self.one_in(2) { yes } else { 0 }
    }
}
