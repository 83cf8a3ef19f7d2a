//! Signatures: findings on different hosts that are the same bug have the same one.
//!
//! A signature consists of the program, the cause and the template of the file's path. It does not depend
//! on the host, on PIDs, descriptors, inodes or times, or on whether the stack could be resolved.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::template::template;
use fdwatch_core::{
    detail::Frame,
    diagnose::{Finding, ProcessInfo},
};

/// Version of the algorithm. It changes whenever signatures change, and only then.
pub const VERSION: u32 = 1;

/// Maximum number of frames stored with a signature.
pub const MAX_FRAMES: usize = 5;

/// Maximum length of a frame, in characters.
const MAX_FRAME_LEN: usize = 200;

/// Hexadecimal digits of a signature.
const DIGITS: usize = 24;

/// Signature: the properties that all findings of one bug have in common.
///
/// Frames are not part of the identifier: whether they are resolved depends on when detail was enabled,
/// on installed symbols and on the build of libraries, so one bug would have several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// `v1:` and hexadecimal digits.
    pub id: String,
    /// The program.
    pub program: Program,
    /// The cause's name.
    pub cause: String,
    /// The template of the file's path; empty if the path is unknown.
    pub path: String,
    /// The functions that opened the last descriptor, innermost first; unresolved ones are skipped.
    pub frames: Vec<String>,
}

/// A program, by a name that is the same on all hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A program of supervisord, by its group.
    Supervisor(String),
    /// A systemd service.
    Service(String),
    /// The path of the executable.
    Exe(String),
    /// The process name (`comm`).
    Comm(String),
}

/// Input of a signature, taken from a finding or from an agent's report of one.
#[derive(Clone, Copy, Debug, Default)]
pub struct SignatureInput<'a> {
    /// Group of the program in supervisord.
    pub supervisor: Option<&'a str>,
    /// systemd unit.
    pub unit: Option<&'a str>,
    /// Whether the process runs in a container.
    pub is_contained: bool,
    /// Path of the executable.
    pub exe: Option<&'a [u8]>,
    /// Process name.
    pub comm: &'a [u8],
    /// Name of the cause.
    pub cause: &'a str,
    /// Path of the file as the process sees it: the path of a container's file on the host differs
    /// between hosts.
    pub path: Option<&'a [u8]>,
}

impl Program {
    /// Returns the program of a process.
    #[must_use]
    pub fn of_process(process: &ProcessInfo, host: &str) -> Self {
        Self::of(&SignatureInput::of(process), host)
    }

    /// Returns the most specific name. supervisord comes first, as all of its programs are in one
    /// service. Names of scopes are not used: a session has many programs, and a container's scope has its ID.
    fn of(parts: &SignatureInput<'_>, host: &str) -> Self {
        if let Some(group) = parts.supervisor {
            return Self::Supervisor(template(group.as_bytes(), host));
        }
        if let Some(unit) = parts.unit
            && unit.ends_with(".service")
            && !unit.starts_with("user@")
            && !parts.is_contained
        {
            return Self::Service(template(&unescaped(unit), host));
        }
        if let Some(exe) = parts.exe {
            let exe = exe.strip_suffix(b" (deleted)").unwrap_or(exe);
            return Self::Exe(template(exe, host));
        }
        Self::Comm(template(parts.comm, host))
    }
}

impl<'a> SignatureInput<'a> {
    /// Returns the parts that come from the process.
    fn of(process: &'a ProcessInfo) -> Self {
        Self {
            supervisor: process.supervisor.as_ref().map(|(group, _)| &group[..]),
            unit: process.workload.unit.as_deref(),
            is_contained: process.workload.container.is_some(),
            exe: process.exe.as_deref(),
            comm: &process.comm,
            ..Self::default()
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Supervisor(name) => write!(f, "supervisor:{name}"),
            Self::Service(name) => f.write_str(name),
            Self::Exe(path) => f.write_str(path),
            Self::Comm(name) => write!(f, "comm:{name}"),
        }
    }
}

impl Signature {
    /// Returns the signature of a finding on a host.
    #[must_use]
    pub fn of(finding: &Finding, host: &str) -> Self {
        let (process, file) = (&finding.process, &finding.file);
        let parts = SignatureInput {
            cause: finding.cause.name(),
            path: file.process_path.as_deref().or(file.path.as_deref()),
            ..SignatureInput::of(process)
        };
        let descriptors = finding.fds.iter().chain(&finding.closed).rev();
        let mut stacks = descriptors.map(|fd| &fd.stack[..]);
        let stack = stacks.find(|stack| stack.iter().any(|it| it.place.is_some()));
        Self {
            frames: frames(stack.unwrap_or_default()),
            ..Self::of_input(&parts, host)
        }
    }

    /// Returns the signature of this input, without frames.
    pub fn of_input(parts: &SignatureInput<'_>, host: &str) -> Self {
        let program = Program::of(parts, host);
        let path = parts.path.map_or_else(String::new, |path| {
            template(path.strip_suffix(b" (deleted)").unwrap_or(path), host)
        });
        Self {
            id: id(&program.to_string(), parts.cause, &path),
            program,
            cause: parts.cause.to_owned(),
            path,
            frames: Vec::new(),
        }
    }
}

