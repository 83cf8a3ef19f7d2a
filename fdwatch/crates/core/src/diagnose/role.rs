//! The role of supervisord's descriptors according to its configuration.

use rustc_hash::FxHashSet;

use super::{cause::Cause, descriptor::Descriptor, facts::Facts, finding::Finding};

/// A process whose log is a given file, according to the configuration of supervisord.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogUse {
    /// The process and its stream, or supervisord itself.
    pub of: String,
    /// Number of the rotated log, from 1; none for the current log.
    pub rotated: Option<u32>,
}

impl Descriptor {
    /// Sets the role, if the configuration mentions the file.
    pub fn set_role(&mut self, uses: &[LogUse], deleted: bool) {
        if !uses.is_empty() {
            self.role = Some(role(self, uses, deleted));
        }
    }
}

impl Finding {
    /// Sets the roles of the descriptors. If the file is the log of several processes, the
    /// configuration is the cause of several writers.
    pub fn add_uses(&mut self, uses: &[LogUse]) {
        if uses.is_empty() {
            return;
        }
        for descriptor in self.fds.iter_mut().chain(&mut self.closed) {
            descriptor.set_role(uses, self.file.deleted);
        }
        let writers = self.fds.iter().filter(|fd| fd.access.writes());
        let descriptions: FxHashSet<u64> = writers.map(|fd| fd.description).collect();
        if self.cause == Cause::Reopened && uses.len() > 1 && descriptions.len() > 1 {
            self.cause = Cause::SharedConfig;
            self.advice = self.cause.advice(&Facts::new(&[], &self.file));
        }
        self.shared_by = uses.iter().map(|found| found.of.clone()).collect();
        self.shared_by.truncate(MAX_SHARING);
    }
}

/// Maximum number of processes listed that share a file.
const MAX_SHARING: usize = 64;

/// Maximum number of processes named in a role.
const MAX_NAMED: usize = 4;

fn role(descriptor: &Descriptor, uses: &[LogUse], deleted: bool) -> String {
    let mut names: Vec<_> = uses
        .iter()
        .take(MAX_NAMED)
        .map(|found| found.of.as_str())
        .collect();
    if uses.len() > MAX_NAMED {
        names.push("others");
    }
    let log = format!("log of {}", names.join(", "));
    let rotated = uses.iter().find_map(|found| found.rotated);
    if deleted || rotated.is_some() {
        let number = rotated.map_or_else(String::new, |number| format!(" ({number})"));
        let use_ = if descriptor.access.writes() {
            "written"
        } else {
            "read"
        };
        return format!("rotated{number} {log}, still {use_}");
    }
    if descriptor.access.writes() {
        return format!("writes the {log}");
    }
    let client = descriptor
        .recent_opens
        .iter()
        .find(|near| near.is_connection);
    let client = match (descriptor.outlives(), client) {
        (Some(_), _) => "for a client that is gone".to_owned(),
        (None, Some(client)) if client.closed.is_none() => {
            format!("for the client on {}", client.fd)
        }
        _ => "for a client (tail -f)".to_owned(),
    };
    format!("reads the {log} {client}")
}
