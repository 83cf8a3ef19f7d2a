//! The command line. What the commands do with it is not known here.

mod agent;
mod examples;
mod filters;
mod fleet;

pub use self::{
    agent::{Agent, Ask, History},
    filters::Filters,
    fleet::{Fleet, FleetCommand, FleetInit, FleetQuestion, FleetServer, Since},
};

use std::{ffi::OsString, fmt, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::{
    probe::{LARGEST_RING_BYTES, default_ring_bytes},
    report::Format,
};

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
    /// Show what the agent told earlier: what came and went, when, for how long
    History(History),
    /// Tell what is wrong with the logs in configurations of supervisord
    Lint(Lint),
    /// Run for as long as the host does: metrics, alerts, a history and an API
    Agent(Agent),
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
    #[arg(long, value_name = "TIME", value_parser = duration, allow_hyphen_values = true)]
    pub duration: Option<Duration>,
    /// Size of the ring that events wait in, such as 512K or 64M: a power of two. By default one
    /// MiB for each processor
    #[arg(long, value_name = "BYTES", value_parser = ring_size, default_value_t = RingSize(default_ring_bytes()))]
    pub ring_size: RingSize,
    /// What fdwatch itself may use; see below.
    #[command(flatten)]
    pub budget: Budget,
    /// Of whom stacks and asked-for paths are wanted, besides those of --pid
    #[arg(long, value_name = "WHOM", value_enum, default_value_t = Detail::Suspects)]
    pub detail: Detail,
    /// Whether an agent is asked.
    #[command(flatten)]
    pub ask: Ask,
}

/// See [`Command::Top`].
#[derive(Debug, Args)]
#[command(after_help = TOP_HELP)]
pub struct Top {
    /// Duplicates of all types of files, and findings of all severities
    #[arg(long)]
    pub all: bool,
    /// Size of the ring that events wait in, such as 512K or 64M: a power of two. By default one
    /// MiB for each processor
    #[arg(long, value_name = "BYTES", value_parser = ring_size, default_value_t = RingSize(default_ring_bytes()))]
    pub ring_size: RingSize,
    /// What fdwatch itself may use; see below.
    #[command(flatten)]
    pub budget: Budget,
    /// Whether an agent is asked.
    #[command(flatten)]
    pub ask: Ask,
}

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
    #[arg(long, value_name = "PERCENT", value_parser = max_cpu, default_value_t = MaxCpu(1.0))]
    pub max_cpu: MaxCpu,
}

/// Share of one processor, in percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaxCpu(pub f64);

impl fmt::Display for MaxCpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

pub(crate) fn max_cpu(text: &str) -> Result<MaxCpu, String> {
    match text.trim_end_matches('%').parse() {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(MaxCpu(percent)),
        _ => Err("not a percentage above 0 and up to 100".to_owned()),
    }
}

/// Of whom stacks and asked-for paths are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Detail {
    /// Of no one.
    Never,
    /// Of those that something was found of, or whose descriptors become more and more.
    Suspects,
    /// Of all. This costs them, and fdwatch, several times as much.
    All,
}

impl Detail {
    /// The name users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Suspects => "suspects",
            Self::All => "all",
        }
    }
}

/// See [`Command::Run`].
#[derive(Debug, Args)]
#[command(after_help = RUN_HELP)]
pub struct Run {
    /// Exit with this if anything was told, and the command itself was successful
    #[arg(long, value_name = "N", value_parser = exit_code)]
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
    #[arg(long, value_name = "BYTES", value_parser = ring_size, default_value_t = RingSize(RUN_RING))]
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
    #[arg(value_parser = pid)]
    pub pid: u32,
    /// How it is shown.
    #[command(flatten)]
    pub output: Output,
    /// Where it is from.
    #[command(flatten)]
    pub source: Source,
    /// Whether an agent is asked.
    #[command(flatten)]
    pub ask: Ask,
}

/// See [`Command::Explain`].
#[derive(Debug, Args)]
#[command(after_help = examples::EXPLAIN)]
pub struct Explain {
    /// The process
    #[arg(value_parser = pid)]
    pub pid: u32,
    /// The descriptor or the file it is about [default: all that is held twice, or was deleted]
    #[arg(value_name = "FD|PATH", value_parser = target)]
    pub target: Option<Target>,
    /// Follow the process for so long first, such as 30s or 5m, or until Ctrl-C: to see what opens
    /// it, where in the program, and what becomes of it
    #[arg(long, value_name = "TIME", value_parser = duration, allow_hyphen_values = true)]
    pub duration: Option<Duration>,
    /// How it is shown.
    #[command(flatten)]
    pub output: Output,
    /// Where it is from, if it is a look.
    #[command(flatten)]
    pub source: Source,
    /// Whether an agent is asked.
    #[command(flatten)]
    pub ask: Ask,
}

/// See [`Command::Trace`].
#[derive(Debug, Args)]
#[command(after_help = examples::TRACE)]
pub struct Trace {
    /// This process (may be repeated)
    #[arg(long, value_name = "PID", value_parser = pid)]
    pub pid: Vec<u32>,
    /// Processes whose name matches this pattern, now or after an exec (may be repeated)
    #[arg(long, value_name = "GLOB", value_parser = glob)]
    pub comm: Vec<Glob>,
    /// Not the processes that these make
    #[arg(long)]
    pub no_follow: bool,
    /// End after this long, such as 30s, 5m or 1h30m; else when all have ended
    #[arg(long, value_name = "TIME", value_parser = duration, allow_hyphen_values = true)]
    pub duration: Option<Duration>,
    /// Size of the ring that events wait in, such as 512K or 64M: a power of two. By default one
    /// MiB for each processor
    #[arg(long, value_name = "BYTES", value_parser = ring_size, default_value_t = RingSize(default_ring_bytes()))]
    pub ring_size: RingSize,
    /// How it is shown.
    #[command(flatten)]
    pub output: Output,
}

