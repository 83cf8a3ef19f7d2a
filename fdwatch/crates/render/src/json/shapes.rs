//! The forms of what is told in JSON. Fields may be added within a version of the schema, and none may
//! change what it means.

use std::collections::BTreeMap;

use serde::Serialize;

#[derive(Serialize)]
pub struct Line<'a, T> {
    pub schema: u32,
    #[serde(rename = "type")]
    pub kind: &'a str,
    pub time: String,
    pub host: &'a str,
    #[serde(flatten)]
    pub body: T,
}

#[derive(Serialize)]
pub struct FindingBody {
    pub change: &'static str,
    pub id: u64,
    pub process: Process,
    pub file: File,
    pub fds: Vec<Fd>,
    pub closed: Vec<Fd>,
    pub more_closed: u32,
    pub lifetime: Option<f64>,
    pub times: u32,
    pub cause: &'static str,
    pub severity: &'static str,
    pub advice: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<OtherWriter>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_again: Option<Again>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shared_by: Vec<String>,
}

#[derive(Serialize)]
pub struct Process {
    pub pid: u32,
    pub start_time: Option<String>,
    pub ppid: u32,
    pub comm: String,
    pub exe: Option<String>,
    pub cmdline: Option<Vec<String>>,
    pub uid: Option<u32>,
    pub cgroup: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supervisor: Option<Supervisor>,
}

#[derive(Serialize)]
pub struct Container {
    pub id: String,
    pub runtime: Option<&'static str>,
}

#[derive(Serialize)]
pub struct Supervisor {
    pub group: String,
    pub process: String,
}

#[derive(Serialize)]
pub struct File {
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_bytes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_path: Option<String>,
    pub dev: String,
    pub ino: u64,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned_bytes: Option<u64>,
}

#[derive(Serialize)]
pub struct Fd {
    pub fd: u32,
    pub access: &'static str,
    pub append: bool,
    pub cloexec: bool,
    pub description: String,
    pub origin: &'static str,
    pub opened_at: Option<String>,
    pub tid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_path: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<StackFrame>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<ChainLink>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub around: Vec<NearFd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outlives: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub closed_stack: Vec<StackFrame>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<File>,
}

#[derive(Serialize)]
pub struct OtherWriter {
    pub process: Process,
    pub fds: Vec<Fd>,
}

#[derive(Serialize)]
pub struct Again {
    pub at: String,
    pub tid: u32,
    pub stack: Vec<StackFrame>,
}

#[derive(Serialize)]
pub struct ChainLink {
    pub how: &'static str,
    pub at: Option<String>,
    pub pid: u32,
    pub comm: String,
}

#[derive(Serialize)]
pub struct NearFd {
    pub fd: u32,
    pub origin: &'static str,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub seconds_before: f64,
    pub closed_at: Option<String>,
}

#[derive(Serialize)]
pub struct StackFrame {
    pub address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

#[derive(Serialize)]
pub struct Started {
    pub processes: usize,
    pub descriptors: usize,
    pub ring_bytes: Option<u32>,
}

#[derive(Serialize)]
pub struct Losses {
    pub total: u64,
    pub by_kind: BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
pub struct Loss {
    pub lost: Losses,
}

#[derive(Serialize)]
pub struct Growth {
    pub change: &'static str,
    pub process: Process,
    pub open: usize,
    pub limit: Option<u64>,
    pub severity: Option<&'static str>,
    pub was: Option<usize>,
    pub since: Option<String>,
    pub per_hour: Option<u64>,
    pub seconds_left: Option<f64>,
    pub more_by_type: Option<BTreeMap<&'static str, usize>>,
    pub more_by_origin: Option<BTreeMap<&'static str, usize>>,
    pub pinned: Pinned,
}

#[derive(Serialize)]
pub struct Threshold {
    pub change: &'static str,
    pub process: Process,
    pub of: &'static str,
    pub value: f64,
    pub threshold: f64,
    pub severity: &'static str,
}

#[derive(Serialize)]
pub struct Pinned {
    pub files: usize,
    pub bytes: u64,
}

#[derive(Serialize)]
pub struct Budget<'a> {
    pub sheds: &'static str,
    pub max_cpu: f64,
    pub cpu: f64,
    pub not_followed: &'a [u32],
}

#[derive(Serialize)]
pub struct Leak {
    pub kind: &'static str,
    pub process: Process,
    pub into: Vec<Process>,
    pub file: File,
    pub fd: Fd,
    pub count: u64,
    pub processes: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_paths: Vec<String>,
}

#[derive(Serialize)]
pub struct Run {
    pub command: Vec<String>,
    pub exit_code: u8,
    pub processes: u64,
    pub running: Vec<Process>,
    pub leaks: RunLeaks,
    pub duplicates: usize,
    pub ignored: u64,
    pub not_told: u64,
    pub events: u64,
    pub lost: Losses,
    pub detail_left_out: u64,
    pub mappings_lost: u64,
    pub malformed: u64,
}

#[derive(Serialize)]
pub struct RunLeaks {
    pub exit: u64,
    pub exec: u64,
}

#[derive(Serialize)]
pub struct Table {
    pub process: Process,
    pub fds: Vec<Fd>,
}

#[derive(Serialize)]
pub struct Summary {
    pub duration: f64,
    pub events: u64,
    pub by_kind: BTreeMap<&'static str, u64>,
    pub lost: Losses,
    pub findings: Findings,
    pub processes: usize,
    pub descriptors: usize,
    pub unknown_closed: u64,
    pub unknown_tables: u64,
    pub closed_unopened: u64,
    pub drift: Drift,
    pub contested: Contested,
    pub malformed: u64,
    pub unreadable_processes: u64,
    pub cpu: Cpu,
    pub memory: Memory,
    pub budget: BudgetSummary,
    pub detail_left_out: u64,
}

#[derive(Serialize)]
pub struct BudgetSummary {
    pub sheds: &'static str,
    pub most_not_followed: usize,
    pub caught_up: u64,
}

#[derive(Serialize)]
pub struct Drift {
    pub audits: u64,
    pub missing: u64,
    pub phantom: u64,
    pub wrong_file: u64,
    pub close_on_exec: u64,
}

#[derive(Serialize)]
pub struct Contested {
    pub numbers: u64,
    pub otherwise: u64,
}

#[derive(Serialize)]
pub struct Findings {
    pub found: u64,
    pub changed: u64,
    pub gone: u64,
}

#[derive(Serialize)]
pub struct Cpu {
    pub user: f64,
    pub system: f64,
}

#[derive(Serialize)]
pub struct Memory {
    pub peak_rss: u64,
}
