//! Command-line arguments.

#[cfg(feature = "agent")]
mod agent;
mod examples;
#[cfg(feature = "fleet")]
mod fleet;
mod output;

#[cfg(feature = "agent")]
pub use self::agent::{Agent, AgentSocket, History};
#[cfg(feature = "fleet")]
pub use self::fleet::{Fleet, FleetCommand, FleetInit, FleetQueryOptions, FleetServer, Since};
pub use self::output::{Output, Source};

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use fdwatch_core::ring::default_ring_bytes;
use fdwatch_options::{Detail, Filters, MaxCpu, RingSize, Target, parse};
use globset::Glob;

/// Find leaked and duplicate file descriptors, live, in every process
///
/// fdwatch keeps an exact model of all descriptor tables from the kernel's own events, through BPF,
/// and reports files that one process holds on several descriptors. Without a command it runs `watch`;
/// the options below are those of `watch`.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    max_term_width = 100,
    override_usage = "fdwatch [COMMAND] [OPTIONS]",
    after_long_help = examples::FDWATCH,
    // The options of `watch` are in its own short help.
    mut_args = |arg| arg.hide_short_help(true)
)]
pub struct Cli {
    /// Subcommand to run (default: `watch`).
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Arguments of `watch`, used without a subcommand.
    #[command(flatten)]
    pub watch: Watch,
}

/// Subcommand.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Report duplicates as they appear and disappear (default)
    ///
    /// A duplicate is a file that one process holds on several descriptors. Runs until Ctrl-C, or for
    /// --duration. If an agent is running, its events are shown and no BPF programs are loaded.
    Watch(Watch),
    #[cfg(feature = "top")]
    /// Show processes, descriptors and findings full-screen, like htop
    Top(Top),
    /// Run a command and report leaked, inherited and duplicate descriptors
    ///
    /// Reports when the command exits; includes its children.
    Run(Run),
    /// Report current duplicates and exit
    Scan(Scan),
    /// List the descriptors of a process
    Fds(Fds),
    /// Explain how a process came to hold its descriptors
    ///
    /// Prints the history of each file step by step, the likely cause, and what to change.
    Explain(Explain),
    /// Print descriptor calls of processes as they happen, like strace
    Trace(Trace),
    /// Record kernel events to a file
    Record(Record),
    /// Report what `watch` would have reported of a recording
    ///
    /// Paths and command lines come from /proc, and are not in a recording.
    Replay(Replay),
    /// Check what this kernel and these privileges support
    ///
    /// Loads and attaches the BPF programs, takes a snapshot, follows events for two seconds and
    /// compares the result with the kernel's tables.
    Doctor(Doctor),
    #[cfg(feature = "agent")]
    /// Query the agent's history of findings and descriptor counts
    ///
    /// Reads the database, so the agent does not have to be running.
    History(History),
    #[cfg(feature = "lint")]
    /// Check the log settings of supervisord configurations
    Lint(Lint),
    #[cfg(feature = "agent")]
    /// Run the agent: metrics, alerts, history and an API
    Agent(Agent),
    #[cfg(feature = "fleet")]
    /// Query findings across hosts: same bug, new since, silent hosts
    Fleet(Fleet),
}

/// Arguments of `fdwatch watch`.
#[derive(Debug, Args)]
#[command(after_long_help = examples::WATCH)]
pub struct Watch {
    /// Filters of findings.
    #[command(flatten)]
    pub filters: Filters,
    /// Output format.
    #[command(flatten)]
    pub output: Output,
    /// Stop after this time, such as 30s, 5m or 1h30m
    #[arg(long, value_name = "DURATION", value_parser = parse::duration, allow_hyphen_values = true)]
    pub duration: Option<Duration>,
    /// Size of the BPF ring buffer: a power of two, such as 512K or 64M
    ///
    /// Events wait there until fdwatch reads them. By default one MiB per processor.
    #[arg(long, value_name = "BYTES", hide_short_help = true, default_value_t = RingSize(default_ring_bytes()))]
    pub ring_size: RingSize,
    /// CPU budget of fdwatch.
    #[command(flatten)]
    pub budget: Budget,
    /// Processes whose stacks and requested paths to collect, besides --pid
    #[arg(long, value_name = "PROCESSES", hide_short_help = true, value_enum, default_value_t = Detail::Suspects)]
    pub detail: Detail,
    #[cfg(feature = "agent")]
    /// Agent to query.
    #[command(flatten)]
    pub agent: AgentSocket,
}

