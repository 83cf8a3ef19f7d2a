//! `fdwatch explain`: what happened to what a process holds, and what to change.

mod common;

use std::process::Stdio;

use common::{Guard, Log, Puppet, fdwatch, lines::Lines, parse, puppet::open, run};
use serde_json::Value;

/// The sentences of a file's story.
fn story(file: &Value) -> Vec<String> {
    let story = file["story"].as_array().expect("a story is an array");
    let text = |told: &Value| told["text"].as_str().unwrap_or_default().to_owned();
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
fn a_look_tells_what_is_held_and_with_whom() {
    if !common::bpf() {
        return;
    }
    let log = Log::new();
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
    let explained = common::eventually("both descriptors", find);
    assert_eq!(explained["process"]["pid"], child);
    assert_eq!(explained["followed"], false);
    let file = &explained["files"][0];
    assert_eq!(file["file"]["path"], log.glob());
    assert_eq!(file["cause"], "inherited");
    let shared = format!(
        "{writer} is one description with {writer} of its parent python3[{}]",
        puppet.pid()
    );
    assert!(story(file).contains(&shared), "{file}");
    let advice = file["advice"].to_string();
    assert!(advice.contains("O_CLOEXEC"), "{advice}");

    // By number, the same; and of what is held once only the story.
    let by_number = self::explained(&[&pid, &writer.to_string()]);
    assert_eq!(by_number["files"][0]["file"], file["file"]);
    let once = self::explained(&[&puppet.pid().to_string(), log.glob()]);
    assert_eq!(once["files"][0]["open"], serde_json::json!([writer]));
    assert_eq!(once["files"][0]["advice"], serde_json::json!([]));
}

#[test]
fn what_is_followed_is_told_in_order() {
    if !common::bpf() {
        return;
    }
    let log = Log::new();
    let mut puppet = Puppet::start();
    let pid = puppet.pid().to_string();
    let mut command = fdwatch(["explain", &pid, log.glob(), "--json", "--duration", "60s"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut explain = Guard::spawn(&mut command);
    let said = Lines::of(explain.0.stderr.take().expect("it was asked for"));
    let told = Lines::of(explain.0.stdout.take().expect("it was asked for"));
    let started = said.next().unwrap_or_default();
    assert!(started.contains("watching"), "{started}");
    puppet.tell("listener = socket.create_server(('127.0.0.1', 0))");
    puppet.tell("client = socket.create_connection(listener.getsockname())");
    puppet.tell("connection = listener.accept()[0]");
    let connection = puppet.number("connection.fileno()");
    let reader = puppet.open(&log.path, "RDONLY");
    let writer = puppet.open(&log.path, "WRONLY|APPEND");
    puppet.tell("connection.close()");
    puppet.close(writer);
    // What is told last is seen to have been read.
    std::thread::sleep(std::time::Duration::from_millis(500));
    explain.signal(libc::SIGINT);
    let explained = parse(&told.next().expect("it explains"));
    assert_eq!(explain.wait(), Some(0));
    let file = &explained["files"][0];
    assert_eq!(explained["followed"], true);
    assert_eq!(file["open"], serde_json::json!([reader]));
    let story = story(file);
    let place = |text: &str| {
        let at = story.iter().position(|told| told.starts_with(text));
        at.unwrap_or_else(|| panic!("{text}: {story:#?}"))
    };
    let order = [
        place(&format!("a connection was accepted on {connection}")),
        place(&format!("{reader} (reading) made by openat")),
        place(&format!("{writer} (appending) made by openat")),
        place(&format!("{connection} was closed, and {reader} was not")),
        place(&format!("{writer} was closed")),
    ];
    assert!(order.is_sorted(), "{story:#?}");
    let opened = &file["story"][order[1]];
    assert!(opened["stack"].is_array(), "{opened}");
    let closed = &file["story"][order[4]];
    assert!(closed["stack"].is_array(), "{closed}");
}

#[test]
fn what_there_is_not_is_an_error() {
    if !common::bpf() {
        return;
    }
    let puppet = Puppet::start();
    let pid = puppet.pid().to_string();
    for (arguments, reason) in [
        ([pid.as_str(), "777"], "has no descriptor 777"),
        ([pid.as_str(), "/no/such"], "has no descriptor on /no/such"),
        (["999999999", "0"], "there is no process"),
    ] {
        let output = run(fdwatch([&["explain"], &arguments[..]].concat()));
        assert_eq!(output.code, Some(2));
        assert!(output.stderr.contains(reason), "{}", output.stderr);
    }
}

#[test]
fn what_is_held_a_hundred_times_is_told_in_a_few_lines() {
    if !common::bpf() {
        return;
    }
    let log = Log::new();
    let mut puppet = Puppet::start();
    let writer = puppet.open(&log.path, "WRONLY");
    let readers: Vec<_> = (0..100).map(|_| puppet.open(&log.path, "RDONLY")).collect();
    let pid = puppet.pid().to_string();

    let text = run(fdwatch(["explain", &pid, log.glob()]));
    let text = text.stdout();
    assert!(text.lines().count() < 20, "{text}");
    let (first, last) = (readers[0], readers[99]);
    assert!(text.contains(&format!("{first} (reading)")), "{text}");
    // The numbers are in rows but for those that the process has for something else.
    assert!(text.contains(&format!("-{last} in the same way")), "{text}");
    assert!(text.contains(&format!("-{last} are open still")), "{text}");
    assert!(text.contains(&format!("{writer} (writing)")), "{text}");
    // JSON has all of them.
    let explained = explained(&[&pid, log.glob()]);
    let open = explained["files"][0]["open"].as_array();
    assert_eq!(open.map(Vec::len), Some(101), "{explained}");

    let text = run(fdwatch(["scan", "--pid", &pid]));
    let text = text.stdout();
    assert!(text.lines().count() < 15, "{text}");
    assert!(text.contains("and 93 more: "), "{text}");
}
