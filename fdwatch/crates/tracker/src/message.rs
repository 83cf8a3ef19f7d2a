//! Messages that are not part of the output. They go to the log if the process has one, as the agent does,
//! and to standard error otherwise.

use std::io::{Write as _, stderr};

/// Reports a problem.
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
            // There is no other place to report a failure of this.
            let _ = writeln!(stderr().lock(), "fdwatch: {line}");
        }
    }
}
