//! Text of traced calls, in the form of strace.

use std::fmt::Write as _;

use crate::{escape::Escaped, text::DIM};
use fdwatch_core::{model::Access, trace::CallKind};
use fdwatch_events::{TracedCall, time::Clock};

/// Returns a call.
pub(crate) fn as_text(traced: &TracedCall, clock: &Clock) -> String {
    let call = &traced.call;
    let thread = if call.tid == call.pid {
        String::new()
    } else {
        format!("/{}", call.tid)
    };
    let what = match &call.what {
        CallKind::Made {
            call,
            fd,
            asked,
            file_type,
            ..
        } => {
            let mut text = (*call).to_owned();
            match asked {
                Some((path, is_cut)) => {
                    let more = if *is_cut { "..." } else { "" };
                    let _ = write!(
                        text,
                        "(\"{}\"{more}, {})",
                        Escaped(path),
                        flags(&traced.call.what)
                    );
                }
                None => {
                    let _ = write!(text, "({})", flags(&traced.call.what));
                }
            }
            let _ = write!(text, " = {fd}");
            match &traced.path {
                Some(path) => {
                    let _ = write!(text, "<{}>", Escaped(path));
                }
                None if asked.is_none() => {
                    let _ = write!(text, "<{}>", file_type.name());
                }
                None => {}
            }
            text
        }
        CallKind::Closed { fd, was_open: true } => format!("close({fd}) = 0"),
        CallKind::Closed {
            fd,
            was_open: false,
        } => format!("close({fd}) = -1 EBADF"),
        CallKind::Range { call, from } => format!("{call}({from}, ...) = 0"),
        CallKind::ClosesOnExec { fd, closes: true } => {
            format!("fcntl({fd}, F_SETFD, FD_CLOEXEC) = 0")
        }
        CallKind::ClosesOnExec { fd, closes: false } => format!("fcntl({fd}, F_SETFD, 0) = 0"),
        CallKind::Forked { child } => format!("fork() = {child}"),
        CallKind::Execed => format!("exec of {}", Escaped(&call.comm)),
        CallKind::Exited => "exit".to_owned(),
    };
    let time = clock.time_of_day(call.at);
    format!(
        "{DIM}{time}{DIM:#}  {}[{}{thread}]  {what}\n",
        Escaped(&call.comm),
        call.pid
    )
}

/// Returns the flags of a created descriptor.
fn flags(what: &CallKind) -> String {
    let &CallKind::Made {
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
