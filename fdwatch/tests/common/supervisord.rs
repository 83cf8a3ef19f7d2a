//! A real supervisord, in a directory of its own.

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

use super::{DEADLINE, Guard, eventually, procfs, program, under};

pub(crate) const SUPERVISORD: &str = "/usr/bin/supervisord";
const SUPERVISORCTL: &str = "/usr/bin/supervisorctl";

/// supervisord's descriptors that are sockets when nobody is connected: the one it listens at.
const LISTENING: usize = 1;

/// Whether supervisord is there.
pub(crate) fn is_there() -> bool {
    program(SUPERVISORD) && program(SUPERVISORCTL)
}

/// A supervisord in a directory of its own.
pub(crate) struct Supervisord {
    process: Guard,
    pub(crate) directory: TempDir,
}

impl Supervisord {
    /// Starts one with the program `talker`, and waits until it writes that one's log.
    pub(crate) fn start() -> Self {
        Self::talking(include_str!("../fixtures/supervisord.conf"))
    }

    /// The same, with another program of that name.
    pub(crate) fn talking(configuration: &str) -> Self {
        let supervisord = Self::with(configuration);
        let log = supervisord.log();
        supervisord.wait_for(&log, 1);
        eventually("a line in the log", || {
            (fs::metadata(&log).ok()?.len() > 0).then_some(())
        });
        supervisord
    }

    /// Starts one that listens at `socket` in its directory, and waits until it answers.
    pub(crate) fn with(configuration: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        Self::on(&[], directory, configuration)
    }

    /// The same, on a host that commands begin with this for, in this directory.
    pub(crate) fn on(prefix: &[String], directory: TempDir, configuration: &str) -> Self {
        let config = directory.path().join("supervisord.conf");
        fs::write(&config, configuration).expect("it can be written");
        let mut command = Command::new(SUPERVISORD);
        command.arg("-c").arg(config);
        let mut command = under(prefix, command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = Guard::spawn(&mut command);
        let supervisord = Self { process, directory };
        eventually("an answer of supervisord", || supervisord.try_call().ok());
        supervisord
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.directory.path().join("talker.log")
    }

    /// What any monitoring of supervisord does all day, on a new connection.
    pub(crate) fn try_call(&self) -> std::io::Result<String> {
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

    pub(crate) fn call(&self) {
        let answer = self.try_call().expect("supervisord answers");
        assert!(answer.contains("200 OK"), "{answer}");
    }

    /// Attaches a client that reads the program's log, and waits until supervisord has opened that.
    pub(crate) fn tail(&self, descriptors: usize) -> Guard {
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
        // It asks before whether supervisord is there: that connection is to be over.
        self.wait_for_clients(1);
        client
    }

    pub(crate) fn wait_for(&self, path: &Path, descriptors: usize) {
        eventually(&format!("{descriptors} on {}", path.display()), || {
            (procfs::held(self.pid(), path).len() == descriptors).then_some(())
        });
    }

    /// Has supervisorctl do something, and waits until it is done.
    pub(crate) fn control(&self, arguments: &[&str]) {
        let config = self.directory.path().join("supervisord.conf");
        let mut command = Command::new(SUPERVISORCTL);
        command.arg("-c").arg(config).args(arguments);
        let output = command.output().expect("supervisorctl can be run");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: i32) {
        self.process.signal(signal);
    }

    pub(crate) fn wait_for_clients(&self, clients: usize) {
        eventually(&format!("{clients} connections"), || {
            (procfs::sockets(self.pid()) == LISTENING + clients).then_some(())
        });
    }

    /// The descriptors it has on the program's log.
    pub(crate) fn held(&self) -> Vec<u32> {
        procfs::held(self.pid(), &self.log()).into_keys().collect()
    }
}

impl Drop for Supervisord {
    /// Asks it to end, for it to end its programs first; they are in process groups of their own.
    fn drop(&mut self) {
        if matches!(self.process.0.try_wait(), Ok(None)) {
            self.process.signal(libc::SIGTERM);
        }
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end && matches!(self.process.0.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(10));
        }
        // If it has not, its programs end when they write next: there is nobody to read it.
    }
}
