//! `fdwatch trace`: the descriptor calls of processes, compared with strace.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use fdwatch_test_support::{Guard, Log, Puppet, bpf, fdwatch, lines::Lines, parse, program, run};
use serde_json::Value;

const STRACE: &str = "/usr/bin/strace";

/// A shell script that uses descriptors when it gets a line; a child of it does so too.
const SCRIPT: &str =
    "read x; exec 3>\"$F\"; exec 4>&3; (exec 5<\"$F\"; exec 5<&-); exec 3>&-; exec 4>&-";

fn shell(log: &Log) -> Command {
    let mut command = Command::new("/bin/dash");
    command
        .args(["-c", SCRIPT])
        .env("F", &log.path)
        .stdin(Stdio::piped());
    command
}

/// A call and its descriptor: the argument or the result.
type Call = (String, u64);

/// Returns the calls that strace shows from the opening of the file on.
fn strace(log: &Log) -> Vec<Call> {
    let output = log.directory.path().join("strace");
    let mut command = Command::new(STRACE);
    command
        .args(["-f", "-e", "trace=openat,fcntl,dup2,close", "-o"])
        .arg(&output)
        .args(["/bin/dash", "-c", SCRIPT])
        .env("F", &log.path)
        .stdin(Stdio::piped());
    let mut strace = Guard::spawn(&mut command);
    go_on(&mut strace);
    assert_eq!(strace.wait(), Some(0));
    let text = fs::read_to_string(output).expect("no output of strace");
    let calls = text.lines().filter_map(|line| {
        let (_, call) = line.split_once(' ')?;
        let call = call.trim_start();
        let (name, rest) = call.split_once('(')?;
        let (_, result) = rest.rsplit_once(" = ")?;
        let result: u64 = result.split(' ').next()?.parse().ok()?;
        let first = rest.split([',', ')']).next()?;
        let fd = if name == "close" || rest.contains("F_SETFD") {
            first.parse().ok()?
        } else {
            result
        };
        Some((line.contains("x.log"), (name.to_owned(), fd)))
    });
    let calls = calls.skip_while(|&(is_of_log, _)| !is_of_log);
    calls.map(|(_, reported)| reported).collect()
}

fn go_on(process: &mut Guard) {
    let mut stdin = process.0.stdin.take().expect("the pipe was requested");
    writeln!(stdin, "go").expect("cannot write");
}

#[test]
fn calls_match_strace() {
    if !bpf() || !program(STRACE) || !program("/bin/dash") {
        return;
    }
    let log = Log::create();
    let expected = strace(&log);
    assert!(expected.len() > 5, "{expected:?}");
    let mut shell = Guard::spawn(&mut shell(&log));
    let pid = shell.pid().to_string();
    let mut command = fdwatch(["trace", "--json", "--pid", &pid]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut trace = Guard::spawn(&mut command);
    let message = Lines::of(trace.0.stderr.take().expect("the pipe was requested"));
    let lines = Lines::of(trace.0.stdout.take().expect("the pipe was requested"));
    assert!(message.next().is_some_and(|line| line.contains("watching")));
    go_on(&mut shell);
    assert_eq!(shell.wait(), Some(0));
    // It ends by itself with the last traced process.
    let lines: Vec<Value> = lines.rest().iter().map(|line| parse(line)).collect();
    assert_eq!(trace.wait(), Some(0));
    assert!(lines.iter().all(|line| line["type"] == "call"), "{lines:?}");
    let opened = &lines[0];
    assert_eq!(opened["call"], "openat");
    assert_eq!(opened["asked_path"], log.glob());
    assert_eq!(opened["access"], "w");
    let of = |call: &str| lines.iter().filter(|line| line["call"] == call).count();
    assert_eq!((of("fork"), of("exit")), (1, 2));
    let child = lines.iter().find(|line| line["call"] == "fork");
    let child = child.map(|line| line["child"].clone());
    assert!(
        lines
            .iter()
            .any(|line| Some(&line["pid"]) == child.as_ref())
    );
    let reported = lines.iter().filter(|line| line["fd"].is_u64());
    let reported: Vec<Call> = reported
        .map(|line| {
            let fd = line["fd"].as_u64().unwrap_or_default();
            (line["call"].as_str().unwrap_or_default().to_owned(), fd)
        })
        .collect();
    assert_eq!(reported, expected);
}

#[test]
fn names_are_escaped_and_proc_paths_marked() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let mut puppet = Puppet::start();
    let pid = puppet.pid().to_string();
    let mut command = fdwatch(["trace", "--pid", &pid, "--duration", "60s"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut trace = Guard::spawn(&mut command);
    let message = Lines::of(trace.0.stderr.take().expect("the pipe was requested"));
    let lines = Lines::of(trace.0.stdout.take().expect("the pipe was requested"));
    assert!(message.next().is_some_and(|line| line.contains("watching")));
    let directory = log.directory.path().display();
    let fd = puppet.number(&format!(
        "os.open('{directory}/a\\x1b[31m\\n', os.O_CREAT | os.O_RDWR)"
    ));
    let copy = puppet.number(&format!("libc.dup({fd})"));
    puppet.close(fd);
    let shown: Vec<_> = (0..3).filter_map(|_| lines.next()).collect();
    let [opened, copied, closed] = &shown[..] else {
        panic!("{shown:?}");
    };
    let path = format!("{directory}/a\\x1b[31m\\n");
    assert!(
        opened.ends_with(&format!("openat(\"{path}\", O_RDWR|O_CLOEXEC) = {fd}")),
        "{opened}"
    );
    assert!(
        copied.ends_with(&format!("dup(O_RDWR) = {copy}<{path}>")),
        "{copied}"
    );
    assert!(closed.ends_with(&format!("close({fd}) = 0")), "{closed}");
}

#[test]
fn target_is_required() {
    let finished = run(fdwatch(["trace"]));
    assert!(finished.error().contains("--pid or --comm"));
}
