//! The agent: findings and rules, reloads, restarts, the kill switch, and commands that query it.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, chown},
    path::Path,
    process::{Command, Stdio},
};

use fdwatch_test_support::{
    Agent, Guard, Puppet, agent::basics, bpf, eventually, fdwatch, is_root, lines::Lines, parse,
    run,
};
use serde_json::Value;

/// Opens a file twice for writing and returns both descriptors.
fn open_twice(puppet: &mut Puppet, path: &Path) -> [u32; 2] {
    [(); 2].map(|()| puppet.open(path, "WRONLY|CREAT"))
}

fn fds(finding: &Value) -> Vec<u64> {
    let fds = finding["fds"].as_array().expect("not a list");
    fds.iter().filter_map(|fd| fd["fd"].as_u64()).collect()
}

fn configure(agent: &Agent, more: &str) {
    let text = format!("{}{more}", basics(&agent.directory));
    fs::write(agent.directory.join("agent.toml"), text).expect("cannot write a file");
}

#[test]
fn duplicate_is_found_changed_and_gone() {
    if !bpf() {
        return;
    }
    let agent = Agent::start("");
    let mut puppet = Puppet::start();
    let path = agent.directory.join("twice.log");
    let held = open_twice(&mut puppet, &path);
    let finding = agent.finding_on(&path);
    assert_eq!(finding["type"], "finding");
    assert_eq!(finding["change"], "found");
    assert_eq!(finding["process"]["pid"], puppet.pid());
    assert_eq!(fds(&finding), held.map(u64::from));
    assert_eq!(finding["key"].as_str().map(str::len), Some(32));
    assert!(finding["since"].is_string());
    let third = puppet.open(&path, "RDONLY");
    let changed = eventually("three descriptors", || {
        Some(agent.finding_on(&path)).filter(|finding| fds(finding).len() == 3)
    });
    assert_eq!(changed["change"], "changed");
    assert_eq!(changed["key"], finding["key"]);
    assert_eq!(changed["since"], finding["since"]);
    for fd in held.into_iter().chain([third]) {
        puppet.close(fd);
    }
    agent.none_on(&path);
    let health = agent.json("/v1/health");
    assert_eq!(health["lost"], 0, "{health}");
    assert_eq!(health["status"], "ok", "{health}");
    let (code, message) = agent.end();
    assert_eq!(code, Some(0), "{message:?}");
}

#[test]
fn gone_duplicate_is_in_history() {
    if !bpf() {
        return;
    }
    let directory = tempfile::tempdir().expect("cannot create a directory");
    let toml = directory.path().join("agent.toml");
    fs::write(&toml, basics(directory.path())).expect("cannot write a file");
    let path = directory.path().join("kept.log");
    let history = || {
        let database = directory.path().join("state/history.db");
        let mut command = fdwatch(["history", "--json", "--database"]);
        command.arg(database).arg("--path").arg(&path);
        run(command).json()
    };
    let mut puppet = Puppet::start();
    let held = open_twice(&mut puppet, &path);
    let agent = Agent::in_directory(directory.path());
    let key = agent.finding_on(&path)["key"].clone();
    // A busy host may not write it within the second that the agent has at its end.
    eventually("the finding in the history", || {
        (!history().is_empty()).then_some(())
    });
    agent.end();
    let before = history();
    assert_eq!(before.len(), 1, "{before:?}");

    // Another agent gives the same duplicate the same key.
    let agent = Agent::in_directory(directory.path());
    assert_eq!(agent.finding_on(&path)["key"], key);
    puppet.close(held[1]);
    agent.none_on(&path);
    eventually("its end in the history", || {
        (history().first()?["ended"] != Value::Null).then_some(())
    });
    agent.end();
    let after = history();
    assert_eq!(after.len(), 1, "{after:?}");
    assert_ne!(after[0]["ended"], Value::Null, "{after:?}");
}

