//! What /proc says of a process's descriptors, for fdwatch to be held against.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::Path,
};

use serde_json::Value;

/// How a descriptor may be used, in fdwatch's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mode {
    pub(crate) access: String,
    pub(crate) append: bool,
    pub(crate) cloexec: bool,
}

/// The descriptors of a process and what each shows as its file.
pub(crate) fn descriptors(pid: u32) -> BTreeMap<u32, OsString> {
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

/// The descriptors that a process has on the file at `path`, deleted or not.
pub(crate) fn held(pid: u32, path: &Path) -> BTreeMap<u32, Mode> {
    let mut deleted = path.as_os_str().as_bytes().to_vec();
    deleted.extend(b" (deleted)");
    let deleted = OsString::from_vec(deleted);
    let descriptors = descriptors(pid).into_iter();
    descriptors
        .filter(|(_, link)| link == path.as_os_str() || *link == deleted)
        .filter_map(|(fd, _)| Some((fd, mode(pid, fd)?)))
        .collect()
}

/// How a descriptor may be used.
pub(crate) fn mode(pid: u32, fd: u32) -> Option<Mode> {
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

/// A field of a descriptor's fdinfo.
pub(crate) fn fdinfo(pid: u32, fd: u32, field: &str) -> Option<String> {
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
    let mut fields = info.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|&(name, _)| name == field)?;
    Some(value.trim().to_owned())
}

/// What fdwatch tells of descriptors, in the same form.
pub(crate) fn told(fds: &Value) -> BTreeMap<u32, Mode> {
    let fds = fds.as_array().expect("fds is an array").iter();
    let flag = |fd: &Value, name: &str| fd[name].as_bool().expect("a flag is a bool");
    fds.map(|fd| {
        let mode = Mode {
            access: fd["access"].as_str().expect("access is a word").to_owned(),
            append: flag(fd, "append"),
            cloexec: flag(fd, "cloexec"),
        };
        (number(&fd["fd"]), mode)
    })
    .collect()
}

/// The numbers of the descriptors told.
pub(crate) fn numbers(fds: &Value) -> Vec<u32> {
    told(fds).into_keys().collect()
}

/// A number told.
pub(crate) fn number(value: &Value) -> u32 {
    let number = value.as_u64().and_then(|number| number.try_into().ok());
    number.unwrap_or_else(|| panic!("not a number: {value}"))
}

/// Holds that what is told of a file is what /proc shows of it, and gives that.
pub(crate) fn assert_agrees(finding: &Value, path: &Path) -> BTreeMap<u32, Mode> {
    let pid = number(&finding["process"]["pid"]);
    let held = held(pid, path);
    assert_eq!(told(&finding["fds"]), held, "{finding}");
    held
}

/// The descriptors of a process that are sockets.
pub(crate) fn sockets(pid: u32) -> usize {
    let links = descriptors(pid).into_values();
    links
        .filter(|link| link.as_bytes().starts_with(b"socket:"))
        .count()
}

/// What is told of one of a finding's descriptors.
pub(crate) fn fd(finding: &Value, fd: u32) -> &Value {
    let fds = finding["fds"].as_array().expect("fds is an array").iter();
    let mut fds = fds.filter(|told| told["fd"] == fd);
    fds.next().unwrap_or_else(|| panic!("no {fd} in {finding}"))
}

/// How long something was there, in seconds.
pub(crate) fn lifetime(told: &Value) -> f64 {
    let lifetime = told["lifetime"].as_f64();
    lifetime.unwrap_or_else(|| panic!("no lifetime in {told}"))
}
