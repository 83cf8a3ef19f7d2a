//! The purposes of files and pipes of a running supervisord, by the configuration it was started with.

use std::{collections::VecDeque, fs, os::unix::fs::MetadataExt as _};

use crate::{proc, supervisor_host::RealHost};
use fdwatch_core::diagnose::{LogUse, ProcessInfo};
use fdwatch_supervisor::{
    Config, LogOwner,
    host::{Found, Host},
};

/// Maximum number of configurations in the cache.
const MAX_KNOWN: usize = 16;

/// Maximum age of a configuration before it is read again, in nanoseconds: supervisord may have reloaded it.
const MAX_AGE: u64 = 10_000_000_000;

/// A cache of the configurations of running supervisord processes.
#[derive(Debug, Default)]
pub struct SupervisordConfigs {
    /// Entries, oldest first.
    known: VecDeque<KnownConfig>,
}

#[derive(Debug)]
struct KnownConfig {
    pid: u32,
    start_time: u64,
    /// When it was read, in nanoseconds since boot.
    read: u64,
    /// `None` if the configuration cannot be read, or the process has another root directory.
    config: Option<Config>,
}

impl SupervisordConfigs {
    /// Returns the uses of the file at `path` as a log; empty if the process is not supervisord, or has
    /// another root directory.
    pub fn uses(&mut self, process: &ProcessInfo, path: &[u8]) -> Vec<LogUse> {
        let Ok(path) = str::from_utf8(path) else {
            // A configuration only has paths in UTF-8.
            return Vec::new();
        };
        let Some(config) = self.config(process) else {
            return Vec::new();
        };
        let resolve = |path: &str| RealHost.look(path).resolved.unwrap_or_default();
        let uses = fdwatch_supervisor::uses(config, path, resolve).into_iter();
        uses.map(|found| LogUse {
            of: match found.of {
                LogOwner::Daemon => "supervisord itself".to_owned(),
                LogOwner::Stream { process, stream } => {
                    let name = config.processes[process].full_name();
                    format!("{name} ({})", stream.name())
                }
            },
            rotated: found.rotated,
        })
        .collect()
    }

    /// Returns the purpose of a pipe of the process, if that is supervisord. `ends` returns all open ends
    /// of the pipe, as process and descriptor.
    pub fn pipe(
        &mut self,
        process: &ProcessInfo,
        ends: impl FnOnce() -> Vec<(u32, u32)>,
    ) -> Option<String> {
        self.config(process)?;
        let ends = ends();
        let child = ends.iter().find(|&&(pid, _)| pid != process.pid);
        let Some(&(pid, fd)) = child else {
            let is_whole = ends.len() > 1;
            return is_whole
                .then(|| "both ends are its own: left by a spawn that failed".to_owned());
        };
        let stream = match fd {
            0 => "stdin",
            1 => "stdout",
            2 => "stderr",
            _ => return None,
        };
        let (group, name) = proc::supervisor_names(&proc::environment(pid))?;
        Some(format!("{stream} of {group}:{name}"))
    }

    fn config(&mut self, process: &ProcessInfo) -> Option<&Config> {
        let cmdline = process.cmdline.as_ref()?;
        fdwatch_supervisor::configurations(cmdline, "/")?;
        let now = proc::boottime();
        let (pid, start_time) = (process.pid, process.start_time);
        self.known
            .retain(|known| known.pid != pid || now.saturating_sub(known.read) < MAX_AGE);
        let is_known = |known: &KnownConfig| (known.pid, known.start_time) == (pid, start_time);
        if !self.known.iter().any(is_known) {
            if self.known.len() >= MAX_KNOWN {
                self.known.pop_front();
            }
            self.known.push_back(KnownConfig {
                pid,
                start_time,
                read: now,
                config: read(pid, cmdline),
            });
        }
        let known = self.known.iter().find(|known| is_known(known));
        known.and_then(|known| known.config.as_ref())
    }
}

fn read(pid: u32, cmdline: &[Vec<u8>]) -> Option<Config> {
    // Its paths are valid here only if it has the same root directory.
    let root = |path: String| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    if root(format!("/proc/{pid}/root/"))? != root("/".to_owned())? {
        return None;
    }
    let directory = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    let host = ProcessHost {
        environment: proc::environment(pid),
        directory: directory.to_string_lossy().into_owned(),
    };
    let paths = fdwatch_supervisor::configurations(cmdline, &host.directory)?;
    let path = paths
        .iter()
        .find(|path| RealHost.look(path).kind.is_some())?;
    fdwatch_supervisor::read(path, &host).ok()
}

/// The host with the environment and directory of a process.
struct ProcessHost {
    environment: Vec<(String, String)>,
    directory: String,
}

impl Host for ProcessHost {
    fn read(&self, path: &str) -> std::io::Result<Vec<u8>> {
        RealHost.read(path)
    }

    fn glob(&self, pattern: &str) -> Vec<String> {
        RealHost.glob(pattern)
    }

    fn environment(&self) -> Vec<(String, String)> {
        self.environment.clone()
    }

    fn node_name(&self) -> String {
        RealHost.node_name()
    }

    fn home(&self, user: Option<&str>) -> Option<String> {
        let own = self.environment.iter().find(|(name, _)| name == "HOME");
        let own = own.filter(|_| user.is_none());
        own.map(|(_, home)| home.clone())
            .or_else(|| RealHost.home(user))
    }

    fn current_directory(&self) -> String {
        self.directory.clone()
    }

    fn temporary_directory(&self) -> String {
        let own = self.environment.iter().find(|(name, _)| name == "TMPDIR");
        own.map_or_else(|| "/tmp".to_owned(), |(_, directory)| directory.clone())
    }

    fn look(&self, path: &str) -> Found {
        RealHost.look(path)
    }

    fn may_write(&self, path: &str, user: Option<&str>) -> Option<bool> {
        RealHost.may_write(path, user)
    }
}
