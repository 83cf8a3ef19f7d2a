//! Alerts: sends findings that appear and resolve to webhooks, Alertmanagers, commands and the journal.
//!
//! Each receiver has an `AlertState`, which decides what to send and when, and a worker, which sends it. `AlertStore`
//! records what was sent, for the next run of the agent.

mod alertmanager;
mod command;
mod delivery;
mod fair;
mod journald;
mod notice;
mod state;
mod store;
mod webhook;
mod worker;

use std::{
    collections::BTreeSet,
    future,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout_at},
};

pub use self::{
    delivery::Pace,
    journald::{FIRING_ID, RESOLVED_ID, SOCKET as JOURNAL},
};
use self::{
    delivery::Sent,
    journald::Journal,
    notice::Notice,
    state::{AlertState, Now, Outcome},
    store::AlertStore,
    worker::{Done, Job, Receiver, work},
};
use super::{config, sink::SinkStats, state::AgentState};
use fdwatch_core::duplicates::Change;
use fdwatch_events::event::Event;
use fdwatch_host::proc;

/// Outcomes that may wait.
const MAX_OUTCOMES: usize = 64;

/// Events that are handled before alerts are sent.
const MAX_EVENTS: usize = 64;

/// Change of the clock, relative to the boot clock, that is a step: nanoseconds.
const STEP: u64 = 1_000_000_000;

/// Everything that alerts need.
#[derive(Clone, Debug)]
pub struct Setup {
    /// `[alerts]`
    pub config: config::Alerts,
    /// This host's name.
    pub host: String,
    /// The file that records sent alerts.
    pub state: PathBuf,
    /// The socket of the journal.
    pub journal: PathBuf,
    /// The state of the agent, whose active findings are taken at the start, and after events were dropped.
    pub shared: Option<Arc<AgentState>>,
    /// Time limits.
    pub pace: Pace,
}

impl config::Alerts {
    /// Returns whether any receiver is configured.
    #[must_use]
    pub fn has_receivers(&self) -> bool {
        let Self {
            webhooks,
            alertmanagers,
            commands,
            journald,
            ..
        } = self;
        *journald || !(webhooks.is_empty() && alertmanagers.is_empty() && commands.is_empty())
    }
}

impl Setup {
    /// Creates the setup that the agent uses.
    #[must_use]
    pub fn new(config: config::Alerts, host: String) -> Self {
        Self {
            state: config.state_file.clone(),
            config,
            host,
            journal: PathBuf::from(JOURNAL),
            shared: None,
            pace: Pace::default(),
        }
    }

    /// Creates the receivers, with names that stay the same across restarts.
    fn receivers(&self) -> Result<Vec<(ReceiverName, Receiver)>> {
        let host = Arc::from(self.host.as_str());
        let config = &self.config;
        let mut receivers = Vec::new();
        for endpoint in &config.webhooks {
            let name = ReceiverName::new("webhook", &[&endpoint.url]);
            let receiver = Receiver::webhook(endpoint).context("alerts.webhook")?;
            receivers.push((name, receiver));
        }
        for endpoint in &config.alertmanagers {
            let name = ReceiverName::new("alertmanager", &[&endpoint.url]);
            let receiver = Receiver::alertmanager(endpoint, &host);
            receivers.push((name, receiver.context("alerts.alertmanager")?));
        }
        for arguments in &config.commands {
            let name = ReceiverName::new("command", arguments);
            receivers.push((name, Receiver::Command(arguments.clone())));
        }
        if config.journald {
            let journal = Journal::new(self.journal.clone());
            receivers.push((
                ReceiverName::new("journald", &[""]),
                Receiver::Journal(journal),
            ));
        }
        Ok(receivers)
    }

    /// Checks that all receivers can be used: reads files with tokens and certificates.
    ///
    /// # Errors
    ///
    /// If one of them cannot be read or is invalid.
    pub fn check(&self) -> Result<()> {
        self.receivers().map(drop)
    }
}

/// The name of a receiver.
#[derive(Clone, Debug)]
struct ReceiverName {
    /// For users: without the URL, which may contain a secret.
    shown: String,
    /// For the file: the kind and a hash of the rest.
    stored: String,
}

