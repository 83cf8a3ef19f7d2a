//! A running agent with its own configuration and directories.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Guard, eventually, fdwatch, lines::Lines, parse, under};

/// A running agent, stopped when dropped.
pub struct Agent {
    /// The process.
    pub process: Guard,
    /// Lines of its standard error.
    pub log: Lines,
    /// Directory of all its files.
    pub directory: PathBuf,
    _own: Option<TempDir>,
}

/// A response of the API.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Status line and headers, unmodified.
    pub head: String,
    /// Body, decoded if it was chunked.
    pub body: Vec<u8>,
}

impl Answer {
    /// Parses the body as JSON.
    pub fn json(&self) -> Value {
        parse(&self.text())
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("not UTF-8")
    }
}

/// Returns the start of a configuration that keeps all files in `directory`; the last section is `[api]`.
pub fn basics(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "[watch]\nmax_cpu = 100\nstop_file = \"{directory}/stop\"\n\n[history]\nfile = \"{directory}/state/history.db\"\n\n[api]\nsocket = \"{directory}/agent.sock\"\n"
    )
}

/// Returns the lines after [`basics`] that make an agent listen on a loopback port with a token.
pub fn on_loopback(directory: &Path, port: u16, token: &str) -> String {
    let file = directory.join("token");
    fs::write(&file, token).expect("cannot write a file");
    let own = fs::Permissions::from_mode(0o600);
    fs::set_permissions(&file, own).expect("not owned by this user");
    let file = file.display();
    format!("listen = [\"127.0.0.1:{port}\"]\ntoken_file = \"{file}\"\n")
}

/// Returns a loopback port that is free at the moment.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("cannot bind a port");
    listener.local_addr().expect("no local address").port()
}

impl Agent {
    /// Starts an agent with [`basics`] and `more`, which continues section `[api]`.
    pub fn start(more: &str) -> Self {
        let own = tempfile::tempdir().expect("cannot create a directory");
        let directory = own.path().to_owned();
        fs::write(
            directory.join("agent.toml"),
            format!("{}{more}", basics(&directory)),
        )
        .expect("cannot write a file");
        Self {
            _own: Some(own),
            ..Self::in_directory(&directory)
        }
    }

    /// Starts an agent in a directory that has `agent.toml` and possibly files of an earlier agent.
    pub fn in_directory(directory: &Path) -> Self {
        Self::in_directory_on(&[], directory)
    }

    /// Starts an agent in a directory, under a command prefix that runs it on another host.
    pub fn in_directory_on(prefix: &[String], directory: &Path) -> Self {
        let agent = Self::spawn_on(prefix, directory);
        eventually("a response from the agent", || agent.get("/v1/health").ok());
        agent
    }

    /// Starts an agent without waiting for its first response.
    pub fn spawn(directory: &Path) -> Self {
        Self::spawn_on(&[], directory)
    }

    fn spawn_on(prefix: &[String], directory: &Path) -> Self {
        let mut command = fdwatch(["agent", "--config"]);
        command.arg(directory.join("agent.toml"));
        let mut command = under(prefix, command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut process = Guard::spawn(&mut command);
        let log = Lines::of(process.0.stderr.take().expect("the pipe was requested"));
        Self {
            process,
            log,
            directory: directory.to_owned(),
            _own: None,
        }
    }

    /// Returns the path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("agent.sock")
    }

    /// Requests a path.
    pub fn get(&self, path: &str) -> std::io::Result<Answer> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            // The agent reloads its configuration.
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(answer(&bytes))
    }

    /// Requests JSON and asserts success.
    pub fn json(&self, path: &str) -> Value {
        let answer = self.get(path).expect("no response from the agent");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// Returns all current findings.
    pub fn findings(&self) -> Vec<Value> {
        let path = "/v1/findings?limit=10000";
        let answer = eventually("the findings", || self.get(path).ok());
        assert_eq!(answer.status, 200, "{}", answer.text());
        let findings = answer.json();
        findings["findings"].as_array().expect("not a list").clone()
    }

    /// Waits for a finding on a path.
    pub fn finding_on(&self, path: &Path) -> Value {
        let path = path.to_str().expect("not UTF-8");
        eventually(&format!("a finding on {path}"), || {
            let mut findings = self.findings().into_iter();
            findings.find(|finding| finding["file"]["path"] == path)
        })
    }

    /// Waits until no finding is left on a path.
    pub fn none_on(&self, path: &Path) {
        let path = path.to_str().expect("not UTF-8");
        eventually(&format!("no finding on {path}"), || {
            let mut findings = self.findings().into_iter();
            findings
                .all(|finding| finding["file"]["path"] != path)
                .then_some(())
        });
    }

    /// Returns its anonymous memory in bytes. Mapped files are not counted: it maps files briefly to resolve
    /// symbols, and the kernel can reclaim those pages.
    pub fn own_memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.process.pid());
        let status = fs::read_to_string(status).expect("not running");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.expect("no RssAnon in status").trim();
        let kib = kib.trim_end_matches(" kB").parse::<u64>();
        kib.expect("not a number") << 10
    }

    /// Stops it as systemd does, and returns its exit code and remaining log lines.
    pub fn end(mut self) -> (Option<i32>, Vec<String>) {
        self.process.signal(libc::SIGTERM);
        let code = self.process.wait();
        (code, self.log.rest())
    }
}

/// Parses an HTTP response.
pub fn answer(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("not a response: {}", String::from_utf8_lossy(bytes)));
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let mut body = bytes[end + 4..].to_vec();
    if head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked")
    {
        body = joined(&body);
    }
    Answer {
        status: status.expect("no status"),
        head,
        body,
    }
}

fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = chunks.windows(2).position(|two| two == b"\r\n") {
        let length = String::from_utf8_lossy(&chunks[..end]).into_owned();
        let length = usize::from_str_radix(&length, 16).unwrap_or(0);
        let rest = &chunks[end + 2..];
        if length == 0 || rest.len() < length {
            break;
        }
        body.extend(&rest[..length]);
        chunks = rest.get(length + 2..).unwrap_or_default();
    }
    body
}
