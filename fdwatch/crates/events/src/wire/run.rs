//! Results of `fdwatch run`.

use serde::{Deserialize, Serialize};

use super::{Body, Fd, File, Losses, Process, name::Text};

/// Descriptors that a command left open or let other programs inherit. Those of the same kind are
/// one leak.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Leak {
    /// `exit`: still open at the exit of the process. `exec`: inherited by another program.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["exit", "exec"])))]
    pub kind: Text,
    /// Process that leaked it.
    pub process: Process,
    /// Processes that inherited it.
    pub into: Vec<Process>,
    /// File of the first leaked descriptor.
    pub file: File,
    /// First leaked descriptor.
    pub fd: Fd,
    /// Number of leaked descriptors.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub count: u64,
    /// Number of processes that leaked them.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub processes: u64,
    /// Some of the other paths.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_paths: Vec<String>,
}

impl Body for Leak {
    const TYPE: &'static str = "leak";
}

/// Totals at the end of `fdwatch run`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Run {
    /// Command and its arguments.
    pub command: Vec<String>,
    /// Exit code of the command, as a shell reports it.
    pub exit_code: u8,
    /// Processes that the command consisted of.
    pub processes: u64,
    /// Those that still run.
    pub running: Vec<Process>,
    /// Leaked descriptors, by kind.
    pub leaks: LeakCounts,
    /// Files held more than once.
    pub duplicates: usize,
    /// Leaks and duplicates that options ignored.
    pub ignored: u64,
    /// Leaks and duplicates that are not listed because there were too many.
    pub not_told: u64,
    /// Events.
    pub events: u64,
    /// Lost records.
    pub lost: Losses,
    /// Stacks and paths that did not fit into the ring.
    pub detail_left_out: u64,
    /// Lost records of memory mappings: functions in these have no name.
    pub mappings_lost: u64,
    /// Records that could not be decoded.
    pub malformed: u64,
}

impl Body for Run {
    const TYPE: &'static str = "run";
}

/// Leaked descriptors, by kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct LeakCounts {
    /// Open at exit.
    pub exit: u64,
    /// Inherited by another program.
    pub exec: u64,
}
