//! The services of the agent besides the live loop, on one thread that never delays it.
//!
//! A reload of the configuration (SIGHUP) restarts them; events that arrive meanwhile wait in the sinks.

use std::{
    path::{Path, PathBuf},
    rc::Rc,
    sync::{Arc, mpsc as blocking},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    task::{JoinSet, LocalSet},
    time::{Instant, interval, timeout},
};

use super::{
    alerts,
    api::{Listeners, State},
    config::{self, Config, Loaded},
    history::{self, History},
    logging::Logging,
    otlp,
    sink::{Sink, SinkStats},
    state::AgentState,
    systemd,
};
use crate::exporter;
use fdwatch_core::plural::counted;
use fdwatch_events::event::Event;
use fdwatch_host::proc;
use fdwatch_tracker::priority;

/// Limit of events that wait in each sink.
const MAX_QUEUED: usize = 16_384;

/// Interval at which counts are passed to the history: the time that curves cover.
const COUNT_INTERVAL: Duration = Duration::from_secs(300);

/// Time in which services must stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Everything that services need.
pub struct Parts {
    /// The configuration.
    pub config: Config,
    /// Its file, if given.
    pub file: Option<PathBuf>,
    /// The state shared with the live loop.
    pub shared: Arc<AgentState>,
    /// The sockets of the API.
    pub listeners: Listeners,
    /// The data that its handlers share.
    pub state: State,
    /// Receives reloaded configurations.
    pub configs: mpsc::Sender<Config>,
    /// The log, whose folded messages are flushed.
    pub logging: Option<Logging>,
}

/// The running services.
pub struct Services {
    end: watch::Sender<bool>,
    first_report: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Services {
    /// Starts the services.
    ///
    /// # Errors
    ///
    /// If no thread, runtime or signal handler can be created.
    pub fn start(parts: Parts) -> Result<Self> {
        let (end, ends) = watch::channel(false);
        let (first_report, first) = watch::channel(false);
        let (started, start_result) = blocking::channel();
        let thread = thread::Builder::new()
            .name("services".to_owned())
            .spawn(move || {
                priority::lower();
                let runtime = runtime::Builder::new_current_thread()
                    .enable_all()
                    .max_blocking_threads(4)
                    .build();
                let runtime = match runtime.context("cannot start the runtime") {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        let _ = started.send(Err(error));
                        return;
                    }
                };
                let local = LocalSet::new();
                local.block_on(&runtime, async {
                    let hangups = signal(SignalKind::hangup()).context("cannot listen for signals");
                    match hangups {
                        Ok(hangups) => {
                            let _ = started.send(Ok(()));
                            run(parts, hangups, ends, first).await;
                        }
                        Err(error) => {
                            let _ = started.send(Err(error));
                        }
                    }
                });
                runtime.shutdown_background();
            })
            .context("cannot start a thread")?;
        start_result
            .recv()
            .context("the services did not start")??;
        Ok(Self {
            end,
            first_report,
            thread,
        })
    }

    /// Returns a function to call once all findings of the first snapshot are reported.
    #[must_use]
    pub fn first_report(&self) -> Box<dyn FnOnce() + Send> {
        let first_report = self.first_report.clone();
        Box::new(move || {
            let _ = first_report.send(true);
        })
    }

    /// Stops the services once they have delivered their events, or after a time limit.
    pub fn stop(self) {
        let _ = self.end.send(true);
        if self.thread.join().is_err() {
            tracing::error!("a service panicked");
        }
    }
}

/// Logs the warnings about a configuration.
pub fn warn_of(loaded: &Loaded, file: Option<&Path>) {
    let file = file.unwrap_or(Path::new(config::FILE));
    for warning in &loaded.warnings {
        tracing::warn!("{}", warning.of_file(file));
    }
}

/// The counters of each sink, which continue across a reload.
#[derive(Default)]
struct AllCounts {
    history: Arc<SinkStats>,
    alerts: Arc<SinkStats>,
    otlp: Arc<SinkStats>,
    fleet: Arc<SinkStats>,
}

