//! Reports of runs, explanations and traced calls, and of fdwatch's own state.

use std::{ffi::OsString, os::unix::ffi::OsStrExt as _};

use fdwatch_core::{
    Lost, Usage,
    budget::ShedLevel,
    diagnose::{Census, Finding, ProcessInfo, Sentence, Sharer, remedies, story},
    duplicates::Change,
    engine::Engine,
    growth::Pinned,
    leaks::LeakGroups,
    model::Statistics,
    trace,
};

/// Totals of a run of fdwatch.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunStats {
    /// Duration of the run, in nanoseconds.
    pub duration: u64,
    /// Statistics of the model.
    pub statistics: Statistics,
    /// Records that did not reach the model.
    pub lost: Lost,
    /// Records that could not be decoded.
    pub malformed: u64,
    /// Processes whose descriptors could not be read.
    pub unreadable_processes: u64,
    /// In a replay: records that were lost during the recording.
    pub lost_when_recorded: u64,
    /// Reported duplicates that appeared.
    pub found: u64,
    /// The same by severity, from `info` to `critical`.
    pub severities: [u64; 3],
    /// Reported duplicates that changed.
    pub changed: u64,
    /// Reported duplicates that disappeared.
    pub gone: u64,
    /// Current processes.
    pub processes: usize,
    /// Open descriptors, each table counted once.
    pub descriptors: usize,
    /// Size of the ring buffer in bytes; `None` in a replay.
    pub ring_bytes: Option<u32>,
    /// CPU time and memory that fdwatch used.
    pub usage: Usage,
    /// Work that is skipped to stay within the CPU budget.
    pub shedding: ShedLevel,
    /// Maximum number of processes that were covered only by snapshots at the same time.
    pub most_not_followed: usize,
    /// Counts of what was not reported.
    pub unreported: Unreported,
}

/// Counts of what was not reported or not checked, because one process or all of them had too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unreported {
    /// Files that are open more than once or deleted, now.
    pub files: usize,
    /// Processes with such files, now.
    pub processes: usize,
    /// Double closes, so far.
    pub double_closes: u64,
    /// Descriptors that were not checked for rotation, so far.
    pub rotation_checks: u64,
}

/// Report at the start of a run. [`RunStats`] are the report at its end.
#[derive(Clone, Copy, Debug)]
pub struct Started<'a>(pub &'a RunStats);

/// Change of the work that is skipped to stay within the CPU budget.
#[derive(Clone, Debug)]
pub struct BudgetReport {
    /// Skipped work.
    pub shedding: ShedLevel,
    /// Budget in percent of one CPU.
    pub percent: f64,
    /// Recent use in percent of one CPU.
    pub percent_used: f64,
    /// Processes that are covered by snapshots only.
    pub not_followed: Vec<u32>,
}

impl RunStats {
    /// Takes over the counts of the engine.
    pub fn take_from(&mut self, engine: &Engine) {
        self.statistics = engine.model.statistics();
        self.malformed = engine.malformed();
        self.processes = engine.model.processes().count();
        self.descriptors = engine.descriptors();
        let folded = engine.duplicates.folded();
        self.unreported = Unreported {
            files: folded.files,
            processes: folded.tables,
            rotation_checks: engine.duplicates.skipped_rotations(),
            ..self.unreported
        };
    }

    /// Counts a reported finding.
    pub fn count_finding(&mut self, finding: &Finding) {
        match finding.change {
            Change::Found => {
                self.found += 1;
                self.severities[finding.severity as usize] += 1;
            }
            Change::Changed => self.changed += 1,
            Change::Gone => self.gone += 1,
        }
    }

    /// Returns the records that did not reach the model, in this run or in the recording.
    #[must_use]
    pub fn lost_in_all(&self) -> u64 {
        self.lost.total() + self.lost_when_recorded
    }
}

