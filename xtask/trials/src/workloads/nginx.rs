//! nginx: many connections, and one open per request.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{
    programs::{self, Need},
    workload::{Amount, Work, Workload},
};
use crate::processes::{Group, eventually, pause};

/// A server that opens each file only to send it.
#[derive(Debug, Default)]
pub(super) struct Nginx {
    directory: PathBuf,
    port: u16,
    server: Option<Group>,
    lingering: Option<Group>,
}

/// Number of files.
const FILES: usize = 64;

/// Requests of a sample.
const SAMPLE: usize = 200;

const TIMEOUT: Duration = Duration::from_secs(10);

impl Nginx {
    /// Starts wrk, which requests random files for `seconds`.
    fn start_load(
        &self,
        connections: &str,
        seconds: u64,
        is_closing: bool,
        log: &Path,
    ) -> Result<Group> {
        let mut wrk = programs::command("wrk")?;
        wrk.args(["-t", "2", "-c", connections])
            .args(["-d", &seconds.to_string(), "-s"])
            .arg(self.directory.join("random.lua"));
        if is_closing {
            wrk.args(["-H", "Connection: close"]);
        }
        wrk.arg(format!("http://127.0.0.1:{}", self.port));
        Group::logging(&mut wrk, log)
    }

    /// Runs wrk and returns the number of requests.
    fn load(&self, connections: &str, seconds: u64, is_closing: bool) -> Result<u64> {
        let log = self.directory.join("wrk.log");
        let _ = fs::remove_file(&log);
        let limit = Duration::from_secs(seconds) + TIMEOUT * 3;
        self.start_load(connections, seconds, is_closing, &log)?
            .finish(limit)?;
        requests(&fs::read_to_string(log)?).context("no number of requests in wrk's output")
    }

    /// Requests one file on a new connection.
    fn request(&self, file: usize) -> Result<()> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        write!(stream, "GET /{} HTTP/1.0\r\n\r\n", file % FILES)?;
        let mut response = Vec::new();
        stream.read_to_end(&mut response)?;
        if !response.starts_with(b"HTTP/1.1 200") {
            bail!("nginx returned an error");
        }
        Ok(())
    }
}

impl Workload for Nginx {
    fn name(&self) -> &'static str {
        "nginx"
    }

    fn needs(&self) -> &'static [Need] {
        &[
            Need {
                program: "nginx",
                package: "nginx-light",
            },
            Need {
                program: "wrk",
                package: "wrk",
            },
        ]
    }

    fn prepare(&mut self, directory: &Path) -> Result<()> {
        directory.clone_into(&mut self.directory);
        let files = directory.join("files");
        fs::create_dir(&files)?;
        for file in 0..FILES {
            fs::write(files.join(file.to_string()), vec![b'x'; 1 << (file % 17)])?;
        }
        let lua = "request = function() return wrk.format(nil, '/' .. math.random(0, FILES)) end\n";
        let lua = lua.replace("FILES", &(FILES - 1).to_string());
        fs::write(directory.join("random.lua"), lua)?;
        // A free port, which is unlikely to be taken at once.
        self.port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let config = include_str!("nginx.conf").replace("PORT", &self.port.to_string());
        fs::write(directory.join("nginx.conf"), config)?;
        let mut command = programs::command("nginx")?;
        command
            .arg("-p")
            .arg(directory)
            .args(["-c", "nginx.conf", "-e", "error.log"]);
        let server = Group::logging(&mut command, &directory.join("log"))?;
        self.server = Some(server);
        eventually(|| {
            self.server.as_mut().map_or(Ok(()), Group::still_runs)?;
            self.request(0)
        })
    }

    fn run(&mut self, amount: Amount) -> Result<Work> {
        let server = self.server.as_ref().context("nginx is not running")?;
        let count = match amount {
            Amount::For(duration) => {
                let third = (duration.as_secs() / 3).max(1);
                let reused = self.load("200", third, false)?;
                let closed = self.load("200", third, true)?;
                // Starts new workers, which inherit the listening sockets.
                server.signal(libc::SIGHUP);
                reused + closed + self.load("1000", third, false)?
            }
            Amount::Sample => {
                (0..SAMPLE / 2).try_for_each(|file| self.request(file))?;
                server.signal(libc::SIGHUP);
                (0..SAMPLE / 2).try_for_each(|file| self.request(file))?;
                SAMPLE as u64
            }
        };
        // Reopens its logs.
        server.signal(libc::SIGUSR1);
        Ok(Work {
            count,
            unit: "requests",
        })
    }

    fn linger(&mut self) -> Result<()> {
        let log = self.directory.join("lingering.log");
        let clients = self.start_load("500", 3_600, false, &log)?;
        pause(Duration::from_secs(1))?;
        clients.freeze();
        self.lingering = Some(clients);
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.lingering = None;
        self.server
            .take()
            .map_or(Ok(()), |server| server.end(libc::SIGTERM))
    }
}

fn requests(output: &str) -> Option<u64> {
    let mut lines = output.lines();
    lines.find_map(|line| {
        let (count, _) = line.split_once(" requests in ")?;
        count.trim().parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::requests;

    #[test]
    fn requests_of_wrk_are_parsed() {
        let output = "  2 threads and 200 connections\n  161433 requests in 3.01s, 1.23GB read\n";
        assert_eq!(requests(output), Some(161_433));
        assert_eq!(requests(""), None);
    }
}
