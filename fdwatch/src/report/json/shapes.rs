//! The forms of what is told in JSON. Fields may be added within a version of the schema, and none may
//! change what it means.

use std::collections::BTreeMap;

use serde::Serialize;

#[derive(Serialize)]
pub(in crate::report) struct Line<'a, T> {
    pub(in crate::report) schema: u32,
    #[serde(rename = "type")]
    pub(in crate::report) kind: &'a str,
    pub(in crate::report) time: String,
    pub(in crate::report) host: &'a str,
    #[serde(flatten)]
    pub(in crate::report) body: T,
}

#[derive(Serialize)]
pub(in crate::report) struct FindingBody {
    pub(in crate::report) change: &'static str,
    pub(in crate::report) id: u64,
    pub(in crate::report) process: Process,
    pub(in crate::report) file: File,
    pub(in crate::report) fds: Vec<Fd>,
    pub(in crate::report) closed: Vec<Fd>,
    pub(in crate::report) more_closed: u32,
    pub(in crate::report) lifetime: Option<f64>,
    pub(in crate::report) times: u32,
    pub(in crate::report) cause: &'static str,
    pub(in crate::report) severity: &'static str,
    pub(in crate::report) advice: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::report) others: Vec<OtherWriter>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::report) closed_again: Option<Again>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::report) shared_by: Vec<String>,
}

#[derive(Serialize)]
pub(in crate::report) struct Process {
    pub(in crate::report) pid: u32,
    pub(in crate::report) start_time: Option<String>,
    pub(in crate::report) ppid: u32,
    pub(in crate::report) comm: String,
    pub(in crate::report) exe: Option<String>,
    pub(in crate::report) cmdline: Option<Vec<String>>,
    pub(in crate::report) uid: Option<u32>,
    pub(in crate::report) cgroup: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::report) unit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::report) container: Option<Container>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::report) pod_uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::report) supervisor: Option<Supervisor>,
}

#[derive(Serialize)]
pub(in crate::report) struct Container {
    pub(in crate::report) id: String,
    pub(in crate::report) runtime: Option<&'static str>,
}

#[derive(Serialize)]
pub(in crate::report) struct Supervisor {
    pub(in crate::report) group: String,
    pub(in crate::report) process: String,
}

#[derive(Serialize)]
pub(in crate::report) struct File {
    pub(in crate::report) path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::report) path_bytes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::report) process_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::report) host_path: Option<String>,
    pub(in crate::report) dev: String,
    pub(in crate::report) ino: u64,
    #[serde(rename = "type")]
    pub(in crate::report) kind: &'static str,
    pub(in crate::report) deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::report) pinned_bytes: Option<u64>,
}

#[derive(Serialize)]
pub(in crate::report) struct Fd {
    pub(in crate::report) fd: u32,
    pub(in crate::report) access: &'static str,
    pub(in crate::report) append: bool,
    pub(in crate::report) cloexec: bool,
    pub(in crate::report) description: String,
    pub(in crate::report) origin: &'static str,
    pub(in crate::report) opened_at: Option<String>,
    pub(in crate::report) tid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::report) asked_path: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::report) stack: Vec<StackFrame>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::report) chain: Vec<ChainLink>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::report) around: Vec<NearFd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::report) outlives: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::report) role: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::report) closed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::report) closed_by: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::report) closed_stack: Vec<StackFrame>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::report) lifetime: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::report) file: Option<File>,
}

#[derive(Serialize)]
pub(in crate::report) struct OtherWriter {
    pub(in crate::report) process: Process,
    pub(in crate::report) fds: Vec<Fd>,
}

#[derive(Serialize)]
pub(in crate::report) struct Again {
    pub(in crate::report) at: String,
    pub(in crate::report) tid: u32,
    pub(in crate::report) stack: Vec<StackFrame>,
}

#[derive(Serialize)]
pub(in crate::report) struct ChainLink {
    pub(in crate::report) how: &'static str,
    pub(in crate::report) at: Option<String>,
    pub(in crate::report) pid: u32,
    pub(in crate::report) comm: String,
}

#[derive(Serialize)]
pub(in crate::report) struct NearFd {
    pub(in crate::report) fd: u32,
    pub(in crate::report) origin: &'static str,
    #[serde(rename = "type")]
    pub(in crate::report) kind: &'static str,
    pub(in crate::report) seconds_before: f64,
    pub(in crate::report) closed_at: Option<String>,
}

#[derive(Serialize)]
pub(in crate::report) struct StackFrame {
    pub(in crate::report) address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::report) symbol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::report) offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::report) module: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::report) file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::report) line: Option<u32>,
}

#[derive(Serialize)]
pub(in crate::report) struct Started {
    pub(in crate::report) processes: usize,
    pub(in crate::report) descriptors: usize,
    pub(in crate::report) ring_bytes: Option<u32>,
}

