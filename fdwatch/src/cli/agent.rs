//! The command line of `fdwatch agent`, of `fdwatch history`, and of whoever may ask an agent.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use globset::Glob;

use fdwatch_options::{
    parse,
    paths::{HISTORY, SOCKET},
};

use super::{Output, examples};
use fdwatch_core::diagnose::Severity;

/// Whether an agent is asked.
#[derive(Debug, Args)]
pub struct Ask {
    /// Socket of the agent that is asked, if it runs, instead of loading programs once more; `none` to
    /// ask none
    #[arg(long, env = "FDWATCH_AGENT", value_name = "SOCKET", default_value = SOCKET)]
    pub agent: PathBuf,
}

impl Ask {
    /// The socket, if an agent may be asked.
    #[must_use]
    pub fn socket(&self) -> Option<&Path> {
        (self.agent != Path::new("none")).then_some(&self.agent)
    }

    /// Whether it was said which.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.agent != Path::new(SOCKET)
    }
}

/// See [`super::Command::Agent`].
#[derive(Debug, Args)]
#[command(after_help = AGENT_HELP)]
pub struct Agent {
    /// Its configuration [default: /etc/fdwatch/agent.toml, where there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Tell what is wrong in a configuration, a mistake on each line as FILE:LINE:COLUMN: REASON; exit
    /// 0 if nothing is, 1 if something is, 2 if it cannot be read
    #[arg(
        long,
        value_name = "FILE",
        group = "instead",
        conflicts_with = "config"
    )]
    pub check: Option<PathBuf>,
    /// Write a configuration that says what there is to say, with comments and the defaults
    #[arg(long, group = "instead", conflicts_with = "config")]
    pub print_example: bool,
    /// How much is logged: off, error, warn, info, debug or trace [default: FDWATCH_LOG, or info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Have the agent of this host take its programs out of the kernel and end
    #[arg(long, group = "instead")]
    pub stop: bool,
}

const AGENT_HELP: &str = "\
Examples:
  fdwatch agent --print-example >/etc/fdwatch/agent.toml
  fdwatch agent --check /etc/fdwatch/agent.toml
  fdwatch agent --config /etc/fdwatch/agent.toml
  fdwatch agent --stop

On SIGHUP it reads its configuration again; what is wrong in that is told, and the one before holds.";

/// See [`super::Command::History`].
#[derive(Debug, Args)]
#[command(after_help = examples::HISTORY)]
pub struct History {
    /// Only what was there in the last so much time, such as 7d, 12h or 90m [default: all there is]
    #[arg(long, value_name = "TIME", value_parser = parse::duration, allow_hyphen_values = true)]
    pub since: Option<Duration>,
    /// Only of files whose path matches this pattern, in which * also matches / (may be repeated)
    #[arg(long, value_name = "GLOB", value_parser = parse::glob)]
    pub path: Vec<Glob>,
    /// Only of processes whose name matches this pattern (may be repeated)
    #[arg(long, value_name = "GLOB", value_parser = parse::glob)]
    pub comm: Vec<Glob>,
    /// Only of this process (may be repeated)
    #[arg(long, value_name = "PID", value_parser = parse::pid)]
    pub pid: Vec<u32>,
    /// Only of this severity or more: the highest each had
    #[arg(long, value_name = "LEVEL", value_enum)]
    pub severity: Option<Severity>,
    /// Only the newest so many
    #[arg(long, value_name = "N", value_parser = parse::count)]
    pub limit: Option<usize>,
    /// How many descriptors processes had, hour by hour, and not what was found
    #[arg(long, conflicts_with_all = ["path", "severity"])]
    pub processes: bool,
    /// Where it is
    #[arg(long, value_name = "FILE", default_value = HISTORY)]
    pub database: PathBuf,
    /// How it is shown.
    #[command(flatten)]
    pub output: Output,
}
