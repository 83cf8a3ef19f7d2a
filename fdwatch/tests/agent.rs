//! The agent: what it finds, by the rules; what becomes of it over reloads, restarts and the kill
//! switch; and commands that ask it.

mod common;

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, chown},
    path::Path,
    process::Command,
};

use serde_json::Value;

use common::{Agent, Puppet, agent::basics, bpf, eventually, fdwatch, is_root, run};

/// Opens a file twice for writing, and gives both descriptors.
fn open_twice(puppet: &mut Puppet, path: &Path) -> [u32; 2] {
    [(); 2].map(|()| puppet.open(path, "WRONLY|CREAT"))
}

fn fds(finding: &Value) -> Vec<u64> {
    let fds = finding["fds"].as_array().expect("a list");
    fds.iter().filter_map(|fd| fd["fd"].as_u64()).collect()
}

fn configure(agent: &Agent, more: &str) {
    let text = format!("{}{more}", basics(&agent.directory));
    fs::write(agent.directory.join("agent.toml"), text).expect("a file can be written");
}

#[test]
fn a_duplicate_comes_changes_and_goes() {
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
    let (code, said) = agent.end();
    assert_eq!(code, Some(0), "{said:?}");
}

#[test]
fn what_came_and_went_is_in_the_history() {
    if !bpf() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory can be made");
    let toml = directory.path().join("agent.toml");
    fs::write(&toml, basics(directory.path())).expect("a file can be written");
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
    agent.end();
    let before = history();
    assert_eq!(before.len(), 1, "{before:?}");

    // The same duplicate, found by another agent, is the same.
    let agent = Agent::in_directory(directory.path());
    assert_eq!(agent.finding_on(&path)["key"], key);
    puppet.close(held[1]);
    agent.none_on(&path);
    agent.end();
    let after = history();
    assert_eq!(after.len(), 1, "{after:?}");
    assert_ne!(after[0]["ended"], Value::Null, "{after:?}");
}

#[test]
fn rules_hold_from_a_reload_on_and_the_model_stays() {
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

    configure(
        &agent,
        "\n[[severity]]\npath = \"*/ruled.log\"\nseverity = \"critical\"\n",
    );
    agent.process.signal(libc::SIGHUP);
    let again = agent.finding_on(&path);
    assert_eq!(again["severity"], "critical");
    assert_eq!(again["key"], finding["key"]);
    // A snapshot would not know.
    assert_eq!(again["fds"][0]["origin"], "openat");

    configure(&agent, "\n[watch]\nseverty = \"info\"\n");
    agent.process.signal(libc::SIGHUP);
    let mut said = std::iter::from_fn(|| agent.log.next());
    assert!(said.any(|line| line.contains("as it was")));
    assert_eq!(agent.finding_on(&path)["severity"], "critical");
}

#[test]
fn who_is_beyond_a_threshold_is_told_until_that_is_over() {
    if !bpf() {
        return;
    }
    let mut puppet = Puppet::start();
    let pid = puppet.pid();
    let agent = Agent::start(
        "\n[[threshold]]\nof = \"descriptors\"\nabove = 100\ncomm = \"python3*\"\nseverity = \"critical\"\n",
    );
    puppet.tell("held = [open('/etc/hostname') for _ in range(150)]");
    let beyond = || {
        let mut findings = agent.findings().into_iter();
        findings.find(|told| told["type"] == "threshold" && told["process"]["pid"] == pid)
    };
    let told = eventually("the threshold to be told", beyond);
    assert_eq!(told["of"], "descriptors");
    assert_eq!(told["severity"], "critical");
    assert!(told["value"].as_f64().is_some_and(|value| value >= 150.0));
    puppet.tell("for it in held: it.close()");
    eventually("it to be over", || beyond().is_none().then_some(()));
}

