//! The command line. What the commands do with it is not known here.

#[cfg(feature = "agent")]
mod agent;
mod examples;
#[cfg(feature = "fleet")]
mod fleet;

#[cfg(feature = "agent")]
pub use self::agent::{Agent, Ask, History};
#[cfg(feature = "fleet")]
pub use self::fleet::{Fleet, FleetCommand, FleetInit, FleetQuestion, FleetServer, Since};

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use fdwatch_core::ring::default_ring_bytes;
use fdwatch_options::{Detail, Filters, MaxCpu, RingSize, Target, parse};
use globset::Glob;

use fdwatch_render::Format;

/// Keeps a live model of every process's file descriptors, and finds duplicates: one file held on
/// several descriptors of one process.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, max_term_width = 100, after_help = examples::FDWATCH)]
pub struct Cli {
    /// What to do; to watch, if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Of `watch`.
    #[command(flatten)]
    pub watch: Watch,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Tell of duplicates as they come and go, until Ctrl-C (the default)
    Watch(Watch),
    #[cfg(feature = "top")]
    /// Show processes, descriptors and findings on the whole screen, as htop would
    Top(Top),
    /// Run a command, and tell what it left open, let into other programs, or held twice
    ///
    /// Told at its end, of its children as well.
    Run(Run),
    /// Tell of the duplicates there are now
    Scan(Scan),
    /// Show the descriptors of a process
    Fds(Fds),
    /// Tell why a process holds what it holds, step by step, and what to change
    Explain(Explain),
    /// Show the calls of some processes on descriptors as they happen, as strace would
    Trace(Trace),
    /// Record the kernel's events, to be gone through again
    Record(Record),
    /// Tell what `watch` would have told of a recording, but for paths
    Replay(Replay),
    /// Show what this kernel and these privileges allow, by doing it
    Doctor(Doctor),
    #[cfg(feature = "agent")]
    /// Show what the agent told earlier: what came and went, when, for how long
    History(History),
    #[cfg(feature = "lint")]
    /// Tell what is wrong with the logs in configurations of supervisord
    Lint(Lint),
    #[cfg(feature = "agent")]
    /// Run for as long as the host does: metrics, alerts, a history and an API
    Agent(Agent),
    #[cfg(feature = "fleet")]
    /// Ask what is found on many hosts: which is the same bug, what is new, who reports
    Fleet(Fleet),
}

/// See [`Command::Watch`].
#[derive(Debug, Args)]
#[command(after_help = examples::WATCH)]
pub struct Watch {
    /// Which findings are wanted.
    #[command(flatten)]
    pub filters: Filters,
    /// How they are shown.
    #[command(flatten)]
    pub output: Output,
    /// End after this long, such as 30s, 5m or 1h30m
    #[arg(long, value_name = "TIME", value_parser = parse::duration, allow_hyphen_values = true)]
    pub duration: Option<Duration>,
    /// Size of the ring that events wait in, such as 512K or 64M: a power of two. By default one
    /// MiB for each processor
    #[arg(long, value_name = "BYTES", default_value_t = RingSize(default_ring_bytes()))]
    pub ring_size: RingSize,
    /// What fdwatch itself may use; see below.
    #[command(flatten)]
    pub budget: Budget,
    /// Of whom stacks and asked-for paths are wanted, besides those of --pid
    #[arg(long, value_name = "WHOM", value_enum, default_value_t = Detail::Suspects)]
    pub detail: Detail,
    #[cfg(feature = "agent")]
    /// Whether an agent is asked.
    #[command(flatten)]
    pub ask: Ask,
}

#[cfg(feature = "top")]
/// See [`Command::Top`].
#[derive(Debug, Args)]
#[command(after_help = TOP_HELP)]
pub struct Top {
    /// Duplicates of all types of files, and findings of all severities
    #[arg(long)]
    pub all: bool,
    /// Size of the ring that events wait in, such as 512K or 64M: a power of two. By default one
    /// MiB for each processor
    #[arg(long, value_name = "BYTES", default_value_t = RingSize(default_ring_bytes()))]
    pub ring_size: RingSize,
    /// What fdwatch itself may use; see below.
    #[command(flatten)]
    pub budget: Budget,
    #[cfg(feature = "agent")]
    /// Whether an agent is asked.
    #[command(flatten)]
    pub ask: Ask,
}

