//! What an unprivileged user can do to a watch: make findings at will, or fill tables. Others' findings are reported
//! all the same, and the model stays exact.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
};

use fdwatch_test_support::{Guard, Log, Puppet, Watch, bpf, lines::Lines, under};
use tempfile::TempDir;

/// A user without privileges, and its group: `nobody`.
const USER: &str = "65534";

/// Opens so many files in each of so many processes, twice, and removes them; or one file so many times. Prints a
/// line when all are open, and waits for a line.
const HOLD: &str = "
import os, resource, sys
what, processes, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
ready, opened = os.pipe()
for process in range(processes):
    if os.fork() == 0:
        os.close(ready)
        if what == 'deleted':
            for i in range(count):
                name = f'{process}-{i}'
                os.open(name, os.O_RDWR | os.O_CREAT)
                os.open(name, os.O_RDWR)
                os.unlink(name)
        else:
            first = os.open(str(process), os.O_RDWR | os.O_CREAT)
            for i in range(count):
                os.dup(first)
        os.write(opened, b'.')
        os.read(0, 1)
        os._exit(0)
for process in range(processes):
    os.read(ready, 1)
print('ready', flush=True)
os.read(0, 1)
";

/// A running program of the unprivileged user; killed when dropped, and its children end with its standard input.
struct Holder {
    _process: Guard,
    _directory: TempDir,
}

impl Holder {
    fn start(what: &str, processes: u32, count: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
        let mut python = Command::new("/usr/bin/python3");
        python.args(["-c", HOLD, what]);
        python.args([processes, count].map(|number| number.to_string()));
        let user = [
            "setpriv",
            "--reuid",
            USER,
            "--regid",
            USER,
            "--clear-groups",
        ];
        let mut command = under(&user.map(str::to_owned), python);
        command
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Guard::spawn(&mut command);
        let lines = Lines::of(process.0.stdout.take().unwrap());
        assert_eq!(lines.next().as_deref(), Some("ready"));
        Self {
            _process: process,
            _directory: directory,
        }
    }
}

/// Opens the log twice in the process, and waits until that is reported.
fn assert_is_reported(watch: &mut Watch, puppet: &mut Puppet, log: &Log) {
    puppet.open(&log.path, "RDONLY");
    puppet.open(&log.path, "RDONLY");
    loop {
        let finding = watch.next_of("finding");
        if finding["process"]["pid"] == puppet.pid() {
            assert_eq!(finding["file"]["path"], log.path.to_str().unwrap());
            return;
        }
    }
}

#[test]
fn many_findings_of_a_user_do_not_displace_those_of_others() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let mut puppet = Puppet::start();
    let mut watch = Watch::start(&["--max-cpu", "1", "--severity", "info"]);
    let _holder = Holder::start("deleted", 4, 4000);
    assert_is_reported(&mut watch, &mut puppet, &log);
    let ended = watch.end();
    let unreported = &ended.summary["unreported"];
    assert!(
        unreported["files"].as_u64() > Some(10_000),
        "{}",
        ended.summary
    );
    assert_eq!(unreported["processes"], 4, "{}", ended.summary);
    // A process has a limited number of findings.
    assert!(ended.summary["findings"]["found"].as_u64() < Some(1000));
}

#[test]
fn many_descriptors_of_one_file_are_followed() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let mut puppet = Puppet::start();
    let _holder = Holder::start("dup", 10, 9000);
    let mut watch = Watch::start(&["--severity", "info"]);
    assert!(watch.started["descriptors"].as_u64() > Some(90_000));
    assert_is_reported(&mut watch, &mut puppet, &log);
    let ended = watch.end();
    assert_eq!(ended.summary["drift"]["missing"], 0, "{}", ended.summary);
    assert_eq!(ended.summary["drift"]["phantom"], 0, "{}", ended.summary);
}
