//! The uses of a file: the streams whose log it is, by the configuration. They give the purpose of a
//! descriptor of supervisord from its path.

use crate::{
    config::{Config, Stream, Target},
    host::{join, normalized},
};

/// A use of a file by supervisord.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// Owner of the log.
    pub of: LogOwner,
    /// Number of a rotated log, from 1; `None` for the current log.
    pub rotated: Option<u32>,
}

/// The owner of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogOwner {
    /// supervisord itself.
    Daemon,
    /// A process.
    Stream {
        /// The process, as an index into [`Config::processes`].
        process: usize,
        /// Its stream.
        stream: Stream,
    },
}

/// Returns the uses of the file at `path`.
///
/// `resolve` returns the path that a configured path refers to, as the kernel would show it, or its
/// argument where links do not matter.
pub fn uses(config: &Config, path: &str, resolve: impl Fn(&str) -> String) -> Vec<Use> {
    let mut uses = Vec::new();
    let mut add = |of, rotated| uses.push(Use { of, rotated });
    let same = |log: &str, path: &str| normalized(log) == path || resolve(log) == path;
    let matches = |log: &str| -> Option<Option<u32>> {
        if same(log, path) {
            return Some(None);
        }
        let (base, number) = rotated(path)?;
        same(log, base).then_some(Some(number))
    };
    if let Some(rotated) = config.daemon.logfile.as_deref().and_then(matches) {
        add(LogOwner::Daemon, rotated);
    }
    for (process, settings) in config.processes.iter().enumerate() {
        for stream in Stream::ALL {
            let found = match &settings.log(stream).target {
                Target::None => None,
                Target::Auto(prefix) => generated(&normalized(prefix), path)
                    .or_else(|| generated(&resolve_prefix(prefix, &resolve), path)),
                Target::Path { absolute, .. } => matches(absolute),
            };
            if let Some(rotated) = found {
                add(LogOwner::Stream { process, stream }, rotated);
            }
        }
    }
    uses
}

/// Resolves the directory of a prefix of generated names.
fn resolve_prefix(prefix: &str, resolve: impl Fn(&str) -> String) -> String {
    let (directory, name) = prefix.rsplit_once('/').unwrap_or((".", prefix));
    join(&resolve(directory), name)
}

/// Splits the path of a rotated log: `log.3` is the third of `log`.
fn rotated(path: &str) -> Option<(&str, u32)> {
    let (base, number) = path.rsplit_once('.')?;
    let number = number.parse().ok().filter(|&number| number > 0)?;
    Some((base, number))
}

/// If supervisord generates the path from `prefix`, returns `Some` with the number of the rotated log, if any.
fn generated(prefix: &str, path: &str) -> Option<Option<u32>> {
    let rest = path.strip_prefix(prefix)?;
    let is_generated = |rest: &str| {
        let random = rest.strip_suffix(".log");
        random.is_some_and(|random| {
            let is_allowed =
                |byte: u8| byte == b'_' || byte.is_ascii_digit() || byte.is_ascii_lowercase();
            random.len() == 8 && random.bytes().all(is_allowed)
        })
    };
    if is_generated(rest) {
        return Some(None);
    }
    let (base, number) = rotated(rest)?;
    is_generated(base).then_some(Some(number))
}
