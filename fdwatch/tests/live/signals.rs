//! Ends of a watch: signals and time limits, each with a summary.

use fdwatch_test_support::{Puppet, Watch, bpf, fdwatch, run};
use serde_json::Value;

/// Fields of every summary.
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
    ended.assert_counts(0, 0, 0);
    assert_complete(&ended.summary);
}

#[test]
fn sigint_ends_watch_with_summary() {
    if bpf() {
        a_signal_ends_it(libc::SIGINT);
    }
}

#[test]
fn sigterm_ends_watch_with_summary() {
    if bpf() {
        a_signal_ends_it(libc::SIGTERM);
    }
}

#[test]
fn duration_ends_watch_with_summary() {
    if !bpf() {
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
fn watch_is_the_default_command() {
    if !bpf() {
        return;
    }
    let finished = run(fdwatch(["--duration", "300ms"]));
    assert_eq!(finished.code, Some(0));
    let message = &finished.stderr;
    assert!(message.contains("watching"), "{message}");
    assert!(message.contains("none lost"), "{message}");
}

#[test]
fn last_finding_precedes_summary() {
    if !bpf() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x");
    let mut puppet = Puppet::start();
    let watch = Watch::of(puppet.pid(), &[]);
    puppet.open(&path, "WRONLY|CREAT");
    puppet.open(&path, "RDONLY");
    // At once, so that the last events are included.
    let ended = watch.end();
    assert_eq!(ended.code, Some(0));
    let last = ended.findings.last().cloned().unwrap_or_default();
    assert_eq!(last["file"]["path"], path.to_str().unwrap());
    assert_eq!(last["fds"].as_array().map(Vec::len), Some(2));
    assert_eq!(ended.summary["findings"]["found"], 1);
}
