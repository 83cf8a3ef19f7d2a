//! How severe a finding is.

/// The severity of a finding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Severity {
    /// Only readers, or a single description.
    Info,
    /// Several descriptions with a writer among them, or a deleted file that occupies space.
    #[default]
    Warning,
    /// The process is about to run out of descriptors.
    Critical,
}

impl Severity {
    /// Returns the name that users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}
