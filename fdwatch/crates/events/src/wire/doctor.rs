//! Result of `fdwatch doctor`.

use serde::{Deserialize, Serialize};

use super::{
    Body,
    name::{CheckState, Text},
};

/// What the kernel and the privileges allow, from `fdwatch doctor`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Doctor {
    /// Worst result of all checks.
    pub verdict: CheckState,
    /// Checks, in the order they were made.
    pub checks: Vec<Check>,
}

impl Body for Doctor {
    const TYPE: &'static str = "doctor";
}

/// Check of one requirement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Check {
    /// Requirement.
    pub name: Text,
    /// Result.
    pub state: CheckState,
    /// What was found, or what is wrong and how to solve it.
    pub detail: String,
}
