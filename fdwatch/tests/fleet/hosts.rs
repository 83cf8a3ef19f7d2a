//! A fleet of three agents, each in a network namespace of this machine with a real supervisord; two of these
//! share a misconfiguration.
//!
//! All use one kernel, and BPF is not limited to namespaces: each agent sees the processes of all hosts, and
//! ignores those of others by path rules, which users also have.

use std::{fs, path::Path};

use fdwatch_test_support::{
    Agent, Finished,
    agent::basics,
    bpf, eventually, fdwatch, procfs, program, run,
    supervisord::{self, Supervisord},
    tls::{Authority, OPENSSL},
};
use serde_json::Value;

use crate::clickhouse::Setup;
use crate::network::{Bridge, Host};
use crate::rows::server;

const SHARED: &str = include_str!("../fixtures/supervisord_courier.conf");

/// Common part of the logs' paths; the directory differs by host.
const PATH: &str = "/{host}/app/courier.log";

/// Port of the agents.
const PORT: u16 = 9464;

fn fleet(arguments: &[&str]) -> Finished {
    let finished = run(fdwatch([&["fleet"], arguments].concat()));
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    finished
}

/// Queries supervisord's finding, from the source that the options select.
fn duplicates(of: &[&str]) -> Vec<Value> {
    let found = fleet(&[&["duplicates", "--json"], of].concat());
    assert_eq!(found.code, Some(0), "{}", found.stderr);
    // Shown if the test fails: agents that did not answer.
    print!("{}", found.stderr);
    let mut found = found.json();
    found.retain(|line| line["path"].as_str().is_some_and(|it| it.ends_with(PATH)));
    found
}

/// Starts a host's agent: its API requires a token and TLS, and it writes to a server.
fn agent(host: &Host, directory: &Path, ca: &Authority, url: &str, others: &[String]) -> Agent {
    let own = directory.join(&host.name);
    let (certificate, key) = ca.sign(&host.name, &format!("IP:{}", host.address));
    let others: Vec<_> = others.iter().map(|it| format!("{it}/*")).collect();
    let text = format!(
        "{}listen = [\"{}:{PORT}\"]\ntoken_file = \"{}\"\n\
         tls = {{ certificate = \"{}\", key = \"{}\" }}\n\n[[ignore]]\npath = {others:?}\n\n\
         [fleet]\nurl = \"{url}\"\nspool = \"{}\"\ninterval = \"1s\"\n\
         labels = {{ place = \"netns\", env = \"test\" }}\n",
        basics(&own),
        host.address,
        directory.join("token").display(),
        certificate.display(),
        key.display(),
        own.join("spool").display(),
    );
    fs::write(own.join("agent.toml"), text).unwrap();
    Agent::in_directory_on(&host.prefix(), &own)
}

