//! What to do about a finding: one sentence, for whoever can change the program or its set-up.

use super::{Cause, FileInfo};
use crate::model::FdEntry;

/// What else helps against the cause, besides what is told with each finding.
pub fn remedies(cause: Cause, writes: bool) -> &'static [&'static str] {
    match cause {
        Cause::Reopened if writes => &[
            "reuse the handle: let one part of the program open the file, and hand it to the others",
            "where several must write, send it to one that does: a logging process, a pipe, syslog",
        ],
        Cause::Reopened => &[
            "close what was opened on every way out: when the client is gone, when a read fails",
            "in a language with a collector close by hand: it may be long until the collector does",
        ],
        Cause::Inherited => &[
            "close in the child, right after fork, what it opens itself",
            "open what children are not to have after forking them",
        ],
        Cause::ExecLeak => &[
            "set O_CLOEXEC at opening: by fcntl later there is a gap, in which another thread may fork",
            "or close all from 3 on before exec: close_range(3, ~0, 0)",
        ],
        Cause::Duplicated => &["close the copy that dup left, once both are in place"],
        Cause::Rotated => &[
            "have logrotate tell the program to open its log anew (postrotate), or use copytruncate",
            "close the old file before the new one is opened",
        ],
        Cause::Deleted => {
            &["truncate it before deleting, if it cannot be closed: that frees the space"]
        }
        Cause::Received => &["let the receiver close what it does not use, errors included"],
        Cause::SharedConfig => &[
            "or send them to one log without rotation (stdout_logfile_maxbytes=0), and rotate that by copytruncate",
            "fdwatch lint shows all programs that share a log",
        ],
        Cause::SharedFile => &[
            "where several must write, send it to one that does: a logging process, a pipe, syslog",
        ],
        Cause::DoubleClose => &[
            "set the number to -1 where it is closed, so that no one can close it again",
            "do not close by number what belongs to objects that close it themselves",
        ],
    }
}

/// Where a configuration gives one log to several processes.
pub(super) const SHARED_CONFIG: &str = "give each process a log of its own (%(program_name)s, %(process_num)d in its name): these write, and rotate, one file";

pub(super) fn advice(
    cause: Cause,
    entries: &[&FdEntry],
    file: &FileInfo,
    outlives: bool,
) -> &'static str {
    let writers = entries.iter().filter(|entry| entry.access().writes());
    let overwriting = writers.clone().count() > 1 && writers.clone().any(|entry| !entry.appends());
    match cause {
        Cause::Reopened if outlives => {
            "it was opened for a connection, and outlives it: close it where the connection's end is handled"
        }
        Cause::Deleted => {
            "close it when it is deleted, or restart the program: the space is free when the last descriptor is closed"
        }
        Cause::Received => {
            "close what was received after use, or do not send what the receiver has already"
        }
        Cause::ExecLeak => {
            "open with O_CLOEXEC what the next program is not to have: it came over exec with no one to close it"
        }
        Cause::SharedConfig => SHARED_CONFIG,
        Cause::SharedFile => {
            "give each process a file of its own, let one write for all, or open with O_APPEND: these overwrite each other"
        }
        Cause::DoubleClose => {
            "find who still has the number after it was closed: it closes what others have opened since"
        }
        Cause::Rotated => {
            "make the program close the old file after rotation (reopen signal), or rotate with copytruncate"
        }
        Cause::Duplicated if file.deleted => {
            "close the copies: the deleted file takes space until the last one is closed"
        }
        Cause::Duplicated => {
            "one description: harmless unless the copies are forgotten; close those not needed"
        }
        Cause::Inherited if overwriting => {
            "open with O_CLOEXEC or close before forking: parent and child overwrite each other without O_APPEND"
        }
        Cause::Inherited => "open with O_CLOEXEC, or close in the child what it opens again itself",
        Cause::Reopened if overwriting => {
            "open it once and share the descriptor, or open it with O_APPEND: these writers overwrite each other"
        }
        Cause::Reopened if file.deleted => {
            "close the leftover descriptors: the deleted file takes space until the last one is closed"
        }
        Cause::Reopened => {
            "open it once and share the descriptor, or close the first before opening again"
        }
    }
}
