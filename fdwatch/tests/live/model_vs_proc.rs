//! Compares `fdwatch fds` with /proc: for each kind of descriptor, and for thousands.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
};

use fdwatch_test_support::{Puppet, bpf, eventually, fdwatch, procfs, run};
use serde_json::Value;

/// Kinds of descriptors: the puppet's statement, and the reported type.
const KINDS: &[(&str, &str)] = &[
    ("os.open('plain', os.O_RDWR | os.O_CREAT)", "regular"),
    ("libc.open(b'plain', os.O_RDONLY)", "regular"),
    ("libc.open(b'plain', os.O_WRONLY | os.O_APPEND)", "regular"),
    (
        "libc.open(b'plain', os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)",
        "regular",
    ),
    ("libc.open(b'plain', os.O_PATH)", "regular"),
    (
        "(libc.open(b'deleted', os.O_RDWR | os.O_CREAT), os.unlink('deleted'))[0]",
        "regular",
    ),
    (
        "libc.open(b'x (deleted)', os.O_RDWR | os.O_CREAT)",
        "regular",
    ),
    ("libc.open(b'.', os.O_RDONLY | os.O_DIRECTORY)", "directory"),
    (
        "(os.symlink('plain', 'link'), libc.open(b'link', os.O_PATH | os.O_NOFOLLOW))[1]",
        "link",
    ),
    (
        "(os.mkfifo('fifo'), libc.open(b'fifo', os.O_RDWR | os.O_NONBLOCK))[1]",
        "pipe",
    ),
    ("os.pipe()[0]", "pipe"),
    ("libc.open(b'/dev/null', os.O_RDWR)", "character"),
    ("os.open('/dev/zero', os.O_RDONLY)", "character"),
    ("socket.socket(socket.AF_UNIX).detach()", "socket"),
    ("socket.socket(socket.AF_INET).detach()", "socket"),
    (
        "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).detach()",
        "socket",
    ),
    ("[s.detach() for s in socket.socketpair()][0]", "socket"),
    ("os.eventfd(0)", "anonymous"),
    ("libc.eventfd(0, 0)", "anonymous"),
    ("libc.epoll_create1(os.O_CLOEXEC)", "anonymous"),
    ("libc.timerfd_create(1, 0)", "anonymous"),
    ("libc.inotify_init1(0)", "anonymous"),
    (
        "libc.signalfd(-1, ctypes.create_string_buffer(128), 0)",
        "anonymous",
    ),
    ("os.pidfd_open(os.getpid())", "anonymous"),
    ("os.memfd_create('memory')", "regular"),
    ("libc.open(b'/proc/self/stat', os.O_RDONLY)", "regular"),
];

/// Runs `fdwatch fds` and returns the table by descriptor.
fn table(pid: u32, arguments: &[&str]) -> BTreeMap<u32, Value> {
    let pid = pid.to_string();
    let finished = run(fdwatch([&["fds", &pid, "--json"], arguments].concat()));
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let lines = finished.json();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["schema"], 1);
    assert_eq!(lines[0]["type"], "table");
    assert_eq!(lines[0]["process"]["pid"].to_string(), pid);
    let fds = lines[0]["fds"]
        .as_array()
        .expect("fds is not an array")
        .iter();
    let fds: Vec<_> = fds
        .map(|fd| (procfs::number(&fd["fd"]), fd.clone()))
        .collect();
    assert!(fds.is_sorted_by_key(|&(fd, _)| fd), "not in order");
    fds.into_iter().collect()
}

/// Returns the superblock device of each mount: on some file systems `stat` shows another.
fn mounts(pid: u32) -> BTreeMap<String, String> {
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("missing");
    let mounts = mounts.lines().map(|line| {
        let fields: Vec<_> = line.split(' ').collect();
        (fields[0].to_owned(), fields[2].to_owned())
    });
    mounts.collect()
}

/// Compares each field of each descriptor with /proc.
fn assert_agrees(pid: u32, table: &BTreeMap<u32, Value>) {
    let links = procfs::descriptors(pid);
    let reported: Vec<_> = table.keys().collect();
    assert_eq!(reported, links.keys().collect::<Vec<_>>());
    let mounts = mounts(pid);
    for (&fd, link) in &links {
        let reported = &table[&fd];
        let mode = procfs::mode(pid, fd).expect("missing");
        let fds = Value::from(vec![reported.clone()]);
        assert_eq!(procfs::reported(&fds)[&fd], mode, "{reported}");
        let file = &reported["file"];
        let metadata = fs::metadata(format!("/proc/{pid}/fd/{fd}"));
        // A symbolic link opened with O_PATH cannot be followed to itself.
        let metadata = if file["type"] == "link" {
            fs::symlink_metadata(link).expect("no link")
        } else {
            metadata.expect("missing")
        };
        let ino = procfs::fdinfo(pid, fd, "ino").unwrap_or_else(|| metadata.ino().to_string());
        assert_eq!(file["ino"].to_string(), ino, "{reported}");
        let mount = procfs::fdinfo(pid, fd, "mnt_id").expect("not on a mount");
        let dev = mounts.get(&mount).cloned().unwrap_or_else(|| {
            let dev = metadata.dev();
            format!("{}:{}", libc::major(dev), libc::minor(dev))
        });
        assert_eq!(file["dev"], dev, "{reported}");
        let is_deleted = metadata.nlink() == 0 && link.as_bytes().starts_with(b"/");
        let is_memory = link.as_bytes().starts_with(b"/memfd:");
        let is_deleted = is_deleted && !is_memory;
        if !is_memory {
            assert_eq!(file["deleted"], is_deleted, "{reported}");
        }
        let link = link.to_str().expect("not UTF-8");
        let shown = file["path"].as_str().expect("nothing to show");
        let suffix = link.strip_prefix(shown);
        assert!(
            suffix == Some("") || ((is_deleted || is_memory) && suffix == Some(" (deleted)")),
            "{shown} of {link}"
        );
    }
}