#[test]
fn reload_applies_rules_and_keeps_model() {
    if !bpf() {
        return;
    }
    let agent = Agent::start("");
    let mut puppet = Puppet::start();
    let path = agent.directory.join("ruled.log");
    open_twice(&mut puppet, &path);
    let finding = agent.finding_on(&path);
    assert_eq!(finding["severity"], "warning");
    assert_eq!(finding["fds"][0]["origin"], "openat");

    configure(&agent, "\n[[ignore]]\npath = \"*/ruled.log\"\n");
    agent.process.signal(libc::SIGHUP);
    agent.none_on(&path);
    // Logged at level info, the default.
    let mut message = std::iter::from_fn(|| agent.log.next());
    assert!(message.any(|line| line.contains("reloaded the configuration")));

    configure(
        &agent,
        "\n[[severity]]\npath = \"*/ruled.log\"\nseverity = \"critical\"\n",
    );
    agent.process.signal(libc::SIGHUP);
    let again = agent.finding_on(&path);
    assert_eq!(again["severity"], "critical");
    assert_eq!(again["key"], finding["key"]);
    // A snapshot cannot show this.
    assert_eq!(again["fds"][0]["origin"], "openat");

    configure(&agent, "\n[watch]\nseverty = \"info\"\n");
    agent.process.signal(libc::SIGHUP);
    let mut message = std::iter::from_fn(|| agent.log.next());
    assert!(message.any(|line| line.contains("keeping the previous configuration")));
    assert_eq!(agent.finding_on(&path)["severity"], "critical");
}

#[test]
fn threshold_is_reported_until_cleared() {
    if !bpf() {
        return;
    }
    let mut puppet = Puppet::start();
    let pid = puppet.pid();
    let agent = Agent::start(
        "\n[[threshold]]\nof = \"descriptors\"\nabove = 100\ncomm = \"python3*\"\nseverity = \"critical\"\n",
    );
    puppet.exec("held = [open('/etc/hostname') for _ in range(150)]");
    let threshold = || {
        let mut findings = agent.findings().into_iter();
        findings
            .find(|reported| reported["type"] == "threshold" && reported["process"]["pid"] == pid)
    };
    let reported = eventually("the threshold event", threshold);
    assert_eq!(reported["of"], "descriptors");
    assert_eq!(reported["severity"], "critical");
    assert!(
        reported["value"]
            .as_f64()
            .is_some_and(|value| value >= 150.0)
    );
    puppet.exec("for it in held: it.close()");
    eventually("the end of the threshold", || {
        threshold().is_none().then_some(())
    });
}

#[test]
fn stop_file_of_root_only_stops_agent() {
    if !bpf() {
        return;
    }
    let mut agent = Agent::start("");
    let stop = agent.directory.join("stop");
    fs::write(&stop, "").expect("cannot write a file");
    // Root's file stops it at once, so another user's file is there before the agent checks the path.
    fs::remove_file(&stop).expect("cannot remove a file");
    let others = agent.directory.join("others");
    fs::write(&others, "").expect("cannot write a file");
    chown(&others, Some(65_534), None).expect("cannot change the owner");
    fs::rename(&others, &stop).expect("cannot rename a file");
    let warned =
        std::iter::from_fn(|| agent.log.next()).any(|line| line.contains("not owned by root"));
    assert!(warned);
    assert!(agent.get("/v1/health").is_ok());
    fs::remove_file(&stop).expect("cannot remove a file");

    let toml = agent.directory.join("agent.toml");
    let mut command = fdwatch(["agent", "--stop", "--config"]);
    command.arg(&toml);
    let stopped = run(command);
    assert_eq!(stopped.code, Some(0), "{}", stopped.stderr);
    assert!(
        stopped.stderr.contains("the agent stopped after"),
        "{}",
        stopped.stderr
    );
    // It has ended, not only stopped to answer.
    let ended = agent.process.0.try_wait().expect("cannot wait for a child");
    assert_eq!(ended.and_then(|status| status.code()), Some(0));
    assert_eq!(fs::metadata(&stop).map(|file| file.uid()).ok(), Some(0));

    let mut command = fdwatch(["agent", "--config"]);
    command.arg(&toml);
    let refused = run(command);
    assert!(
        refused.error().contains("kill switch"),
        "{}",
        refused.stderr
    );
}

