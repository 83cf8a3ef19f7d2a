//! Descriptor tables.

use serde::{Deserialize, Serialize};

use super::{Body, Fd, Process};

/// Open descriptors of a process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Table {
    /// Process.
    pub process: Process,
    /// Its descriptors by number, each with its file.
    pub fds: Vec<Fd>,
}

impl Body for Table {
    const TYPE: &'static str = "table";
}