#[test]
fn the_kill_switch_is_roots_alone() {
    if !bpf() {
        return;
    }
    let mut agent = Agent::start("");
    let stop = agent.directory.join("stop");
    fs::write(&stop, "").expect("a file can be written");
    // By root it ends at once; so first it is another's, before the agent may look.
    fs::remove_file(&stop).expect("a file can be removed");
    let others = agent.directory.join("others");
    fs::write(&others, "").expect("a file can be written");
    chown(&others, Some(65_534), None).expect("root may give files away");
    fs::rename(&others, &stop).expect("a file can be renamed");
    let warned =
        std::iter::from_fn(|| agent.log.next()).any(|line| line.contains("does not belong"));
    assert!(warned);
    assert!(agent.get("/v1/health").is_ok());
    fs::remove_file(&stop).expect("a file can be removed");

    let toml = agent.directory.join("agent.toml");
    let mut command = fdwatch(["agent", "--stop", "--config"]);
    command.arg(&toml);
    let stopped = run(command);
    assert_eq!(stopped.code, Some(0), "{}", stopped.stderr);
    assert!(
        stopped.stderr.contains("the agent has ended"),
        "{}",
        stopped.stderr
    );
    assert_eq!(agent.process.wait(), Some(0));
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
fn only_one_agent_has_a_socket_and_one_that_was_killed_is_replaced() {
    if !bpf() {
        return;
    }
    let mut agent = Agent::start("");
    let mut command = fdwatch(["agent", "--config"]);
    command.arg(agent.directory.join("agent.toml"));
    assert!(run(command).error().contains("another agent answers"));
    agent.process.kill();
    assert!(agent.socket().exists());
    let next = Agent::in_directory(&agent.directory);
    let mode = fs::metadata(next.socket())
        .expect("the socket is there")
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn beyond_loopback_it_refuses_to_be_open() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let toml = directory.path().join("agent.toml");
    let text = format!("{}listen = [\"0.0.0.0:0\"]\n", basics(directory.path()));
    fs::write(&toml, text).expect("a file can be written");
    let mut command = fdwatch(["agent", "--config"]);
    command.arg(&toml);
    let refused = run(command);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("tls"), "{}", refused.stderr);
    assert!(refused.stderr.contains("token_file"), "{}", refused.stderr);
}

#[test]
fn commands_ask_the_agent() {
    if !bpf() {
        return;
    }
    let agent = Agent::start("");
    let mut puppet = Puppet::start();
    let path = agent.directory.join("asked.log");
    let held = open_twice(&mut puppet, &path);
    agent.finding_on(&path);
    let pid = puppet.pid().to_string();
    let ask = |arguments: &[&str]| {
        let mut command = fdwatch(arguments);
        command.env("FDWATCH_AGENT", agent.socket());
        run(command)
    };
    let watched = ask(&["watch", "--json", "--pid", &pid, "--duration", "1s"]);
    assert_eq!(watched.code, Some(0), "{}", watched.stderr);
    assert!(
        watched.stderr.contains("through the agent"),
        "{}",
        watched.stderr
    );
    let lines = watched.json();
    let types: Vec<_> = lines
        .iter()
        .filter_map(|line| line["type"].as_str())
        .collect();
    assert_eq!(types, ["started", "finding", "summary"]);

    let shown = ask(&["fds", &pid, "--json"]);
    let table = &shown.json()[0];
    let row = table["fds"].as_array().expect("a list").iter();
    let mut row = row.filter(|row| row["fd"] == held[0]);
    // A look would not know.
    assert_eq!(row.next().expect("the descriptor")["origin"], "openat");

    let explained = ask(&["explain", &pid, path.to_str().expect("UTF-8")]);
    assert_eq!(explained.code, Some(0), "{}", explained.stderr);
    assert!(
        explained.stdout().contains("made by openat"),
        "{}",
        explained.stdout()
    );
    let none = ask(&["explain", &pid, "999"]);
    assert!(
        none.error().contains("has no descriptor 999"),
        "{}",
        none.stderr
    );

    // What the agent does not follow, watch does itself.
    let all = ask(&[
        "watch",
        "--all",
        "--pid",
        &pid,
        "--json",
        "--duration",
        "1s",
    ]);
    assert!(all.stderr.contains("watching without it"), "{}", all.stderr);
    assert_eq!(all.code, Some(0));
}

#[test]
fn questions_about_many_hosts_may_be_asked_of_agents() {
    if !bpf() {
        return;
    }
    let agent = Agent::start("");
    let mut puppet = Puppet::start();
    let path = agent.directory.join("worker-17.log");
    open_twice(&mut puppet, &path);
    agent.finding_on(&path);
    let ask = |question: &str| {
        let mut command = fdwatch(["fleet", question, "--json", "--agents"]);
        command.arg(agent.socket());
        let answered = run(command);
        assert_eq!(answered.code, Some(0), "{}", answered.stderr);
        answered.json()
    };
    let found = ask("duplicates");
    let mut found = found.iter().filter(|it| {
        let of = it.to_string();
        of.contains("worker-{n}.log")
    });
    let bug = found.next().expect("the bug, by the template of its path");
    assert_eq!(bug["hosts"], 1);
    let hosts = ask("hosts");
    assert_eq!(hosts[0]["version"], env!("CARGO_PKG_VERSION"));
    assert!(hosts[0]["memory"].as_u64().is_some_and(|bytes| bytes > 0));
}

#[test]
fn an_agent_that_is_named_must_answer() {
    let mut command = fdwatch(["fds", "1"]);
    command.env("FDWATCH_AGENT", "/nonexistent/agent.sock");
    assert!(run(command).error().contains("no agent answers"));
}

#[test]
fn it_says_what_is_missing_in_another_pid_namespace_and_without_btf() {
    if !is_root() || !bpf() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory can be made");
    let toml = directory.path().join("agent.toml");
    fs::write(&toml, basics(directory.path())).expect("a file can be written");
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
