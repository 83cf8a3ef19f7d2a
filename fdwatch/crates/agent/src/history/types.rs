//! The settings, the status and the hourly counts of the history.

use std::{
    fs,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use crate::{config, snapshot::Snapshot};
use fdwatch_events::ProcessRow;
use fdwatch_host::proc;

/// Processes of which counts are kept by themselves, each hour; the others are kept as one.
pub const MAX_PROCESSES: usize = 500;

/// How it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// What is told is written.
    Working,
    /// It cannot be written for now, and is tried again.
    Failing {
        /// Since when: nanoseconds since 1970.
        since: u64,
        /// Why, and what to do.
        reason: String,
    },
}

/// What the thread and its handle have in common.
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

/// How many descriptors processes have at one moment.
#[derive(Clone, Debug, Default)]
pub struct HourlyCounts {
    /// When: nanoseconds since 1970.
    pub wall_time: u64,
    /// Those with the most. Their curves count, too.
    pub rows: Vec<ProcessRow>,
    /// How many more processes there are.
    pub more_processes: usize,
    /// And how many descriptors these have.
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

/// Which agent this is: rows that an earlier one left open are told apart by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The boot, as the kernel names it.
    pub(super) boot: String,
    /// When that was: nanoseconds since 1970.
    pub(super) booted: u64,
    /// The agent, of all of this boot.
    pub(super) agent: String,
}

impl Run {
    /// This process. One that is configured anew goes on being the same.
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

/// What is set once and for all.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) config: config::History,
    pub(super) run: Run,
    pub(super) found_again_within: Duration,
}