impl ReceiverName {
    fn new(kind: &'static str, of: &[impl AsRef<str>]) -> Self {
        let mut hash = Sha256::new();
        for part in of {
            hash.update(part.as_ref());
            hash.update([0]);
        }
        let first: [u8; 8] = std::array::from_fn({
            let digest = hash.finalize();
            move |at| digest[at]
        });
        let stored = format!("{kind}-{:016x}", u64::from_be_bytes(first));
        let first = of.first().map_or("", AsRef::as_ref);
        let address = reqwest::Url::parse(first).ok().and_then(|url| {
            let port = url.port_or_known_default()?;
            Some(format!("{}:{port}", url.host_str()?))
        });
        let shown = match address {
            Some(host) => format!("{kind} {host}"),
            None => format!("{kind} {first}").trim_end().to_owned(),
        };
        Self { shown, stored }
    }
}

/// A receiver: what to send to it, and the channel to its worker.
struct Sink {
    name: ReceiverName,
    state: AlertState,
    takes_updates: bool,
    jobs: mpsc::Sender<Job>,
    /// Whether a reminder is due.
    must_remind: bool,
    /// Whether the last delivery failed and that was logged.
    is_failing: bool,
    held_back_logged: u64,
}

/// Sends alerts for the events of `events` until these end, or until `stop`.
///
/// Alerts that an earlier run sent are not sent again. Those whose findings are not active after the first
/// snapshot, which `first_snapshot` signals, are resolved.
///
/// # Errors
///
/// If the configuration cannot be used.
pub async fn run(
    setup: Setup,
    events: mpsc::Receiver<Arc<Event>>,
    counts: Arc<SinkStats>,
    first_snapshot: watch::Receiver<bool>,
    stop: watch::Receiver<bool>,
) -> Result<()> {
    let receivers = setup.receivers()?;
    let store = AlertStore::new(setup.state.clone());
    let mut sent = store.read();
    let (done, outcomes) = mpsc::channel(MAX_OUTCOMES);
    let (end, ended) = watch::channel(false);
    let mut workers = JoinSet::new();
    let host: Arc<str> = Arc::from(setup.host.as_str());
    let mut sinks = Vec::new();
    for (by, (name, receiver)) in receivers.into_iter().enumerate() {
        let takes_updates = receiver.takes_updates();
        let (jobs, waiting) = mpsc::channel(receiver.max_concurrent());
        let before = sent.remove(&name.stored).unwrap_or_default();
        let limit = setup.config.most_per_minute;
        sinks.push(Sink {
            state: AlertState::new(limit, takes_updates, before),
            name,
            takes_updates,
            jobs,
            must_remind: false,
            is_failing: false,
            held_back_logged: 0,
        });
        workers.spawn(work(
            by,
            receiver,
            Arc::clone(&host),
            setup.pace.clone(),
            waiting,
            done.clone(),
            ended.clone(),
        ));
    }
    let dispatcher = Dispatcher {
        setup,
        sinks,
        dropped: counts.dropped.load(Relaxed),
        has_missed: false,
        counts,
        store,
        began: Instant::now(),
        booted: proc::booted(),
        is_stored: true,
    };
    dispatcher.run(events, outcomes, first_snapshot, stop).await;
    let _ = end.send(true);
    while workers.join_next().await.is_some() {}
    Ok(())
}

/// All receivers.
struct Dispatcher {
    setup: Setup,
    sinks: Vec<Sink>,
    counts: Arc<SinkStats>,
    store: AlertStore,
    began: Instant,
    /// The time of the boot by the current clock: nanoseconds since 1970.
    booted: u64,
    /// The dropped events that are known: alerts held back, and events without room.
    dropped: u64,
    /// Whether events were dropped since the active findings were taken.
    has_missed: bool,
    /// Whether the file is up to date.
    is_stored: bool,
}

