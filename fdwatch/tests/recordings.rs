//! What is told of recordings of real programs stays what it was, and holds against the audits in
//! them. Needs neither root nor BPF.
//!
//! The recordings are made by `cargo xtask workloads --record DIR`; beside each is what is expected
//! of it. With `FDWATCH_EXPECT=1` that is written anew, for the difference to be read before it is
//! committed.

mod common;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use common::{fdwatch, run};
use serde_json::Value;

/// Has what is expected written, instead of compared.
const WRITE: &str = "FDWATCH_EXPECT";

fn file(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    directory.join(name)
}

/// What is told of a recording, by line.
fn replayed(name: &str) -> Vec<Value> {
    let recording = file(&format!("{name}.fdw"));
    let recording = recording.to_str().expect("the path is UTF-8");
    let finished = run(fdwatch(["replay", recording, "--all", "--json"]));
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    finished.json()
}

/// Removes what is another each time: descriptions, which are hashed with a key of the process's
/// own, and what the replay itself took.
fn settle(line: &mut Value) {
    let fields = line.as_object_mut().expect("a line is an object");
    fields.remove("cpu");
    fields.remove("memory");
    for list in ["fds", "closed"] {
        let fds = fields.get_mut(list).and_then(Value::as_array_mut);
        for fd in fds.into_iter().flatten() {
            let fd = fd.as_object_mut().expect("a descriptor is an object");
            fd.remove("description");
        }
    }
}

/// Holds what is told of a recording against what is expected.
fn replays(name: &str) {
    let mut told = replayed(name);
    let summary = told.last().expect("something is told");
    assert_eq!(summary["type"], "summary");
    assert_eq!(summary["lost"]["total"], 0, "{summary}");
    assert_eq!(summary["malformed"], 0, "{summary}");
    let drift = &summary["drift"];
    assert!(drift["audits"].as_u64() > Some(0), "{summary}");
    for kind in ["missing", "phantom", "wrong_file", "close_on_exec"] {
        assert_eq!(drift[kind], 0, "{summary}");
    }
    for change in ["found", "changed", "gone"] {
        let count = told.iter().filter(|line| line["change"] == change).count();
        assert_eq!(summary["findings"][change], count, "{summary}");
    }

    told.iter_mut().for_each(settle);
    let told: Vec<_> = told.iter().map(Value::to_string).collect();
    let expected = file(&format!("{name}.jsonl"));
    if env::var_os(WRITE).is_some_and(|value| !value.is_empty()) {
        let text = told.join("\n") + "\n";
        fs::write(&expected, text).expect("what is expected can be written");
        return;
    }
    let expected = fs::read_to_string(expected).expect("what is expected can be read");
    let expected: Vec<_> = expected.lines().collect();
    for (line, (told, expected)) in told.iter().zip(&expected).enumerate() {
        assert_eq!(told, expected, "line {}", line + 1);
    }
    assert_eq!(told.len(), expected.len());
}

#[test]
fn supervisord_rotates_logs_while_a_client_follows_them() {
    replays("supervisord");
}

#[test]
fn shells_move_descriptors_about() {
    replays("shell");
}

#[test]
fn postgres_opens_files_as_they_are_needed() {
    replays("postgres");
}

#[test]
fn nginx_opens_its_logs_anew_and_replaces_its_workers() {
    replays("nginx");
}