#[test]
fn stop_waits_for_agent_without_socket() {
    if !bpf() {
        return;
    }
    let directory = tempfile::tempdir().expect("cannot create a directory");
    let stop = |config: &str| {
        fs::write(directory.path().join("agent.toml"), config).expect("cannot write a file");
        let mut command = fdwatch(["agent", "--stop", "--config", "agent.toml"]);
        command.current_dir(directory.path());
        run(command)
    };
    let config = basics(directory.path());
    let (before, _) = config.split_once("socket = ").expect("no socket");
    let config = format!("{before}socket = false\n");
    let switch = directory.path().join("stop");

    let none = stop(&config);
    assert_eq!(none.code, Some(0), "{}", none.stderr);
    assert!(
        none.stderr.contains("no agent is running"),
        "{}",
        none.stderr
    );
    fs::remove_file(&switch).expect("no kill switch");

    // Even while it starts.
    for is_following in [true, false] {
        let mut agent = Agent::spawn(directory.path());
        if is_following {
            let mut message = std::iter::from_fn(|| agent.log.next());
            assert!(message.any(|line| line.contains("watching")));
        }
        let stopped = stop(&config);
        assert_eq!(stopped.code, Some(0), "{}", stopped.stderr);
        let ended = agent.process.0.try_wait().expect("cannot wait for a child");
        assert!(ended.is_some(), "still running: {}", stopped.stderr);
        assert!(
            stopped.stderr.contains("the agent stopped after"),
            "{}",
            stopped.stderr
        );
        fs::remove_file(&switch).expect("no kill switch");
    }
}

#[test]
fn second_agent_is_refused_unless_first_died() {
    if !bpf() {
        return;
    }
    let mut agent = Agent::start("");
    let mut command = fdwatch(["agent", "--config"]);
    command.arg(agent.directory.join("agent.toml"));
    assert!(run(command).error().contains("another agent is listening"));
    agent.process.kill();
    assert!(agent.socket().exists());
    let next = Agent::in_directory(&agent.directory);
    let mode = fs::metadata(next.socket()).expect("no socket").mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn public_listener_requires_token_and_tls() {
    let directory = tempfile::tempdir().expect("cannot create a directory");
    let toml = directory.path().join("agent.toml");
    let text = format!("{}listen = [\"0.0.0.0:0\"]\n", basics(directory.path()));
    fs::write(&toml, text).expect("cannot write a file");
    let mut command = fdwatch(["agent", "--config"]);
    command.arg(&toml);
    let refused = run(command);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("tls"), "{}", refused.stderr);
    assert!(refused.stderr.contains("token_file"), "{}", refused.stderr);
}

#[test]
fn commands_query_the_agent() {
    if !bpf() {
        return;
    }
    let agent = Agent::start("");
    let mut puppet = Puppet::start();
    let path = agent.directory.join("queried.log");
    let held = open_twice(&mut puppet, &path);
    agent.finding_on(&path);
    let pid = puppet.pid().to_string();
    let query = |arguments: &[&str]| {
        let mut command = fdwatch(arguments);
        command.env("FDWATCH_AGENT", agent.socket());
        run(command)
    };
    let mut command = fdwatch(["watch", "--json", "--pid", &pid]);
    command.env("FDWATCH_AGENT", agent.socket());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut watching = Guard::spawn(&mut command);
    let message = Lines::of(watching.0.stderr.take().expect("the pipe was requested"));
    let lines = Lines::of(watching.0.stdout.take().expect("the pipe was requested"));
    let message = message.next().unwrap_or_default();
    assert!(message.contains("through the agent"), "{message}");
    let next = || parse(&lines.next().expect("no line"))["type"].clone();
    assert_eq!([next(), next()], ["started", "finding"]);
    watching.signal(libc::SIGINT);
    assert_eq!(next(), "summary");
    assert_eq!(watching.wait(), Some(0));

    let shown = query(&["fds", &pid, "--json"]);
    let table = &shown.json()[0];
    let row = table["fds"].as_array().expect("not a list").iter();
    let mut row = row.filter(|row| row["fd"] == held[0]);
    // `--proc` cannot show the origin.
    assert_eq!(row.next().expect("no descriptor")["origin"], "openat");

    let explained = query(&["explain", &pid, path.to_str().expect("not UTF-8")]);
    assert_eq!(explained.code, Some(0), "{}", explained.stderr);
    assert!(
        explained.stdout().contains("(writing) opened by openat"),
        "{}",
        explained.stdout()
    );
    let none = query(&["explain", &pid, "999"]);
    assert!(
        none.error().contains("no such descriptor in process"),
        "{}",
        none.stderr
    );

    // A process that the agent does not follow is watched directly.
    let all = query(&[
        "watch",
        "--all",
        "--pid",
        &pid,
        "--json",
        "--duration",
        "1s",
    ]);
    assert!(
        all.stderr.contains("loading BPF programs instead"),
        "{}",
        all.stderr
    );
    assert_eq!(all.code, Some(0));
}

