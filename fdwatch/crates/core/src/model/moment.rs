//! Time in the model.

/// A moment: nanoseconds since boot (`CLOCK_BOOTTIME`). No two changes of a model share a moment,
/// so that moments also order events; the only exception is the last representable moment, which
/// occurs in forged recordings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// Returns the nanoseconds from `earlier` to this moment; 0 if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Returns the moment `nanoseconds` later, at most the last representable one.
    #[must_use]
    pub const fn after(self, nanoseconds: u64) -> Self {
        Self(self.0.saturating_add(nanoseconds))
    }
}
