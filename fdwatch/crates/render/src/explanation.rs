//! Text of explanations.

use std::fmt::Write as _;

use crate::{escape::Escaped, text};
use fdwatch_core::{diagnose::numbers, plural::counted};
use fdwatch_events::{Explanation, time::Clock};

/// Returns an explanation: the process, and for each file its story and what to change.
pub(crate) fn as_text(explanation: &Explanation, clock: &Clock) -> String {
    let mut text = String::new();
    let process = &explanation.process;
    let exe = process.exe.as_deref().unwrap_or_default();
    let _ = writeln!(
        text,
        "{}[{}]  {}",
        Escaped(&process.comm),
        process.pid,
        Escaped(exe)
    );
    if let Some(belongs) = text::belongs(process) {
        let _ = writeln!(text, "  {belongs}");
    }
    let census = &explanation.census;
    let open = census.open as u64;
    let percent = process.fd_limit.map_or_else(String::new, |limit| {
        format!(" ({} %)", open.saturating_mul(100) / limit.max(1))
    });
    let _ = writeln!(
        text,
        "  {}{percent}: {}",
        text::open_of_limit(open, process.fd_limit),
        text::counts(&census.by_type)
    );
    if explanation.followed {
        let _ = writeln!(text, "  by origin: {}", text::counts(&census.by_origin));
    }
    if explanation.pinned.files > 0 {
        let _ = writeln!(text, "  {}", text::pinned(explanation.pinned));
    }
    if explanation.closed_unopened > 0 {
        let _ = writeln!(
            text,
            "  {} of descriptors that were not open, outside of loops",
            counted(explanation.closed_unopened, "close")
        );
    }
    for file in &explanation.files {
        let finding = &file.finding;
        let verdict = if file.is_single() {
            "single descriptor".to_owned()
        } else {
            format!("{}, {}", finding.cause.name(), finding.severity.name())
        };
        let _ = writeln!(text, "\n{}  ({verdict})", text::path(&finding.file));
        for sentence in file.sentences() {
            let at = sentence
                .at
                .map_or_else(|| " ".repeat(8), |at| clock.time_of_day(at));
            let _ = writeln!(text, "  {at}  {}", Escaped(&sentence.text));
            if !sentence.stack.is_empty() {
                let frames: Vec<_> = sentence.stack.iter().map(text::frame).collect();
                let _ = writeln!(text, "            in {}", frames.join("\n             < "));
            }
        }
        let still = match file.open().as_slice() {
            [] => "no longer open".to_owned(),
            [one] => format!("{one} is still open"),
            some => format!("{} are still open", numbers(some)),
        };
        let _ = writeln!(text, "            {still}");
        let advice = file.advice();
        if !advice.is_empty() {
            let _ = writeln!(text, "  What to change:");
        }
        for advice in advice {
            let _ = writeln!(text, "  - {advice}");
        }
    }
    if explanation.files.is_empty() {
        let _ = writeln!(text, "\n  no duplicates and no deleted files");
    }
    if !explanation.followed {
        let _ = writeln!(
            text,
            "\n  This is a snapshot. To see who opens the file and where, follow the process: --duration 5m"
        );
    }
    text
}
