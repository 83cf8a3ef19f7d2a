//! `fdwatch explain`: the history of a process's descriptors, and advice.

use std::process::Stdio;

use fdwatch_test_support::{
    Guard, Log, Puppet, bpf, eventually, fdwatch, lines::Lines, parse, puppet::open, run,
};
use serde_json::Value;

/// Returns the steps of a file's history.
fn story(file: &Value) -> Vec<String> {
    let story = file["story"].as_array().expect("steps are not an array");
    let text = |reported: &Value| reported["text"].as_str().unwrap_or_default().to_owned();
    story.iter().map(text).collect()
}

fn explained(arguments: &[&str]) -> Value {
    let output = run(fdwatch([&["explain", "--json"], arguments].concat()));
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let explained = parse(output.stdout().trim());
    assert_eq!(explained["type"], "explanation");
    explained
}

#[test]
fn explain_once_shows_holders() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let mut puppet = Puppet::start();
    let writer = puppet.open(&log.path, "WRONLY");
    let child = puppet.number(&format!(
        "os.fork() or ({}, stay())",
        open(&log.path, "RDONLY")
    ));
    let pid = child.to_string();
    let find = || {
        let explained = explained(&[&pid, log.glob()]);
        let open = explained["files"][0]["open"].as_array().map(Vec::len);
        (open == Some(2)).then_some(explained)
    };
    let explained = eventually("both descriptors", find);
    assert_eq!(explained["process"]["pid"], child);
    assert_eq!(explained["followed"], false);
    let file = &explained["files"][0];
    assert_eq!(file["file"]["path"], log.glob());
    assert_eq!(file["cause"], "inherited");
    let shared = format!(
        "{writer} shares its description with {writer} of its parent python3[{}]",
        puppet.pid()
    );
    assert!(story(file).contains(&shared), "{file}");
    let advice = file["advice"].to_string();
    assert!(advice.contains("O_CLOEXEC"), "{advice}");

    // Selected by number it is the same; a file held once only has a history.
    let by_number = self::explained(&[&pid, &writer.to_string()]);
    assert_eq!(by_number["files"][0]["file"], file["file"]);
    let once = self::explained(&[&puppet.pid().to_string(), log.glob()]);
    assert_eq!(once["files"][0]["open"], serde_json::json!([writer]));
    assert_eq!(once["files"][0]["advice"], serde_json::json!([]));
}

#[test]
fn followed_steps_are_in_order() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let mut puppet = Puppet::start();
    let pid = puppet.pid().to_string();
    let mut command = fdwatch(["explain", &pid, log.glob(), "--json", "--duration", "60s"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut explain = Guard::spawn(&mut command);
    let message = Lines::of(explain.0.stderr.take().expect("the pipe was requested"));
    let reported = Lines::of(explain.0.stdout.take().expect("the pipe was requested"));
    let started = message.next().unwrap_or_default();
    assert!(started.contains("watching"), "{started}");
    puppet.exec("listener = socket.create_server(('127.0.0.1', 0))");
    puppet.exec("client = socket.create_connection(listener.getsockname())");
    puppet.exec("connection = listener.accept()[0]");
    let connection = puppet.number("connection.fileno()");
    let reader = puppet.open(&log.path, "RDONLY");
    let writer = puppet.open(&log.path, "WRONLY|APPEND");
    puppet.exec("connection.close()");
    puppet.close(writer);
    // After the last step, all events have been read.
    std::thread::sleep(std::time::Duration::from_millis(500));
    explain.signal(libc::SIGINT);
    let explained = parse(&reported.next().expect("no explanation"));
    assert_eq!(explain.wait(), Some(0));
    let file = &explained["files"][0];
    assert_eq!(explained["followed"], true);
    assert_eq!(file["open"], serde_json::json!([reader]));
    let story = story(file);
    let place = |text: &str| {
        let at = story.iter().position(|reported| reported.starts_with(text));
        at.unwrap_or_else(|| panic!("{text}: {story:#?}"))
    };
    let order = [
        place(&format!("a connection was accepted on {connection}")),
        place(&format!("{reader} (reading) opened by openat")),
        place(&format!("{writer} (appending) opened by openat")),
        place(&format!(
            "{connection} was closed, but {reader} stayed open"
        )),
        place(&format!("{writer} was closed")),
    ];
    assert!(order.is_sorted(), "{story:#?}");
    let opened = &file["story"][order[1]];
    assert!(opened["stack"].is_array(), "{opened}");
    let closed = &file["story"][order[4]];
    assert!(closed["stack"].is_array(), "{closed}");
}

#[test]
fn unknown_target_is_an_error() {
    if !bpf() {
        return;
    }
    let puppet = Puppet::start();
    let pid = puppet.pid().to_string();
    for (arguments, reason) in [
        ([pid.as_str(), "777"], "no such descriptor in process"),
        ([pid.as_str(), "/no/such"], "not open in process"),
        (["999999999", "0"], "no such process: 999999999"),
    ] {
        let output = run(fdwatch([&["explain"], &arguments[..]].concat()));
        assert_eq!(output.code, Some(2));
        assert!(output.stderr.contains(reason), "{}", output.stderr);
    }
}

#[test]
fn hundred_descriptors_take_few_lines() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let mut puppet = Puppet::start();
    let writer = puppet.open(&log.path, "WRONLY");
    let readers: Vec<_> = (0..100).map(|_| puppet.open(&log.path, "RDONLY")).collect();
    let pid = puppet.pid().to_string();

    let text = run(fdwatch(["explain", &pid, log.glob()]));
    let text = text.stdout();
    assert!(text.lines().count() < 20, "{text}");
    let (first, last) = (readers[0], readers[99]);
    assert!(text.contains(&format!("{first} (reading)")), "{text}");
    // Numbers are joined to ranges where the process has no other descriptor in between.
    assert!(text.contains(&format!("-{last} likewise")), "{text}");
    assert!(text.contains(&format!("-{last} are still open")), "{text}");
    assert!(text.contains(&format!("{writer} (writing)")), "{text}");
    // JSON has every descriptor.
    let explained = explained(&[&pid, log.glob()]);
    let open = explained["files"][0]["open"].as_array();
    assert_eq!(open.map(Vec::len), Some(101), "{explained}");

    let text = run(fdwatch(["scan", "--pid", &pid]));
    let text = text.stdout();
    assert!(text.lines().count() < 15, "{text}");
    assert!(text.contains("and 93 more: "), "{text}");
}
