//! Tells others of what comes and goes: webhooks, Alertmanagers, commands, the journal.
//!
//! Each of them has a `teller` that says what is to be sent when, and a `worker` that sends it;
//! what was told is `kept` beyond the end of the agent. Knows events and the configuration, and
//! nothing of where events come from.

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
    state::{Alert, AlertState, MINUTE, Now, Outcome},
    store::{AlertStore, Told},
    worker::{Done, Job, MAX_WAITING, Receiver, work},
};
use super::{config, sink::SinkStats, snapshot::Active};
use fdwatch_core::duplicates::Change;
use fdwatch_events::event::Event;
use fdwatch_host::proc;

/// What alerts need to know beyond the configuration.
#[derive(Clone, Debug)]
pub struct Setup {
    /// `[alerts]`
    pub config: config::Alerts,
    /// This host's name.
    pub host: String,
    /// The file that keeps what was told.
    pub state: PathBuf,
    /// Where the journal listens.
    pub journal: PathBuf,
    /// What is there already, where the agent runs on and only its configuration is new.
    pub active: Vec<Active>,
    /// How patient they are.
    pub pace: Pace,
}

impl config::Alerts {
    /// Whether there is anyone to be told. Where not, there is nothing to run.
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
    /// As the agent has it.
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

    /// Those who are told, with names that stay the same over restarts.
    fn receivers(&self) -> Result<Vec<(Named, Receiver)>> {
        let host = Arc::from(self.host.as_str());
        let config = &self.config;
        let mut receivers = Vec::new();
        for endpoint in &config.webhooks {
            let name = Named::new("webhook", &[&endpoint.url]);
            let receiver = Receiver::webhook(endpoint).context("alerts.webhook")?;
            receivers.push((name, receiver));
        }
        for endpoint in &config.alertmanagers {
            let name = Named::new("alertmanager", &[&endpoint.url]);
            let receiver = Receiver::alertmanager(endpoint, &host);
            receivers.push((name, receiver.context("alerts.alertmanager")?));
        }
        for arguments in &config.commands {
            let name = Named::new("command", arguments);
            receivers.push((name, Receiver::Command(arguments.clone())));
        }
        if config.journald {
            let journal = Journal::new(self.journal.clone());
            receivers.push((Named::new("journald", &[""]), Receiver::Journal(journal)));
        }
        Ok(receivers)
    }

    /// Whether all of it can be used: token and certificate files are read.
    ///
    /// # Errors
    ///
    /// With what cannot.
    pub fn check(&self) -> Result<()> {
        self.receivers().map(drop)
    }
}

/// The name of one who is told.
#[derive(Clone, Debug)]
struct Named {
    /// As users see it: no URL, which may have a secret in it.
    shown: String,
    /// As it is in the file: the kind and a hash of the rest.
    kept: String,
}

impl Named {
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
        let kept = format!("{kind}-{:016x}", u64::from_be_bytes(first));
        let first = of.first().map_or("", AsRef::as_ref);
        let about = reqwest::Url::parse(first).ok().and_then(|url| {
            let port = url.port_or_known_default()?;
            Some(format!("{}:{port}", url.host_str()?))
        });
        let shown = match about {
            Some(host) => format!("{kind} {host}"),
            None => format!("{kind} {first}").trim_end().to_owned(),
        };
        Self { shown, kept }
    }
}

/// One who is told: what it is to be told, and the way there.
struct Sink {
    name: Named,
    teller: AlertState,
    takes_updates: bool,
    jobs: mpsc::Sender<Job>,
    /// Whether the last sending failed, and that was said.
    is_failing: bool,
    held_back_said: u64,
}

