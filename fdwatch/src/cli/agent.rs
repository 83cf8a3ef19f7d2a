//! Arguments of `fdwatch agent` and `fdwatch history`, and the agent that other commands query.

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

use super::{examples, output::Output};
use fdwatch_core::diagnose::Severity;

/// Agent that a command queries.
#[derive(Debug, Args)]
pub struct AgentSocket {
    /// Socket of the agent to query; `none` to load BPF programs instead
    ///
    /// If an agent is listening there, the command uses its tables and loads no BPF programs.
    #[arg(long, env = "FDWATCH_AGENT", value_name = "SOCKET", hide_short_help = true, default_value = SOCKET)]
    pub agent: PathBuf,
}

impl AgentSocket {
    /// Returns the socket; `None` if the user requested not to query an agent.
    #[must_use]
    pub fn socket(&self) -> Option<&Path> {
        (self.agent != Path::new("none")).then_some(&self.agent)
    }

    /// Returns whether the socket is not the default one: the user named it.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.agent != Path::new(SOCKET)
    }
}

/// Arguments of `fdwatch agent`.
#[derive(Debug, Args)]
#[command(after_long_help = examples::AGENT)]
pub struct Agent {
    /// Configuration file
    ///
    /// Default: /etc/fdwatch/agent.toml, if it exists.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Check a configuration file and exit
    ///
    /// Prints each error as FILE:LINE:COLUMN: REASON. Exits with 0 if the file is valid, 1 if it is not, 2
    /// if it cannot be read.
    #[arg(
        long,
        value_name = "FILE",
        group = "instead",
        conflicts_with = "config"
    )]
    pub check: Option<PathBuf>,
    /// Print an example configuration: keys, defaults, comments
    #[arg(long, group = "instead", conflicts_with = "config")]
    pub print_example: bool,
    /// Log level: off, error, warn, info, debug or trace
    ///
    /// Default: the value of FDWATCH_LOG, or info.
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Stop this host's agent and detach its BPF programs
    #[arg(long, group = "instead")]
    pub stop: bool,
}

/// Arguments of `fdwatch history`.
#[derive(Debug, Args)]
#[command(after_long_help = examples::HISTORY)]
pub struct History {
    /// Only findings present in this period, such as 7d or 12h
    #[arg(long, value_name = "DURATION", value_parser = parse::duration, allow_hyphen_values = true)]
    pub since: Option<Duration>,
    /// Only files with a matching path (repeatable)
    ///
    /// In the pattern, * also matches /.
    #[arg(long, value_name = "GLOB", value_parser = parse::glob)]
    pub path: Vec<Glob>,
    /// Only processes with a matching name (repeatable)
    #[arg(long, value_name = "GLOB", value_parser = parse::glob)]
    pub comm: Vec<Glob>,
    /// Only this process (repeatable)
    #[arg(long, value_name = "PID", value_parser = parse::pid)]
    pub pid: Vec<u32>,
    /// Only findings whose highest severity was at least this
    #[arg(long, value_name = "LEVEL", value_enum)]
    pub severity: Option<Severity>,
    /// Only the newest N entries
    #[arg(long, value_name = "N", value_parser = parse::count)]
    pub limit: Option<usize>,
    /// Show hourly descriptor counts instead of findings
    #[arg(long, conflicts_with_all = ["path", "severity"])]
    pub processes: bool,
    /// Database file
    #[arg(long, value_name = "FILE", default_value = HISTORY)]
    pub database: PathBuf,
    /// Output format.
    #[command(flatten)]
    pub output: Output,
}