#[test]
fn shared_misconfiguration_is_one_line() {
    if !bpf() || !supervisord::is_installed() || !program(OPENSSL) {
        return;
    }
    let Some(bridge) = Bridge::of(&["ams-1", "ber-2", "cph-3"]) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let setup = Setup {
        listen: Some(bridge.address()),
        ..Setup::default()
    };
    let Some(server) = server(directory.path(), setup) else {
        return;
    };
    let url = format!("http://{}:{}", bridge.address(), server.port);
    let mended = SHARED.replace("courier.log", "courier-%(process_num)d.log");
    let configurations = [SHARED, SHARED, &mended];
    let begin = |(host, text): (&Host, &str)| {
        let parent = directory.path().join(&host.name);
        fs::create_dir(&parent).unwrap();
        let mut named = tempfile::Builder::new();
        let own = named.prefix("app").rand_bytes(0).tempdir_in(parent);
        Supervisord::on(&host.prefix(), own.unwrap(), text)
    };
    let all = bridge.hosts().iter().zip(configurations);
    let supervisords: Vec<_> = all.map(begin).collect();
    let paths: Vec<_> = supervisords
        .iter()
        .map(|it| it.directory.path().to_str().unwrap().to_owned())
        .collect();
    for (at, supervisord) in supervisords.iter().enumerate() {
        let (log, held) = if at < 2 {
            ("courier.log", 2)
        } else {
            ("courier-1.log", 1)
        };
        let log = supervisord.directory.path().join(log);
        eventually("the logs", || {
            (procfs::held(supervisord.pid(), &log).len() == held).then_some(())
        });
    }
    let ca = Authority::new(&directory.path().join("ca"));
    let token = directory.path().join("token");
    fs::write(&token, "0123456789abcdef0123456789abcdef\n").unwrap();
    let mut agents = Vec::new();
    for host in bridge.hosts() {
        let own = &paths[agents.len()];
        let others: Vec<_> = paths.iter().filter(|it| *it != own).cloned().collect();
        agents.push(agent(host, directory.path(), &ca, &url, &others));
    }

    // From the server.
    let by_server = ["--url", &url];
    let found = eventually("the finding of two hosts", || {
        let found = duplicates(&by_server);
        found
            .first()
            .is_some_and(|it| it["hosts"] == 2)
            .then_some(found)
    });
    assert_eq!(found.len(), 1, "{found:?}");
    let one = &found[0];
    assert_eq!(one["cause"], "shared-config");
    assert_eq!(
        (&one["processes"], &one["findings"]),
        (&2.into(), &2.into())
    );
    assert_eq!(one["descriptors"], 4);
    let three = ["ams-1", "ber-2", "cph-3"];
    eventually("three hosts", || (hosts(&by_server) == three).then_some(()));
    let signature = one["signature"].as_str().unwrap();
    assert_eq!(hosts_of(signature, &by_server), three[..2]);

    // From the agents themselves: outside loopback over TLS, although the addresses have no scheme.
    let addresses = bridge
        .hosts()
        .iter()
        .map(|it| format!("{}:{PORT}", it.address));
    let addresses = addresses.collect::<Vec<_>>().join(",");
    let certificate = ca.certificate();
    let trusting = [
        "--agents",
        &addresses,
        "--ca-file",
        certificate.to_str().unwrap(),
    ];
    let by_agents = [&trusting[..], &["--token-file", token.to_str().unwrap()]].concat();
    // On a busy machine, an agent may stall and not respond.
    let reported = eventually("the finding of two agents", || {
        let reported = duplicates(&by_agents);
        let is_complete = reported.first().is_some_and(|it| it["hosts"] == 2);
        is_complete.then_some(reported)
    });
    assert_eq!(reported.len(), 1, "{reported:?}");
    for key in [
        "signature",
        "hosts",
        "processes",
        "findings",
        "descriptors",
        "path",
        "cause",
    ] {
        assert_eq!(reported[0][key], one[key], "{key}");
    }
    eventually("a response of all agents", || {
        (hosts(&by_agents) == three).then_some(())
    });
    for of in [&by_server[..], &by_agents] {
        let reported = fleet(&[&["hosts", "--json"], of].concat()).json();
        for host in reported {
            assert_ne!(host["mode"], "", "{host}");
            assert_eq!(host["labels"], "env=test,place=netns", "{host}");
        }
    }
    assert_eq!(hosts_of(signature, &by_agents), three[..2]);
    for (without, reason) in [
        (&trusting[..], "status 401"),
        (&["--agents", &addresses][..], "--ca-file"),
    ] {
        let refused = fleet(&[&["hosts"], without].concat());
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        assert!(refused.stderr.contains(reason), "{}", refused.stderr);
        assert!(
            refused.stderr.contains("no agent answered"),
            "{}",
            refused.stderr
        );
    }
    for of in [&by_server[..], &by_agents] {
        for query in [&["duplicates"][..], &["hosts"], &["show", signature]] {
            println!("{}", fleet(&[query, of].concat()).stdout());
        }
    }

    // An agent that is killed and restarted reports the same finding.
    agents[1].process.kill();
    let own = agents[1].directory.clone();
    agents[1] = Agent::in_directory_on(&bridge.hosts()[1].prefix(), &own);
    let runs = "SELECT uniqExact(run) FROM fdwatch.findings WHERE host = 'ber-2'";
    eventually("the finding after the restart", || {
        (server.query(runs) == "2\n").then_some(())
    });
    let again = duplicates(&by_server);
    for key in ["signature", "hosts", "processes", "findings", "descriptors"] {
        assert_eq!(again[0][key], one[key], "{key}");
    }
    for agent in agents {
        let (code, log) = agent.end();
        assert_eq!(code, Some(0), "{log:?}");
    }
}

/// Returns the reporting hosts, by name.
fn hosts(of: &[&str]) -> Vec<String> {
    names(&fleet(&[&["hosts", "--json"], of].concat()).json())
}

/// Returns the hosts of a signature, by name.
fn hosts_of(signature: &str, of: &[&str]) -> Vec<String> {
    let shown = fleet(&[&["show", signature, "--json"], of].concat());
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    names(shown.json()[0]["hosts"].as_array().unwrap())
}

fn names(hosts: &[Value]) -> Vec<String> {
    let names = hosts
        .iter()
        .map(|it| it["host"].as_str().unwrap().to_owned());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}
