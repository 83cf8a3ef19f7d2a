//! How a watch ends: with an account of itself, whatever ends it.

mod common;

use common::{Puppet, Watch, fdwatch, run};
use serde_json::Value;

/// What is in every summary.
fn assert_complete(summary: &Value) {
    for (object, field) in [
        ("lost", "total"),
        ("findings", "found"),
        ("findings", "changed"),
        ("findings", "gone"),
        ("cpu", "user"),
        ("cpu", "system"),
        ("memory", "peak_rss"),
    ] {
        assert!(
            summary[object][field].is_number(),
            "{object} {field}: {summary}"
        );
    }
    assert!(summary["lost"]["by_kind"].is_object());
    assert!(summary["events"].is_u64());
}

fn a_signal_ends_it(signal: i32) {
    let puppet = Puppet::start();
    let watch = Watch::of(puppet.pid(), &[]);
    for field in ["processes", "descriptors"] {
        let count = watch.started[field].as_u64();
        assert!(count.is_some_and(|count| count > 0), "{}", watch.started);
    }
    watch.signal(signal);
    let ended = watch.ended();
    ended.assert_told(0, 0, 0);
    assert_complete(&ended.summary);
}

#[test]
fn an_interrupt_ends_a_watch_with_its_summary() {
    if common::bpf() {
        a_signal_ends_it(libc::SIGINT);
    }
}

#[test]
fn a_termination_ends_a_watch_with_its_summary() {
    if common::bpf() {
        a_signal_ends_it(libc::SIGTERM);
    }
}

#[test]
fn a_watch_ends_by_itself_after_its_duration() {
    if !common::bpf() {
        return;
    }
    let finished = run(fdwatch(["watch", "--json", "--duration", "300ms"]));
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let lines = finished.json();
    let first = lines.first().map(|line| line["type"].clone());
    let last = lines.last().cloned().unwrap_or_default();
    assert_eq!(first, Some(Value::from("started")));
    assert_eq!(last["type"], "summary");
    assert_complete(&last);
}

#[test]
fn to_watch_is_what_is_done_if_nothing_else_is_said() {
    if !common::bpf() {
        return;
    }
    let finished = run(fdwatch(["--duration", "300ms"]));
    assert_eq!(finished.code, Some(0));
    let said = &finished.stderr;
    assert!(said.contains("watching"), "{said}");
    assert!(said.contains("lost 0"), "{said}");
}

#[test]
fn a_finding_that_is_there_at_the_end_was_told_before() {
    if !common::bpf() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x");
    let mut puppet = Puppet::start();
    let watch = Watch::of(puppet.pid(), &[]);
    puppet.open(&path, "WRONLY|CREAT");
    puppet.open(&path, "RDONLY");
    // At once: what has just happened is not left out.
    let ended = watch.end();
    assert_eq!(ended.code, Some(0));
    let last = ended.findings.last().cloned().unwrap_or_default();
    assert_eq!(last["file"]["path"], path.to_str().unwrap());
    assert_eq!(last["fds"].as_array().map(Vec::len), Some(2));
    assert_eq!(ended.summary["findings"]["found"], 1);
}