#[cfg(feature = "top")]
/// Arguments of `fdwatch top`.
#[derive(Debug, Args)]
#[command(after_long_help = examples::TOP)]
pub struct Top {
    /// Include all file types and severities
    #[arg(long)]
    pub all: bool,
    /// Size of the BPF ring buffer: a power of two, such as 512K or 64M
    ///
    /// Events wait there until fdwatch reads them. By default one MiB per processor.
    #[arg(long, value_name = "BYTES", hide_short_help = true, default_value_t = RingSize(default_ring_bytes()))]
    pub ring_size: RingSize,
    /// CPU budget of fdwatch.
    #[command(flatten)]
    pub budget: Budget,
    #[cfg(feature = "agent")]
    /// Agent to query.
    #[command(flatten)]
    pub agent: AgentSocket,
}

/// CPU budget of fdwatch.
#[derive(Debug, Args)]
pub struct Budget {
    /// CPU budget of fdwatch, in percent of one processor
    ///
    /// Averaged over ten seconds. When exceeded, fdwatch drops work in this order and reports it: detail,
    /// audits, events of the busiest processes.
    #[arg(long, value_name = "PERCENT", default_value_t = MaxCpu(1.0))]
    pub max_cpu: MaxCpu,
}

/// Arguments of `fdwatch run`.
#[derive(Debug, Args)]
#[command(after_long_help = examples::RUN)]
pub struct Run {
    /// Exit with N if anything is reported and the command succeeds
    #[arg(long, value_name = "N", value_parser = parse::exit_code)]
    pub error_exitcode: Option<u8>,
    /// Also write the report to this file as JSON lines
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Also write the report to this file as JUnit XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Ignore what matches a rule in this file (repeatable)
    ///
    /// See "Rules" below.
    #[arg(long, value_name = "FILE")]
    pub ignore: Vec<PathBuf>,
    /// Wait until all processes of the command have exited
    ///
    /// By default, fdwatch reports when the command's first process exits.
    #[arg(long)]
    pub wait: bool,
    /// Print only errors to standard error
    #[arg(long)]
    pub quiet: bool,
    /// Include duplicates of all file types and severities
    #[arg(long)]
    pub all: bool,
    /// Size of the BPF ring buffer: a power of two, such as 512K or 64M
    #[arg(long, value_name = "BYTES", hide_short_help = true, default_value_t = RingSize(RUN_RING))]
    pub ring_size: RingSize,
    /// Command to run, with its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    pub command: Vec<OsString>,
}

/// Default size of the ring of `run`, in bytes. Each descriptor that a command opens adds about 3 KiB of detail.
const RUN_RING: u32 = 64 << 20;

/// Arguments of `fdwatch scan`.
#[derive(Debug, Args)]
#[command(after_long_help = examples::SCAN)]
pub struct Scan {
    /// Filters of findings.
    #[command(flatten)]
    pub filters: Filters,
    /// Output format.
    #[command(flatten)]
    pub output: Output,
    /// Source of the descriptors.
    #[command(flatten)]
    pub source: Source,
}

/// Arguments of `fdwatch fds`.
#[derive(Debug, Args)]
#[command(after_long_help = examples::FDS)]
pub struct Fds {
    /// Process ID
    #[arg(value_parser = parse::pid)]
    pub pid: u32,
    /// Output format.
    #[command(flatten)]
    pub output: Output,
    /// Source of the descriptors.
    #[command(flatten)]
    pub source: Source,
    #[cfg(feature = "agent")]
    /// Agent to query.
    #[command(flatten)]
    pub agent: AgentSocket,
}

/// Arguments of `fdwatch explain`.
#[derive(Debug, Args)]
#[command(after_long_help = examples::EXPLAIN)]
pub struct Explain {
    /// Process ID
    #[arg(value_parser = parse::pid)]
    pub pid: u32,
    /// Descriptor or file to explain
    ///
    /// By default, all duplicates and deleted files.
    #[arg(value_name = "FD|PATH")]
    pub target: Option<Target>,
    /// Follow the process first, such as for 30s or 5m
    ///
    /// Shows what opens each descriptor, where in the program, and whether it is closed. Ctrl-C stops
    /// early.
    #[arg(long, value_name = "DURATION", value_parser = parse::duration, allow_hyphen_values = true)]
    pub duration: Option<Duration>,
    /// Output format.
    #[command(flatten)]
    pub output: Output,
    /// Source of the descriptors, without --duration.
    #[command(flatten)]
    pub source: Source,
    #[cfg(feature = "agent")]
    /// Agent to query.
    #[command(flatten)]
    pub agent: AgentSocket,
}