#[test]
fn other_fdwatch_is_not_reported() {
    if !bpf() {
        return;
    }
    let agent = Agent::start("");
    let pid = agent.process.pid();
    let held = || {
        let table = run(fdwatch(["fds", &pid.to_string(), "--json"])).json();
        let rows = table[0]["fds"].as_array().expect("not a list").clone();
        let name = |row: &&Value| row.to_string().contains("history.db\"");
        rows.iter().filter(name).count()
    };
    eventually("an open history", || (held() > 1).then_some(()));
    let reported = |more: &[&str]| {
        let scanned = run(fdwatch([&["scan", "--all", "--json"], more].concat()));
        let lines = scanned.json();
        let findings = lines.iter().filter(|line| line["process"]["pid"] == pid);
        findings.count()
    };
    assert_eq!(reported(&[]), 0);
    // Unless it is selected by a filter.
    assert!(reported(&["--pid", &pid.to_string()]) > 0);
    assert!(reported(&["--comm", "fdwatch"]) > 0);
}

#[test]
fn fleet_queries_work_on_agents() {
    if !bpf() {
        return;
    }
    let agent = Agent::start("");
    let mut puppet = Puppet::start();
    let path = agent.directory.join("worker-17.log");
    open_twice(&mut puppet, &path);
    agent.finding_on(&path);
    let query = |name: &str| {
        let mut command = fdwatch(["fleet", name, "--json", "--agents"]);
        command.arg(agent.socket());
        let answered = run(command);
        assert_eq!(answered.code, Some(0), "{}", answered.stderr);
        answered.json()
    };
    let found = query("duplicates");
    let mut found = found.iter().filter(|it| {
        let of = it.to_string();
        of.contains("worker-{n}.log")
    });
    let bug = found.next().expect("no finding with this path template");
    assert_eq!(bug["hosts"], 1);
    let hosts = query("hosts");
    assert_eq!(hosts[0]["version"], env!("CARGO_PKG_VERSION"));
    assert!(hosts[0]["memory"].as_u64().is_some_and(|bytes| bytes > 0));
}

#[test]
fn named_agent_must_answer() {
    let mut command = fdwatch(["fds", "1"]);
    command.env("FDWATCH_AGENT", "/nonexistent/agent.sock");
    assert!(run(command).error().contains("no agent is listening"));
}

#[test]
fn missing_btf_or_namespace_is_reported() {
    if !is_root() || !bpf() {
        return;
    }
    let directory = tempfile::tempdir().expect("cannot create a directory");
    let toml = directory.path().join("agent.toml");
    fs::write(&toml, basics(directory.path())).expect("cannot write a file");
    let refused = |unshare: &[&str], before: &str| {
        let mut command = Command::new("unshare");
        command.args(unshare).args([
            "sh",
            "-c",
            &format!(
                "{before} exec {} agent --config {}",
                env!("CARGO_BIN_EXE_fdwatch"),
                toml.display()
            ),
        ]);
        run(command)
    };
    let namespace = refused(&["--pid", "--fork", "--mount-proc"], "");
    assert!(
        namespace.error().contains("pid namespace"),
        "{}",
        namespace.stderr
    );
    let btf = refused(
        &["--mount"],
        "mount --bind /dev/null /sys/kernel/btf/vmlinux &&",
    );
    assert!(btf.error().contains("BTF"), "{}", btf.stderr);
    let lockdown = refused(
        &["--mount"],
        "mount -t tmpfs none /sys/kernel/security && echo 'none integrity [confidentiality]' >/sys/kernel/security/lockdown &&",
    );
    assert!(lockdown.error().contains("lockdown"), "{}", lockdown.stderr);
}
