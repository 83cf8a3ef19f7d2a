//! Lines of `fdwatch lint`.

use serde::{Deserialize, Serialize};

use super::{
    Body,
    name::{Cause, Rule, Severity},
};

/// Problem in a configuration of supervisord, from `fdwatch lint`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Lint {
    /// Violated rule.
    pub rule: Rule,
    /// Severity.
    pub severity: Severity,
    /// Cause of the findings that it leads to; null if none.
    pub cause: Option<Cause>,
    /// File of the configuration.
    pub file: String,
    /// Line in that file.
    pub line: usize,
    /// Path that the problem is about.
    pub path: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to change; may be empty.
    pub advice: String,
    /// Other places that are part of the problem.
    pub related: Vec<Related>,
}

impl Body for Lint {
    const TYPE: &'static str = "lint";
}

/// Other place that is part of a problem.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Related {
    /// File of the configuration.
    pub file: String,
    /// Line in that file.
    pub line: usize,
    /// Description of the place.
    pub what: String,
}
