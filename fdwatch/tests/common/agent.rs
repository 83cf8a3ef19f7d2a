//! An agent that runs, with a configuration and directories of its own.

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

use super::{Guard, eventually, fdwatch, lines::Lines, parse, under};

/// See the module.
pub(crate) struct Agent {
    pub(crate) process: Guard,
    /// What it writes to standard error.
    pub(crate) log: Lines,
    /// Where all of its files are.
    pub(crate) directory: PathBuf,
    _own: Option<TempDir>,
}

/// An answer of the API.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// The head, as it came.
    pub(crate) head: String,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body, as JSON.
    pub(crate) fn json(&self) -> Value {
        parse(&self.text())
    }

    /// The body, as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("an answer is UTF-8")
    }
}

/// What an agent's configuration begins with: all of its files in `directory`.
pub(crate) fn basics(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "[watch]\nmax_cpu = 100\nstop_file = \"{directory}/stop\"\n\n[history]\nfile = \"{directory}/state/history.db\"\n\n[api]\nsocket = \"{directory}/agent.sock\"\n"
    )
}

/// What makes an agent listen on loopback too, behind [`basics`]: at this port, for who shows the token.
pub(crate) fn on_loopback(directory: &Path, port: u16, token: &str) -> String {
    let file = directory.join("token");
    fs::write(&file, token).expect("a file can be written");
    let own = fs::Permissions::from_mode(0o600);
    fs::set_permissions(&file, own).expect("it is this user's");
    let file = file.display();
    format!("listen = [\"127.0.0.1:{port}\"]\ntoken_file = \"{file}\"\n")
}

/// A port of loopback that is free now.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there are ports");
    listener.local_addr().expect("it has one").port()
}

impl Agent {
    /// Starts one, with this behind the basics of its configuration, which end with `[api]`.
    pub(crate) fn start(more: &str) -> Self {
        let own = tempfile::tempdir().expect("a directory can be made");
        let directory = own.path().to_owned();
        fs::write(
            directory.join("agent.toml"),
            format!("{}{more}", basics(&directory)),
        )
        .expect("a file can be written");
        Self {
            _own: Some(own),
            ..Self::in_directory(&directory)
        }
    }

    /// Starts one with what is in a directory: `agent.toml`, and what an earlier one left.
    pub(crate) fn in_directory(directory: &Path) -> Self {
        Self::in_directory_on(&[], directory)
    }

    /// The same, on a host that commands begin with this for.
    pub(crate) fn in_directory_on(prefix: &[String], directory: &Path) -> Self {
        let agent = Self::spawn_on(prefix, directory);
        eventually("an answer of the agent", || agent.get("/v1/health").ok());
        agent
    }

    /// The same, without waiting for it to answer.
    pub(crate) fn spawn(directory: &Path) -> Self {
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
        let log = Lines::of(process.0.stderr.take().expect("it was asked for"));
        Self {
            process,
            log,
            directory: directory.to_owned(),
            _own: None,
        }
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("agent.sock")
    }

    /// What it answers; nothing, if it does not.
    pub(crate) fn get(&self, path: &str) -> std::io::Result<Answer> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            // While the configuration is read again.
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(answer(&bytes))
    }

    /// The JSON it answers with.
    pub(crate) fn json(&self, path: &str) -> Value {
        let answer = self.get(path).expect("the agent answers");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// The findings there are.
    pub(crate) fn findings(&self) -> Vec<Value> {
        let path = "/v1/findings?limit=10000";
        let answer = eventually("the findings", || self.get(path).ok());
        assert_eq!(answer.status, 200, "{}", answer.text());
        let findings = answer.json();
        findings["findings"].as_array().expect("a list").clone()
    }

    /// The finding on a path, when there is one.
    pub(crate) fn finding_on(&self, path: &Path) -> Value {
        let path = path.to_str().expect("a path of the tests is UTF-8");
        eventually(&format!("a finding on {path}"), || {
            let mut findings = self.findings().into_iter();
            findings.find(|finding| finding["file"]["path"] == path)
        })
    }

    /// Waits until there is no finding on a path.
    pub(crate) fn none_on(&self, path: &Path) {
        let path = path.to_str().expect("a path of the tests is UTF-8");
        eventually(&format!("no finding on {path}"), || {
            let mut findings = self.findings().into_iter();
            findings
                .all(|finding| finding["file"]["path"] != path)
                .then_some(())
        });
    }

    /// Bytes of memory that it has of its own: files that it looks for names of functions in are mapped
    /// for a while, and the kernel takes their pages back when it needs them.
    pub(crate) fn own_memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.process.pid());
        let status = fs::read_to_string(status).expect("it runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.expect("the kernel tells it").trim();
        let kib = kib.trim_end_matches(" kB").parse::<u64>();
        kib.expect("it is a number") << 10
    }

    /// Ends it as systemd does, and gives its exit code and what it said.
    pub(crate) fn end(mut self) -> (Option<i32>, Vec<String>) {
        self.process.signal(libc::SIGTERM);
        let code = self.process.wait();
        (code, self.log.rest())
    }
}

/// The parts of an answer. Bodies in pieces are put together.
pub(crate) fn answer(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("not an answer: {}", String::from_utf8_lossy(bytes)));
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
        status: status.expect("a status"),
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
