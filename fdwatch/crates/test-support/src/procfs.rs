//! Descriptors as /proc shows them, and as fdwatch reports them, in the same form.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::Path,
};

use serde_json::Value;

/// Access mode and flags of a descriptor, in fdwatch's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mode {
    /// `r`, `w`, `rw` or `path`.
    pub access: String,
    /// `O_APPEND`.
    pub append: bool,
    /// Close-on-exec.
    pub cloexec: bool,
}

/// Returns the descriptors of a process with their links.
pub fn descriptors(pid: u32) -> BTreeMap<u32, OsString> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return BTreeMap::new();
    };
    let links = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let fd = entry.file_name().to_str()?.parse().ok()?;
        Some((fd, fs::read_link(entry.path()).ok()?.into_os_string()))
    });
    links.collect()
}

/// Returns the descriptors of a process on the file at `path`, deleted or not.
pub fn held(pid: u32, path: &Path) -> BTreeMap<u32, Mode> {
    let mut deleted = path.as_os_str().as_bytes().to_vec();
    deleted.extend(b" (deleted)");
    let deleted = OsString::from_vec(deleted);
    let descriptors = descriptors(pid).into_iter();
    descriptors
        .filter(|(_, link)| link == path.as_os_str() || *link == deleted)
        .filter_map(|(fd, _)| Some((fd, mode(pid, fd)?)))
        .collect()
}

/// Reads the mode of a descriptor.
pub fn mode(pid: u32, fd: u32) -> Option<Mode> {
    let flags = i32::from_str_radix(&fdinfo(pid, fd, "flags")?, 8).ok()?;
    let access = match flags & libc::O_ACCMODE {
        _ if flags & libc::O_PATH != 0 => "path",
        libc::O_RDONLY => "r",
        libc::O_WRONLY => "w",
        _ => "rw",
    };
    Some(Mode {
        access: access.to_owned(),
        append: flags & libc::O_APPEND != 0,
        cloexec: flags & libc::O_CLOEXEC != 0,
    })
}

/// Reads a field of a descriptor's fdinfo.
pub fn fdinfo(pid: u32, fd: u32, field: &str) -> Option<String> {
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
    let mut fields = info.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|&(name, _)| name == field)?;
    Some(value.trim().to_owned())
}

/// Returns the descriptors of a finding.
pub fn reported(fds: &Value) -> BTreeMap<u32, Mode> {
    let fds = fds.as_array().expect("fds is not an array").iter();
    let flag = |fd: &Value, name: &str| fd[name].as_bool().expect("flag is not a bool");
    fds.map(|fd| {
        let mode = Mode {
            access: fd["access"]
                .as_str()
                .expect("access is not a string")
                .to_owned(),
            append: flag(fd, "append"),
            cloexec: flag(fd, "cloexec"),
        };
        (number(&fd["fd"]), mode)
    })
    .collect()
}

/// Returns the descriptor numbers of a finding.
pub fn numbers(fds: &Value) -> Vec<u32> {
    reported(fds).into_keys().collect()
}

/// Returns a JSON value as a number.
pub fn number(value: &Value) -> u32 {
    let number = value.as_u64().and_then(|number| number.try_into().ok());
    number.unwrap_or_else(|| panic!("not a number: {value}"))
}

/// Asserts that a finding has the same descriptors as /proc, and returns them.
pub fn assert_agrees(finding: &Value, path: &Path) -> BTreeMap<u32, Mode> {
    let pid = number(&finding["process"]["pid"]);
    let held = held(pid, path);
    assert_eq!(reported(&finding["fds"]), held, "{finding}");
    held
}

/// Counts the sockets of a process.
pub fn sockets(pid: u32) -> usize {
    let links = descriptors(pid).into_values();
    links
        .filter(|link| link.as_bytes().starts_with(b"socket:"))
        .count()
}

/// Returns a descriptor of a finding.
pub fn fd(finding: &Value, fd: u32) -> &Value {
    let fds = finding["fds"]
        .as_array()
        .expect("fds is not an array")
        .iter();
    let mut fds = fds.filter(|reported| reported["fd"] == fd);
    fds.next().unwrap_or_else(|| panic!("no {fd} in {finding}"))
}

/// Returns a finding's lifetime in seconds.
pub fn lifetime(reported: &Value) -> f64 {
    let lifetime = reported["lifetime"].as_f64();
    lifetime.unwrap_or_else(|| panic!("no lifetime in {reported}"))
}