#[derive(Serialize)]
pub(in crate::report) struct Losses {
    pub(in crate::report) total: u64,
    pub(in crate::report) by_kind: BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
pub(in crate::report) struct Loss {
    pub(in crate::report) lost: Losses,
}

#[derive(Serialize)]
pub(in crate::report) struct Growth {
    pub(in crate::report) change: &'static str,
    pub(in crate::report) process: Process,
    pub(in crate::report) open: usize,
    pub(in crate::report) limit: Option<u64>,
    pub(in crate::report) severity: Option<&'static str>,
    pub(in crate::report) was: Option<usize>,
    pub(in crate::report) since: Option<String>,
    pub(in crate::report) per_hour: Option<u64>,
    pub(in crate::report) seconds_left: Option<f64>,
    pub(in crate::report) more_by_type: Option<BTreeMap<&'static str, usize>>,
    pub(in crate::report) more_by_origin: Option<BTreeMap<&'static str, usize>>,
    pub(in crate::report) pinned: Pinned,
}

#[derive(Serialize)]
pub(in crate::report) struct Threshold {
    pub(in crate::report) change: &'static str,
    pub(in crate::report) process: Process,
    pub(in crate::report) of: &'static str,
    pub(in crate::report) value: f64,
    pub(in crate::report) threshold: f64,
    pub(in crate::report) severity: &'static str,
}

#[derive(Serialize)]
pub(in crate::report) struct Pinned {
    pub(in crate::report) files: usize,
    pub(in crate::report) bytes: u64,
}

#[derive(Serialize)]
pub(in crate::report) struct Budget<'a> {
    pub(in crate::report) sheds: &'static str,
    pub(in crate::report) max_cpu: f64,
    pub(in crate::report) cpu: f64,
    pub(in crate::report) not_followed: &'a [u32],
}

#[derive(Serialize)]
pub(in crate::report) struct Leak {
    pub(in crate::report) kind: &'static str,
    pub(in crate::report) process: Process,
    pub(in crate::report) into: Vec<Process>,
    pub(in crate::report) file: File,
    pub(in crate::report) fd: Fd,
    pub(in crate::report) count: u64,
    pub(in crate::report) processes: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::report) other_paths: Vec<String>,
}

#[derive(Serialize)]
pub(in crate::report) struct Run {
    pub(in crate::report) command: Vec<String>,
    pub(in crate::report) exit_code: u8,
    pub(in crate::report) processes: u64,
    pub(in crate::report) running: Vec<Process>,
    pub(in crate::report) leaks: RunLeaks,
    pub(in crate::report) duplicates: usize,
    pub(in crate::report) ignored: u64,
    pub(in crate::report) not_told: u64,
    pub(in crate::report) events: u64,
    pub(in crate::report) lost: Losses,
    pub(in crate::report) detail_left_out: u64,
    pub(in crate::report) mappings_lost: u64,
    pub(in crate::report) malformed: u64,
}

#[derive(Serialize)]
pub(in crate::report) struct RunLeaks {
    pub(in crate::report) exit: u64,
    pub(in crate::report) exec: u64,
}

#[derive(Serialize)]
pub(in crate::report) struct Table {
    pub(in crate::report) process: Process,
    pub(in crate::report) fds: Vec<Fd>,
}

#[derive(Serialize)]
pub(in crate::report) struct Summary {
    pub(in crate::report) duration: f64,
    pub(in crate::report) events: u64,
    pub(in crate::report) by_kind: BTreeMap<&'static str, u64>,
    pub(in crate::report) lost: Losses,
    pub(in crate::report) findings: Findings,
    pub(in crate::report) processes: usize,
    pub(in crate::report) descriptors: usize,
    pub(in crate::report) unknown_closed: u64,
    pub(in crate::report) unknown_tables: u64,
    pub(in crate::report) closed_unopened: u64,
    pub(in crate::report) drift: Drift,
    pub(in crate::report) contested: Contested,
    pub(in crate::report) malformed: u64,
    pub(in crate::report) unreadable_processes: u64,
    pub(in crate::report) cpu: Cpu,
    pub(in crate::report) memory: Memory,
    pub(in crate::report) budget: BudgetSummary,
    pub(in crate::report) detail_left_out: u64,
}

#[derive(Serialize)]
pub(in crate::report) struct BudgetSummary {
    pub(in crate::report) sheds: &'static str,
    pub(in crate::report) most_not_followed: usize,
    pub(in crate::report) caught_up: u64,
}

#[derive(Serialize)]
pub(in crate::report) struct Drift {
    pub(in crate::report) audits: u64,
    pub(in crate::report) missing: u64,
    pub(in crate::report) phantom: u64,
    pub(in crate::report) wrong_file: u64,
    pub(in crate::report) close_on_exec: u64,
}

#[derive(Serialize)]
pub(in crate::report) struct Contested {
    pub(in crate::report) numbers: u64,
    pub(in crate::report) otherwise: u64,
}

#[derive(Serialize)]
pub(in crate::report) struct Findings {
    pub(in crate::report) found: u64,
    pub(in crate::report) changed: u64,
    pub(in crate::report) gone: u64,
}

#[derive(Serialize)]
pub(in crate::report) struct Cpu {
    pub(in crate::report) user: f64,
    pub(in crate::report) system: f64,
}

#[derive(Serialize)]
pub(in crate::report) struct Memory {
    pub(in crate::report) peak_rss: u64,
}
