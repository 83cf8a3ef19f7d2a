//! The rules, with their names and severities.

use fdwatch_core::diagnose::Severity;

/// A rule of the lint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// supervisord refuses to start.
    Refused,
    /// The directory of a log does not exist: supervisord does not start.
    MissingDirectory,
    /// A log cannot be opened: the process does not start, and each attempt leaves pipes open.
    UnwritableLog,
    /// A log cannot be renamed: everything written after its first rotation is lost.
    UnrotatableLog,
    /// Several streams write one log.
    SharedLog,
    /// A process writes supervisord's own log.
    OwnLog,
    /// A pipe or terminal has a size limit, but cannot be rotated.
    UnseekableLog,
    /// supervisord and logrotate rotate one log.
    RotatedTwice,
    /// logrotate renames a log without notifying supervisord.
    NotReopened,
    /// The path of a log depends on where supervisord is started.
    RelativeLog,
    /// supervisord ignores a section.
    UnknownSection,
    /// supervisord ignores a key.
    UnknownKey,
    /// A file is meant to be included but is not.
    NotIncluded,
    /// No file matches a pattern of files to include, perhaps not yet.
    NothingIncluded,
    /// Two groups or processes have the same name: supervisord starts only one of them.
    SameName,
    /// A setting is deprecated or has no effect.
    NoEffect,
}

impl Rule {
    /// Returns the name in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::MissingDirectory => "missing-directory",
            Self::UnwritableLog => "unwritable-log",
            Self::UnrotatableLog => "unrotatable-log",
            Self::SharedLog => "shared-log",
            Self::OwnLog => "own-log",
            Self::UnseekableLog => "unseekable-log",
            Self::RotatedTwice => "rotated-twice",
            Self::NotReopened => "not-reopened",
            Self::RelativeLog => "relative-log",
            Self::UnknownSection => "unknown-section",
            Self::UnknownKey => "unknown-key",
            Self::NotIncluded => "not-included",
            Self::NothingIncluded => "nothing-included",
            Self::SameName => "same-name",
            Self::NoEffect => "no-effect",
        }
    }

    /// Returns the severity of its problems.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            Self::Refused | Self::MissingDirectory | Self::UnwritableLog => Severity::Critical,
            Self::UnrotatableLog
            | Self::SharedLog
            | Self::OwnLog
            | Self::UnseekableLog
            | Self::RotatedTwice
            | Self::NotReopened
            | Self::NotIncluded
            | Self::SameName => Severity::Warning,
            Self::NothingIncluded
            | Self::RelativeLog
            | Self::UnknownSection
            | Self::UnknownKey
            | Self::NoEffect => Severity::Info,
        }
    }

    /// Returns the name of the cause that findings of a running supervisord have, if there can be any.
    #[must_use]
    pub const fn cause(self) -> Option<&'static str> {
        match self {
            Self::SharedLog | Self::OwnLog => Some("shared-config"),
            Self::RotatedTwice | Self::NotReopened => Some("rotated"),
            _ => None,
        }
    }
}
