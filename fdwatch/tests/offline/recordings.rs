//! Replays recordings of real programs and compares the output with the expected lines and the recorded
//! audits. Needs neither root nor BPF.
//!
//! `cargo xtask workloads --record DIR` makes the recordings. The expected output is beside each; with
//! `FDWATCH_EXPECT=1` it is rewritten, to be reviewed before it is committed.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use fdwatch_test_support::{fdwatch, run};
use serde_json::Value;

/// Environment variable that makes the tests write the expected output.
const WRITE: &str = "FDWATCH_EXPECT";

fn file(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    directory.join(name)
}

/// Replays a recording and returns the lines.
fn replayed(name: &str) -> Vec<Value> {
    let recording = file(&format!("{name}.fdw"));
    let recording = recording.to_str().expect("not UTF-8");
    let finished = run(fdwatch(["replay", recording, "--all", "--json"]));
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    finished.json()
}

/// Removes values that differ by run: ids of descriptions, which are hashed with a random key, and the cost of the
/// replay. Removes advice as well, because its text belongs to the table of causes in `diagnose/cause.rs` and is tested
/// there.
fn settle(line: &mut Value) {
    let fields = line.as_object_mut().expect("line is not an object");
    fields.remove("cpu");
    fields.remove("memory");
    if fields["type"] == "finding" {
        let advice = fields.remove("advice").expect("no advice");
        assert!(advice.as_str().is_some_and(|it| !it.is_empty()));
    }
    for list in ["fds", "closed"] {
        let fds = fields.get_mut(list).and_then(Value::as_array_mut);
        for fd in fds.into_iter().flatten() {
            let fd = fd.as_object_mut().expect("descriptor is not an object");
            fd.remove("description");
        }
    }
}

/// Compares the output of a recording with the expected lines.
fn replays(name: &str) {
    let mut lines = replayed(name);
    let summary = lines.last().expect("nothing reported");
    assert_eq!(summary["type"], "summary");
    assert_eq!(summary["lost"]["total"], 0, "{summary}");
    assert_eq!(summary["malformed"], 0, "{summary}");
    let drift = &summary["drift"];
    assert!(drift["audits"].as_u64() > Some(0), "{summary}");
    for kind in ["missing", "phantom", "wrong_file", "close_on_exec"] {
        assert_eq!(drift[kind], 0, "{summary}");
    }
    for change in ["found", "changed", "gone"] {
        let count = lines.iter().filter(|line| line["change"] == change).count();
        assert_eq!(summary["findings"][change], count, "{summary}");
    }

    lines.iter_mut().for_each(settle);
    let lines: Vec<_> = lines.iter().map(Value::to_string).collect();
    let expected = file(&format!("{name}.jsonl"));
    if env::var_os(WRITE).is_some_and(|value| !value.is_empty()) {
        let text = lines.join("\n") + "\n";
        fs::write(&expected, text).expect("cannot write the expected output");
        return;
    }
    let expected = fs::read_to_string(expected).expect("cannot read the expected output");
    let expected: Vec<_> = expected.lines().collect();
    for (line, (actual, expected)) in lines.iter().zip(&expected).enumerate() {
        assert_eq!(actual, expected, "line {}", line + 1);
    }
    assert_eq!(lines.len(), expected.len());
}

#[test]
fn supervisord_recording_has_expected_output() {
    replays("supervisord");
}

#[test]
fn shell_recording_has_expected_output() {
    replays("shell");
}

#[test]
fn postgres_recording_has_expected_output() {
    replays("postgres");
}

#[test]
fn nginx_recording_has_expected_output() {
    replays("nginx");
}
