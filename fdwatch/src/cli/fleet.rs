//! Arguments of `fdwatch fleet`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use jiff::Timestamp;

use fdwatch_options::parse;

use super::{examples, output::Output};
use fdwatch_core::diagnose::Severity;
use fdwatch_fleet::source::{DEFAULT_LIMIT, GroupBy};

/// Arguments of `fdwatch fleet`.
#[derive(Debug, Args)]
#[command(after_long_help = examples::FLEET)]
pub struct Fleet {
    /// Query to run.
    #[command(subcommand)]
    pub command: FleetCommand,
}

/// Query of a fleet, or setup of its tables.
#[derive(Debug, Subcommand)]
pub enum FleetCommand {
    /// Create or upgrade the tables in ClickHouse
    Init(FleetInit),
    /// List findings, grouped by bug
    #[command(after_long_help = examples::FLEET_DUPLICATES)]
    Duplicates {
        /// Start: a duration ago, or a time
        ///
        /// Examples: 24h, 7d, 2024-01-02T15:04:05Z. Rounded down to the full hour.
        #[arg(long, value_name = "TIME", value_parser = since, default_value = "24h")]
        since: Since,
        /// Key to group by
        #[arg(long, value_name = "KEY", value_enum, default_value_t)]
        by: GroupBy,
        /// Only findings of at least this severity
        #[arg(long, value_name = "LEVEL", value_enum, default_value_t = Severity::Info)]
        severity: Severity,
        /// Source and output format.
        #[command(flatten)]
        options: FleetQueryOptions,
    },
    /// Show one finding: hosts, an example with its stack, advice
    #[command(after_long_help = examples::FLEET_SHOW)]
    Show {
        /// Signature, or its beginning
        #[arg(value_name = "SIGNATURE")]
        signature: String,
        /// Start: a duration ago, or a time
        #[arg(long, value_name = "TIME", value_parser = since, default_value = "7d")]
        since: Since,
        /// Only findings of at least this severity
        #[arg(long, value_name = "LEVEL", value_enum, default_value_t = Severity::Info)]
        severity: Severity,
        /// Source and output format.
        #[command(flatten)]
        options: FleetQueryOptions,
    },
    /// List findings that are new, for example since a deployment
    #[command(after_long_help = examples::FLEET_NEW)]
    New {
        /// Start: a duration ago, or a time
        ///
        /// Examples: 2h, 2024-01-02T15:04:05Z.
        #[arg(long, value_name = "TIME", value_parser = since)]
        since: Since,
        /// Period before --since without the finding
        #[arg(long, value_name = "DURATION", value_parser = parse::duration, default_value = "7d")]
        before: Duration,
        /// Only findings of at least this severity
        #[arg(long, value_name = "LEVEL", value_enum, default_value_t = Severity::Info)]
        severity: Severity,
        /// Source and output format.
        #[command(flatten)]
        options: FleetQueryOptions,
    },
    /// List hosts: reporting, silent, or losing events
    #[command(after_long_help = examples::FLEET_HOSTS)]
    Hosts {
        /// Hosts that reported since TIME
        ///
        /// A duration ago, or a time.
        #[arg(long, value_name = "TIME", value_parser = since, default_value = "7d")]
        since: Since,
        /// Consider a host silent after this time
        #[arg(long, value_name = "DURATION", value_parser = parse::duration, default_value = "5m")]
        silent_after: Duration,
        /// Source and output format.
        #[command(flatten)]
        options: FleetQueryOptions,
    },
    /// List network files that several hosts have open for writing
    #[command(after_long_help = examples::FLEET_SHARED)]
    Shared {
        /// Start: a duration ago, or a time
        #[arg(long, value_name = "TIME", value_parser = since, default_value = "24h")]
        since: Since,
        /// Source and output format.
        #[command(flatten)]
        options: FleetQueryOptions,
    },
}

/// Heading of the server's options in the help.
const HEADING: &str = "Server";