/// Starts a puppet in a new working directory.
fn puppet() -> (Puppet, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("cannot create a directory");
    let mut puppet = Puppet::start();
    let path = Value::from(directory.path().to_str().expect("not UTF-8"));
    puppet.exec(&format!("os.chdir({path})"));
    (puppet, directory)
}

#[test]
fn every_kind_of_descriptor_matches_proc() {
    if !bpf() {
        return;
    }
    let (mut puppet, _directory) = puppet();
    let fds: Vec<_> = KINDS
        .iter()
        .map(|&(make, kind)| (puppet.number(make), make, kind))
        .collect();
    let table = table(puppet.pid(), &[]);
    assert_agrees(puppet.pid(), &table);
    for (fd, make, kind) in fds {
        assert_eq!(table[&fd]["file"]["type"], kind, "{make}");
    }
}

#[test]
fn proc_option_shows_same_table() {
    if !bpf() {
        return;
    }
    let (mut puppet, _directory) = puppet();
    for (make, _) in KINDS {
        puppet.number(make);
    }
    let with_bpf = table(puppet.pid(), &[]);
    let without = table(puppet.pid(), &["--proc"]);
    assert_eq!(
        with_bpf.keys().collect::<Vec<_>>(),
        without.keys().collect::<Vec<_>>()
    );
    for (fd, reported) in &with_bpf {
        for field in ["access", "append", "cloexec"] {
            assert_eq!(reported[field], without[fd][field], "{field} of {reported}");
        }
        for field in ["path", "ino", "type", "deleted"] {
            let other = &without[fd]["file"][field];
            assert_eq!(reported["file"][field], *other, "{field} of {reported}");
        }
    }
}

#[test]
fn dup_shares_description_and_open_does_not() {
    if !bpf() {
        return;
    }
    let (mut puppet, _directory) = puppet();
    let first = puppet.number("os.open('plain', os.O_RDWR | os.O_CREAT)");
    let copy = puppet.number(&format!("libc.dup({first})"));
    let again = puppet.number("os.open('plain', os.O_RDWR)");
    for arguments in [&[][..], &["--proc"]] {
        let table = table(puppet.pid(), arguments);
        let description = |fd: u32| table[&fd]["description"].clone();
        assert_eq!(description(first), description(copy));
        assert_ne!(description(first), description(again));
    }
}

#[test]
fn inherited_descriptors_have_origin_fork() {
    if !bpf() {
        return;
    }
    let (mut puppet, _directory) = puppet();
    let kept = puppet.number("os.open('plain', os.O_RDWR | os.O_CREAT)");
    let child = puppet.number("os.fork() or (os.open('own', os.O_RDWR | os.O_CREAT), stay())");
    let own = eventually("the child's own file", || {
        let fds = procfs::descriptors(child).into_iter();
        let mut fds = fds.filter(|(_, link)| link.as_bytes().ends_with(b"/own"));
        fds.next().map(|(fd, _)| fd)
    });
    let table = table(child, &[]);
    assert_agrees(child, &table);
    assert_eq!(table[&kept]["origin"], "fork");
    assert_eq!(table[&own]["origin"], "unknown");
}

#[test]
fn thousands_of_descriptors_match_proc() {
    const MANY: u32 = 3000;
    if !bpf() {
        return;
    }
    let (mut puppet, _directory) = puppet();
    puppet.exec(&format!(
        "resource.setrlimit(resource.RLIMIT_NOFILE, ({}, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))",
        MANY + 100
    ));
    puppet.exec(&format!(
        "for i in range({MANY}):\n    \
             flags = [os.O_RDONLY, os.O_WRONLY | os.O_APPEND, os.O_RDWR | os.O_CLOEXEC][i % 3]\n    \
             assert libc.open(b'f%d' % (i % 500), flags | os.O_CREAT, 0o644) >= 0"
    ));
    // With gaps, as in long-running processes.
    puppet.exec("for fd in range(100, 2900, 7): os.close(fd)");
    let table = table(puppet.pid(), &[]);
    assert!(table.len() > 2500, "{}", table.len());
    assert_agrees(puppet.pid(), &table);
    puppet.exec("os.closerange(3, 4000)");
    let table = self::table(puppet.pid(), &[]);
    assert_eq!(table.into_keys().collect::<Vec<_>>(), [0, 1, 2]);
}