/// What an explanation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A descriptor.
    Fd(u32),
    /// A file, from the root.
    Path(String),
}

fn target(text: &str) -> Result<Target, String> {
    if let Ok(fd) = text.parse() {
        return Ok(Target::Fd(fd));
    }
    if text.starts_with('/') {
        return Ok(Target::Path(text.to_owned()));
    }
    std::path::absolute(text)
        .ok()
        .and_then(|path| path.into_os_string().into_string().ok())
        .map(Target::Path)
        .ok_or_else(|| "neither a descriptor nor a path".to_owned())
}

/// See [`Command::Record`].
#[derive(Debug, Args)]
#[command(after_help = examples::RECORD)]
pub struct Record {
    /// Where to; what is there is replaced
    pub file: PathBuf,
    /// End after this long, such as 30s, 5m or 1h30m
    #[arg(long, value_name = "TIME", value_parser = duration, allow_hyphen_values = true)]
    pub duration: Option<Duration>,
    /// Size of the ring that events wait in, such as 512K or 64M: a power of two. By default one
    /// MiB for each processor
    #[arg(long, value_name = "BYTES", value_parser = ring_size, default_value_t = RingSize(default_ring_bytes()))]
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

/// The patterns together; none, if there are none.
///
/// # Errors
///
/// If they are too large together.
pub fn globs(globs: &[Glob]) -> Result<Option<GlobSet>, globset::Error> {
    set(globs)
}

fn set(globs: &[Glob]) -> Result<Option<GlobSet>, globset::Error> {
    if globs.is_empty() {
        return Ok(None);
    }
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(glob.clone());
    }
    set.build().map(Some)
}

pub(crate) fn glob(pattern: &str) -> Result<Glob, String> {
    Glob::new(pattern).map_err(|error| error.kind().to_string())
}

/// A process, by its number.
pub(crate) fn pid(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|&number| number > 0);
    number
        .ok_or_else(|| "not the number of a process, such as 1234: pgrep NAME tells it".to_owned())
}

/// How many.
pub(crate) fn count(text: &str) -> Result<usize, String> {
    text.parse()
        .map_err(|_| "not a number such as 20".to_owned())
}

/// An exit code that is not that of success.
fn exit_code(text: &str) -> Result<u8, String> {
    let code = text.parse().ok().filter(|&code| code > 0);
    code.ok_or_else(|| "not an exit code from 1 to 255".to_owned())
}

/// A container's id, or how it begins.
fn id(pattern: &str) -> Result<Glob, String> {
    glob(&format!("{pattern}*"))
}

/// A time as people write it: days have 24 hours.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration = jiff::Span::from_str(text)
        .and_then(|span| span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()))
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or("not a time such as 30s, 5m, 1h30m or 7d")?;
    if duration.is_zero() {
        return Err("there is no time in it".to_owned());
    }
    Ok(duration)
}

/// A number of bytes as people write it: 512K, 64M.
pub(crate) fn size(text: &str) -> Option<u64> {
    let split = text.len() - usize::from(text.ends_with(['K', 'k', 'M', 'm', 'G', 'g', 'T', 't']));
    let shift = match text[split..].to_ascii_uppercase().as_str() {
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => 0,
    };
    let number: u64 = text[..split].parse().ok()?;
    number.checked_mul(1 << shift)
}

/// Size of the ring, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSize(pub u32);

impl fmt::Display for RingSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes.is_multiple_of(1 << 20) => write!(f, "{}M", bytes >> 20),
            bytes => write!(f, "{}K", bytes >> 10),
        }
    }
}

pub(crate) fn ring_size(text: &str) -> Result<RingSize, String> {
    let bytes = size(text).ok_or("not a size such as 512K or 64M")?;
    // The smallest page there is; where pages are larger the kernel says so.
    u32::try_from(bytes)
        .ok()
        .filter(|bytes| bytes.is_power_of_two() && (4096..=LARGEST_RING_BYTES).contains(bytes))
        .map(RingSize)
        .ok_or_else(|| "not a power of two from 4K to 1G".to_owned())
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
    fn durations_and_sizes_are_what_people_write() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["", "5", "-5s", "0s", "1mo", "9999999999999h", "soon"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(size("2T"), Some(2 << 40));
        assert_eq!(size("16777216T"), None);
        assert_eq!(ring_size("8M"), Ok(RingSize(8 << 20)));
        assert_eq!(ring_size("65536"), Ok(RingSize(65_536)));
        assert_eq!(max_cpu("0.5"), Ok(MaxCpu(0.5)));
        assert_eq!(max_cpu("2%"), Ok(MaxCpu(2.0)));
        for wrong in ["", "0", "-1", "101", "NaN", "inf", "some"] {
            assert!(max_cpu(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "M", "3M", "2K", "8X", "4G", "-1"] {
            assert!(ring_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_are_refused_in_words() {
        assert_eq!(pid("1234"), Ok(1234));
        for wrong in ["", "init", "0", "12a", "99999999999"] {
            assert!(pid(wrong).unwrap_err().contains("process"), "{wrong}");
        }
        assert_eq!(count("0"), Ok(0));
        assert!(count("few").unwrap_err().contains("number"));
        assert_eq!(exit_code("9"), Ok(9));
        for wrong in ["0", "256", "x"] {
            assert!(exit_code(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_bad_pattern_is_refused() {
        assert!(Cli::try_parse_from(["fdwatch", "scan", "--path", "[x"]).is_err());
    }
}