/// Returns the identifier of a signature.
#[must_use]
pub fn id(program: &str, cause: &str, path: &str) -> String {
    let mut hash = Sha256::new();
    for part in [&format!("v{VERSION}"), program, cause, path] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let digits: String = hash.finalize()[..DIGITS / 2]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("v{VERSION}:{digits}")
}

/// Returns the resolved functions of a stack, each as `module!symbol`.
fn frames(stack: &[Frame]) -> Vec<String> {
    let places = stack.iter().filter_map(|frame| frame.place.as_ref());
    places
        .take(MAX_FRAMES)
        .map(|place| {
            let module = place.module.as_deref().map(String::from_utf8_lossy);
            frame(module.as_deref(), &place.symbol)
        })
        .collect()
}

/// Formats a function as `module!symbol`; the module has no directory and no version.
pub fn frame(module: Option<&str>, symbol: &str) -> String {
    let module = module.and_then(|path| path.rsplit('/').next());
    let module = module.map_or("", |file| file.split(".so").next().unwrap_or(file));
    let text = format!("{module}!{symbol}");
    text.chars().take(MAX_FRAME_LEN).collect()
}

/// Decodes the escapes in the name of a systemd unit, such as `\x2d`.
fn unescaped(unit: &str) -> Vec<u8> {
    let bytes = unit.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = unit.get(at..at + 4).and_then(|it| it.strip_prefix("\\x"));
        if let Some(byte) = escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            out.push(byte);
            at += 4;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use fdwatch_core::{
        detail::Place,
        diagnose::{Cause, Descriptor, FdHistory, FileInfo, ProcessInfo, Severity},
        duplicates::Change,
        model::{FdEntry, FileType, Lineage, Provenance},
        workload::Workload,
    };

    fn finding(process: ProcessInfo, path: &str) -> Finding {
        let file = FileInfo::new(Some(path.into()), 1, 2, FileType::Regular);
        let (cause, severity) = (Cause::Reopened, Severity::Warning);
        Finding::new(1, Change::Found, process, file, cause, severity)
    }

    fn process(cgroup: &str) -> ProcessInfo {
        ProcessInfo {
            pid: 7,
            comm: b"app".to_vec(),
            exe: Some(b"/opt/app-1.2.3/bin/app".to_vec()),
            workload: Workload::of(cgroup),
            ..ProcessInfo::default()
        }
    }

    #[test]
    fn same_bug_on_two_hosts_has_one_signature() {
        let mut here = finding(
            process("/system.slice/worker@3.service"),
            "/var/log/w-3.log",
        );
        let mut there = finding(
            process("/system.slice/worker@12.service"),
            "/var/log/w-12.log",
        );
        (there.process.pid, there.file.ino, there.id) = (99, 77, 5);
        let one = Signature::of(&here, "web-1");
        assert_eq!(one, Signature::of(&there, "web-2"));
        assert_eq!(one.program.to_string(), "worker@{n}.service");
        assert_eq!(one.path, "/var/log/w-{n}.log");
        here.cause = Cause::Inherited;
        assert_ne!(one.id, Signature::of(&here, "web-1").id);
    }

    #[test]
    fn signature_is_stable() {
        // Servers store signatures of earlier releases: this may only change together with VERSION.
        let one = finding(
            process("/system.slice/worker@3.service"),
            "/var/log/w-3.log",
        );
        assert_eq!(Signature::of(&one, "h").id, "v1:17d4e3a41ee5e9473a64055f");
    }

    #[test]
    fn frames_do_not_change_the_signature() {
        let mut one = finding(process("/system.slice/a.service"), "/var/log/a.log");
        let without = Signature::of(&one, "h");
        let history = FdHistory {
            provenance: Provenance::Made,
            lineage: &Lineage::default(),
            process: &one.process.clone(),
        };
        let mut descriptor = Descriptor::new(3, &FdEntry::default(), history);
        let place = Place {
            symbol: "open_log".into(),
            offset: 8,
            module: Some(b"/opt/app-1.2.3/lib/libapp.so.1.2".to_vec()),
            file: None,
            line: None,
        };
        descriptor.stack = vec![Frame {
            address: 0x7f00,
            place: Some(place),
        }];
        one.fds.push(descriptor);
        let with = Signature::of(&one, "h");
        assert_eq!(with.id, without.id);
        assert_eq!(with.frames, ["libapp!open_log"]);
    }

    #[test]
    fn program_has_most_specific_name() {
        let of = |process: &ProcessInfo| {
            let finding = finding(process.clone(), "/x");
            Signature::of(&finding, "h").program.to_string()
        };
        let mut one = process("/system.slice/supervisor.service");
        assert_eq!(of(&one), "supervisor.service");
        one.supervisor = Some(("web".into(), "web_00".into()));
        assert_eq!(of(&one), "supervisor:web");
        let mut one = process("/user.slice/user-1000.slice/session-3.scope");
        assert_eq!(of(&one), "/opt/app-{v}/bin/app");
        one.exe = None;
        assert_eq!(of(&one), "comm:app");
        let one = process(&format!(
            "/system.slice/docker-{}.scope/init.scope",
            "ab12".repeat(16)
        ));
        assert_eq!(of(&one), "/opt/app-{v}/bin/app");
        let one = process(r"/system.slice/my\x2dapp.service");
        assert_eq!(of(&one), "my-app.service");
    }
}
