//! A problem: a violation of a rule, with its place.

use super::rule::Rule;

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileLine {
    /// The path of the file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

/// A problem in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The rule that is violated.
    pub rule: Rule,
    /// Line of the problem.
    pub at: FileLine,
    /// Description of the problem.
    pub message: String,
    /// Advice; empty if it is obvious from the message.
    pub advice: String,
    /// The log or directory concerned, if any.
    pub path: Option<String>,
    /// Related lines, each with a description.
    pub related: Vec<(FileLine, String)>,
}