impl Dispatcher {
    async fn run(
        mut self,
        mut events: mpsc::Receiver<Arc<Event>>,
        mut outcomes: mpsc::Receiver<Done>,
        mut first_snapshot: watch::Receiver<bool>,
        mut stop: watch::Receiver<bool>,
    ) {
        self.take_active();
        let pace = self.setup.pace.clone();
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reminders = interval(pace.remind);
        reminders.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut known = std::pin::pin!(async {
            if first_snapshot.wait_for(|sent| *sent).await.is_err() {
                // The sender is gone, so the signal never comes.
                future::pending::<()>().await;
            }
        });
        let mut is_known = false;
        let (mut settles_at, mut growth_settles_at) = (None, None);
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => {
                        self.take(&event, event.wall_time);
                        for _ in 1..MAX_EVENTS {
                            let Ok(event) = events.try_recv() else {
                                break;
                            };
                            self.take(&event, event.wall_time);
                        }
                    }
                    None => break,
                },
                Some(done) = outcomes.recv() => self.done(done),
                _ = seconds.tick() => {
                    // Later: events that wait may be older than what is active.
                    if self.has_missed && events.is_empty() {
                        self.take_active();
                    }
                    self.every_second().await;
                }
                _ = reminders.tick() => self.remind(),
                () = &mut known, if !is_known => {
                    is_known = true;
                    let now = tokio::time::Instant::now();
                    settles_at = Some(now + pace.settle);
                    growth_settles_at = Some(now + pace.settle_growth);
                    // Those of processes that have ended meanwhile need no wait.
                    self.forget_unseen(has_ended);
                }
                () = until(settles_at), if settles_at.is_some() => {
                    settles_at = None;
                    self.forget_unseen(|notice| !is_slow(notice));
                }
                () = until(growth_settles_at), if growth_settles_at.is_some() => {
                    growth_settles_at = None;
                    self.forget_unseen(is_slow);
                }
                _ = stop.wait_for(|stop| *stop) => break,
            }
            self.send_due().await;
        }
        // Events that arrived before the end are sent, as far as time and limits allow.
        while let Ok(event) = events.try_recv() {
            self.take(&event, event.wall_time);
        }
        let end = tokio::time::Instant::now() + pace.leave;
        loop {
            self.send_due().await;
            if !self.sinks.iter().any(|sink| sink.state.is_sending()) {
                break;
            }
            let Ok(Some(done)) = timeout_at(end, outcomes.recv()).await else {
                tracing::warn!(
                    "alerts that could not be delivered before the end are sent after the next start"
                );
                break;
            };
            self.done(done);
        }
        self.save().await;
    }

    fn now(&self) -> Now {
        Now {
            at: nanoseconds(self.began.elapsed()),
            wall: proc::wall_time(),
        }
    }

    /// Takes what is active now, and the end of everything else.
    fn take_active(&mut self) {
        self.has_missed = false;
        let Some(shared) = &self.setup.shared else {
            return;
        };
        let active = shared.active();
        let now = self.now();
        let keys: BTreeSet<_> = active.iter().map(|active| active.key).collect();
        for sink in &mut self.sinks {
            sink.state.forget_inactive(&keys, now);
        }
        for active in active {
            let since = self.booted.wrapping_add(active.since.0);
            self.take(&active.last, since);
        }
    }

    /// Handles an event of a finding that has been active `since` then.
    fn take(&mut self, event: &Arc<Event>, since: u64) {
        let (Some(key), Some(change)) = (event.key, event.kind.change()) else {
            return;
        };
        self.follow_clock();
        let now = self.now();
        let notice = if change == Change::Gone {
            None
        } else {
            Notice::of(event).map(|notice| Arc::new(Notice { since, ..notice }))
        };
        for sink in &mut self.sinks {
            match &notice {
                Some(notice) => {
                    let is_severe = notice.severity >= self.setup.config.severity;
                    sink.state.active(notice, Some(event), is_severe);
                }
                None if change == Change::Gone => sink.state.gone(key, Some(event), now),
                None => {}
            }
        }
    }

    /// Follows a clock that was set.
    fn follow_clock(&mut self) {
        let booted = proc::booted();
        if booted.abs_diff(self.booted) < STEP {
            return;
        }
        let step = booted.wrapping_sub(self.booted).cast_signed();
        self.booted = booted;
        self.is_stored = false;
        for sink in &mut self.sinks {
            sink.state.step_clock(step);
        }
    }

    fn done(&mut self, done: Done) {
        let now = self.now();
        let Some(sink) = self.sinks.get_mut(done.by) else {
            return;
        };
        sink.log(&done.sent);
        let counter = match done.sent.outcome {
            Outcome::Delivered => &self.counts.delivered,
            _ => &self.counts.failed,
        };
        let Some(key) = done.key else {
            return;
        };
        SinkStats::add(counter, 1);
        self.is_stored = false;
        let again = now.at.saturating_add(nanoseconds(self.setup.pace.rest));
        sink.state.outcome(key, done.sent.outcome, again, now);
    }

    async fn every_second(&mut self) {
        self.follow_clock();
        let held_back: u64 = self.sinks.iter_mut().map(Sink::count_held_back).sum();
        SinkStats::add(&self.counts.dropped, held_back);
        self.dropped += held_back;
        let dropped = self.counts.dropped.load(Relaxed);
        self.has_missed |= dropped > self.dropped;
        self.dropped = dropped;
        if !self.is_stored {
            self.save().await;
        }
    }

    /// Passes alerts that are due to the workers. Those without room stay where they are.
    async fn send_due(&mut self) {
        let now = self.now();
        let mut to_send = Vec::new();
        for (by, sink) in self.sinks.iter_mut().enumerate() {
            sink.remind();
            let due = sink.state.due(sink.jobs.capacity(), now);
            to_send.extend(due.into_iter().map(|alert| (by, alert)));
        }
        // Stored first: the next run must know what an agent that is killed has sent.
        if !to_send.is_empty() {
            self.save().await;
        }
        for (by, alert) in to_send {
            // There is room: only this task sends.
            let _ = self.sinks[by].jobs.try_send(Job::Send(alert));
        }
    }

    fn remind(&mut self) {
        for sink in self.sinks.iter_mut().filter(|sink| sink.takes_updates) {
            sink.must_remind = true;
        }
    }

    fn forget_unseen(&mut self, of: impl Fn(&Notice) -> bool) {
        let now = self.now();
        for sink in &mut self.sinks {
            sink.state.forget_unseen(&of, now);
        }
    }

    async fn save(&mut self) {
        let sent = self.sinks.iter();
        let sent = sent.map(|sink| (sink.name.stored.clone(), sink.state.sent()));
        self.store.write(sent.collect()).await;
        self.is_stored = true;
    }
}

