//! Starts the agent: the live loop in this thread, the services in others.

use std::{collections::VecDeque, path::Path, sync::Arc};

use anyhow::{Context as _, Result, bail};
use fdwatch_core::{model::Moment, ring::default_ring_bytes};
use fdwatch_events::{time::Clock, wire::Wire};
use fdwatch_host::{
    investigate::{Investigator, Source},
    proc,
};
use fdwatch_options::MaxCpu;
use fdwatch_tracker::{FindingCollector, SignalOrTimeout, Tracker, TrackerOptions, rows::Rows};
use rustc_hash::FxHashMap;
use tokio::sync::mpsc;

use crate::{
    agent_loop::{self, AgentLoop},
    api::{Listeners, State},
    config::Loaded,
    logging, privileges,
    rules::{self, Rules, Thresholds},
    services::{Parts, Services, warn_of},
    state::AgentState,
    stop::StopFile,
};

/// Limit of configurations that wait for the loop.
const MAX_CONFIGS: usize = 4;

/// Runs the agent until a signal or the kill switch stops it. `file` is the configuration to reload on SIGHUP.
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
            "the kill switch is set: remove {} to run the agent again",
            stop.path().display()
        );
    }
    // Fails before programs are loaded if another agent runs or an address is in use.
    let listeners = Listeners::bind(&config.api)?;
    let filter = rules::filter(&config);
    let live = Tracker::start(TrackerOptions {
        ring_bytes: config.watch.ring_bytes.unwrap_or_else(default_ring_bytes),
        all_types: config.watch.all_types,
        max_cpu: MaxCpu(config.watch.max_cpu),
        detail: config.watch.detail,
        pids: Vec::new(),
        family: None,
        nice: Some(config.watch.nice),
        shows_steps: false,
    })?;
    // Before threads are started: capabilities belong to threads.
    let capabilities = privileges::drop_unneeded()?;
    if !capabilities.missing.is_empty() {
        tracing::warn!("missing capabilities: {}", capabilities.missing.join(", "));
    }
    if capabilities.has_admin() {
        tracing::warn!(
            "keeping CAP_SYS_ADMIN, which this kernel requires to open perf events: \
             `sysctl kernel.perf_event_paranoid=2` makes it unnecessary"
        );
    }
    let (shared, incoming) = AgentState::new();
    let (sender, configs) = mpsc::channel(MAX_CONFIGS);
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
    .context("cannot start the services of the agent")?;
    let mut handler = AgentLoop {
        rules: Rules::new(&config),
        thresholds: Thresholds::new(&config),
        watches_pinned: agent_loop::watches_pinned(&config),
        measured: Moment(0),
        config,
        collector: FindingCollector::new(Investigator::new(filter, Source::Live)),
        wire,
        shared,
        incoming,
        configs,
        first_report: Some(services.first_report()),
        stop,
        boot_id: proc::boot_id(),
        known: FxHashMap::default(),
        gone: VecDeque::new(),
        rows: Rows::default(),
        number: 0,
        ignored: 0,
        is_stopped: false,
        requests: Vec::new(),
        new_config: None,
    };
    let result = live.follow(&mut SignalOrTimeout::after(None), &mut handler);
    if handler.is_stopped {
        tracing::warn!(
            "the kill switch is set ({}): detached all programs, exiting",
            handler.stop.path().display()
        );
    }
    services.stop();
    result
}
