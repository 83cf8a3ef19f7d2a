//! Traced calls: as strace would show them, or as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::{escape::Escaped, json::lossy, text::DIM};
use fdwatch_core::{
    model::Access,
    trace::{Call, What},
};
use fdwatch_events::time::Clock;

/// A call, with what /proc adds.
#[derive(Clone, Debug)]
pub struct TracedCall {
    /// The call.
    pub call: Call,
    /// What /proc shows that the descriptor leads to, where the path that was asked for is not known.
    pub path: Option<Vec<u8>>,
}

pub fn as_text(traced: &TracedCall, clock: &Clock) -> String {
    let call = &traced.call;
    let thread = if call.tid == call.pid {
        String::new()
    } else {
        format!("/{}", call.tid)
    };
    let what = match &call.what {
        What::Made {
            call,
            fd,
            asked,
            file_type,
            ..
        } => {
            let mut told = (*call).to_owned();
            match asked {
                Some((path, is_cut)) => {
                    let more = if *is_cut { "..." } else { "" };
                    let _ = write!(
                        told,
                        "(\"{}\"{more}, {})",
                        Escaped(path),
                        flags(&traced.call.what)
                    );
                }
                None => {
                    let _ = write!(told, "({})", flags(&traced.call.what));
                }
            }
            let _ = write!(told, " = {fd}");
            match &traced.path {
                Some(path) => {
                    let _ = write!(told, "<{}>", Escaped(path));
                }
                None if asked.is_none() => {
                    let _ = write!(told, "<{}>", file_type.name());
                }
                None => {}
            }
            told
        }
        What::Closed { fd, was_open: true } => format!("close({fd}) = 0"),
        What::Closed {
            fd,
            was_open: false,
        } => format!("close({fd}) = -1 EBADF"),
        What::Range { call, from } => format!("{call}({from}, ...) = 0"),
        What::ClosesOnExec { fd, closes: true } => format!("fcntl({fd}, F_SETFD, FD_CLOEXEC) = 0"),
        What::ClosesOnExec { fd, closes: false } => format!("fcntl({fd}, F_SETFD, 0) = 0"),
        What::Forked { child } => format!("fork() = {child}"),
        What::Execed => format!("exec of {}", Escaped(&call.comm)),
        What::Exited => "exit".to_owned(),
    };
    let time = clock.time_of_day(call.at);
    format!(
        "{DIM}{time}{DIM:#}  {}[{}{thread}]  {what}\n",
        Escaped(&call.comm),
        call.pid
    )
}

/// The flags that the descriptor came to have.
fn flags(what: &What) -> String {
    let &What::Made {
        access,
        append,
        cloexec,
        ..
    } = what
    else {
        return String::new();
    };
    let mut flags = match access {
        Access::Read => "O_RDONLY",
        Access::Write => "O_WRONLY",
        Access::ReadWrite => "O_RDWR",
        Access::Path => "O_PATH",
    }
    .to_owned();
    if append {
        flags.push_str("|O_APPEND");
    }
    if cloexec {
        flags.push_str("|O_CLOEXEC");
    }
    flags
}

/// The body of a line of JSON.
#[derive(Default, Serialize)]
pub struct Body {
    pid: u32,
    tid: u32,
    comm: String,
    call: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fd: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    append: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cloexec: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    child: Option<u32>,
}

impl Body {
    pub fn of(traced: &TracedCall) -> Self {
        let call = &traced.call;
        let body = Self {
            pid: call.pid,
            tid: call.tid,
            comm: lossy(&call.comm),
            path: traced.path.as_deref().map(lossy),
            ..Self::default()
        };
        match &call.what {
            What::Made {
                call,
                fd,
                access,
                append,
                cloexec,
                file_type,
                asked,
                ..
            } => Self {
                call,
                fd: Some(*fd),
                access: Some(access.name()),
                append: Some(*append),
                cloexec: Some(*cloexec),
                file_type: Some(file_type.name()),
                asked_path: asked.as_ref().map(|(path, _)| lossy(path)),
                ..body
            },
            What::Closed { fd, was_open } => Self {
                call: "close",
                fd: Some(*fd),
                error: (!was_open).then_some("EBADF"),
                ..body
            },
            What::Range { call, from } => Self {
                call,
                fd: Some(*from),
                ..body
            },
            What::ClosesOnExec { fd, closes } => Self {
                call: "fcntl",
                fd: Some(*fd),
                cloexec: Some(*closes),
                ..body
            },
            What::Forked { child } => Self {
                call: "fork",
                child: Some(*child),
                ..body
            },
            What::Execed => Self {
                call: "exec",
                ..body
            },
            What::Exited => Self {
                call: "exit",
                ..body
            },
        }
    }
}
