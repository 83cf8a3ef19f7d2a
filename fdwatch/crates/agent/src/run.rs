//! Starts the agent: the live loop in this thread, and the services in theirs.

use std::{collections::VecDeque, path::Path, sync::Arc};

use anyhow::{Context as _, Result, bail};
use fdwatch_core::{
    filter::Filter,
    model::{FileType, Moment},
    ring::default_ring_bytes,
};
use fdwatch_events::{time::Clock, wire::Wire};
use fdwatch_host::{
    investigate::{Investigator, Source},
    proc,
};
use fdwatch_options::MaxCpu;
use fdwatch_tracker::{FindingCollector, Live, Stop, Wanted, rows::Rows};
use rustc_hash::FxHashMap;
use tokio::sync::mpsc;

use crate::{
    agent_loop::{self, AgentLoop},
    api::{Listeners, State},
    config::{Config, Loaded},
    logging, privileges,
    rules::{Rules, Thresholds},
    services::{Parts, Services, warn_of},
    state::AgentState,
    stop::StopFile,
};

/// Configurations that wait for the loop.
const CONFIGS: usize = 4;

/// Runs the agent until it is stopped by a signal or the kill switch. `file` is the configuration that is read
/// again on SIGHUP.
///
/// # Errors
///
/// If the kill switch is set, an address is taken, or the programs cannot be loaded.
pub fn run(loaded: Loaded, file: Option<&Path>, log_level: Option<&str>) -> Result<()> {
    let logging = logging::set_up(log_level)?;
    warn_of(&loaded, file);
    let Loaded { config, .. } = loaded;
    let mut stop = StopFile::new(config.watch.stop_file.clone());
    if stop.is_there() {
        bail!(
            "the kill switch is set: remove {} for the agent to run again",
            stop.path().display()
        );
    }
    // Where another agent runs, or an address is taken, nothing is loaded.
    let listeners = Listeners::bind(&config.api)?;
    let filter = filter(&config);
    let live = Live::start(Wanted {
        ring_bytes: config.watch.ring_bytes.unwrap_or_else(default_ring_bytes),
        all_types: config.watch.all_types,
        max_cpu: MaxCpu(config.watch.max_cpu),
        detail: config.watch.detail,
        pids: Vec::new(),
        family: None,
        shows_steps: false,
    })?;
    // Before there are threads.
    let given = privileges::give_up()?;
    if !given.missing.is_empty() {
        tracing::warn!(
            "not all that is needed is permitted: {}",
            given.missing.join(", ")
        );
    }
    if given.has_admin() {
        tracing::warn!(
            "CAP_SYS_ADMIN is kept, as this kernel opens no events without it: after \
             `sysctl kernel.perf_event_paranoid=2` it would be given up"
        );
    }
    let (shared, questions) = AgentState::new();
    let (sender, configs) = mpsc::channel(CONFIGS);
    let clock = Clock::new(proc::wall_time(), proc::boottime());
    let wire = Wire::new(proc::hostname(), clock);
    let state = State::new(Arc::clone(&shared), &config, wire.clone());
    let services = Services::start(Parts {
        config: config.clone(),
        file: file.map(Path::to_owned),
        shared: Arc::clone(&shared),
        listeners,
        state,
        configs: sender,
        logging: Some(logging),
    })
    .context("cannot start the agent's services")?;
    let mut teller = AgentLoop {
        rules: Rules::new(&config),
        thresholds: Thresholds::new(&config),
        watches_pinned: agent_loop::watches_pinned(&config),
        measured: Moment(0),
        config,
        collector: FindingCollector::new(Investigator::new(filter, Source::Live)),
        wire,
        shared,
        questions,
        configs,
        first_told: Some(services.first_told()),
        stop,
        boot_id: proc::boot_id(),
        known: FxHashMap::default(),
        gone: VecDeque::new(),
        rows: Rows::default(),
        number: 0,
        ignored: 0,
        is_stopped: false,
        asked: Vec::new(),
        fresh: None,
    };
    let result = live.follow(&mut Stop::after(None), &mut teller);
    if teller.is_stopped {
        tracing::warn!(
            "the kill switch is set ({}): the programs are out of the kernel, and the agent ends",
            teller.stop.path().display()
        );
    }
    services.stop();
    result
}

/// What is looked for: what rules may make more of is looked for too.
pub(crate) fn filter(config: &Config) -> Filter {
    let types = if config.watch.all_types {
        Vec::new()
    } else {
        vec![FileType::Regular]
    };
    Filter {
        severity: Rules::new(config).least_judged(),
        types,
        ..Filter::default()
    }
}