/// Tells others of what comes out of `events`, until that ends or it is to `stop`.
///
/// What an earlier run told is not told again; what of it is not there after the first snapshot was
/// told, which `first_snapshot_told` says, is resolved.
///
/// # Errors
///
/// If the configuration cannot be used, at once.
pub async fn run(
    setup: Setup,
    events: mpsc::Receiver<Arc<Event>>,
    counts: Arc<SinkStats>,
    first_snapshot_told: watch::Receiver<bool>,
    stop: watch::Receiver<bool>,
) -> Result<()> {
    let receivers = setup.receivers()?;
    let mut kept = AlertStore::new(setup.state.clone());
    let mut told = kept.read();
    let (done, outcomes) = mpsc::channel(MAX_WAITING);
    let (end, ended) = watch::channel(false);
    let mut workers = JoinSet::new();
    let host: Arc<str> = Arc::from(setup.host.as_str());
    let mut sinks = Vec::new();
    for (by, (name, receiver)) in receivers.into_iter().enumerate() {
        let takes_updates = receiver.takes_updates();
        let (jobs, waiting) = mpsc::channel(MAX_WAITING);
        let before = told.remove(&name.kept).unwrap_or_default();
        let most = setup.config.most_per_minute;
        sinks.push(Sink {
            teller: AlertState::new(most, takes_updates, before),
            name,
            takes_updates,
            jobs,
            is_failing: false,
            held_back_said: 0,
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
    let desk = Desk {
        setup,
        sinks,
        counts,
        began: Instant::now(),
        is_kept: true,
    };
    desk.run(events, outcomes, &mut kept, first_snapshot_told, stop)
        .await;
    let _ = end.send(true);
    while workers.join_next().await.is_some() {}
    Ok(())
}

/// All who are told.
struct Desk {
    setup: Setup,
    sinks: Vec<Sink>,
    counts: Arc<SinkStats>,
    began: Instant,
    /// Whether the file has all that was told.
    is_kept: bool,
}

impl Desk {
    async fn run(
        mut self,
        mut events: mpsc::Receiver<Arc<Event>>,
        mut outcomes: mpsc::Receiver<Done>,
        kept: &mut AlertStore,
        mut first_snapshot_told: watch::Receiver<bool>,
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
            if first_snapshot_told.wait_for(|told| *told).await.is_err() {
                // It never will be.
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
                _ = seconds.tick() => self.due(kept),
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
        // What was taken in before the end is told, as far as that goes quickly.
        while let Ok(event) = events.try_recv() {
            self.take(&event, event.wall_time);
        }
        let jobs: Vec<_> = self.sinks.iter_mut().map(Sink::close).collect();
        drop(jobs);
        let rest = async {
            while self.sinks.iter().any(|sink| sink.teller.is_sending()) {
                match outcomes.recv().await {
                    Some(done) => self.done(done),
                    None => break,
                }
            }
        };
        if timeout(pace.leave, rest).await.is_err() {
            tracing::warn!("alerts that were on their way at the end are told at the next start");
        }
        self.keep(kept);
    }

    fn now(&self) -> Now {
        Now {
            at: nanoseconds(self.began.elapsed()),
            wall: proc::wall_time(),
        }
    }

    /// Takes in what happened to something that has been there `since` then.
    fn take(&mut self, event: &Arc<Event>, since: u64) {
        let (Some(key), Some(change)) = (event.key, event.told.change()) else {
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
                    let matters = notice.severity >= self.setup.config.severity;
                    let alert = sink.teller.there(notice, Some(event), matters, now);
                    sink.hand(alert, &self.setup.pace, now, &self.counts);
                }
                None if change == Change::Gone => sink.teller.gone(key, Some(event), now),
                None => {}
            }
        }
        if change == Change::Gone {
            // Sent at once, if there is room.
            self.hand_due(now);
        }
    }

    fn done(&mut self, done: Done) {
        let now = self.now();
        let pace = &self.setup.pace;
        let Some(sink) = self.sinks.get_mut(done.by) else {
            return;
        };
        sink.say(&done.sent);
        let counter = match done.sent.outcome {
            Outcome::Delivered => &self.counts.delivered,
            Outcome::Failed | Outcome::Refused => &self.counts.failed,
        };
        let Some(key) = done.key else {
            return;
        };
        SinkStats::add(counter, 1);
        self.is_kept = false;
        let again = now.at.saturating_add(nanoseconds(pace.rest));
        let next = sink.teller.outcome(key, done.sent.outcome, again, now);
        sink.hand(next, pace, now, &self.counts);
        self.hand_due(now);
    }

    fn due(&mut self, kept: &mut AlertStore) {
        let now = self.now();
        self.hand_due(now);
        for sink in &mut self.sinks {
            sink.count_held_back(&self.counts);
        }
        if !self.is_kept {
            self.keep(kept);
        }
    }

    fn hand_due(&mut self, now: Now) {
        for sink in &mut self.sinks {
            // What finds no room is left where it is.
            let room = sink.jobs.capacity();
            for alert in sink.teller.due(room, now) {
                sink.hand(Some(alert), &self.setup.pace, now, &self.counts);
            }
        }
    }

    fn remind(&self) {
        for sink in self.sinks.iter().filter(|sink| sink.takes_updates) {
            let firing: Vec<_> = sink.teller.firing().cloned().collect();
            if !firing.is_empty() {
                // The next time, if there is no room: what waits there tells it as well.
                let _ = sink.jobs.try_send(Job::Remind(firing));
            }
        }
    }

    fn forget_unseen(&mut self, of: impl Fn(&Notice) -> bool) {
        let now = self.now();
        for sink in &mut self.sinks {
            sink.teller.forget_unseen(&of, now);
        }
        self.hand_due(now);
    }

    fn keep(&mut self, kept: &mut AlertStore) {
        let told: Told = self
            .sinks
            .iter()
            .map(|sink| {
                let told = sink.teller.told().cloned().collect();
                (sink.name.kept.clone(), told)
            })
            .collect::<BTreeMap<_, _>>();
        kept.write(told);
        self.is_kept = true;
    }
}

impl Sink {
    /// Hands on what is to be sent. Where there is no room, it is as if it had been tried in vain.
    fn hand(&mut self, alert: Option<Alert>, pace: &Pace, now: Now, counts: &SinkStats) {
        let Some(alert) = alert else {
            return;
        };
        let key = alert.notice.key;
        if self.jobs.try_send(Job::Send(alert)).is_err() {
            SinkStats::add(&counts.dropped, 1);
            let again = now.at.saturating_add(nanoseconds(pace.rest));
            // What comes next comes with what is due.
            self.teller.outcome(key, Outcome::Failed, again, now);
        }
    }

    /// No more jobs come.
    fn close(&mut self) -> mpsc::Sender<Job> {
        mem::replace(&mut self.jobs, mpsc::channel(1).0)
    }

    /// Says that it fails, and that it works again: once.
    fn say(&mut self, sent: &Sent) {
        let name = &self.name.shown;
        match sent.outcome {
            Outcome::Delivered => {
                if self.is_failing {
                    tracing::info!("alerts go to {name} again");
                }
                self.is_failing = false;
            }
            Outcome::Failed => {
                if !self.is_failing {
                    tracing::warn!(
                        "alerts do not go to {name}: {}; they are tried again",
                        sent.reason
                    );
                }
                self.is_failing = true;
            }
            Outcome::Refused => {
                tracing::warn!(
                    "{name} refuses an alert, which is given up: {}",
                    sent.reason
                );
            }
        }
    }

    fn count_held_back(&mut self, counts: &SinkStats) {
        let more = self.teller.held_back - self.held_back_said;
        if more > 0 {
            SinkStats::add(&counts.dropped, more);
            self.held_back_said = self.teller.held_back;
            tracing::warn!(
                "more alerts than are sent in {} s: some are held back from {}",
                MINUTE / 1_000_000_000,
                self.name.shown
            );
        }
    }
}

/// Whether it takes a while for it to be seen.
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