async fn run(
    parts: Parts,
    mut hangups: Signal,
    mut end: watch::Receiver<bool>,
    first_report: watch::Receiver<bool>,
) {
    let Parts {
        mut config,
        file,
        shared,
        listeners,
        state,
        configs,
        logging,
    } = parts;
    let status_text = {
        let shared = Arc::clone(&shared);
        move || status(&shared)
    };
    let heartbeat = Arc::clone(&shared.heartbeat);
    let watching = systemd::watch(heartbeat, status_text, logging, end.clone());
    tokio::task::spawn_local(watching);
    let counts = AllCounts::default();
    let sinks = Receivers::of(&config, &counts, &shared);
    let mut running = Running::start(&config, sinks, listeners, &state, first_report.clone());
    let mut first_snapshot = first_report.clone();
    let mut is_ready = false;
    loop {
        tokio::select! {
            _ = end.wait_for(|end| *end) => break,
            _ = hangups.recv() => {}
            signalled = first_snapshot.wait_for(|signalled| *signalled), if !is_ready => {
                is_ready = true;
                if signalled.is_ok() {
                    systemd::ready(&status(&shared));
                    tracing::info!("{}", status(&shared));
                }
                continue;
            }
        }
        systemd::reloading();
        let fresh = match config::load_default(file.as_deref()) {
            Ok(loaded) => {
                warn_of(&loaded, file.as_deref());
                loaded.config
            }
            Err(failure) => {
                tracing::error!("keeping the previous configuration: {failure}");
                systemd::ready(&status(&shared));
                continue;
            }
        };
        // From here on, events wait for the new services.
        let sinks = Receivers::of(&fresh, &counts, &shared);
        running.end().await;
        let mut api = fresh.api.clone();
        let listeners = Listeners::bind(&api).or_else(|error| {
            tracing::error!("keeping the previous API: {error:#}");
            api = config.api.clone();
            Listeners::bind(&api)
        });
        let listeners = listeners.unwrap_or_else(|error| {
            tracing::error!("the API is not available: {error:#}");
            Listeners::none()
        });
        let state = state.with(&fresh);
        running = Running::start(&fresh, sinks, listeners, &state, first_report.clone());
        config = Config {
            api,
            ..fresh.clone()
        };
        if configs.send(fresh).await.is_err() {
            break;
        }
        systemd::ready(&status(&shared));
        tracing::info!("reloaded the configuration");
    }
    systemd::stopping();
    running.end().await;
}

/// Returns the state of the agent in one line.
fn status(shared: &AgentState) -> String {
    let view = shared.view();
    let stats = &view.stats;
    format!(
        "watching {} of {}; {}; lost {}",
        counted(stats.descriptors, "descriptor"),
        counted(stats.processes, "process"),
        counted(shared.active().len(), "finding"),
        stats.lost.total()
    )
}

/// The receivers of the sinks.
struct Receivers {
    history: Option<Source>,
    alerts: Option<Source>,
    otlp: Option<Source>,
    fleet: Option<Source>,
}

/// The receiver of a sink, and its counters.
type Source = (mpsc::Receiver<Arc<Event>>, Arc<SinkStats>);

impl Receivers {
    /// Creates the sinks of a configuration, which receive events from now on.
    fn of(config: &Config, counts: &AllCounts, shared: &AgentState) -> Self {
        let mut sinks = Vec::new();
        let mut open = |name, is_wanted: bool, capacity, counts: &Arc<SinkStats>| {
            is_wanted.then(|| {
                let (sink, receiver) = Sink::new(name, capacity, Arc::clone(counts));
                sinks.push(sink);
                (receiver, Arc::clone(counts))
            })
        };
        let own = Self {
            history: open(
                "history",
                config.history.is_some(),
                MAX_QUEUED,
                &counts.history,
            ),
            alerts: open(
                "alerts",
                config.alerts.has_receivers(),
                MAX_QUEUED,
                &counts.alerts,
            ),
            fleet: open("fleet", config.fleet.is_some(), MAX_QUEUED, &counts.fleet),
            otlp: config
                .otlp
                .as_ref()
                .and_then(|otlp| open("otlp", true, otlp.queue, &counts.otlp)),
        };
        shared.set_sinks(sinks);
        own
    }
}

/// The services of one configuration.
struct Running {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    history: Option<Rc<History>>,
    otlp: Option<JoinHandle<()>>,
}

