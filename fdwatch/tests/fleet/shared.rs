//! Files on a network file system that several hosts write: reported by agents with their own host names,
//! through a real glusterfs on loopback, to a server and directly.

use std::{
    fs,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use fdwatch_test_support::{
    Guard, Puppet,
    agent::{basics, free_port},
    bpf, eventually, fdwatch, program, run,
};
use serde_json::Value;

use crate::clickhouse::{ClickHouse, Engine};

const GLUSTER_SERVER: &str = "/usr/sbin/glusterfsd";
const GLUSTER_CLIENT: &str = "/usr/sbin/glusterfs";

/// A glusterfs server and one client that has it mounted.
struct Gluster {
    mount: PathBuf,
    _client: Guard,
    _server: Guard,
}

impl Gluster {
    fn start(directory: &Path) -> Self {
        let (brick, mount) = (directory.join("brick"), directory.join("mount"));
        fs::create_dir_all(&brick).unwrap();
        fs::create_dir_all(&mount).unwrap();
        let port = free_port();
        let server = format!(
            "volume brick\n type storage/posix\n option directory {}\nend-volume\n\
             volume locks\n type features/locks\n subvolumes brick\nend-volume\n\
             volume server\n type protocol/server\n option transport-type tcp\n \
             option transport.socket.bind-address 127.0.0.1\n \
             option transport.socket.listen-port {port}\n \
             option auth.addr.locks.allow 127.0.0.1\n subvolumes locks\nend-volume\n",
            brick.display()
        );
        let client = format!(
            "volume client\n type protocol/client\n option transport-type tcp\n \
             option remote-host 127.0.0.1\n option remote-port {port}\n \
             option remote-subvolume locks\nend-volume\n"
        );
        let start = |program: &str, name: &str, text: &str, at: Option<&Path>| {
            let file = directory.join(name);
            fs::write(&file, text).unwrap();
            let mut command = Command::new(program);
            command
                .arg("--no-daemon")
                .arg(format!("--volfile={}", file.display()))
                .arg(format!("--log-file={}.log", file.display()))
                .args(at)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            Guard::spawn(&mut command)
        };
        let server = start(GLUSTER_SERVER, "server", &server, None);
        eventually("a glusterfs server", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        let client = start(GLUSTER_CLIENT, "client", &client, Some(&mount));
        let own = fs::metadata(directory).unwrap().dev();
        eventually("the glusterfs mount", || {
            let mounted = fs::metadata(&mount).ok()?.dev() != own;
            (mounted && fs::write(mount.join("try"), "x").is_ok()).then_some(())
        });
        Self {
            mount,
            _client: client,
            _server: server,
        }
    }
}

impl Drop for Gluster {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.mount).status();
    }
}

/// Starts an agent with its own host name.
struct Host {
    process: Guard,
    socket: PathBuf,
}

fn agent(directory: &Path, name: &str, url: &str) -> Host {
    let own = directory.join(name);
    fs::create_dir(&own).unwrap();
    let spool = own.join("spool");
    let config = format!(
        "{}\n[fleet]\nurl = \"{url}\"\ninterval = \"1s\"\nspool = \"{}\"\n",
        basics(&own),
        spool.display()
    );
    fs::write(own.join("agent.toml"), config).unwrap();
    let mut command = fdwatch(["agent", "--config"]);
    command.arg(own.join("agent.toml")).stdout(Stdio::null());
    let host = std::ffi::CString::new(name).unwrap();
    // SAFETY: both calls are async-signal-safe; the name was made before the fork.
    unsafe {
        command.pre_exec(move || {
            if libc::unshare(libc::CLONE_NEWUTS) != 0
                || libc::sethostname(host.as_ptr(), host.as_bytes().len()) != 0
            {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    Host {
        process: Guard::spawn(&mut command),
        socket: own.join("agent.sock"),
    }
}

/// Returns the reported shared files on this mount, without times, which differ by report.
fn shared(mount: &Path, more: &[&str]) -> Vec<Value> {
    let mut words = vec!["fleet", "shared", "--json"];
    words.extend(more);
    let finished = run(fdwatch(words));
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let mut lines = finished.json();
    // The host may have others.
    let mount = mount.to_str().unwrap();
    lines.retain(|line| line["file"].as_str().unwrap().starts_with(mount));
    for line in &mut lines {
        assert!(line["last"].is_string(), "{line}");
        line["last"] = Value::Null;
    }
    lines
}

#[test]
fn file_written_by_two_hosts_is_reported() {
    if !bpf() || !program(GLUSTER_SERVER) || !program(GLUSTER_CLIENT) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = ClickHouse::start(Engine::Debian, directory.path()) else {
        return;
    };
    let url = server.url();
    let made = run(fdwatch(["fleet", "init", "--url", &url]));
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let gluster = Gluster::start(directory.path());
    let mut puppet = Puppet::start();
    let path = |name: &str| gluster.mount.join(name);
    puppet.open(&path("both\n'\"é.log"), "WRONLY|CREAT|APPEND");
    fs::write(path("read.log"), "x").unwrap();
    puppet.open(&path("read.log"), "RDONLY");
    // A file on a local file system, which is not reported.
    puppet.open(&directory.path().join("local.log"), "WRONLY|CREAT");
    let only_one = puppet.open(&path("one.log"), "WRONLY|CREAT");
    let reported = |host: &str, name: &str| {
        eventually(&format!("{name} as reported by {host}"), || {
            let ino = fs::metadata(path(name)).unwrap().ino();
            let query = format!(
                "SELECT count() FROM fdwatch.shared_files WHERE host = '{host}' AND ino = {ino}"
            );
            (server.query(&query) != "0\n").then_some(())
        });
    };
    let one = agent(directory.path(), "one", &url);
    reported("one", "one.log");
    puppet.close(only_one);
    let two = agent(directory.path(), "two", &url);
    reported("two", "both\n'\"é.log");
    let from_server = shared(&gluster.mount, &["--url", &url]);
    let agents = format!("{},{}", one.socket.display(), two.socket.display());
    let from_agents = shared(&gluster.mount, &["--agents", &agents]);
    assert_eq!(from_server, from_agents);
    let [file] = &from_server[..] else {
        panic!("expected one file: {from_server:?}");
    };
    assert_eq!(file["file"], path("both\n'\"é.log").to_str().unwrap());
    assert_eq!(
        file["ino"],
        fs::metadata(path("both\n'\"é.log")).unwrap().ino()
    );
    assert_eq!(file["hosts"], 2);
    assert_eq!(file["names"], serde_json::json!(["one", "two"]));
    let programs = file["programs"].as_array().unwrap();
    assert_eq!(programs.len(), 1, "{programs:?}");
    // There is no finding: no process has a file open twice.
    assert_eq!(
        server.query("SELECT count() FROM fdwatch.findings WHERE network != ''"),
        "0\n"
    );
    // Every row was delivered.
    assert_eq!(
        server.query("SELECT max(files_left_out) FROM fdwatch.hosts"),
        "0\n"
    );
    for mut host in [one, two] {
        host.process.signal(libc::SIGTERM);
        assert_eq!(host.process.wait(), Some(0));
    }
}
