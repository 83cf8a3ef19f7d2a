//! JSON that fdwatch writes and reads: every line, response and request body, each as one type.
//!
//! Fields and names stay as they are within one [`SCHEMA`]; fields may be added. Writing borrows
//! what has a fixed name. Reading accepts what an older or newer fdwatch wrote: absent fields have
//! their default, unknown ones are skipped, and names such as causes are an open set.
//!
//! `docs/schema` is generated from these types.

mod alert;
mod build;
mod call;
mod doctor;
mod error;
mod event;
mod explanation;
mod finding;
mod fleet;
mod growth;
mod health;
mod history;
mod line;
mod lint;
mod name;
mod process;
mod processes;
mod run;
mod summary;
mod table;
mod version;
mod written;

pub use self::{
    alert::Alert,
    build::{ToWire, Wire, file_of, hundredths, lossy, lost_bytes},
    call::Call,
    doctor::{Check, Doctor},
    error::{Dropped, Error},
    event::{Event, Findings},
    explanation::{ExplainedFile, Explanation, OpenDescriptors, Sentence},
    finding::{ChainLink, ClosedAgain, Fd, File, Finding, NearbyFd, OtherWriter, StackFrame},
    fleet::{
        FleetDuplicates, FleetExample, FleetHost, FleetMore, FleetShared, FleetSignature,
        SignatureHost,
    },
    growth::{Growth, Pinned, Threshold},
    health::{ApiStats, BudgetState, EventCounts, Health, SeverityCounts, SinkCounts, Trouble},
    history::{History, HistoryFile, HistoryHour, HistoryProcess},
    line::{Body, Line, Object, SCHEMA},
    lint::{Lint, Related},
    name::{
        Access, Cause, Change, CheckState, Device, FileType, Hexadecimal, HostState, Rule,
        Severity, ShedLevel, Status, Text, Time,
    },
    process::{Container, Process, Supervisor},
    processes::{ProcessRow, Processes},
    run::{Leak, LeakCounts, Run},
    summary::{
        Budget, BudgetSummary, CpuTime, Drift, FindingCounts, Loss, Losses, MemoryUse, RacingFds,
        Started, Summary, Unreported,
    },
    table::Table,
    version::{Scope, Version},
    written::{Written, WrittenFile},
};
