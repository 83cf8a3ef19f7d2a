//! Alerts: sends findings that appear and resolve to webhooks, Alertmanagers, commands and the journal.
//!
//! Each receiver has an `AlertState`, which decides what to send and when, and a worker, which sends it. `AlertStore`
//! records what was sent, for the next run of the agent.

mod alertmanager;
mod command;
mod delivery;
mod journald;
mod notice;
mod state;
mod store;
mod webhook;
mod worker;

use std::{
    collections::BTreeMap,
    future, mem,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

pub use self::{
    delivery::Pace,
    journald::{FIRING_ID, RESOLVED_ID, SOCKET as JOURNAL},
};
use self::{
    delivery::Sent,
    journald::Journal,
    notice::Notice,
    state::{Alert, AlertState, Now, Outcome},
    store::{AlertStore, SentAlerts},
    worker::{Done, Job, MAX_WAITING, Receiver, work},
};
use super::{config, sink::SinkStats, snapshot::Active};
use fdwatch_core::duplicates::Change;
use fdwatch_events::event::Event;
use fdwatch_host::proc;

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
    /// Findings that are active already, when the agent reloads its configuration.
    pub active: Vec<Active>,
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
            active: Vec::new(),
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
    let mut store = AlertStore::new(setup.state.clone());
    let mut sent = store.read();
    let (done, outcomes) = mpsc::channel(MAX_WAITING);
    let (end, ended) = watch::channel(false);
    let mut workers = JoinSet::new();
    let host: Arc<str> = Arc::from(setup.host.as_str());
    let mut sinks = Vec::new();
    for (by, (name, receiver)) in receivers.into_iter().enumerate() {
        let takes_updates = receiver.takes_updates();
        let (jobs, waiting) = mpsc::channel(MAX_WAITING);
        let before = sent.remove(&name.stored).unwrap_or_default();
        let limit = setup.config.most_per_minute;
        sinks.push(Sink {
            state: AlertState::new(limit, takes_updates, before),
            name,
            takes_updates,
            jobs,
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
        counts,
        began: Instant::now(),
        is_stored: true,
    };
    dispatcher
        .run(events, outcomes, &mut store, first_snapshot, stop)
        .await;
    let _ = end.send(true);
    while workers.join_next().await.is_some() {}
    Ok(())
}

/// All receivers.
struct Dispatcher {
    setup: Setup,
    sinks: Vec<Sink>,
    counts: Arc<SinkStats>,
    began: Instant,
    /// Whether the file is up to date.
    is_stored: bool,
}

impl Dispatcher {
    async fn run(
        mut self,
        mut events: mpsc::Receiver<Arc<Event>>,
        mut outcomes: mpsc::Receiver<Done>,
        store: &mut AlertStore,
        mut first_snapshot: watch::Receiver<bool>,
        mut stop: watch::Receiver<bool>,
    ) {
        for active in mem::take(&mut self.setup.active) {
            self.take(&active.last, active.since);
        }
        let pace = self.setup.pace.clone();
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reminders = interval(pace.remind);
        reminders.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut settled = std::pin::pin!(async {
            if first_snapshot.wait_for(|sent| *sent).await.is_err() {
                // The sender is gone, so the signal never comes.
                future::pending::<()>().await;
            }
            sleep(pace.settle).await;
        });
        let mut is_settled = false;
        let mut growth_settles_at = None;
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.take(&event, event.wall_time),
                    None => break,
                },
                Some(done) = outcomes.recv() => self.done(done),
                _ = seconds.tick() => self.due(store),
                _ = reminders.tick() => self.remind(),
                () = &mut settled, if !is_settled => {
                    is_settled = true;
                    self.forget_unseen(|notice| !is_slow(notice));
                    let rest = pace.settle_growth.saturating_sub(pace.settle);
                    growth_settles_at = Some(tokio::time::Instant::now() + rest);
                }
                () = until(growth_settles_at), if growth_settles_at.is_some() => {
                    growth_settles_at = None;
                    self.forget_unseen(is_slow);
                }
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        // Events that arrived before the end are sent, as far as time allows.
        while let Ok(event) = events.try_recv() {
            self.take(&event, event.wall_time);
        }
        let jobs: Vec<_> = self.sinks.iter_mut().map(Sink::close).collect();
        drop(jobs);
        let rest = async {
            while self.sinks.iter().any(|sink| sink.state.is_sending()) {
                match outcomes.recv().await {
                    Some(done) => self.done(done),
                    None => break,
                }
            }
        };
        if timeout(pace.leave, rest).await.is_err() {
            tracing::warn!(
                "alerts that could not be delivered before the end are sent after the next start"
            );
        }
        self.save(store);
    }

    fn now(&self) -> Now {
        Now {
            at: nanoseconds(self.began.elapsed()),
            wall: proc::wall_time(),
        }
    }

    /// Handles an event of a finding that has been active `since` then.
    fn take(&mut self, event: &Arc<Event>, since: u64) {
        let (Some(key), Some(change)) = (event.key, event.kind.change()) else {
            return;
        };
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
                    let alert = sink.state.active(notice, Some(event), is_severe, now);
                    sink.send(alert, &self.setup.pace, now, &self.counts);
                }
                None if change == Change::Gone => sink.state.gone(key, Some(event), now),
                None => {}
            }
        }
        if change == Change::Gone {
            // Sent immediately if there is room.
            self.send_due(now);
        }
    }

    fn done(&mut self, done: Done) {
        let now = self.now();
        let pace = &self.setup.pace;
        let Some(sink) = self.sinks.get_mut(done.by) else {
            return;
        };
        sink.log(&done.sent);
        let counter = match done.sent.outcome {
            Outcome::Delivered => &self.counts.delivered,
            Outcome::Failed | Outcome::Refused => &self.counts.failed,
        };
        let Some(key) = done.key else {
            return;
        };
        SinkStats::add(counter, 1);
        self.is_stored = false;
        let again = now.at.saturating_add(nanoseconds(pace.rest));
        let next = sink.state.outcome(key, done.sent.outcome, again, now);
        sink.send(next, pace, now, &self.counts);
        self.send_due(now);
    }

    fn due(&mut self, store: &mut AlertStore) {
        let now = self.now();
        self.send_due(now);
        for sink in &mut self.sinks {
            sink.count_held_back(&self.counts);
        }
        if !self.is_stored {
            self.save(store);
        }
    }

    fn send_due(&mut self, now: Now) {
        for sink in &mut self.sinks {
            // Alerts without room remain due.
            let room = sink.jobs.capacity();
            for alert in sink.state.due(room, now) {
                sink.send(Some(alert), &self.setup.pace, now, &self.counts);
            }
        }
    }

    fn remind(&self) {
        for sink in self.sinks.iter().filter(|sink| sink.takes_updates) {
            let firing: Vec<_> = sink.state.firing().cloned().collect();
            if !firing.is_empty() {
                // Without room, the waiting alerts serve as a reminder; the next one comes later.
                let _ = sink.jobs.try_send(Job::Remind(firing));
            }
        }
    }

    fn forget_unseen(&mut self, of: impl Fn(&Notice) -> bool) {
        let now = self.now();
        for sink in &mut self.sinks {
            sink.state.forget_unseen(&of, now);
        }
        self.send_due(now);
    }

    fn save(&mut self, store: &mut AlertStore) {
        let sent: SentAlerts = self
            .sinks
            .iter()
            .map(|sink| {
                let sent = sink.state.sent().cloned().collect();
                (sink.name.stored.clone(), sent)
            })
            .collect::<BTreeMap<_, _>>();
        store.write(sent);
        self.is_stored = true;
    }
}

impl Sink {
    /// Passes an alert to the worker. Without room, it counts as a failed delivery.
    fn send(&mut self, alert: Option<Alert>, pace: &Pace, now: Now, counts: &SinkStats) {
        let Some(alert) = alert else {
            return;
        };
        let key = alert.notice.key;
        if self.jobs.try_send(Job::Send(alert)).is_err() {
            SinkStats::add(&counts.dropped, 1);
            let again = now.at.saturating_add(nanoseconds(pace.rest));
            // The next alert of the key becomes due later.
            self.state.outcome(key, Outcome::Failed, again, now);
        }
    }

    /// Closes the channel to the worker.
    fn close(&mut self) -> mpsc::Sender<Job> {
        mem::replace(&mut self.jobs, mpsc::channel(1).0)
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
            Outcome::Failed => {
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

    fn count_held_back(&mut self, counts: &SinkStats) {
        let more = self.state.held_back - self.held_back_logged;
        if more > 0 {
            SinkStats::add(&counts.dropped, more);
            self.held_back_logged = self.state.held_back;
            tracing::warn!(
                "alert limit reached: holding back some alerts to {}",
                self.name.shown
            );
        }
    }
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
