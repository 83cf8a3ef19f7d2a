//! The causes of findings. One table contains everything that depends on the cause alone; adding a
//! cause takes an entry in it and the rule that detects it.

use super::{
    facts::{Facts, has_two_descriptions},
    origin::was_received,
    severity::Severity,
};
use crate::model::{FdEntry, Provenance};

/// The properties of a cause, equal for all its findings.
struct Profile {
    /// The name that users see.
    name: &'static str,
    /// Returns the severity.
    severity: fn(&Facts) -> Severity,
    /// Returns what to do, in one sentence.
    advice: fn(&Facts) -> &'static str,
    /// Returns further measures; the argument is whether the file is written.
    remedies: fn(bool) -> &'static [&'static str],
}

macro_rules! causes {
    ($($(#[$doc:meta])* $cause:ident: $profile:expr,)*) => {
        /// The cause of a finding.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Cause {
            $($(#[$doc])* $cause,)*
        }

        impl Cause {
            /// All causes.
            pub const ALL: [Self; [$(Self::$cause),*].len()] = [$(Self::$cause),*];

            const fn profile(self) -> &'static Profile {
                match self {
                    $(Self::$cause => {
                        const PROFILE: Profile = $profile;
                        &PROFILE
                    })*
                }
            }
        }
    };
}

causes! {
    /// The process opened the file again without closing it first.
    Reopened: Profile {
        name: "reopened",
        severity: severity_of_use,
        advice: |facts| {
            if facts.outlives_connection {
                "it was opened for a connection and is still open: close it where the end of the connection is handled"
            } else if facts.is_overwritten {
                "open it once and share the descriptor, or open it with O_APPEND: these writers overwrite each other"
            } else if facts.is_deleted {
                "close the leftover descriptors: the deleted file occupies space until the last one is closed"
            } else {
                "open it once and share the descriptor, or close the first before opening again"
            }
        },
        remedies: |is_written| {
            if is_written {
                &[
                    "reuse the handle: let one part of the program open the file and pass it to the others",
                    ONE_WRITER,
                ]
            } else {
                &[
                    "close it on every return path: when the client is gone, when a read fails",
                    "in a garbage-collected language close it explicitly: collection may take long",
                ]
            }
        },
    },
    /// Some or all descriptors were inherited across fork.
    Inherited: Profile {
        name: "inherited",
        severity: severity_of_use,
        advice: |facts| {
            if facts.is_overwritten {
                "open it with O_CLOEXEC, or close it before forking: without O_APPEND, parent and child overwrite each other"
            } else {
                "open it with O_CLOEXEC, or close the inherited descriptor in the child before opening the file again"
            }
        },
        remedies: |_| {
            &[
                "in the child, right after fork, close what it opens itself",
                "open files that children should not have after forking them",
            ]
        },
    },
    /// All descriptors share one description, as after dup.
    Duplicated: Profile {
        name: "duplicated",
        severity: severity_of_use,
        advice: |facts| {
            if facts.is_deleted {
                "close the copies: the deleted file occupies space until the last one is closed"
            } else {
                "close the copies that are not needed: they share one description, and are harmless otherwise"
            }
        },
        remedies: |_| &["after dup or dup2, close the descriptor that is no longer needed"],
    },
    /// A file was renamed or deleted while open, and its path was opened again.
    Rotated: Profile {
        name: "rotated",
        severity: |facts| {
            if facts.count >= 2 || !facts.is_deleted {
                severity_of_use(facts)
            } else if facts.is_written || facts.pinned >= LARGE {
                Severity::Warning
            } else {
                Severity::Info
            }
        },
        advice: |_| {
            "make the program reopen its log after rotation (by a signal), or rotate with copytruncate: it still has the old file open"
        },
        remedies: |_| {
            &[
                "have logrotate signal the program to reopen its log (postrotate), or use copytruncate",
                "close the old file before opening the new one",
            ]
        },
    },
    /// A file was deleted while open.
    Deleted: Profile {
        name: "deleted",
        severity: |facts| {
            if facts.pinned >= VERY_LARGE {
                Severity::Warning
            } else {
                Severity::Info
            }
        },
        advice: |_| {
            "close the file when it is deleted, or restart the program: the space is freed when the last descriptor is closed"
        },
        remedies: |_| {
            &["if it cannot be closed, truncate the file before deleting it: that frees the space"]
        },
    },
    /// Some descriptors came from another process, over a socket or by `pidfd_getfd`.
    Received: Profile {
        name: "received",
        severity: severity_of_use,
        advice: |_| {
            "close received descriptors after use, or do not send descriptors that the receiver already has"
        },
        remedies: |_| &["in the receiver, close unused descriptors on every return path, including errors"],
    },
    /// Some descriptors stayed open across exec, because they were opened without `O_CLOEXEC`.
    ExecLeak: Profile {
        name: "exec-leak",
        severity: severity_of_use,
        advice: |_| {
            "open it with O_CLOEXEC: the next program inherited it across exec, and does not know to close it"
        },
        remedies: |_| {
            &[
                "set O_CLOEXEC when opening: before a later fcntl, another thread can fork",
                "or close everything from 3 on before exec: close_range(3, ~0U, 0)",
            ]
        },
    },
    /// The configuration of supervisord assigns the log to several programs.
    SharedConfig: Profile {
        name: "shared-config",
        severity: severity_of_use,
        advice: |_| {
            "give each process its own log (use %(program_name)s and %(process_num)d in its name): these processes write and rotate the same file"
        },
        remedies: |_| {
            &[
                "or use one log without rotation (stdout_logfile_maxbytes=0), and rotate it with copytruncate",
                "run fdwatch lint to list all programs that share a log",
            ]
        },
    },
    /// Several processes of a service write the file, each through its own description.
    SharedFile: Profile {
        name: "shared-file",
        severity: |facts| {
            if facts.is_one_service && facts.is_overwritten {
                Severity::Warning
            } else {
                Severity::Info
            }
        },
        advice: |_| {
            "give each process its own file, let one process write for all, or open it with O_APPEND: these writers overwrite each other"
        },
        remedies: |_| &[ONE_WRITER],
    },
    /// A descriptor was closed twice; the second close can hit another owner of its number.
    DoubleClose: Profile {
        name: "double-close",
        severity: |facts| {
            if facts.has_two_closers {
                Severity::Warning
            } else {
                Severity::Info
            }
        },
        advice: |_| {
            "find the code that still uses the number after it was closed: it can close what others have opened since"
        },
        remedies: |_| {
            &[
                "set the variable to -1 when closing, so that it cannot be closed again",
                "do not close by number what belongs to an object that closes it itself",
            ]
        },
    },
}

/// A remedy for files with several writers.
const ONE_WRITER: &str =
    "where several must write, send the output to one writer: a logging process, a pipe, syslog";

/// Space of a rotated file that warrants a warning even for readers: bytes.
const LARGE: u64 = 1 << 20;

/// Space of any other deleted file that warrants a warning, as programs delete their private files:
/// bytes.
const VERY_LARGE: u64 = 1 << 30;

/// Returns the severity by how the file is used.
fn severity_of_use(facts: &Facts) -> Severity {
    let is_shared = facts.is_written && facts.has_two_descriptions;
    if facts.is_regular && (is_shared || facts.is_deleted) {
        Severity::Warning
    } else {
        Severity::Info
    }
}

impl Cause {
    /// Returns the name that users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.profile().name
    }

    /// Returns the severity of a finding with this cause.
    pub(super) fn severity(self, facts: &Facts) -> Severity {
        (self.profile().severity)(facts)
    }

    /// Returns what to do about a finding with this cause, in one sentence.
    pub(super) fn advice(self, facts: &Facts) -> &'static str {
        (self.profile().advice)(facts)
    }
}

