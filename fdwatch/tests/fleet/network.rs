//! Simulated hosts: network namespaces of this machine on one bridge, each with its own host name.

use std::process::{Command, id};

use fdwatch_test_support::{program, root, run};

const IP: &str = "/usr/sbin/ip";
const NSENTER: &str = "/usr/bin/nsenter";

/// The bridge between the hosts and the machine.
pub(crate) struct Bridge {
    number: u32,
    hosts: Vec<Host>,
}

/// A host.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) address: String,
    namespace: String,
}

impl Bridge {
    /// Creates hosts with these names; `None` without root or the needed programs.
    pub(crate) fn of(names: &[&str]) -> Option<Self> {
        if !root() || !program(IP) || !program(NSENTER) {
            return None;
        }
        let number = id() % 250;
        let mut bridge = Self {
            number,
            hosts: Vec::new(),
        };
        let name = bridge.name();
        ip(&["link", "add", &name, "type", "bridge"]);
        let own = format!("{}/24", bridge.address());
        ip(&["address", "add", &own, "dev", &name]);
        ip(&["link", "set", &name, "up"]);
        for (at, host) in names.iter().enumerate() {
            let host = Host {
                name: (*host).to_owned(),
                address: format!("10.213.{number}.{}", at + 2),
                namespace: format!("{name}-{at}"),
            };
            let (namespace, end) = (&host.namespace, format!("{name}v{at}"));
            ip(&["netns", "add", namespace]);
            bridge.hosts.push(host.clone());
            let peer = ["type", "veth", "peer", "name", "eth0", "netns"];
            ip(&[&["link", "add", &end][..], &peer, &[namespace]].concat());
            ip(&["link", "set", &end, "master", &name, "up"]);
            let address = format!("{}/24", host.address);
            ip(&["-n", namespace, "address", "add", &address, "dev", "eth0"]);
            ip(&["-n", namespace, "link", "set", "eth0", "up"]);
            ip(&["-n", namespace, "link", "set", "lo", "up"]);
        }
        Some(bridge)
    }

    fn name(&self) -> String {
        format!("fdwatch{}", self.number)
    }

    /// Returns the machine's own address on the bridge.
    pub(crate) fn address(&self) -> String {
        format!("10.213.{}.1", self.number)
    }

    pub(crate) fn hosts(&self) -> &[Host] {
        &self.hosts
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let delete = |arguments: &[&str]| {
            let _ = Command::new(IP).args(arguments).status();
        };
        for host in &self.hosts {
            delete(&["netns", "delete", &host.namespace]);
        }
        delete(&["link", "delete", &self.name()]);
    }
}

impl Host {
    /// Returns the command prefix that runs a program on this host.
    pub(crate) fn prefix(&self) -> Vec<String> {
        let network = format!("--net=/run/netns/{}", self.namespace);
        let named = format!("hostname {} && exec \"$@\"", self.name);
        [
            NSENTER,
            &network,
            "/usr/bin/unshare",
            "--uts",
            "/bin/sh",
            "-c",
            &named,
            "sh",
        ]
        .map(str::to_owned)
        .to_vec()
    }
}

fn ip(arguments: &[&str]) {
    let mut command = Command::new(IP);
    command.args(arguments);
    let done = run(command);
    assert_eq!(done.code, Some(0), "ip {arguments:?}: {}", done.stderr);
}
