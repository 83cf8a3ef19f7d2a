//! Messages that are not part of the output: through the log of a process that has one, such as the
//! agent, and otherwise on standard error.

use std::io::{Write as _, stderr};

/// Reports something that went wrong.
pub fn warn(text: &str) {
    for line in text.lines() {
        if tracing::dispatcher::has_been_set() {
            tracing::warn!("{line}");
        } else {
            print(line);
        }
    }
}

/// Reports progress or totals.
pub fn info(text: &str) {
    for line in text.lines() {
        if tracing::dispatcher::has_been_set() {
            tracing::info!("{line}");
        } else {
            print(line);
        }
    }
}

fn print(line: &str) {
    // Nobody is left to report to if this fails.
    let _ = writeln!(stderr().lock(), "fdwatch: {line}");
}