impl Sink {
    /// Sends a reminder of all firing alerts, if it is due and there is room. It comes before alerts, which could
    /// otherwise delay it until an Alertmanager resolves the firing ones.
    fn remind(&mut self) {
        if !self.must_remind || self.jobs.capacity() == 0 {
            return;
        }
        self.must_remind = false;
        let firing: Vec<_> = self.state.firing().cloned().collect();
        if !firing.is_empty() {
            let _ = self.jobs.try_send(Job::Remind(firing));
        }
    }

    /// Logs the first failure, and the first success after it.
    fn log(&mut self, sent: &Sent) {
        let name = &self.name.shown;
        match sent.outcome {
            Outcome::Delivered => {
                if self.is_failing {
                    tracing::info!("alerts to {name} are delivered again");
                }
                self.is_failing = false;
            }
            Outcome::Failed | Outcome::Unanswered => {
                if !self.is_failing {
                    tracing::warn!("cannot deliver alerts to {name}: {}; retrying", sent.reason);
                }
                self.is_failing = true;
            }
            Outcome::Refused => {
                tracing::warn!(
                    "{name} rejected an alert, which is dropped: {}",
                    sent.reason
                );
            }
        }
    }

    /// Returns how many alerts were held back since the last call, and logs that.
    fn count_held_back(&mut self) -> u64 {
        let more = self.state.held_back - self.held_back_logged;
        if more > 0 {
            self.held_back_logged = self.state.held_back;
            tracing::warn!(
                "alert limit reached: holding back some alerts to {}",
                self.name.shown
            );
        }
        more
    }
}

/// Returns whether the process of an alert has ended.
fn has_ended(notice: &Notice) -> bool {
    notice.start_time != 0 && !proc::is_running(notice.pid, notice.start_time)
}

/// Returns whether detection takes minutes.
fn is_slow(notice: &Notice) -> bool {
    notice.kind == "growth" || notice.cause == "growth-per-hour"
}

async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => future::pending().await,
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
