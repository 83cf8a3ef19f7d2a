//! Unprivileged users who want to lock others out of the API, or to make it costly: they take connections, descriptors
//! and time, and others are still served.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use fdwatch_test_support::{
    Guard, PYTHON,
    agent::{self, Agent},
    bpf, eventually,
    lines::Lines,
    program, run,
    tls::{Authority, OPENSSL},
};

const TOKEN: &str = "9e2b6c4f1a7d4e0c8b5f3a6d2c1e7f40";

const CURL: &str = "/usr/bin/curl";
const SETPRIV: &str = "/usr/bin/setpriv";

const HOLD_CONNECTIONS: &str = include_str!("../fixtures/hold_connections.py");
const MANY_SOCKETS: &str = include_str!("../fixtures/many_sockets.py");

/// Two users without privileges.
const NOBODY: u32 = 65534;
const OTHER: u32 = 65533;

fn has_programs() -> bool {
    bpf() && program(SETPRIV) && program(CURL)
}

fn as_user(uid: u32) -> Command {
    let mut command = Command::new(SETPRIV);
    let uid = uid.to_string();
    command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups"]);
    command
}

/// A script of [`NOBODY`] that runs until this is dropped.
struct Script(#[expect(dead_code, reason = "ends the process when dropped")] Guard);

impl Script {
    /// Starts a script and waits until its connections are made.
    fn start(source: &str, arguments: &[&str]) -> Self {
        let mut command = as_user(NOBODY);
        command.args([PYTHON, "-I", "-S", "-c", source]);
        command.args(arguments).stdout(Stdio::piped());
        let mut process = Guard::spawn(&mut command);
        let lines = Lines::of(process.0.stdout.take().unwrap());
        assert_eq!(lines.next().as_deref(), Some("connected"));
        Self(process)
    }
}

/// Requests a URL with curl, as a user and with more arguments. Returns the status.
fn status(uid: u32, url: &str, arguments: &[&str]) -> String {
    let mut command = as_user(uid);
    command.args([CURL, "-s", "-o", "/dev/null", "-w", "%{http_code}", url]);
    command.args(arguments);
    run(command).stdout()
}

fn refused(agent: &Agent) -> u64 {
    agent.json("/v1/health")["api"]["refused"].as_u64().unwrap()
}

fn descriptors(agent: &Agent) -> usize {
    let fds = format!("/proc/{}/fd", agent.process.pid());
    fs::read_dir(fds).unwrap().count()
}

/// Asserts that root and another user with the token are served over TCP, and root over the unix socket.
fn serves_others(agent: &Agent, url: &str, arguments: &[&str]) {
    let token = format!("Authorization: Bearer {TOKEN}");
    let with_token = [arguments, &["-H", &token]].concat();
    for _ in 0..5 {
        assert_eq!(agent.json("/v1/version")["api"], "v1");
        assert_eq!(status(0, url, arguments), "200");
        assert_eq!(status(OTHER, url, &with_token), "200");
    }
}

#[test]
fn connections_without_tls_handshake_are_bounded() {
    if !has_programs() || !program(OPENSSL) {
        return;
    }
    let own = tempfile::tempdir().unwrap();
    // curl runs as another user.
    fs::set_permissions(own.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let authority = Authority::new(own.path());
    let (certificate, key) = authority.sign("agent", "IP:127.0.0.1");
    let port = agent::free_port();
    let tls = format!(
        "tls = {{ certificate = \"{}\", key = \"{}\" }}\n",
        certificate.display(),
        key.display()
    );
    let agent = Agent::start(&(agent::on_loopback(own.path(), port, TOKEN) + &tls));
    let (fds, memory) = (descriptors(&agent), agent.own_memory());
    let hostile = Script::start(HOLD_CONNECTIONS, &[&port.to_string(), "3000", "once"]);
    eventually("refused connections", || {
        (refused(&agent) >= 2000).then_some(())
    });
    let trusted = authority.certificate();
    let url = format!("https://127.0.0.1:{port}/v1/version");
    serves_others(&agent, &url, &["--cacert", trusted.to_str().unwrap()]);
    let more = descriptors(&agent).saturating_sub(fds);
    assert!(more < 100, "{more} more descriptors");
    let grown = agent.own_memory().saturating_sub(memory) >> 20;
    assert!(grown < 32, "grown by {grown} MiB");
    drop(hostile);
    let (code, log) = agent.end();
    assert_eq!(code, Some(0), "{log:?}");
    let failed = log.iter().find(|line| line.contains("cannot accept"));
    assert_eq!(failed, None);
}

#[test]
fn idle_tcp_connections_lock_nobody_out() {
    if !has_programs() {
        return;
    }
    let own = tempfile::tempdir().unwrap();
    let port = agent::free_port();
    let agent = Agent::start(&agent::on_loopback(own.path(), port, TOKEN));
    let _hostile = Script::start(HOLD_CONNECTIONS, &[&port.to_string(), "300", "again"]);
    eventually("refused connections", || {
        (refused(&agent) >= 268).then_some(())
    });
    serves_others(&agent, &format!("http://127.0.0.1:{port}/v1/version"), &[]);
}

#[test]
fn idle_unix_connections_lock_nobody_out() {
    if !has_programs() {
        return;
    }
    let agent = Agent::start("");
    let socket = agent.socket();
    // Both users are members of the socket's group, as it were.
    for (path, mode) in [(&agent.directory, 0o755), (&socket, 0o666)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let socket = socket.to_str().unwrap();
    let _hostile = Script::start(HOLD_CONNECTIONS, &[socket, "300", "again"]);
    eventually("refused connections", || {
        (refused(&agent) >= 284).then_some(())
    });
    for _ in 0..5 {
        assert_eq!(agent.json("/v1/version")["api"], "v1");
        let url = "http://agent/v1/version";
        assert_eq!(status(OTHER, url, &["--unix-socket", socket]), "200");
    }
}

#[test]
fn owners_are_found_among_many_sockets() {
    if !has_programs() {
        return;
    }
    let own = tempfile::tempdir().unwrap();
    let port = agent::free_port();
    let agent = Agent::start(&agent::on_loopback(own.path(), port, TOKEN));
    let _hostile = Script::start(MANY_SOCKETS, &["5000", &port.to_string()]);
    let table = fs::read("/proc/net/tcp").unwrap().len() as u64;
    assert!(table > 1 << 20, "a table of {table} bytes");
    let before = bytes_read(&agent);
    // Root is recognised at any rate of connections.
    for _ in 0..100 {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let request = "GET /v1/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(agent::answer(&answer).status, 200);
    }
    let read = bytes_read(&agent) - before;
    assert!(
        read < 20 * table,
        "{read} bytes read, the table has {table}"
    );
    assert_eq!(
        status(NOBODY, &format!("http://127.0.0.1:{port}/metrics"), &[]),
        "401"
    );
}

/// Returns the number of bytes that the agent has read from files, those in /proc included.
fn bytes_read(agent: &Agent) -> u64 {
    let io = fs::read_to_string(format!("/proc/{}/io", agent.process.pid())).unwrap();
    let read = io.lines().find_map(|line| line.strip_prefix("rchar: "));
    read.unwrap().parse().unwrap()
}

#[test]
fn refused_requests_end_the_connection() {
    if !has_programs() {
        return;
    }
    let own = tempfile::tempdir().unwrap();
    let port = agent::free_port();
    let _agent = Agent::start(&agent::on_loopback(own.path(), port, TOKEN));
    // Two requests over one connection: curl reports a connection for each.
    for path in ["/", "/v1/version"] {
        let url = format!("http://127.0.0.1:{port}{path}");
        let mut command = as_user(NOBODY);
        command.args([CURL, "-s", "-w", "%{num_connects}\n", &url, &url]);
        command.args(["-o", "/dev/null", "-o", "/dev/null"]);
        assert_eq!(run(command).stdout(), "1\n1\n", "{path}");
    }
}

#[test]
fn root_is_recognised_in_network_namespace() {
    let [unshare, nsenter, ip] = ["/usr/bin/unshare", "/usr/bin/nsenter", "/usr/sbin/ip"];
    if !has_programs() || !program(unshare) || !program(nsenter) || !program(ip) {
        return;
    }
    let own = tempfile::tempdir().unwrap();
    let listen = "listen = [\"127.0.0.1:9464\", \"[::1]:9464\"]\n";
    fs::write(
        own.path().join("agent.toml"),
        agent::basics(own.path()) + listen,
    )
    .unwrap();
    let up = format!("{ip} link set lo up && exec \"$@\"");
    let prefix = [unshare, "--net", "/bin/sh", "-c", &up, "sh"].map(str::to_owned);
    let agent = Agent::in_directory_on(&prefix, own.path());
    let namespace = format!("--net=/proc/{}/ns/net", agent.process.pid());
    for url in [
        "http://127.0.0.1:9464/v1/version",
        "http://[::1]:9464/v1/version",
    ] {
        let status = |as_user: Command| {
            let mut command = Command::new(nsenter);
            command.arg(&namespace).arg(as_user.get_program());
            command.args(as_user.get_args());
            command.args([CURL, "-s", "-o", "/dev/null", "-w", "%{http_code}", url]);
            run(command).stdout()
        };
        assert_eq!(status(as_user(0)), "200", "{url}");
        assert_eq!(status(as_user(NOBODY)), "401", "{url}");
    }
    assert!(Path::new(&agent.socket()).exists());
}