/// Returns further measures against the cause, besides the advice of the finding. `is_written` is
/// whether one of its descriptors can write.
#[must_use]
pub fn remedies(cause: Cause, is_written: bool) -> &'static [&'static str] {
    (cause.profile().remedies)(is_written)
}

/// The highest standard stream: standard error. Standard streams are inherited on purpose.
const LAST_STREAM: u32 = 2;

/// Returns the cause of a duplicate. The slices hold the entry, the provenance and the number of each
/// of its descriptors.
///
/// The first rule that applies: a descriptor was received from another process (`received`); all
/// share one description (`duplicated`); one above standard error stayed open across exec
/// (`exec-leak`); one was inherited across fork (`inherited`); otherwise, the file was opened again
/// (`reopened`).
pub(super) fn cause(entries: &[&FdEntry], provenances: &[Provenance], numbers: &[u32]) -> Cause {
    let received = |(entry, provenance): (&&FdEntry, &Provenance)| {
        *provenance == Provenance::Made && was_received(entry)
    };
    let leaked = |(provenance, fd): (&Provenance, &u32)| {
        matches!(provenance, Provenance::KeptAcrossExec { .. }) && *fd > LAST_STREAM
    };
    if entries.iter().zip(provenances).any(received) {
        Cause::Received
    } else if !has_two_descriptions(entries) {
        Cause::Duplicated
    } else if provenances.iter().zip(numbers).any(leaked) {
        Cause::ExecLeak
    } else if provenances
        .iter()
        .any(|provenance| provenance.is_inherited())
    {
        Cause::Inherited
    } else {
        Cause::Reopened
    }
}
