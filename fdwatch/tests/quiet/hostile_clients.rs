//! Hostile clients, unauthorized users and hostile names: the agent still answers others, its memory stays
//! bounded, and no finding is lost.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::Command,
    sync::MutexGuard,
    thread,
    time::Duration,
};

use fdwatch_test_support::{
    DEADLINE, Puppet,
    agent::{self, Agent, Answer},
    bpf, eventually, parse, program, run,
};
use serde_json::Value;

use super::alone;

const TOKEN: &str = "4bd8a90c1e7f4b0c9f6de2a1730c5d8e";

/// Limit of the growth of the agent's memory by all clients. The bounds alone: 320 connections with 16 KiB of
/// headers and as much output make 10 MiB; findings are written one by one as a client reads them, and the
/// buffer of event readers is shared. The rest is the allocator's reserve after a burst and the symbols of stacks.
const MAX_GROWTH: u64 = 96 << 20;

/// An agent that also listens on loopback, and requires a token.
struct Host {
    agent: Agent,
    port: u16,
    _alone: MutexGuard<'static, ()>,
}

impl Host {
    fn start() -> Self {
        // An agent reports other tests' processes too.
        let alone = alone();
        let port = agent::free_port();
        let own = tempfile::tempdir().unwrap().keep();
        // Other users may enter: protected files have their own modes.
        fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
        let config = agent::basics(&own) + &agent::on_loopback(&own, port, TOKEN);
        fs::write(own.join("agent.toml"), config).unwrap();
        let agent = Agent::in_directory(&own);
        Self {
            agent,
            port,
            _alone: alone,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// Sends bytes and returns the response, if there is one.
    fn response_to(&self, bytes: &[u8]) -> Option<Answer> {
        let mut stream = self.connect();
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
            .starts_with(b"HTTP/1.1 ")
            .then(|| agent::answer(&answer))
    }

    fn health(&self) -> Value {
        eventually("health", || {
            let answer = self.agent.get("/v1/health").ok()?;
            (answer.status == 200).then(|| answer.json())
        })
    }

    fn refused(&self) -> u64 {
        self.health()["api"]["refused"].as_u64().unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.agent.process.kill();
        let _ = fs::remove_dir_all(&self.agent.directory);
    }
}

/// Runs `attack` against an agent and asserts that it still answers, has grown by no more than the limit, and
/// has old and new findings.
fn survives(what: &str, host: &Host, puppet: &mut Puppet, bad: impl FnOnce(&Host)) {
    let path = host
        .agent
        .directory
        .join(format!("{}.log", what.replace(' ', "-")));
    puppet.open(&path, "WRONLY|CREAT");
    let before = host.agent.own_memory();
    bad(host);
    puppet.open(&path, "WRONLY");
    host.agent.finding_on(&path);
    let grown = host.agent.own_memory().saturating_sub(before);
    println!("{what}: grown by {} KiB", grown >> 10);
    assert!(grown < MAX_GROWTH, "{what}: grown by {grown}");
    let health = host.health();
    assert_eq!(health["lost"], 0, "{what}: {health}");
    assert_eq!(health["troubles"].as_array().unwrap().len(), 0, "{health}");
}

#[test]
fn hostile_requests_harm_no_other_client() {
    if !bpf() {
        return;
    }
    let host = Host::start();
    let mut puppet = Puppet::start();
    let get = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n")
    };

    survives("half a request", &host, &mut puppet, |host| {
        let mut stream = host.connect();
        stream.write_all(b"GET /v1/find").unwrap();
        drop(stream);
    });
    survives("a body of 1 GiB", &host, &mut puppet, |host| {
        let mut stream = host.connect();
        let head =
            get("/v1/findings").replace("GET", "POST") + "Content-Length: 1073741824\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let piece = vec![b'x'; 1 << 20];
        // Refused before it is sent completely.
        let sent = (0..1024).take_while(|_| stream.write_all(&piece).is_ok());
        assert!(sent.count() < 1024, "the request was not refused");
    });
    survives("a head of 64 KiB", &host, &mut puppet, |host| {
        let head = get("/") + &format!("X: {}\r\n\r\n", "x".repeat(64 << 10));
        if let Some(answer) = host.response_to(head.as_bytes()) {
            assert_eq!(answer.status, 431, "{}", answer.head);
        }
    });
    survives("garbage", &host, &mut puppet, |host| {
        let mut noise = 1_u64;
        for length in [1, 16, 1000, 100_000] {
            let bytes: Vec<u8> = std::iter::repeat_with(|| {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                noise.to_le_bytes()[0]
            })
            .take(length)
            .chain(*b"\r\n\r\n")
            .collect();
            if let Some(answer) = host.response_to(&bytes) {
                assert_eq!(answer.status, 400);
            }
        }
    });
    survives("a handshake of TLS", &host, &mut puppet, |host| {
        let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n";
        if let Some(answer) = host.response_to(hello) {
            assert_eq!(answer.status, 400);
        }
    });
    survives("pipelined requests", &host, &mut puppet, |host| {
        let one = get("/v1/version") + "\r\n";
        let last = get("/v1/version") + "Connection: close\r\n\r\n";
        let mut stream = host.connect();
        let mut writer = stream.try_clone().unwrap();
        let all = one.repeat(999) + &last;
        let writing = thread::spawn(move || writer.write_all(all.as_bytes()));
        let mut answers = Vec::new();
        stream.read_to_end(&mut answers).unwrap();
        writing.join().unwrap().unwrap();
        let answers = String::from_utf8(answers).unwrap();
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 1000);
    });
    survives("10000 connections", &host, &mut puppet, |host| {
        for _ in 0..10_000 {
            drop(host.connect());
        }
    });
    survives("a request byte by byte", &host, &mut puppet, |host| {
        let mut stream = host.connect();
        let head = get("/");
        for byte in head.bytes() {
            thread::sleep(Duration::from_millis(300));
            if stream.write_all(&[byte]).is_err() {
                break;
            }
        }
        // The headers must be complete within a time limit, which this client exceeds.
        assert_eq!(
            stream.read(&mut [0; 4096]).unwrap_or(0),
            0,
            "the slow request was answered"
        );
    });
}

