//! A real supervisord in a directory of its own.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{DEADLINE, Guard, eventually, procfs, program, under};

/// Path of supervisord.
pub const SUPERVISORD: &str = "/usr/bin/supervisord";
const SUPERVISORCTL: &str = "/usr/bin/supervisorctl";

/// Sockets of a supervisord without clients: the one it listens on.
const IDLE_SOCKETS: usize = 1;

/// Returns whether supervisord is installed.
pub fn is_installed() -> bool {
    program(SUPERVISORD) && program(SUPERVISORCTL)
}

/// A running supervisord.
pub struct Supervisord {
    process: Guard,
    /// Directory of all its files.
    pub directory: TempDir,
}

impl Supervisord {
    /// Starts one with the program `talker` and waits until its log has a line.
    pub fn start() -> Self {
        Self::talking(include_str!("../fixtures/supervisord.conf"))
    }

    /// Starts one with this configuration, whose program is also named `talker`.
    pub fn talking(configuration: &str) -> Self {
        let supervisord = Self::with(configuration);
        let log = supervisord.log();
        supervisord.wait_for(&log, 1);
        eventually("a line in the log", || {
            (fs::metadata(&log).ok()?.len() > 0).then_some(())
        });
        supervisord
    }

    /// Starts one with this configuration, which listens on `socket`, and waits until it answers.
    pub fn with(configuration: &str) -> Self {
        let directory = tempfile::tempdir().expect("cannot create a directory");
        Self::on(&[], directory, configuration)
    }

    /// Starts one in this directory, under a command prefix that runs it on another host.
    pub fn on(prefix: &[String], directory: TempDir, configuration: &str) -> Self {
        let config = directory.path().join("supervisord.conf");
        fs::write(&config, configuration).expect("cannot write a file");
        let mut command = Command::new(SUPERVISORD);
        command.arg("-c").arg(config);
        let mut command = under(prefix, command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = Guard::spawn(&mut command);
        let supervisord = Self { process, directory };
        eventually("a response from supervisord", || {
            supervisord.try_call().ok()
        });
        supervisord
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Returns the path of the program's log.
    pub fn log(&self) -> PathBuf {
        self.directory.path().join("talker.log")
    }

    /// Sends the call that monitoring tools repeat, on a new connection.
    pub fn try_call(&self) -> std::io::Result<String> {
        const CALL: &str = "<?xml version='1.0'?><methodCall>\
            <methodName>supervisor.getAllProcessInfo</methodName></methodCall>";
        let mut stream = UnixStream::connect(self.directory.path().join("socket"))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let length = CALL.len();
        write!(
            stream,
            "POST /RPC2 HTTP/1.0\r\nContent-Type: text/xml\r\nContent-Length: {length}\r\n\r\n{CALL}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Sends the call and asserts success.
    pub fn call(&self) {
        let answer = self.try_call().expect("no response from supervisord");
        assert!(answer.contains("200 OK"), "{answer}");
    }

    /// Starts a client that follows the program's log and waits until supervisord has opened the log for it.
    pub fn tail(&self, descriptors: usize) -> Guard {
        let client = Guard::spawn(
            Command::new(SUPERVISORCTL)
                .arg("-c")
                .arg(self.directory.path().join("supervisord.conf"))
                .args(["tail", "-f", "talker"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        );
        self.wait_for(&self.log(), descriptors);
        // The client first checks supervisord on another connection; wait until it is closed.
        self.wait_for_clients(1);
        client
    }

    /// Waits until it has this many descriptors on a file.
    pub fn wait_for(&self, path: &Path, descriptors: usize) {
        eventually(&format!("{descriptors} on {}", path.display()), || {
            (procfs::held(self.pid(), path).len() == descriptors).then_some(())
        });
    }

    /// Runs supervisorctl until it exits.
    pub fn control(&self, arguments: &[&str]) {
        let config = self.directory.path().join("supervisord.conf");
        let mut command = Command::new(SUPERVISORCTL);
        command.arg("-c").arg(config).args(arguments);
        let output = command.output().expect("cannot run supervisorctl");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        self.process.signal(signal);
    }

    /// Waits until this many clients are connected.
    pub fn wait_for_clients(&self, clients: usize) {
        eventually(&format!("{clients} connections"), || {
            (procfs::sockets(self.pid()) == IDLE_SOCKETS + clients).then_some(())
        });
    }

    /// Returns its descriptors on the program's log.
    pub fn held(&self) -> Vec<u32> {
        procfs::held(self.pid(), &self.log()).into_keys().collect()
    }
}

impl Drop for Supervisord {
    /// Stops it with a signal, so that it stops its programs, which have process groups of their own.
    fn drop(&mut self) {
        if matches!(self.process.0.try_wait(), Ok(None)) {
            self.process.signal(libc::SIGTERM);
        }
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end && matches!(self.process.0.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(10));
        }
        // If it is still running, its programs exit on their next write to the closed pipe.
    }
}
