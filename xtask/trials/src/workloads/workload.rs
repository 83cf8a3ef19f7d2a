//! The interface of workloads.

use std::{path::Path, time::Duration};

use anyhow::Result;

use super::programs::Need;

/// One or several real programs that do their usual work.
///
/// The order of calls is `prepare`, `run`, optionally `linger`, `stop`; after any failure, `stop`. Only `run` is
/// measured.
pub(super) trait Workload {
    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// Returns the programs that it needs.
    fn needs(&self) -> &'static [Need];

    /// Creates its files in `directory` and starts its servers.
    fn prepare(&mut self, directory: &Path) -> Result<()>;

    /// Does the work.
    fn run(&mut self, amount: Amount) -> Result<Work>;

    /// Starts to work again and freezes in the middle: its descriptors stay open for an audit.
    fn linger(&mut self) -> Result<()>;

    /// Stops its servers and frozen programs.
    fn stop(&mut self) -> Result<()>;
}

/// An amount of work.
#[derive(Debug, Clone, Copy)]
pub(super) enum Amount {
    /// As much as possible in this time. Work that cannot be interrupted may take longer.
    For(Duration),
    /// A little of each kind: a few thousand events.
    Sample,
}

/// Completed work.
#[derive(Debug, PartialEq)]
pub(super) struct Work {
    pub(super) count: u64,
    /// The unit of `count`.
    pub(super) unit: &'static str,
}