/// Arguments of `fdwatch trace`.
#[derive(Debug, Args)]
#[command(after_long_help = examples::TRACE)]
pub struct Trace {
    /// Trace this process (repeatable)
    #[arg(long, value_name = "PID", value_parser = parse::pid)]
    pub pid: Vec<u32>,
    /// Trace processes with a matching name (repeatable)
    ///
    /// Matches running processes, and those that take the name later by exec.
    #[arg(long, value_name = "GLOB", value_parser = parse::glob)]
    pub comm: Vec<Glob>,
    /// Do not trace child processes
    #[arg(long)]
    pub no_follow: bool,
    /// Stop after this time, such as 30s, 5m or 1h30m
    ///
    /// By default, stops when all traced processes have exited.
    #[arg(long, value_name = "DURATION", value_parser = parse::duration, allow_hyphen_values = true)]
    pub duration: Option<Duration>,
    /// Size of the BPF ring buffer: a power of two, such as 512K or 64M
    ///
    /// Events wait there until fdwatch reads them. By default one MiB per processor.
    #[arg(long, value_name = "BYTES", hide_short_help = true, default_value_t = RingSize(default_ring_bytes()))]
    pub ring_size: RingSize,
    /// Output format.
    #[command(flatten)]
    pub output: Output,
}

/// Arguments of `fdwatch record`.
#[derive(Debug, Args)]
#[command(after_long_help = examples::RECORD)]
pub struct Record {
    /// Output file; overwritten if it exists
    pub file: PathBuf,
    /// Stop after this time, such as 30s, 5m or 1h30m
    #[arg(long, value_name = "DURATION", value_parser = parse::duration, allow_hyphen_values = true)]
    pub duration: Option<Duration>,
    /// Size of the BPF ring buffer: a power of two, such as 512K or 64M
    ///
    /// Events wait there until fdwatch reads them. By default one MiB per processor.
    #[arg(long, value_name = "BYTES", hide_short_help = true, default_value_t = RingSize(default_ring_bytes()))]
    pub ring_size: RingSize,
}

/// Arguments of `fdwatch replay`.
#[derive(Debug, Args)]
#[command(after_long_help = examples::REPLAY)]
pub struct Replay {
    /// Recording to read
    pub file: PathBuf,
    /// Filters of findings.
    #[command(flatten)]
    pub filters: Filters,
    /// Output format.
    #[command(flatten)]
    pub output: Output,
}

/// Arguments of `fdwatch doctor`.
#[derive(Debug, Args)]
#[command(after_long_help = examples::DOCTOR)]
pub struct Doctor {
    /// Output format.
    #[command(flatten)]
    pub output: Output,
}

#[cfg(feature = "lint")]
/// Arguments of `fdwatch lint`.
#[derive(Debug, Args)]
#[command(after_long_help = examples::LINT)]
pub struct Lint {
    /// Main configuration file of supervisord; included files are read as well
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<String>,
    /// Output format.
    #[command(flatten)]
    pub output: Output,
    /// Configuration of logrotate: a file or a directory
    ///
    /// Default: /etc/logrotate.conf or else /etc/logrotate.d, if it exists.
    #[arg(long, value_name = "PATH")]
    pub logrotate: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn command_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn watch_is_the_default_command() {
        let cli = Cli::try_parse_from(["fdwatch", "--pid", "7", "--duration", "2s"]).unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.watch.filters.pid, [7]);
        assert_eq!(cli.watch.duration, Some(Duration::from_secs(2)));
    }

    #[test]
    fn invalid_pattern_is_rejected() {
        assert!(Cli::try_parse_from(["fdwatch", "scan", "--path", "[x"]).is_err());
    }

    /// Calls `visit` with each command and its full name, such as `fleet init`.
    fn for_each(command: &clap::Command, name: &str, visit: &mut impl FnMut(&clap::Command, &str)) {
        visit(command, name);
        for child in command.get_subcommands() {
            for_each(child, &format!("{name} {}", child.get_name()), visit);
        }
    }

    /// Splits an example as a shell does, without its redirection and its comment.
    fn words(line: &str) -> Vec<String> {
        let line = line.trim();
        let command = line.split("  ").next().unwrap_or(line);
        let command = command.split(" >").next().unwrap_or(command);
        command
            .split(' ')
            .map(|word| word.replace('\'', ""))
            .collect()
    }

    #[test]
    fn each_command_has_examples_that_parse() {
        for_each(&Cli::command(), "fdwatch", &mut |command, name| {
            let help = command.get_after_long_help().map(ToString::to_string);
            let help = help.unwrap_or_else(|| panic!("{name} has no examples"));
            let examples = help.lines().filter(|line| line.starts_with("  fdwatch"));
            let mut count = 0;
            for line in examples {
                let parsed = Cli::try_parse_from(words(line));
                assert!(parsed.is_ok(), "{line}: {parsed:?}");
                count += 1;
            }
            assert!(count > 0, "{name} has no examples");
        });
    }

    #[test]
    fn short_help_fits_a_terminal() {
        let mut root = Cli::command().term_width(80);
        root.build();
        for_each(&root, "fdwatch", &mut |command, name| {
            let help = command.clone().term_width(80).render_help().to_string();
            let lines = help.lines().count();
            assert!(lines <= 24, "{name}: {lines} lines:\n{help}");
        });
    }
}