/// Result of a command that was run.
#[derive(Debug)]
pub struct RunReport {
    /// Command and its arguments.
    pub command: Vec<Vec<u8>>,
    /// Exit code, as a shell reports it.
    pub exit_code: u8,
    /// Leaks, by kind.
    pub fold: LeakGroups,
    /// Leaks that are not in `fold` because there were too many.
    pub more_leaks: u64,
    /// Duplicates, each in its last state.
    pub duplicates: Vec<Finding>,
    /// Duplicates that are not in `duplicates` because there were too many.
    pub more_duplicates: u64,
    /// Leaks and duplicates that the user's options ignored.
    pub ignored: u64,
    /// Number of processes of the command.
    pub processes: u64,
    /// Processes that are still running.
    pub running: Vec<ProcessInfo>,
    /// Lost records of memory mappings: functions in these have no name.
    pub mappings_lost: u64,
    /// Totals of fdwatch.
    pub stats: RunStats,
}

impl RunReport {
    /// Creates an empty report.
    #[must_use]
    pub fn new(command: &[OsString]) -> Self {
        let words = command.iter();
        Self {
            command: words.map(|word| word.as_bytes().to_vec()).collect(),
            exit_code: 0,
            fold: LeakGroups::default(),
            more_leaks: 0,
            duplicates: Vec::new(),
            more_duplicates: 0,
            ignored: 0,
            processes: 0,
            running: Vec::new(),
            mappings_lost: 0,
            stats: RunStats::default(),
        }
    }

    /// Returns whether there is nothing to report.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.fold.groups().is_empty() && self.duplicates.is_empty() && self.more_leaks == 0
    }
}

/// Traced call, completed from /proc.
#[derive(Clone, Debug)]
pub struct TracedCall {
    /// Call.
    pub call: trace::Call,
    /// File that the descriptor refers to according to /proc, if the call had no path.
    pub path: Option<Vec<u8>>,
}

/// How a process came to hold its descriptors.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Process.
    pub process: ProcessInfo,
    /// Counts of its descriptors.
    pub census: Census,
    /// Deleted files that it holds open.
    pub pinned: Pinned,
    /// Closes of numbers that were not open, outside of loops.
    pub closed_unopened: u32,
    /// Whether events of the process were followed; otherwise this is a snapshot.
    pub followed: bool,
    /// Files with something to explain.
    pub files: Vec<FileStory>,
}

/// File of an explanation, with the processes that share its descriptions.
#[derive(Clone, Debug)]
pub struct FileStory {
    /// Finding of the file.
    pub finding: Finding,
    /// Descriptors of other processes on the same descriptions.
    pub sharers: Vec<Sharer>,
}

impl FileStory {
    /// Returns what happened, oldest first.
    #[must_use]
    pub fn sentences(&self) -> Vec<Sentence> {
        story(&self.finding, &self.sharers)
    }

    /// Returns whether the file was not deleted and has a single descriptor, which is not a problem.
    #[must_use]
    pub fn is_single(&self) -> bool {
        let finding = &self.finding;
        finding.open() + finding.closed.len() < 2 && !finding.file.deleted
    }

    /// Returns the advice, most effective first.
    #[must_use]
    pub fn advice(&self) -> Vec<&'static str> {
        if self.is_single() {
            return Vec::new();
        }
        let finding = &self.finding;
        let writes = finding.fds.iter().any(|fd| fd.access.writes());
        let more = remedies(finding.cause, writes).iter().copied();
        std::iter::once(finding.advice).chain(more).collect()
    }

    /// Returns the descriptors that are still open.
    #[must_use]
    pub fn open(&self) -> Vec<u32> {
        self.finding.fds.iter().map(|fd| fd.fd).collect()
    }
}

/// Process with counts of its descriptors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessRow {
    /// Process ID.
    pub pid: u32,
    /// When it was started: nanoseconds since boot; 0 if unknown.
    pub start_time: u64,
    /// Process ID of its parent; 0 if unknown.
    pub ppid: u32,
    /// Name: bytes chosen by the process.
    pub comm: Vec<u8>,
    /// Real user ID, if readable.
    pub uid: Option<u32>,
    /// Innermost systemd unit.
    pub unit: Option<String>,
    /// Open descriptors.
    pub descriptors: usize,
    /// `RLIMIT_NOFILE`, soft, if readable.
    pub limit: Option<u64>,
    /// Number of files that it has open on several descriptors.
    pub duplicate_files: usize,
    /// Descriptors of these files, without the first of each.
    pub duplicate_descriptors: usize,
    /// Open descriptors every five seconds for five minutes, oldest first.
    pub curve: Vec<u32>,
}
