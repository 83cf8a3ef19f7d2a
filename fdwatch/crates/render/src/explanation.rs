//! Explanations: the story of what a process holds, and what to change.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;

use crate::{escape::Escaped, json, text};
use fdwatch_core::growth::Pinned;
use fdwatch_core::{
    diagnose::{Census, Finding, ProcessInfo, Sentence, Sharer, numbers, remedies, story},
    model::Moment,
    plural::counted,
};
use fdwatch_events::time::Clock;

/// What there is to say of a process.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The process.
    pub process: ProcessInfo,
    /// Its descriptors, counted.
    pub census: Census,
    /// Deleted files that it holds.
    pub pinned: Pinned,
    /// How often it closed what was not open.
    pub closed_unopened: u32,
    /// Its calls were followed for a while, and not looked at once.
    pub followed: bool,
    /// The files there is a story of.
    pub files: Vec<FileStory>,
}

/// A file, and who else has it by the same descriptions.
#[derive(Clone, Debug)]
pub struct FileStory {
    /// What was found of it.
    pub finding: Finding,
    /// Who else.
    pub sharers: Vec<Sharer>,
}

impl FileStory {
    fn sentences(&self) -> Vec<Sentence> {
        story(&self.finding, &self.sharers)
    }

    /// What to change: nothing, where a file is held once and is there.
    fn advice(&self) -> Vec<&'static str> {
        let finding = &self.finding;
        let held = finding.fds.len() + finding.closed.len();
        if held < 2 && !finding.file.deleted {
            return Vec::new();
        }
        let writes = finding.fds.iter().any(|fd| fd.access.writes());
        let more = remedies(finding.cause, writes).iter().copied();
        std::iter::once(finding.advice).chain(more).collect()
    }

    fn open(&self) -> Vec<u32> {
        self.finding.fds.iter().map(|fd| fd.fd).collect()
    }
}

/// For a person.
pub fn as_text(explanation: &Explanation, clock: &Clock) -> String {
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
    let limit = process.fd_limit.map_or_else(String::new, |most| {
        let percent = (census.open as u64).saturating_mul(100) / most.max(1);
        format!(" of {most} ({percent} %)")
    });
    let _ = writeln!(
        text,
        "  {}{limit}: {}",
        counted(census.open, "descriptor"),
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
            "  closed what was not open {}, outside of loops",
            counted(explanation.closed_unopened, "time")
        );
    }
    for file in &explanation.files {
        let finding = &file.finding;
        let held = finding.fds.len() + finding.closed.len();
        let verdict = if held < 2 && !finding.file.deleted {
            "held once".to_owned()
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
            [] => "none is open now".to_owned(),
            [one] => format!("{one} is open still"),
            some => format!("{} are open still", numbers(some)),
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
        let _ = writeln!(text, "\n  no file is held twice, and none that was deleted");
    }
    if !explanation.followed {
        let _ = writeln!(
            text,
            "\n  A look tells what is open. To see who opens it and where, follow it for a while: --duration 5m"
        );
    }
    text
}

/// As the body of a line of JSON.
#[derive(Serialize)]
pub struct Body {
    process: json::Process,
    descriptors: Descriptors,
    pinned: json::Pinned,
    closed_unopened: u32,
    followed: bool,
    files: Vec<File>,
}

#[derive(Serialize)]
struct Descriptors {
    open: usize,
    limit: Option<u64>,
    by_type: BTreeMap<&'static str, usize>,
    by_origin: BTreeMap<&'static str, usize>,
}

#[derive(Serialize)]
struct File {
    file: json::File,
    cause: &'static str,
    severity: &'static str,
    open: Vec<u32>,
    story: Vec<EventKind>,
    advice: Vec<&'static str>,
}

#[derive(Serialize)]
struct EventKind {
    at: Option<String>,
    text: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stack: Vec<json::StackFrame>,
}

impl Body {
    pub fn of(explanation: &Explanation, clock: &Clock) -> Self {
        let census = explanation.census.clone();
        Self {
            process: json::process(&explanation.process, clock),
            descriptors: Descriptors {
                open: census.open,
                limit: explanation.process.fd_limit,
                by_type: census.by_type,
                by_origin: census.by_origin,
            },
            pinned: json::Pinned {
                files: explanation.pinned.files,
                bytes: explanation.pinned.bytes,
            },
            closed_unopened: explanation.closed_unopened,
            followed: explanation.followed,
            files: explanation
                .files
                .iter()
                .map(|file| File {
                    file: json::file(&file.finding.file),
                    cause: file.finding.cause.name(),
                    severity: file.finding.severity.name(),
                    open: file.open(),
                    story: file
                        .sentences()
                        .iter()
                        .map(|told| self::told(told, clock))
                        .collect(),
                    advice: file.advice(),
                })
                .collect(),
        }
    }
}

fn told(sentence: &Sentence, clock: &Clock) -> EventKind {
    EventKind {
        at: sentence.at.map(|at: Moment| clock.rfc3339(at)),
        text: json::lossy(&sentence.text),
        stack: sentence.stack.iter().map(json::stack_frame).collect(),
    }
}
