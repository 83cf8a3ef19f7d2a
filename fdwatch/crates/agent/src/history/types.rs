//! The settings, the status and the hourly counts of the history.

use std::{
    fs,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use crate::{config, snapshot::Snapshot};
use fdwatch_events::ProcessRow;
use fdwatch_host::proc;

/// Processes whose counts are stored each hour. The others are stored as one row.
pub const MAX_PROCESSES: usize = 500;

/// Whether the history can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Writing works.
    Working,
    /// Writing fails, and is retried.
    Failing {
        /// When that started: nanoseconds since 1970.
        since: u64,
        /// The reason, and how to fix it.
        reason: String,
    },
}

/// The state that the thread and its handle share.
#[derive(Debug)]
pub(super) struct Status(Mutex<State>);

impl Status {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(State::Working))
    }

    pub(super) fn get(&self) -> State {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn set(&self, state: State) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

/// The number of descriptors per process at one moment.
#[derive(Clone, Debug, Default)]
pub struct HourlyCounts {
    /// The time: nanoseconds since 1970.
    pub wall_time: u64,
    /// The processes with the most descriptors, with their curves.
    pub rows: Vec<ProcessRow>,
    /// Number of other processes.
    pub more_processes: usize,
    /// Number of their descriptors.
    pub more_descriptors: usize,
}

impl From<&Snapshot> for HourlyCounts {
    fn from(view: &Snapshot) -> Self {
        Self {
            wall_time: view.wall_time,
            rows: view.processes.clone(),
            more_processes: view.more_processes,
            more_descriptors: view.more_descriptors,
        }
    }
}

/// The identity of an agent, by which active rows of an earlier one are recognized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The boot ID of the kernel.
    pub(super) boot: String,
    /// The time of the boot: nanoseconds since 1970.
    pub(super) booted: u64,
    /// The agent, unique within the boot.
    pub(super) agent: String,
}

impl Run {
    /// Returns the identity of this process, which stays the same across a reload.
    pub(super) fn of_this_process() -> Self {
        static RUN: OnceLock<Run> = OnceLock::new();
        RUN.get_or_init(|| {
            let (now, since_boot) = (proc::wall_time(), proc::boottime());
            let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
            Run {
                boot: boot.trim().to_owned(),
                booted: now.saturating_sub(since_boot),
                agent: format!("{}-{now}", std::process::id()),
            }
        })
        .clone()
    }
}

/// The settings of the writer.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) config: config::History,
    pub(super) run: Run,
    pub(super) found_again_within: Duration,
}
