//! Alerts in the journal: their fields, and searches for these.

use std::{
    collections::HashMap,
    fs,
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Command, Stdio},
};

use fdwatch_agent::{alerts, config::Alerts};
use fdwatch_core::{diagnose::Severity, duplicates::Change};
use fdwatch_test_support::{DEADLINE, Guard, eventually, is_root, parse, program, run};
use serde_json::Value;

use super::{HOSTILE, Running, key, setup};

#[test]
fn journal_alert_has_fields() {
    let directory = tempfile::tempdir().unwrap();
    let journal = UnixDatagram::bind(directory.path().join("journal")).unwrap();
    journal.set_read_timeout(Some(DEADLINE)).unwrap();
    let config = Alerts {
        journald: true,
        ..Alerts::default()
    };
    let running = Running::start(setup(directory.path(), config));
    running.offer(1, Change::Found, Severity::Critical, HOSTILE);
    let fields = || {
        let mut buffer = vec![0; 1 << 16];
        let count = journal.recv(&mut buffer).unwrap();
        let text = String::from_utf8(buffer[..count].to_vec()).unwrap();
        let lines = text.lines().map(|line| line.split_once('=').unwrap());
        lines
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect::<HashMap<_, _>>()
    };
    let firing = fields();
    running.gone(1);
    let resolved = fields();
    running.end();
    assert_eq!(firing["MESSAGE_ID"], alerts::FIRING_ID);
    assert_eq!(firing["PRIORITY"], "2");
    assert_eq!(firing["FDWATCH_KEY"], key(1));
    assert_eq!(firing["FDWATCH_COMM"], "a\"},\\n\\x1b[2J\\xff{}=<0>\\\\");
    assert!(firing["MESSAGE"].starts_with("firing: critical: a\"},\\n"));
    assert_eq!(resolved["MESSAGE_ID"], alerts::RESOLVED_ID);
    assert_eq!(resolved["FDWATCH_STATUS"], "resolved");
    assert_eq!(resolved["PRIORITY"], "6");
}

const JOURNALD: &str = "/lib/systemd/systemd-journald";

/// Setup for a journal that runs beside the system's own, with a private /run.
const OWN_JOURNAL: &str = "mount -t tmpfs tmpfs /run && \
    mkdir -p /run/systemd/journal /run/systemd/journald.conf.d /run/log/journal && \
    printf '[Journal]\\nStorage=volatile\\nAudit=no\\nReadKMsg=no\\n' \
        > /run/systemd/journald.conf.d/own.conf && \
    exec /lib/systemd/systemd-journald";

#[test]
fn journalctl_finds_alert_by_field() {
    if !(is_root() && program(JOURNALD) && program("/usr/bin/journalctl")) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", OWN_JOURNAL])
        .stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut journald = Guard::spawn(&mut command);
    let socket = format!("/proc/{}/root/run/systemd/journal/socket", journald.pid());
    let is_own = || {
        // Until it has a private /run, this is the system's.
        let command = fs::read(format!("/proc/{}/comm", journald.pid())).unwrap();
        (command.starts_with(b"systemd-journal") && Path::new(&socket).exists()).then_some(())
    };
    eventually("the journal", is_own);
    let config = Alerts {
        journald: true,
        ..Alerts::default()
    };
    let mut setup = setup(directory.path(), config);
    setup.journal = socket.clone().into();
    let running = Running::start(setup);
    running.offer(1, Change::Found, Severity::Critical, HOSTILE);
    running.gone(1);
    let pid = journald.pid().to_string();
    let found = eventually("both messages", || {
        let of = format!("FDWATCH_KEY={}", key(1));
        let mut command = Command::new("nsenter");
        command.args([
            "-t",
            &pid,
            "-m",
            "journalctl",
            "--directory=/run/log/journal",
        ]);
        command.args(["--output=json", &of]);
        let found = run(command);
        let found: Vec<Value> = found.stdout().lines().map(parse).collect();
        (found.len() == 2).then_some(found)
    });
    running.end();
    journald.kill();
    assert_eq!(found[0]["MESSAGE_ID"], alerts::FIRING_ID);
    assert_eq!(found[0]["FDWATCH_COMM"], "a\"},\\n\\x1b[2J\\xff{}=<0>\\\\");
    assert_eq!(found[0]["PRIORITY"], "2");
    assert_eq!(found[1]["MESSAGE_ID"], alerts::RESOLVED_ID);
}
