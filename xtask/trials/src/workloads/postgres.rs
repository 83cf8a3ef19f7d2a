//! PostgreSQL: a process for each client, which opens and closes many files on demand.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{
    programs::{self, Need},
    workload::{Amount, Work, Workload},
};
use crate::processes::{Group, eventually, pause};

/// A server under pgbench: with persistent connections, and with a new connection for each transaction.
#[derive(Debug, Default)]
pub(super) struct Postgres {
    directory: PathBuf,
    server: Option<Group>,
    lingering: Option<Group>,
}

/// PostgreSQL refuses to run as root.
const USER: &str = "nobody";

const LIMIT: Duration = Duration::from_secs(300);

/// Fewer files than tables and indexes, so that the server closes and reopens them.
const SETTINGS: [&str; 5] = [
    "listen_addresses=",
    "max_files_per_process=64",
    "shared_buffers=16MB",
    "max_wal_size=64MB",
    "fsync=off",
];

impl Postgres {
    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn command(&self, program: &str) -> Result<Command> {
        let (user, group) = ids(USER)?;
        let mut command = programs::command(program)?;
        command
            .uid(user)
            .gid(group)
            .current_dir(&self.directory)
            .env("LC_ALL", "C");
        Ok(command)
    }

    fn start_bench(&self, arguments: &[&str], log: &Path) -> Result<Group> {
        let mut bench = self.command("pgbench")?;
        bench
            .arg("-h")
            .arg(&self.directory)
            .args(["-U", USER])
            .args(arguments)
            .arg("postgres");
        Group::logging(&mut bench, log)
    }

    /// Runs pgbench and returns the number of transactions.
    fn bench(&self, arguments: &[&str]) -> Result<u64> {
        let log = self.directory.join("pgbench.log");
        let _ = fs::remove_file(&log);
        self.start_bench(arguments, &log)?.finish(LIMIT)?;
        Ok(transactions(&fs::read_to_string(log)?))
    }
}

impl Workload for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn needs(&self) -> &'static [Need] {
        const PACKAGE: &str = "postgresql";
        &[
            Need {
                program: "initdb",
                package: PACKAGE,
            },
            Need {
                program: "postgres",
                package: PACKAGE,
            },
            Need {
                program: "pgbench",
                package: PACKAGE,
            },
        ]
    }

    fn prepare(&mut self, directory: &Path) -> Result<()> {
        directory.clone_into(&mut self.directory);
        let (user, group) = ids(USER)?;
        chown(directory, Some(user), Some(group))?;
        let log = directory.join("log");
        let mut initdb = self.command("initdb")?;
        initdb
            .args(["--no-sync", "--auth=trust", "--username", USER, "--pgdata"])
            .arg(self.data());
        Group::logging(&mut initdb, &log)?.finish(LIMIT)?;
        let mut server = self.command("postgres")?;
        server.arg("-D").arg(self.data()).arg("-k").arg(directory);
        for setting in SETTINGS {
            server.args(["-c", setting]);
        }
        let server = self.server.insert(Group::logging(&mut server, &log)?);
        let socket = directory.join(".s.PGSQL.5432");
        eventually(|| {
            server.still_runs()?;
            std::os::unix::net::UnixStream::connect(&socket).context("cannot connect to PostgreSQL")
        })?;
        // It accepts connections before it is ready.
        eventually(|| self.bench(&["-i", "-s", "2", "--partitions=40", "--quiet"]))?;
        Ok(())
    }

    fn run(&mut self, amount: Amount) -> Result<Work> {
        let count = match amount {
            Amount::For(duration) => {
                let seconds = (duration.as_secs() / 2).max(1).to_string();
                let persistent = ["-n", "-c", "16", "-j", "2", "-T", &seconds];
                let reconnecting = ["-n", "-C", "-c", "8", "-j", "2", "-T", &seconds];
                self.bench(&persistent)? + self.bench(&reconnecting)?
            }
            Amount::Sample => self.bench(&["-n", "-C", "-c", "2", "-t", "3"])?,
        };
        Ok(Work {
            count,
            unit: "transactions",
        })
    }

    fn linger(&mut self) -> Result<()> {
        let log = self.directory.join("lingering.log");
        let clients = self.start_bench(&["-n", "-c", "16", "-T", "3600"], &log)?;
        pause(Duration::from_secs(1))?;
        clients.freeze();
        self.lingering = Some(clients);
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.lingering = None;
        // SIGINT: without waiting for clients.
        self.server
            .take()
            .map_or(Ok(()), |server| server.end(libc::SIGINT))
    }
}

/// Returns a user's UID and GID.
fn ids(name: &str) -> Result<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    let ids = users.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let [user_name, _, user, group, ..] = fields[..] else {
            return None;
        };
        let ids = (user.parse().ok()?, group.parse().ok()?);
        (user_name == name).then_some(ids)
    });
    ids.with_context(|| format!("no such user: {name}"))
}

fn transactions(output: &str) -> u64 {
    let mut lines = output.lines();
    let count = lines.find_map(|line| {
        let count = line.strip_prefix("number of transactions actually processed: ")?;
        count.split('/').next()?.parse().ok()
    });
    count.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_of_pgbench_are_parsed() {
        let output = "transaction type: <builtin: TPC-B (sort of)>\n\
                    number of transactions actually processed: 1234\ntps = 17.5\n";
        assert_eq!(transactions(output), 1_234);
        let output = "number of transactions actually processed: 30/30\n";
        assert_eq!(transactions(output), 30);
        assert_eq!(transactions(""), 0);
    }

    #[test]
    fn ids_of_user_are_found() {
        assert_eq!(ids("root").unwrap(), (0, 0));
        assert!(ids("no such user").is_err());
    }
}