#[test]
fn excess_connections_are_refused_and_counted() {
    if !bpf() {
        return;
    }
    let host = Host::start();
    let mut puppet = Puppet::start();
    survives("300 connections held", &host, &mut puppet, |host| {
        let before = host.refused();
        let held: Vec<TcpStream> = (0..300).map(|_| host.connect()).collect();
        // Connections above the limit are closed at once.
        let mut closed = 0;
        for mut stream in held.iter().skip(128) {
            closed += usize::from(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
        }
        assert_eq!(closed, 172);
        drop(held);
        let refused = host.refused() - before;
        assert!(refused >= 172, "{refused} counted");
    });
}

/// Sets a small receive buffer: otherwise a whole response could fit into the kernel's buffers.
fn shrink_receive_buffer(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    socket.set_recv_buffer_size(4096).unwrap();
}

#[test]
fn client_that_never_reads_is_dropped() {
    if !bpf() {
        return;
    }
    let host = Host::start();
    let directory = host.agent.directory.clone();
    // A large response: findings with long paths, as many as each process may have.
    let deep = directory.join("d".repeat(200)).join("e".repeat(200));
    fs::create_dir_all(&deep).unwrap();
    let mut puppets: Vec<_> = (0..16).map(|_| Puppet::start()).collect();
    for (number, puppet) in puppets.iter_mut().enumerate() {
        let path = deep.join(format!("{}-{number}-", "f".repeat(200)));
        puppet.exec(&format!(
            "kept = [os.open({:?} + str(i), os.O_CREAT | os.O_WRONLY) for i in range(128) for _ in range(2)]",
            path.to_str().unwrap()
        ));
    }
    eventually("many findings", || {
        (host.agent.findings().len() >= 2000).then_some(())
    });
    let mut other = Puppet::start();
    survives("many that never read", &host, &mut other, |host| {
        let silent: Vec<TcpStream> = (0..60)
            .map(|i| {
                let path = if i % 3 == 0 {
                    "/v1/events?current=true"
                } else {
                    "/v1/findings?limit=10000"
                };
                let mut stream = host.connect();
                shrink_receive_buffer(&stream);
                let request = format!(
                    "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
                );
                stream.write_all(request.as_bytes()).unwrap();
                stream
            })
            .collect();
        // Other clients are served meanwhile.
        assert_eq!(host.agent.json("/v1/version")["api"], "v1");
        eventually("dropped connections", || {
            (host.health()["api"]["readers"] == 0).then_some(())
        });
        drop(silent);
    });
    assert!(host.agent.findings().len() >= 2000);
}

#[test]
fn unauthorized_clients_get_nothing() {
    if !bpf() || !program("/usr/bin/setpriv") || !program("/usr/bin/curl") {
        return;
    }
    let host = Host::start();
    let mut puppet = Puppet::start();
    let path = host.agent.directory.join("secret.log");
    puppet.open(&path, "WRONLY|CREAT");
    puppet.open(&path, "WRONLY");
    host.agent.finding_on(&path);
    let pid = puppet.pid();

    let url = |path: &str| format!("http://127.0.0.1:{}{path}", host.port);
    let nobody = |words: &[&str]| {
        let mut command = Command::new("/usr/bin/setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        command.args(words);
        run(command)
    };
    let curl = ["/usr/bin/curl", "-s", "-w", "\n%{http_code}"];
    for path in [
        "/v1/findings",
        "/v1/processes",
        &format!("/v1/processes/{pid}/fds"),
        &format!("/v1/explain/{pid}"),
        "/v1/events?current=true",
        "/v1/health",
        "/v1/summary",
        "/v1/version",
        "/v1/openapi.json",
        "/metrics",
        "/nowhere",
    ] {
        let answer = nobody(&[&curl[..], &[&url(path)]].concat()).stdout();
        assert!(answer.ends_with("\n401"), "{path}: {answer}");
        assert!(!answer.contains("secret"), "{path}: {answer}");
        let wrong = "Authorization: Bearer 4bd8a90c1e7f4b0c9f6de2a1730c5d8f";
        let answer = nobody(&[&curl[..], &["-H", wrong, &url(path)]].concat()).stdout();
        assert!(answer.ends_with("\n401"), "{path}: {answer}");
    }
    // The page itself contains nothing about this host.
    for part in ["/", "/page/page.js", "/page/style.css"] {
        let answer = nobody(&[&curl[..], &[&url(part)]].concat()).stdout();
        assert!(answer.ends_with("\n200"), "{part}: {answer}");
        assert!(!answer.contains("secret"));
    }
    // Root's processes need no token, but root's browser does when another site's page makes the request.
    let root = |host_name: &str| {
        let mut command = Command::new(curl[0]);
        command.args(&curl[1..]);
        command.args(["-H", &format!("Host: {host_name}"), &url("/v1/findings")]);
        run(command).stdout()
    };
    // More connections than the rate allows may have been made just before.
    eventually("a response to root", || {
        root("localhost").ends_with("\n200").then_some(())
    });
    for name in ["evil.example", "127.0.0.1.evil.example", "10.0.0.1"] {
        let answer = root(name);
        assert!(answer.ends_with("\n401"), "{name}: {answer}");
    }
    let rebound = Command::new(curl[0])
        .args(["-s", "-w", "\n%{http_code}", "-H"])
        .args([
            &format!("Authorization: Bearer {TOKEN}"),
            &url("/v1/findings"),
        ])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&rebound.stdout).contains("secret.log"));

    // Nor through the socket or the files.
    let socket = host.agent.socket();
    let answer = nobody(&[
        "/usr/bin/curl",
        "-s",
        "--unix-socket",
        socket.to_str().unwrap(),
        "http://agent/v1/findings",
    ]);
    assert_ne!(answer.code, Some(0));
    assert_eq!(answer.stdout(), "");
    let mut kept = vec![host.agent.directory.join("token")];
    kept.extend(files(&host.agent.directory.join("state")));
    assert!(kept.len() > 1, "no history");
    for file in kept {
        let answer = nobody(&["/bin/cat", file.to_str().unwrap()]);
        assert_ne!(answer.code, Some(0), "{}", file.display());
        assert_eq!(answer.output, b"");
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn hostile_names_stay_in_their_fields() {
    if !bpf() {
        return;
    }
    let own = tempfile::tempdir().unwrap();
    let mut puppet = Puppet::start();
    // Set before the agent reads the name: a change of name without exec causes no event.
    puppet.exec(r#"libc.prctl(15, b'x"} 1\n# {"a":', 0, 0, 0)"#);
    let comm = "x\"} 1\n# {\"a\":";
    let host = Host::start();
    let names: [&[u8]; 4] = [
        b"line\n\ndata: {\"type\":\"forged\"}\n\nevent: forged\r\r",
        b"\x1b[2J\x1b]0;title\x07\x9b31m",
        b"bad \xff\xfe\x80 utf",
        b"\",\"severity\":\"critical\",\"x\":\"",
    ];
    let directory = own.path().to_str().unwrap();
    for name in names {
        let hex: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        puppet.exec(&format!(
            "for _ in range(2): os.open(b'{directory}/' + bytes.fromhex('{hex}'), os.O_CREAT | os.O_WRONLY)"
        ));
    }
    // The longest path that the kernel returns, 4,095 bytes and NUL, and a longer one by relative names.
    puppet.exec(&format!("os.chdir('{directory}')"));
    puppet.exec("for _ in range(20): os.mkdir('d' * 195); os.chdir('d' * 195)");
    let rest = 4095 - directory.len() - 20 * 196 - 1;
    for length in [rest, 255] {
        puppet.exec(&format!(
            "for _ in range(2): os.open('f' * {length}, os.O_CREAT | os.O_WRONLY)"
        ));
    }

    // Busy enough to have its own series in Prometheus.
    puppet.exec("more = [os.open('/dev/null', 0) for _ in range(300)]");
    let pid = u64::from(puppet.pid());
    let of_puppet = |finding: &Value| finding["process"]["pid"] == pid;
    let findings = eventually("six findings", || {
        let mut findings = host.agent.findings();
        findings.retain(of_puppet);
        (findings.len() == 6).then_some(findings)
    });
    for name in names {
        let whole = [directory.as_bytes(), b"/", name].concat();
        let lossy = String::from_utf8_lossy(&whole);
        let mut same = findings.iter();
        let finding = same.find(|finding| finding["file"]["path"] == *lossy);
        let finding = finding.unwrap_or_else(|| panic!("no {lossy:?}"));
        assert_eq!(finding["severity"], "warning");
        assert_eq!(finding["process"]["comm"], comm);
        let is_utf8 = str::from_utf8(name).is_ok();
        let hex: String = whole.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(finding["file"]["path_bytes"] == hex, !is_utf8);
    }

    let long = |finding: &&Value| {
        finding["file"]["path"]
            .as_str()
            .is_some_and(|path| path.len() == 4095)
    };
    assert_eq!(findings.iter().filter(long).count(), 1);

    // No newline starts another event, and every event is valid.
    let sse = stream(&host.agent.socket(), "/v1/events?current=true", 6);
    let mut events = 0;
    for line in sse.lines() {
        match line.split_once(": ") {
            Some(("event", kind)) => assert_eq!(kind, "finding"),
            Some(("data", data)) => {
                assert_eq!(parse(data)["type"], "finding");
                events += 1;
            }
            Some(("id", number)) => assert!(number.parse::<u64>().is_ok()),
            _ => assert!(line.is_empty(), "{line:?}"),
        }
        assert!(!line.contains('\r') && !line.contains('\u{1b}'));
    }
    assert!(events >= 6, "{events} events");

    for (path, is_text) in [
        ("/v1/findings?format=text".to_owned(), true),
        (format!("/v1/explain/{pid}?format=text"), true),
        (format!("/v1/processes/{pid}/fds?format=text"), true),
        ("/v1/findings?format=lines".to_owned(), false),
        ("/metrics".to_owned(), true),
    ] {
        let text = host.agent.get(&path).unwrap().text();
        let text = plain(&text);
        let strange = text.chars().find(|&char| char.is_control() && char != '\n');
        assert_eq!(strange, None, "{path}");
        for line in text.lines() {
            if is_text {
                assert!(!line.starts_with("data:"), "{path}: {line}");
                assert!(!line.starts_with("# {\"a\""), "{path}: {line}");
            } else {
                parse(line);
            }
        }
    }
    eventually("the process in a label", || {
        let metrics = host.agent.get("/metrics").unwrap().text();
        metrics.contains(r#"x\"} 1\\n# {\"a\":"#).then_some(())
    });
}

/// Removes fdwatch's colours from text.
fn plain(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap().to_owned();
    for part in parts {
        let (numbers, rest) = part.split_once('m').unwrap_or(("x", part));
        let is_colour = numbers
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b';');
        assert!(is_colour, "{part:?}");
        plain += rest;
    }
    plain
}

/// Reads a stream until it has this many events.
fn stream(socket: &Path, path: &str, events: usize) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let mut piece = [0; 65536];
    loop {
        let length = stream.read(&mut piece).unwrap();
        assert_ne!(length, 0, "it ended");
        bytes.extend(&piece[..length]);
        if !bytes.windows(4).any(|four| four == b"\r\n\r\n") {
            continue;
        }
        let body = agent::answer(&bytes).body;
        let is_whole = body.ends_with(b"\n\n");
        let body = String::from_utf8_lossy(&body).into_owned();
        if is_whole && body.matches("\ndata: ").count() >= events {
            return body;
        }
    }
}
