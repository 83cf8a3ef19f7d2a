//! Changes to report.

/// What happened to a duplicate, or to anything else that is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// First report.
    Found,
    /// Descriptors were opened or closed, and at least two are left.
    Changed,
    /// Fewer than two descriptors are left, or none of a deleted file. It may have appeared only
    /// since the last report.
    Gone,
}
