//! nginx: many connections, and a file for each request.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{
    Amount, Need, Work, Workload,
    processes::{Group, eventually, pause},
    programs,
};

/// A server of files that it keeps open for no longer than it takes to send them.
#[derive(Debug, Default)]
pub(super) struct Nginx {
    directory: PathBuf,
    port: u16,
    server: Option<Group>,
    lingering: Option<Group>,
}

/// Files that are served.
const FILES: usize = 64;

/// Requests of a sample.
const SOME: usize = 200;

const TIMEOUT: Duration = Duration::from_secs(10);

impl Nginx {
    /// Requests random files for some seconds.
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

    /// The same to its end: how many requests there were.
    fn load(&self, connections: &str, seconds: u64, is_closing: bool) -> Result<u64> {
        let log = self.directory.join("wrk.log");
        let _ = fs::remove_file(&log);
        let limit = Duration::from_secs(seconds) + TIMEOUT * 3;
        self.start_load(connections, seconds, is_closing, &log)?
            .finish(limit)?;
        requests(&fs::read_to_string(log)?).context("wrk does not tell how many requests it made")
    }

    /// Requests one file on a connection of its own.
    fn request(&self, file: usize) -> Result<()> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        write!(stream, "GET /{} HTTP/1.0\r\n\r\n", file % FILES)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        if !answer.starts_with(b"HTTP/1.1 200") {
            bail!("nginx does not serve its files");
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
        // Free now, and unlikely to be taken within a moment.
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
        let server = self.server.as_ref().context("nginx was not started")?;
        let count = match amount {
            Amount::For(duration) => {
                let third = (duration.as_secs() / 3).max(1);
                let kept = self.load("200", third, false)?;
                let closed = self.load("200", third, true)?;
                // New workers, that are handed what the old ones listened at.
                server.signal(libc::SIGHUP);
                kept + closed + self.load("1000", third, false)?
            }
            Amount::Sample => {
                (0..SOME / 2).try_for_each(|file| self.request(file))?;
                server.signal(libc::SIGHUP);
                (0..SOME / 2).try_for_each(|file| self.request(file))?;
                SOME as u64
            }
        };
        // Opens its logs anew.
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

fn requests(said: &str) -> Option<u64> {
    let mut lines = said.lines();
    lines.find_map(|line| {
        let (count, _) = line.split_once(" requests in ")?;
        count.trim().parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::requests;

    #[test]
    fn wrk_tells_how_many_requests_it_made() {
        let said = "  2 threads and 200 connections\n  161433 requests in 3.01s, 1.23GB read\n";
        assert_eq!(requests(said), Some(161_433));
        assert_eq!(requests(""), None);
    }
}
