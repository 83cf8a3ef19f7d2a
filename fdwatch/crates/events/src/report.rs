//! Reports of fdwatch about itself.

use fdwatch_core::{
    Lost, Usage, budget::Shedding, diagnose::Finding, duplicates::Change, engine::Engine,
    model::Statistics,
};

/// The account fdwatch gives of itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunStats {
    /// How long it ran, in nanoseconds.
    pub duration: u64,
    /// What the model has seen.
    pub statistics: Statistics,
    /// What never came to it.
    pub lost: Lost,
    /// Records that could not be understood.
    pub malformed: u64,
    /// Processes whose descriptors could not be read.
    pub unreadable_processes: u64,
    /// What was lost when what is replayed was recorded.
    pub lost_when_recorded: u64,
    /// Duplicates told as found.
    pub found: u64,
    /// As changed.
    pub changed: u64,
    /// As gone.
    pub gone: u64,
    /// Processes there are.
    pub processes: usize,
    /// Descriptors there are, each table counted once.
    pub descriptors: usize,
    /// Size of the ring, if there is one.
    pub ring_bytes: Option<u32>,
    /// What fdwatch itself has used.
    pub usage: Usage,
    /// What is left undone for the sake of the budget.
    pub shedding: Shedding,
    /// How many processes were not followed for its sake, at the most.
    pub most_not_followed: usize,
}

/// What is left undone for the sake of the budget, from now on.
#[derive(Clone, Debug)]
pub struct BudgetReport {
    /// That.
    pub shedding: Shedding,
    /// What the budget is, in percent of one processor.
    pub percent: f64,
    /// What was used of late.
    pub percent_used: f64,
    /// Processes that are not followed.
    pub not_followed: Vec<u32>,
}

impl RunStats {
    /// Takes in what the engine has come to.
    pub fn take_from(&mut self, engine: &Engine) {
        self.statistics = engine.model.statistics();
        self.malformed = engine.malformed();
        self.processes = engine.model.processes().count();
        self.descriptors = engine.descriptors();
    }

    /// Takes in that `finding` was told.
    pub fn count_finding(&mut self, finding: &Finding) {
        match finding.change {
            Change::Found => self.found += 1,
            Change::Changed => self.changed += 1,
            Change::Gone => self.gone += 1,
        }
    }

    /// Records that never came to the model.
    #[must_use]
    pub fn lost_in_all(&self) -> u64 {
        self.lost.total() + self.lost_when_recorded
    }
}

/// A process, as lists of them show it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessRow {
    /// Its number.
    pub pid: u32,
    /// When it was started: nanoseconds since boot.
    pub start_time: u64,
    /// The process it is a child of.
    pub ppid: u32,
    /// Its name: bytes of its own choice.
    pub comm: Vec<u8>,
    /// Its user, if that is known.
    pub uid: Option<u32>,
    /// Its unit, if it has one.
    pub unit: Option<String>,
    /// How many descriptors it has.
    pub descriptors: usize,
    /// How many it may have (`RLIMIT_NOFILE`, soft), if that is known.
    pub limit: Option<u64>,
    /// Files it holds more than once.
    pub duplicate_files: usize,
    /// Descriptors on these, beyond the first on each.
    pub duplicate_descriptors: usize,
    /// How many descriptors it had, the latest last: one number every five seconds, for five minutes.
    pub curve: Vec<u32>,
}
