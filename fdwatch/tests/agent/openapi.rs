//! The API matches its OpenAPI document: schemathesis sends valid and invalid requests, and real responses
//! are validated field by field.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
};

use fdwatch_test_support::{
    DEADLINE, Puppet,
    agent::{self, Agent},
    bpf, eventually, parse, program, run,
};
use serde_json::{Value, json};

const TOKEN: &str = "5f0c1b7d9e3a48f2a6d4c8b0e1f7293a";

/// Configuration of schemathesis: the filters of `/v1/findings` accept every valid glob, also those that the
/// document's patterns do not list. All other paths must reject what the document does not allow.
const ACCEPTS_OTHER_GLOBS: &str = "\
[[operations]]
include-path = \"/v1/findings\"
checks.negative_data_rejection.enabled = false
";

/// Requests of each kind that schemathesis generates per path.
const EXAMPLES: &str = "30";

/// Returns a program in the Python environment of xtask.
fn python(name: &str) -> Option<PathBuf> {
    // The directory that cargo provides for tests is in the target directory.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?;
    let python = target.join("python/bin").join(name);
    program(python.to_str()?).then_some(python)
}

/// Starts an agent and a process with findings.
fn agent_and_puppet() -> (Agent, u16, Puppet) {
    let port = agent::free_port();
    let own = tempfile::tempdir().unwrap().keep();
    let threshold = "\n[[threshold]]\nof = \"descriptors\"\nabove = 50\ncomm = \"python3\"\n";
    let config = agent::basics(&own) + &agent::on_loopback(&own, port, TOKEN) + threshold;
    fs::write(own.join("agent.toml"), config).unwrap();
    let agent = Agent::in_directory(&own);
    let mut puppet = Puppet::start();
    let path = own.join("twice\n\"é.log");
    puppet.open(&path, "WRONLY|CREAT");
    let fd = puppet.open(&path, "RDWR");
    puppet.exec(&format!("os.dup({fd}); os.unlink({})", json!(path)));
    puppet.exec("more = [os.open('/dev/null', 0) for _ in range(60)]");
    agent.finding_on(&path);
    (agent, port, puppet)
}

#[test]
fn api_matches_openapi_document() {
    if !bpf() {
        return;
    }
    let Some(schemathesis) = python("st") else {
        return;
    };
    let (agent, port, puppet) = agent_and_puppet();
    let own = agent.directory.clone();
    // Once for process ids that hardly ever exist, once for one that does.
    for parameters in [
        String::new(),
        format!("[parameters]\n\"path.pid\" = {}\n", puppet.pid()),
    ] {
        let configuration = parameters + ACCEPTS_OTHER_GLOBS;
        fs::write(own.join("schemathesis.toml"), configuration).unwrap();
        let mut command = Command::new(&schemathesis);
        command.current_dir(&own).args([
            "run",
            &format!("http://127.0.0.1:{port}/v1/openapi.json"),
            "--header",
            &format!("Authorization: Bearer {TOKEN}"),
            // This stream does not end.
            "--exclude-path",
            "/v1/events",
            "--checks",
            "all",
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            EXAMPLES,
            "--seed",
            "1",
            "--request-timeout",
            "30",
            "--generation-database",
            "none",
            "--no-color",
        ]);
        let finished = run(command);
        let message = finished.stdout();
        assert_eq!(finished.code, Some(0), "{message}{}", finished.stderr);
        assert!(message.contains("generated"), "{message}");
    }
    assert_eq!(agent.json("/v1/health")["status"], "ok");
    drop(agent);
    fs::remove_dir_all(own).unwrap();
}

/// Reads current and new events of `/v1/events`.
fn events(agent: &Agent, puppet: &mut Puppet) -> Vec<Value> {
    let mut stream = UnixStream::connect(agent.socket()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
        .write_all(b"GET /v1/events?current=true&format=lines&all=true HTTP/1.0\r\nHost: x\r\n\r\n")
        .unwrap();
    let path = agent.directory.join("later.log");
    puppet.open(&path, "WRONLY|CREAT");
    let fd = puppet.open(&path, "WRONLY");
    puppet.close(fd);
    let lines = BufReader::new(stream).lines();
    let lines = lines
        .map(Result::unwrap)
        .skip_while(|line| !line.is_empty());
    let mut events = Vec::new();
    for line in lines.filter(|line| line.starts_with('{')) {
        let event = parse(&line);
        let is_last = event["change"] == "gone"
            && event["file"]["path"].as_str() == Some(path.to_str().unwrap());
        events.push(event);
        if is_last {
            break;
        }
    }
    events
}

#[test]
fn responses_have_exactly_documented_fields() {
    if !bpf() {
        return;
    }
    let (agent, _, mut puppet) = agent_and_puppet();
    let pid = puppet.pid();
    eventually("a threshold that was crossed", || {
        let is_one = |finding: &Value| finding["type"] == "threshold";
        agent.findings().iter().any(is_one).then_some(())
    });
    // `parse` validates each object against the schema of its type.
    for (form, path) in [
        ("findings", "/v1/findings?all=true".to_owned()),
        ("processes", "/v1/processes".to_owned()),
        ("table", format!("/v1/processes/{pid}/fds")),
        ("explanation", format!("/v1/explain/{pid}")),
        ("health", "/v1/health".to_owned()),
        ("summary", "/v1/summary".to_owned()),
        ("version", "/v1/version".to_owned()),
        ("written", "/v1/written".to_owned()),
    ] {
        assert_eq!(agent.json(&path)["type"], form, "{path}");
    }
    for refused in ["/v1/findings?nonsense=1", "/v1/explain/0", "/nowhere"] {
        let answer = agent.get(refused).unwrap().json();
        assert_eq!(answer["type"], "error", "{refused}");
    }
    let events = events(&agent, &mut puppet);
    let kinds: Vec<_> = events.iter().map(|event| &event["type"]).collect();
    for kind in ["started", "finding", "threshold"] {
        assert!(kinds.iter().any(|it| *it == kind), "{kinds:?}");
    }
    let own = agent.directory.clone();
    drop(agent);
    fs::remove_dir_all(own).unwrap();
}
