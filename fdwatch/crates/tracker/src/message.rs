//! Messages that are not part of the output: through the log of a process that has one, such as the
//! agent, and otherwise on standard error.

use std::io::{Write as _, stderr};

/// Reports something that went wrong.
pub fn warn(text: &str) {
    emit(text, |line| tracing::warn!("{line}"));
}

/// Reports progress or totals.
pub fn info(text: &str) {
    emit(text, |line| tracing::info!("{line}"));
}

fn emit(text: &str, log: impl Fn(&str)) {
    let has_log = tracing::dispatcher::has_been_set();
    for line in text.lines() {
        if has_log {
            log(line);
        } else {
            // Nobody is left to report to if this fails.
            let _ = writeln!(stderr().lock(), "fdwatch: {line}");
        }
    }
}