#[cfg(feature = "top")]
const TOP_HELP: &str = "\
Keys are htop's: F1 or ? shows them all, F4 or / filters as you type, F6 sorts, Enter opens a
process, Space freezes, Tab goes to the findings, F10 or q ends. The mouse works as well.

Examples:
  fdwatch top
  fdwatch top --all
  fdwatch top --agent none    with programs of its own, also where an agent runs
  NO_COLOR=1 fdwatch top      without colours";

/// What fdwatch itself may use.
#[derive(Debug, Args)]
pub struct Budget {
    /// Share of one processor that fdwatch itself may take, in percent, over ten seconds. Beyond that
    /// it leaves undone, and says so: detail, then audits, then following the busiest processes
    #[arg(long, value_name = "PERCENT", default_value_t = MaxCpu(1.0))]
    pub max_cpu: MaxCpu,
}

/// See [`Command::Run`].
#[derive(Debug, Args)]
#[command(after_help = RUN_HELP)]
pub struct Run {
    /// Exit with this if anything was told, and the command itself was successful
    #[arg(long, value_name = "N", value_parser = parse::exit_code)]
    pub error_exitcode: Option<u8>,
    /// Write what is told to this file as well, as one JSON object per line
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write what is told to this file as well, as JUnit's XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Leave out what a rule in this file is about; see below (may be repeated)
    #[arg(long, value_name = "FILE")]
    pub ignore: Vec<PathBuf>,
    /// End when all processes of the command have ended, and not when its first has
    #[arg(long)]
    pub wait: bool,
    /// Write nothing to standard error but errors
    #[arg(long)]
    pub quiet: bool,
    /// Duplicates of all types of files, and of all severities
    #[arg(long)]
    pub all: bool,
    /// Size of the ring that events wait in, such as 512K or 64M: a power of two
    #[arg(long, value_name = "BYTES", default_value_t = RingSize(RUN_RING))]
    pub ring_size: RingSize,
    /// The command, and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    pub command: Vec<OsString>,
}

/// What is told of each descriptor that a command makes is some three KiB.
const RUN_RING: u32 = 64 << 20;

const RUN_HELP: &str = "\
Told of all processes that come of the command, also those that become daemons:
  exit       a descriptor that a process made and that was open still when it ended
  exec       one that was made without close-on-exec, and that another program got by it
  duplicate  a file on several descriptors of one process, as `fdwatch watch` tells
What the command was given at its start, and numbers 0 to 2, are no leaks. Processes that run still
at the end are named, and what they hold is no leak.

The exit code is the command's: 128 and the signal if one ended it, 127 if there is no such command,
126 if it cannot be run; 2 if fdwatch cannot follow it.

Examples:
  fdwatch run -- ./report --all
  fdwatch run --error-exitcode 9 --ignore known --junit leaks.xml -- make test

