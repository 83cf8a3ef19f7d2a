//! `fdwatch top`: the full-screen view.

use std::process::ExitCode;

use anyhow::Result;
use fdwatch_core::diagnose::Severity;
use fdwatch_options::Filters;
#[cfg(feature = "agent")]
use fdwatch_top::AgentConnection;
use fdwatch_top::Options;

#[cfg(feature = "agent")]
use super::remote::Remote;
use crate::cli::Top;

pub(super) fn run(top: &Top) -> Result<ExitCode> {
    let filters = filters(top);
    #[cfg(feature = "agent")]
    let remote = Remote::find(&top.agent)?.filter(|agent| !top.all || agent.follows(&filters));
    fdwatch_top::run(Options {
        filters,
        ring_bytes: top.ring_size.0,
        max_cpu: top.budget.max_cpu,
        #[cfg(feature = "agent")]
        agent: remote.map(|remote| {
            let (client, runtime, pid) = remote.into_parts();
            AgentConnection {
                client,
                runtime,
                pid,
            }
        }),
        #[cfg(not(feature = "agent"))]
        agent: None,
    })
}

fn filters(top: &Top) -> Filters {
    Filters {
        pid: Vec::new(),
        comm: Vec::new(),
        exe: Vec::new(),
        cgroup: Vec::new(),
        unit: Vec::new(),
        container: Vec::new(),
        types: Vec::new(),
        path: Vec::new(),
        min_fds: None,
        severity: top.all.then_some(Severity::Info),
        all: top.all,
    }
}
