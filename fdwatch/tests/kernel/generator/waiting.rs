//! Diagnostics for a phase that times out: the call that each thread is blocked in.

use std::{fmt::Write as _, fs, path::Path};

/// Returns a line for each thread of `root` and its descendants.
pub(super) fn blocking_calls(root: u32) -> String {
    let mut tree = vec![root];
    let mut lines = String::new();
    let mut at = 0;
    while let Some(&pid) = tree.get(at) {
        at += 1;
        tree.extend(children(pid));
        for thread in entries(&format!("/proc/{pid}/task")) {
            let read = |name: &str| {
                let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/{name}"));
                text.unwrap_or_default().trim().replace('\n', " < ")
            };
            let (state, rest) = (read("stat"), (read("syscall"), read("stack")));
            let state = state.rsplit(')').next().unwrap_or_default();
            let mut state = state.split_ascii_whitespace();
            let state = (state.next(), state.next());
            let _ = writeln!(lines, "{pid}/{thread} {state:?} {rest:?}");
        }
    }
    lines
}

fn children(pid: u32) -> impl Iterator<Item = u32> {
    entries("/proc").into_iter().filter(move |&child| {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        // The name may contain anything; state and parent follow its closing parenthesis.
        let rest = stat.rsplit(')').next().unwrap_or_default();
        rest.split_ascii_whitespace().nth(1) == Some(&pid.to_string())
    })
}

/// Returns the numeric names in a directory.
fn entries(directory: &str) -> Vec<u32> {
    let entries = fs::read_dir(Path::new(directory)).into_iter().flatten();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}
