//! `fdwatch trace`: what processes do with descriptors, as strace shows it.

mod common;

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use common::{Guard, Log, Puppet, fdwatch, lines::Lines, parse, run};
use serde_json::Value;

const STRACE: &str = "/usr/bin/strace";

/// What a shell does with descriptors when it is told to go on; a child of it, too.
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

/// The call and its descriptor: the one it is about, or that it returns.
type Told = (String, u64);

/// What strace shows from the opening of the file on.
fn strace(log: &Log) -> Vec<Told> {
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
    let text = fs::read_to_string(output).expect("strace has written it");
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
    calls.map(|(_, told)| told).collect()
}

fn go_on(process: &mut Guard) {
    let mut orders = process.0.stdin.take().expect("it was asked for");
    writeln!(orders, "go").expect("it reads that");
}

#[test]
fn calls_are_those_that_strace_shows() {
    if !common::bpf() || !common::program(STRACE) || !common::program("/bin/dash") {
        return;
    }
    let log = Log::new();
    let expected = strace(&log);
    assert!(expected.len() > 5, "{expected:?}");
    let mut shell = Guard::spawn(&mut shell(&log));
    let pid = shell.pid().to_string();
    let mut command = fdwatch(["trace", "--json", "--pid", &pid]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut trace = Guard::spawn(&mut command);
    let said = Lines::of(trace.0.stderr.take().expect("it was asked for"));
    let lines = Lines::of(trace.0.stdout.take().expect("it was asked for"));
    assert!(said.next().is_some_and(|line| line.contains("watching")));
    go_on(&mut shell);
    assert_eq!(shell.wait(), Some(0));
    // It ends by itself with the last of those it traces.
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
    let told = lines.iter().filter(|line| line["fd"].is_u64());
    let told: Vec<Told> = told
        .map(|line| {
            let fd = line["fd"].as_u64().unwrap_or_default();
            (line["call"].as_str().unwrap_or_default().to_owned(), fd)
        })
        .collect();
    assert_eq!(told, expected);
}

#[test]
fn names_are_escaped_and_paths_that_proc_shows_are_told_apart() {
    if !common::bpf() {
        return;
    }
    let log = Log::new();
    let mut puppet = Puppet::start();
    let pid = puppet.pid().to_string();
    let mut command = fdwatch(["trace", "--pid", &pid, "--duration", "60s"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut trace = Guard::spawn(&mut command);
    let said = Lines::of(trace.0.stderr.take().expect("it was asked for"));
    let lines = Lines::of(trace.0.stdout.take().expect("it was asked for"));
    assert!(said.next().is_some_and(|line| line.contains("watching")));
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
fn there_must_be_something_to_trace() {
    let finished = run(fdwatch(["trace"]));
    assert!(finished.error().contains("--pid or --comm"));
}
