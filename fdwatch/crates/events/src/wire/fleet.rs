//! Output of `fdwatch fleet`.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Body,
    name::{HostState, Severity, Text, Time},
};

/// Duplicates of many hosts, grouped by signature (with program, cause and path), program, host or
/// path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
// Part of an object of its own, which has that name.
#[cfg_attr(feature = "schema", schemars(inline))]
#[serde(default)]
pub struct FleetDuplicates {
    /// Signature.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub signature: String,
    /// Program.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub program: String,
    /// Cause.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// Template of the path.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Host.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Hosts.
    pub hosts: u64,
    /// Signatures.
    pub signatures: u64,
    /// Processes.
    pub processes: u64,
    /// Findings.
    pub findings: u64,
    /// Descriptors: the sum of each finding's maximum.
    pub descriptors: u64,
    /// Highest severity.
    pub severity: Severity,
    /// When they were first seen in the requested period.
    pub first: Time,
    /// When they were last seen.
    pub last: Time,
    /// Findings in each part of the requested period, oldest first.
    pub trend: Vec<u64>,
}

impl Body for FleetDuplicates {
    const TYPE: &'static str = "fleet-duplicates";
}

/// Last report of a host, from `fdwatch fleet hosts`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct FleetHost {
    /// Name.
    pub host: String,
    /// Labels.
    pub labels: String,
    /// When it reported last; null if it could not be reached.
    pub last: Option<Time>,
    /// Version of fdwatch.
    pub version: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Work that its agent skips to stay within the CPU budget.
    pub mode: String,
    /// Lost records.
    pub lost: u64,
    /// Differences that audits found.
    pub drift: u64,
    /// Recent use in percent of one CPU.
    pub cpu: f64,
    /// Resident set size in bytes.
    pub memory: u64,
    /// Current findings.
    pub findings: u32,
    /// Size in bytes of the rows that wait to be sent.
    pub spooled: u64,
    /// Dropped rows.
    pub dropped: u64,
    /// Descriptors of network file systems that were not examined.
    pub files_left_out: u64,
    /// Why it could not be reached.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// State.
    pub state: HostState,
}

impl Body for FleetHost {
    const TYPE: &'static str = "fleet-host";
}

/// File of a network file system that several hosts write, from `fdwatch fleet shared`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct FleetShared {
    /// Mounted file system.
    pub network: String,
    /// Inode.
    pub ino: u64,
    /// One of its paths.
    pub file: String,
    /// Hosts that write it.
    pub hosts: u64,
    /// Names of some of them, sorted.
    pub names: Vec<String>,
    /// Some of the programs that write it.
    pub programs: Vec<String>,
    /// When it was last written.
    pub last: Time,
}

impl Body for FleetShared {
    const TYPE: &'static str = "fleet-shared";
}

/// Lines that `--limit` left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct FleetMore {
    /// Number of lines.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub more: usize,
    /// Whether that is the exact number; otherwise there may be more.
    pub exact: bool,
}

impl Body for FleetMore {
    const TYPE: &'static str = "fleet-more";
}

/// Details of a signature, from `fdwatch fleet show`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct FleetSignature {
    /// Totals.
    pub all: FleetDuplicates,
    /// Hosts with this signature, last seen first.
    pub hosts: Vec<SignatureHost>,
    /// Example, with a stack if one was recorded.
    pub example: Option<FleetExample>,
}

impl Body for FleetSignature {
    const TYPE: &'static str = "fleet-signature";
}

/// Host with a signature.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct SignatureHost {
    /// Name.
    pub host: String,
    /// Processes.
    pub processes: u64,
    /// Findings.
    pub findings: u64,
    /// When it was first seen.
    pub first: Time,
    /// When it was last seen.
    pub last: Time,
    /// One of the files.
    pub file: String,
}

/// Finding as an example of its signature.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct FleetExample {
    /// Host.
    pub host: String,
    /// When.
    pub time: Time,
    /// Functions that opened the last descriptor, innermost first, one per line.
    pub frames: Text,
    /// Finding, as it was reported; null if it was not stored.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<super::Line<super::Finding>>")
    )]
    pub finding: Option<Box<RawValue>>,
}
