//! `fdwatch agent`: always on. Here the loop and the services are put together; neither HTTP nor the
//! disk is dealt with here.

mod agent_loop;
mod measures;
mod stop;

use std::{
    collections::VecDeque,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use rustc_hash::FxHashMap;
use tokio::sync::mpsc;

use self::agent_loop::AgentLoop;
use super::{
    WritingOutput as _,
    live::{FindingCollector, Live, Stop, Wanted},
    rows::Rows,
};
use crate::{
    agent::{
        api::{Listeners, State},
        config::{self, Config, EXAMPLE, Failure, Loaded, load},
        logging, privileges,
        rules::{Rules, Thresholds},
        services::{Parts, Services, warn_of},
        state::AgentState,
        stop::StopFile,
    },
    cli::{Agent, MaxCpu},
    filter::Filter,
    investigate::{Investigator, Source},
    model::{FileType, Moment},
    probe::default_ring_bytes,
    proc,
    report::{Format, Reporter, note, time::Clock},
};

/// Configurations that wait for the loop.
const CONFIGS: usize = 4;

pub(super) fn run(agent: &Agent) -> Result<ExitCode> {
    if agent.print_example {
        io::stdout()
            .write_all(EXAMPLE.as_bytes())
            .writing_output()?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(file) = &agent.check {
        return check(file);
    }
    let loaded = config::load_default(agent.config.as_deref())?;
    if agent.stop {
        return stop::stop(&loaded.config);
    }
    serve(agent, loaded)
}

fn serve(agent: &Agent, loaded: Loaded) -> Result<ExitCode> {
    let logging = logging::set_up(agent.log_level.as_deref())?;
    warn_of(&loaded, agent.config.as_deref());
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
    let reporter = Reporter::new(io::sink(), Format::Json, proc::hostname(), clock);
    let state = State::new(
        Arc::clone(&shared),
        &config,
        reporter.to(io::sink(), Format::Json),
    );
    let services = Services::start(Parts {
        config: config.clone(),
        file: agent.config.clone(),
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
        reporter,
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
    result?;
    Ok(ExitCode::SUCCESS)
}

/// What is looked for: what rules may make more of is looked for too.
fn filter(config: &Config) -> Filter {
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

/// Tells what is wrong in a configuration, a mistake on each line.
fn check(file: &Path) -> Result<ExitCode> {
    let mut output = io::BufWriter::new(io::stdout());
    match load(file) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                note(&format!("warning: {}", warning.of_file(file)));
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(Failure::Wrong { path, mistakes }) => {
            for mistake in &mistakes {
                writeln!(output, "{}", mistake.of_file(&path)).writing_output()?;
            }
            output.flush().writing_output()?;
            Ok(ExitCode::from(1))
        }
        Err(error @ Failure::Unreadable { .. }) => Err(error.into()),
    }
}