Each line of a file for --ignore is a rule, of terms that must all be so:
  /tmp/*.log      pattern of the path that was asked for or is known (also: path:/tmp/*.log)
  comm:bash       pattern of the process's name
  exe:/usr/bin/*  pattern of its program's path
  type:socket     regular, directory, pipe, socket, character, block, anonymous
  kind:exit       exit, exec or duplicate
In patterns * also matches /. Lines that begin with # are comments.";

/// See [`Command::Scan`].
#[derive(Debug, Args)]
#[command(after_help = examples::SCAN)]
pub struct Scan {
    /// Which findings are wanted.
    #[command(flatten)]
    pub filters: Filters,
    /// How they are shown.
    #[command(flatten)]
    pub output: Output,
    /// Where they are from.
    #[command(flatten)]
    pub source: Source,
}

/// See [`Command::Fds`].
#[derive(Debug, Args)]
#[command(after_help = examples::FDS)]
pub struct Fds {
    /// The process
    #[arg(value_parser = parse::pid)]
    pub pid: u32,
    /// How it is shown.
    #[command(flatten)]
    pub output: Output,
    /// Where it is from.
    #[command(flatten)]
    pub source: Source,
    #[cfg(feature = "agent")]
    /// Whether an agent is asked.
    #[command(flatten)]
    pub ask: Ask,
}

/// See [`Command::Explain`].
#[derive(Debug, Args)]
#[command(after_help = examples::EXPLAIN)]
pub struct Explain {
    /// The process
    #[arg(value_parser = parse::pid)]
    pub pid: u32,
    /// The descriptor or the file it is about [default: all that is held twice, or was deleted]
    #[arg(value_name = "FD|PATH")]
    pub target: Option<Target>,
    /// Follow the process for so long first, such as 30s or 5m, or until Ctrl-C: to see what opens
    /// it, where in the program, and what becomes of it
    #[arg(long, value_name = "TIME", value_parser = parse::duration, allow_hyphen_values = true)]
    pub duration: Option<Duration>,
    /// How it is shown.
    #[command(flatten)]
    pub output: Output,
    /// Where it is from, if it is a look.
    #[command(flatten)]
    pub source: Source,
    #[cfg(feature = "agent")]
    /// Whether an agent is asked.
    #[command(flatten)]
    pub ask: Ask,
}

/// See [`Command::Trace`].
#[derive(Debug, Args)]
#[command(after_help = examples::TRACE)]
pub struct Trace {
    /// This process (may be repeated)
    #[arg(long, value_name = "PID", value_parser = parse::pid)]
    pub pid: Vec<u32>,
    /// Processes whose name matches this pattern, now or after an exec (may be repeated)
    #[arg(long, value_name = "GLOB", value_parser = parse::glob)]
    pub comm: Vec<Glob>,
    /// Not the processes that these make
    #[arg(long)]
    pub no_follow: bool,
    /// End after this long, such as 30s, 5m or 1h30m; else when all have ended
    #[arg(long, value_name = "TIME", value_parser = parse::duration, allow_hyphen_values = true)]
    pub duration: Option<Duration>,
    /// Size of the ring that events wait in, such as 512K or 64M: a power of two. By default one
    /// MiB for each processor
    #[arg(long, value_name = "BYTES", default_value_t = RingSize(default_ring_bytes()))]
    pub ring_size: RingSize,
    /// How it is shown.
    #[command(flatten)]
    pub output: Output,
}

/// See [`Command::Record`].
#[derive(Debug, Args)]
#[command(after_help = examples::RECORD)]
pub struct Record {
    /// Where to; what is there is replaced
    pub file: PathBuf,
    /// End after this long, such as 30s, 5m or 1h30m
    #[arg(long, value_name = "TIME", value_parser = parse::duration, allow_hyphen_values = true)]
    pub duration: Option<Duration>,
    /// Size of the ring that events wait in, such as 512K or 64M: a power of two. By default one
    /// MiB for each processor
    #[arg(long, value_name = "BYTES", default_value_t = RingSize(default_ring_bytes()))]
    pub ring_size: RingSize,
}

/// See [`Command::Replay`].
#[derive(Debug, Args)]
#[command(after_help = examples::REPLAY)]
pub struct Replay {
    /// The recording
    pub file: PathBuf,
    /// Which findings are wanted.
    #[command(flatten)]
    pub filters: Filters,
    /// How they are shown.
    #[command(flatten)]
    pub output: Output,
}

/// See [`Command::Doctor`].
#[derive(Debug, Args)]
#[command(after_help = examples::DOCTOR)]
pub struct Doctor {
    /// How it is shown.
    #[command(flatten)]
    pub output: Output,
}

#[cfg(feature = "lint")]
/// See [`Command::Lint`].
#[derive(Debug, Args)]
#[command(after_help = examples::LINT)]
pub struct Lint {
    /// The configurations: each the file that supervisord is given, which includes the others
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<String>,
    /// How it is shown.
    #[command(flatten)]
    pub output: Output,
    /// What logrotate is given to read: a file or a directory [default: /etc/logrotate.conf or
    /// /etc/logrotate.d, where there is one]
    #[arg(long, value_name = "DIR")]
    pub logrotate: Option<String>,
}

/// How things are shown.
#[derive(Debug, Args)]
pub struct Output {
    /// Write one JSON object per line
    #[arg(long)]
    pub json: bool,
}

impl Output {
    /// The format.
    #[must_use]
    pub const fn format(&self) -> Format {
        if self.json {
            Format::Json
        } else {
            Format::Text
        }
    }
}

/// Where descriptors are read from.
#[derive(Debug, Args)]
pub struct Source {
    /// Read /proc instead of asking the kernel through BPF: slower and less exact, but needs no
    /// privileges for one's own processes
    #[arg(long)]
    pub proc: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn to_watch_is_the_default() {
        let cli = Cli::try_parse_from(["fdwatch", "--pid", "7", "--duration", "2s"]).unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.watch.filters.pid, [7]);
        assert_eq!(cli.watch.duration, Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_bad_pattern_is_refused() {
        assert!(Cli::try_parse_from(["fdwatch", "scan", "--path", "[x"]).is_err());
    }
}