/// Passes counts to the history, and reports its problems.
async fn maintain_history(
    history: Rc<History>,
    shared: Arc<AgentState>,
    mut first_report: watch::Receiver<bool>,
    mut stop: watch::Receiver<bool>,
) {
    let mut seconds = interval(Duration::from_secs(1));
    let mut is_first = true;
    let mut counted_at = Instant::now();
    loop {
        tokio::select! {
            _ = seconds.tick() => {}
            signalled = first_report.wait_for(|signalled| *signalled), if is_first => {
                if signalled.is_ok() {
                    history.mark_first_snapshot();
                }
                is_first = false;
            }
            _ = stop.wait_for(|stop| *stop) => break,
        }
        let reason = match history.state() {
            history::State::Working => None,
            history::State::Failing { reason, .. } => Some(reason),
        };
        shared.set_trouble("history", reason);
        if counted_at.elapsed() >= COUNT_INTERVAL {
            counted_at = Instant::now();
            history.hourly(&*shared.view());
        }
    }
    history.hourly(&*shared.view());
}

impl Running {
    fn start(
        config: &Config,
        sinks: Receivers,
        listeners: Listeners,
        state: &State,
        first_report: watch::Receiver<bool>,
    ) -> Self {
        let (stop, stops) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let serving = listeners.serve(state.clone(), stops.clone());
        tasks.spawn_local(async {
            if let Err(error) = serving.await {
                tracing::error!("the API is not available: {error}");
            }
        });
        let mut running = Self {
            stop,
            tasks,
            history: None,
            otlp: None,
        };
        let shared = &state.shared;
        if let (Some(config), Some((events, counts))) = (&config.history, sinks.history) {
            let history = Rc::new(History::start(config.clone(), events, counts));
            running.history = Some(Rc::clone(&history));
            let shared = Arc::clone(shared);
            running.tasks.spawn_local(maintain_history(
                history,
                shared,
                first_report.clone(),
                stops.clone(),
            ));
        } else {
            shared.set_trouble("history", None);
        }
        if let Some((events, counts)) = sinks.alerts {
            let mut setup = alerts::Setup::new(config.alerts.clone(), proc::hostname());
            setup.shared = Some(Arc::clone(shared));
            let alerting = alerts::run(setup, events, counts, first_report, stops.clone());
            let shared = Arc::clone(shared);
            running.tasks.spawn_local(async move {
                let trouble = alerting.await.err();
                let trouble = trouble.map(|error| format!("{error:#}"));
                if let Some(trouble) = &trouble {
                    tracing::error!("cannot send alerts: {trouble}");
                }
                shared.set_trouble("alerts", trouble);
            });
        }
        if let (Some(config_otlp), Some((events, counts))) = (&config.otlp, sinks.otlp) {
            let export = otlp::Export {
                config: config_otlp.clone(),
                metrics: config.metrics.clone(),
                pace: otlp::Pace::default(),
                shared: Arc::clone(shared),
                counts,
            };
            let exporting = export.spawn(events, stops.clone());
            let trouble = match exporting {
                Ok(thread) => {
                    running.otlp = Some(thread);
                    None
                }
                Err(error) => Some(format!("{error:#}")),
            };
            if let Some(trouble) = &trouble {
                tracing::error!("cannot export to OTLP: {trouble}");
            }
            shared.set_trouble("otlp", trouble);
        }
        if let (Some(config), Some((events, counts))) = (&config.fleet, sinks.fleet) {
            let host = proc::hostname();
            let shared = Arc::clone(shared);
            let writing =
                exporter::run(config.clone(), host, events, counts, shared, stops.clone());
            running.tasks.spawn_local(writing);
        } else {
            exporter::clear_troubles(shared);
        }
        running
    }

    /// Stops the services once they have delivered their events, or after a time limit.
    async fn end(&mut self) {
        let _ = self.stop.send(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(STOP_TIMEOUT, all).await.is_err() {
            tracing::warn!("some services did not stop in time");
            self.tasks.shutdown().await;
        }
        // These run on threads of their own.
        if let Some(history) = self.history.take().and_then(Rc::into_inner) {
            history.stop();
        }
        if let Some(otlp) = self.otlp.take() {
            let _ = tokio::task::spawn_blocking(move || otlp.join()).await;
        }
    }
}
