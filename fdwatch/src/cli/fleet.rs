//! The command line of `fdwatch fleet`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use jiff::Timestamp;

use fdwatch_options::parse;

use super::{Output, examples};
use fdwatch_core::diagnose::Severity;
use fdwatch_fleet::questions::{By, LINES};

/// See [`super::Command::Fleet`].
#[derive(Debug, Args)]
#[command(after_help = examples::FLEET)]
pub struct Fleet {
    /// What is asked.
    #[command(subcommand)]
    pub command: FleetCommand,
}

/// What is asked of a fleet.
#[derive(Debug, Subcommand)]
pub enum FleetCommand {
    /// Make or upgrade the tables in ClickHouse
    Init(FleetInit),
    /// Tell which duplicates there were, those together that are the same bug
    #[command(after_help = examples::FLEET_DUPLICATES)]
    Duplicates {
        /// How far back, such as 24h or 7d, or a time such as 2024-01-02T15:04:05Z; to the full hour
        #[arg(long, value_name = "TIME", value_parser = since, default_value = "24h")]
        since: Since,
        /// What they are put together by
        #[arg(long, value_name = "WHAT", value_enum, default_value_t)]
        by: By,
        /// Only of this severity or more
        #[arg(long, value_name = "LEVEL", value_enum, default_value_t = Severity::Info)]
        severity: Severity,
        /// Who is asked, and how it is shown.
        #[command(flatten)]
        question: FleetQuestion,
    },
    /// Tell all there is of one: hosts, an example with its stack, advice
    #[command(after_help = examples::FLEET_SHOW)]
    Show {
        /// The signature, or how it begins
        #[arg(value_name = "SIGNATURE")]
        signature: String,
        /// How far back
        #[arg(long, value_name = "TIME", value_parser = since, default_value = "7d")]
        since: Since,
        /// Only of this severity or more
        #[arg(long, value_name = "LEVEL", value_enum, default_value_t = Severity::Info)]
        severity: Severity,
        /// Who is asked, and how it is shown.
        #[command(flatten)]
        question: FleetQuestion,
    },
    /// Tell which were not there before: what a deployment brought
    #[command(after_help = examples::FLEET_NEW)]
    New {
        /// Since when, such as 2h or a time
        #[arg(long, value_name = "TIME", value_parser = since)]
        since: Since,
        /// How long before that it must not have been seen
        #[arg(long, value_name = "TIME", value_parser = span, default_value = "7d")]
        before: Duration,
        /// Only of this severity or more
        #[arg(long, value_name = "LEVEL", value_enum, default_value_t = Severity::Info)]
        severity: Severity,
        /// Who is asked, and how it is shown.
        #[command(flatten)]
        question: FleetQuestion,
    },
    /// Tell who reports, who is silent, who loses events
    #[command(after_help = examples::FLEET_HOSTS)]
    Hosts {
        /// Hosts that were heard of since then
        #[arg(long, value_name = "TIME", value_parser = since, default_value = "7d")]
        since: Since,
        /// Silent is who was not heard of for so long
        #[arg(long, value_name = "TIME", value_parser = span, default_value = "5m")]
        silent_after: Duration,
        /// Who is asked, and how it is shown.
        #[command(flatten)]
        question: FleetQuestion,
    },
    /// Tell which files of network file systems several hosts have open for writing
    #[command(after_help = examples::FLEET_SHARED)]
    Shared {
        /// How far back
        #[arg(long, value_name = "TIME", value_parser = since, default_value = "24h")]
        since: Since,
        /// Who is asked, and how it is shown.
        #[command(flatten)]
        question: FleetQuestion,
    },
}

/// A ClickHouse server.
#[derive(Debug, Args)]
pub struct FleetServer {
    /// ClickHouse's HTTP interface
    #[arg(long, value_name = "URL", env = "FDWATCH_FLEET_URL")]
    pub url: Option<String>,
    /// The database
    #[arg(long, value_name = "NAME", default_value = "fdwatch")]
    pub database: String,
    /// The user
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// A file with the password
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Certificates to trust besides the system's, PEM
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

/// See [`FleetCommand::Init`].
#[derive(Debug, Args)]
#[command(after_help = examples::FLEET_INIT)]
pub struct FleetInit {
    /// Where.
    #[command(flatten)]
    pub server: FleetServer,
    /// Make replicated tables on all servers of this cluster
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Days that findings are kept
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = days)]
    pub keep: u32,
    /// Days that hourly numbers are kept
    #[arg(long, value_name = "DAYS", default_value_t = 400, value_parser = days)]
    pub keep_hourly: u32,
    /// Print the statements, and run none. Without --url those for a present ClickHouse
    #[arg(long)]
    pub print: bool,
    /// Print what makes users that may write, and read, and nothing else
    #[arg(long, conflicts_with = "print")]
    pub print_grants: bool,
}

/// Who is asked, and how the answer is shown.
#[derive(Debug, Args)]
pub struct FleetQuestion {
    /// A server.
    #[command(flatten)]
    pub server: FleetServer,
    /// Ask these agents themselves instead of a server: host:port, URL or path of a socket, with
    /// commas between; or @FILE with one on each line
    #[arg(long, value_name = "LIST")]
    pub agents: Option<String>,
    /// A file with the token that the agents want
    #[arg(long, value_name = "FILE", requires = "agents")]
    pub token_file: Option<PathBuf>,
    /// Lines that are shown, at most; the others are counted
    #[arg(long, value_name = "N", value_parser = parse::count, default_value_t = LINES)]
    pub limit: usize,
    /// How it is shown.
    #[command(flatten)]
    pub output: Output,
}

/// A time, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// So long before now.
    Ago(Duration),
    /// Then: seconds since 1970.
    At(u32),
}

impl Since {
    /// Seconds since 1970.
    #[must_use]
    pub fn seconds(self, now: u32) -> u32 {
        match self {
            Self::Ago(ago) => now.saturating_sub(u32::try_from(ago.as_secs()).unwrap_or(u32::MAX)),
            Self::At(at) => at,
        }
    }
}

/// A duration; unlike others it may be of days.
fn span(text: &str) -> Result<Duration, String> {
    if let Some(days) = text.strip_suffix('d').and_then(|it| it.parse::<u32>().ok()) {
        return match days {
            0 => Err("there is no time in it".to_owned()),
            days => Ok(Duration::from_secs(u64::from(days) * 86_400)),
        };
    }
    parse::duration(text)
}

/// How long ClickHouse keeps rows.
fn days(text: &str) -> Result<u32, String> {
    let days = text.parse().ok().filter(|days| (1..=3650).contains(days));
    days.ok_or_else(|| "not a number of days from 1 to 3650".to_owned())
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        let seconds = u32::try_from(time.as_second());
        return seconds
            .map(Since::At)
            .map_err(|_| "not a time from 1970 to 2106".to_owned());
    }
    span(text)
        .map(Since::Ago)
        .map_err(|error| format!("{error}; nor a time such as 2024-01-02T15:04:05Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_what_people_write() {
        assert_eq!(since("2d"), Ok(Since::Ago(Duration::from_secs(172_800))));
        assert_eq!(since("90m").unwrap().seconds(10_000), 4600);
        assert_eq!(since("1970-01-01T01:00:00Z"), Ok(Since::At(3600)));
        assert_eq!(since("1970-01-01T02:00:00+01:00"), Ok(Since::At(3600)));
        for wrong in ["", "0d", "yesterday", "1969-01-01T00:00:00Z"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }
}