/// ClickHouse server.
#[derive(Debug, Args)]
pub struct FleetServer {
    /// URL of ClickHouse's HTTP interface
    #[arg(long, help_heading = HEADING, value_name = "URL", env = "FDWATCH_FLEET_URL")]
    pub url: Option<String>,
    /// Name of the database
    #[arg(
        long,
        help_heading = HEADING,
        value_name = "NAME",
        hide_short_help = true,
        default_value = "fdwatch"
    )]
    pub database: String,
    /// Name of the user
    #[arg(long, help_heading = HEADING, value_name = "NAME", hide_short_help = true)]
    pub user: Option<String>,
    /// File that contains the password
    #[arg(long, help_heading = HEADING, value_name = "FILE", hide_short_help = true)]
    pub password_file: Option<PathBuf>,
    /// PEM file of certificates to trust in addition to the system's
    #[arg(long, help_heading = HEADING, value_name = "FILE", hide_short_help = true)]
    pub ca_file: Option<PathBuf>,
}

/// Arguments of `fdwatch fleet init`.
#[derive(Debug, Args)]
#[command(after_long_help = examples::FLEET_INIT)]
pub struct FleetInit {
    /// Server to set up.
    #[command(flatten)]
    pub server: FleetServer,
    /// Create replicated tables on all servers of this cluster
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Days to keep findings
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = days)]
    pub keep: u32,
    /// Days to keep hourly counts
    #[arg(long, value_name = "DAYS", default_value_t = 400, value_parser = days)]
    pub keep_hourly: u32,
    /// Print the SQL statements without running them
    ///
    /// Without --url, prints those for a current ClickHouse.
    #[arg(long)]
    pub print: bool,
    /// Print the SQL that creates a user for writing and one for reading
    #[arg(long, conflicts_with = "print")]
    pub print_grants: bool,
}

/// Source of a query's rows, and output format.
#[derive(Debug, Args)]
pub struct FleetQueryOptions {
    /// Server to query.
    #[command(flatten)]
    pub server: FleetServer,
    /// Query these agents, or those in @FILE, instead of a server
    ///
    /// Each is host:port, a URL or the path of a socket, separated by commas; in a file, one per line.
    #[arg(long, value_name = "LIST")]
    pub agents: Option<String>,
    /// File that contains the agents' access token
    #[arg(long, value_name = "FILE", requires = "agents")]
    pub token_file: Option<PathBuf>,
    /// Print at most N rows; the rest are counted
    #[arg(long, value_name = "N", value_parser = parse::count, default_value_t = DEFAULT_LIMIT)]
    pub limit: usize,
    /// Output format.
    #[command(flatten)]
    pub output: Output,
}

/// Start of a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// A duration before now.
    Ago(Duration),
    /// A time, in seconds since 1970.
    At(u32),
}

impl Since {
    /// Returns the start in seconds since 1970, given the current time `now`.
    #[must_use]
    pub fn seconds(self, now: u32) -> u32 {
        match self {
            Self::Ago(ago) => now.saturating_sub(u32::try_from(ago.as_secs()).unwrap_or(u32::MAX)),
            Self::At(at) => at,
        }
    }
}

/// Parses a retention period.
fn days(text: &str) -> Result<u32, String> {
    let days = text.parse().ok().filter(|days| (1..=3650).contains(days));
    days.ok_or_else(|| "expected a number of days from 1 to 3650".to_owned())
}

/// Parses a duration before now, or a time.
fn since(text: &str) -> Result<Since, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        let seconds = u32::try_from(time.as_second());
        return seconds
            .map(Since::At)
            .map_err(|_| "expected a time from 1970 to 2106".to_owned());
    }
    parse::duration(text)
        .map(Since::Ago)
        .map_err(|error| format!("{error}, or a time such as 2024-01-02T15:04:05Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_accepts_durations_and_times() {
        assert_eq!(since("2d"), Ok(Since::Ago(Duration::from_secs(172_800))));
        assert_eq!(since("90m").unwrap().seconds(10_000), 4600);
        assert_eq!(since("1970-01-01T01:00:00Z"), Ok(Since::At(3600)));
        assert_eq!(since("1970-01-01T02:00:00+01:00"), Ok(Since::At(3600)));
        for wrong in ["", "0d", "yesterday", "1969-01-01T00:00:00Z"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }
}
