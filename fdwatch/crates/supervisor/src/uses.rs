//! Who uses a file: which streams of which processes have it as their log, by the configuration. So
//! what a supervisord's descriptor is for can be said from its path.

use super::{
    config::Config,
    host::normalized,
    programs::{Stream, Target},
};

/// What a file is to a supervisord.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// Whose log it is.
    pub of: User,
    /// Which of the rotated ones it is, from 1; none if it is the one that is written.
    pub rotated: Option<u32>,
}

/// Whose log a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// supervisord's own.
    Daemon,
    /// A process's.
    Stream {
        /// Which, as an index of [`Config::processes`].
        process: usize,
        /// Which of its two.
        stream: Stream,
    },
}

/// What the file at `path` is, by the configuration.
///
/// `resolve` gives the path that a path of the configuration leads to, as the kernel would show it;
/// where links are of no matter, its argument.
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
        add(User::Daemon, rotated);
    }
    for (process, settings) in config.processes.iter().enumerate() {
        for stream in Stream::ALL {
            let found = match &settings.log(stream).target {
                Target::None => None,
                Target::Auto(prefix) => made_up(&normalized(prefix), path)
                    .or_else(|| made_up(&resolve_prefix(prefix, &resolve), path)),
                Target::Path { absolute, .. } => matches(absolute),
            };
            if let Some(rotated) = found {
                add(User::Stream { process, stream }, rotated);
            }
        }
    }
    uses
}

/// The directory resolved, with what the name begins with.
fn resolve_prefix(prefix: &str, resolve: impl Fn(&str) -> String) -> String {
    let (directory, name) = prefix.rsplit_once('/').unwrap_or((".", prefix));
    super::host::join(&resolve(directory), name)
}

/// `log.3` is the third rotated one of `log`.
fn rotated(path: &str) -> Option<(&str, u32)> {
    let (base, number) = path.rsplit_once('.')?;
    let number = number.parse().ok().filter(|&number| number > 0)?;
    Some((base, number))
}

/// Whether a name is one that supervisord makes up from `prefix`.
fn made_up(prefix: &str, path: &str) -> Option<Option<u32>> {
    let rest = path.strip_prefix(prefix)?;
    let is_made_up = |rest: &str| {
        let random = rest.strip_suffix(".log");
        random.is_some_and(|random| {
            let is_of_it =
                |byte: u8| byte == b'_' || byte.is_ascii_digit() || byte.is_ascii_lowercase();
            random.len() == 8 && random.bytes().all(is_of_it)
        })
    };
    if is_made_up(rest) {
        return Some(None);
    }
    let (base, number) = rotated(rest)?;
    is_made_up(base).then_some(Some(number))
}
