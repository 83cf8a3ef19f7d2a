//! The thread that writes: collects events for a moment, writes them, and retries with growing waits after a failure.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::{
    aging::Aging,
    backlog::Backlog,
    record::Record,
    store::Store,
    trouble::{self, Kind, Trouble},
    types::{HourlyCounts, Settings, State, Status},
};
use crate::sink::SinkStats;
use fdwatch_core::plural::{counted, either};
use fdwatch_events::event::Event;
use fdwatch_host::proc;

/// Time for which events are collected before they are written. If the agent is killed, it loses the events of this
/// time and of a commit.
const COLLECT: Duration = Duration::from_millis(250);

/// Wait after the first failure, and the longest wait. Without jitter: the database is local.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Interval in which the database is checked while it is written.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Interval in which old entries are deleted.
const DELETE_INTERVAL: Duration = Duration::from_secs(600);

/// Interval in which a clock that was set is noticed without an event.
const CLOCK_INTERVAL: Duration = Duration::from_secs(10);

/// Time limit of the last writes, within `STOP`.
const LAST_WRITES: Duration = Duration::from_millis(700);

/// Limit of counts of descriptors that wait: a few hours of them.
const MAX_COUNTS: usize = 32;

/// A message to the thread, in addition to events.
#[derive(Debug)]
pub(super) enum Order {
    /// The current number of descriptors.
    Hourly(Box<HourlyCounts>),
    /// All findings of the first snapshot are reported.
    FirstSnapshotReported,
}

/// The state of the thread.
#[derive(Debug)]
pub(super) struct Writer {
    settings: Settings,
    receiver: mpsc::Receiver<Arc<Event>>,
    /// Whether the receiver is open.
    is_receiving: bool,
    orders: mpsc::Receiver<Order>,
    counts: Arc<SinkStats>,
    status: Arc<Status>,
    backlog: Backlog,
    hourly: Vec<HourlyCounts>,
    store: Option<Store>,
    /// When the next write is due.
    due: Option<Instant>,
    /// When findings that were not found again are ended.
    end_unfound: Option<Instant>,
    /// When old entries are deleted next.
    delete_due: Instant,
    aging: Aging,
    checked: Instant,
    /// The current problem, when it last occurred, and the wait before the next attempt.
    trouble: Option<(Kind, Instant, Duration)>,
    /// The count of failed events when the problem started.
    failed_before: u64,
    size_warned: bool,
}

/// Runs until the channel of orders is closed.
pub(super) fn run(mut writer: Writer) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    match builder.enable_time().build() {
        Ok(runtime) => runtime.block_on(writer.work()),
        Err(error) => {
            let message = format!("cannot start a runtime: {error}");
            writer.fail(&Trouble::new(Kind::Other, message));
        }
    }
    writer.end();
}

impl Writer {
    pub(super) fn new(
        settings: Settings,
        receiver: mpsc::Receiver<Arc<Event>>,
        orders: mpsc::Receiver<Order>,
        counts: Arc<SinkStats>,
        status: Arc<Status>,
    ) -> Self {
        let max_age = settings.config.most_age;
        Self {
            settings,
            receiver,
            is_receiving: true,
            orders,
            counts,
            status,
            backlog: Backlog::default(),
            hourly: Vec::new(),
            store: None,
            due: Some(Instant::now()),
            end_unfound: None,
            delete_due: Instant::now(),
            aging: Aging::new(max_age, proc::wall_time(), proc::boottime()),
            checked: Instant::now(),
            trouble: None,
            failed_before: 0,
            size_warned: false,
        }
    }

    async fn work(&mut self) {
        // Shows problems at the start, before the first event.
        self.write();
        loop {
            let next_action = self.next_action().min(Instant::now() + CLOCK_INTERVAL);
            tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    Some(order) => self.handle(order),
                    None => return,
                },
                event = self.receiver.recv(), if self.is_receiving => match event {
                    Some(event) => {
                        self.queue(&event);
                        self.queue_waiting();
                    }
                    None => self.is_receiving = false,
                },
                () = tokio::time::sleep_until(next_action.into()) => {}
            }
            let store = self.store.as_ref();
            if store.is_some_and(|store| store.has_stepped(proc::booted())) {
                self.set_due();
            }
            if self.next_action() <= Instant::now() {
                self.write();
            }
        }
    }

    /// Returns when the next action is due.
    fn next_action(&self) -> Instant {
        let times = [self.due, self.end_unfound].into_iter().flatten();
        let first = times.fold(self.delete_due, Instant::min);
        match self.trouble {
            Some((_, since, wait)) => first.max(since + wait),
            None => first,
        }
    }

    fn handle(&mut self, order: Order) {
        match order {
            Order::Hourly(counts) => {
                if self.hourly.len() == MAX_COUNTS {
                    self.hourly.remove(0);
                    SinkStats::add(&self.counts.failed, 1);
                }
                self.hourly.push(*counts);
                self.set_due();
            }
            Order::FirstSnapshotReported => {
                self.end_unfound = Some(Instant::now() + self.settings.found_again_within);
            }
        }
    }

    fn set_due(&mut self) {
        self.due.get_or_insert_with(|| Instant::now() + COLLECT);
    }

    /// Queues an event.
    fn queue(&mut self, event: &Event) {
        // Only events with a key are stored.
        let Some(record) = Record::of(event) else {
            SinkStats::add(&self.counts.delivered, 1);
            return;
        };
        if !self.backlog.push(record) {
            SinkStats::add(&self.counts.failed, 1);
        }
        self.set_due();
    }

    /// Queues waiting events, to make room in the channel during the write.
    fn queue_waiting(&mut self) {
        const MAX: usize = 4096;
        for _ in 0..MAX {
            let Ok(event) = self.receiver.try_recv() else {
                return;
            };
            self.queue(&event);
        }
    }

    fn write(&mut self) {
        match self.try_write() {
            Ok(()) => self.succeed(),
            Err(trouble) => self.fail(&trouble),
        }
    }

    /// Writes a batch, and does the maintenance that is due.
    fn try_write(&mut self) -> Result<(), Trouble> {
        let store = match &mut self.store {
            Some(store) => {
                store.check_is_current()?;
                if self.checked.elapsed() > CHECK_INTERVAL {
                    store.check_is_readable()?;
                    self.checked = Instant::now();
                }
                store
            }
            empty @ None => empty.insert(Store::open(&self.settings)?),
        };
        let (is_within, deleted_active) = store.keep_size()?;
        if deleted_active > 0 && !self.size_warned {
            self.size_warned = true;
            tracing::warn!(
                "the history is too small for all active findings: deleting the oldest; raise most_bytes in [history]"
            );
        }
        let mut is_done = false;
        if is_within {
            // Small compared to the limit, so that it is not exceeded by much.
            let batch = self.settings.config.most_bytes / 64;
            let batch = usize::try_from(batch.clamp(64 << 10, 1 << 20)).unwrap_or(64 << 10);
            if !self.backlog.is_empty() {
                let count = store.write(self.backlog.first(batch))?;
                self.backlog.remove_written(count);
                SinkStats::add(&self.counts.delivered, count as u64);
            }
            while let Some(counts) = self.hourly.first() {
                store.hourly(counts)?;
                self.hourly.remove(0);
            }
            is_done = self.backlog.is_empty();
        }
        if is_done {
            store.follow_clock(proc::booted())?;
        }
        let now = Instant::now();
        if is_done && self.end_unfound.is_some_and(|at| at <= now) {
            store.end_unfound(proc::wall_time())?;
            self.end_unfound = None;
        }
        if self.delete_due <= now {
            let wall_time = proc::wall_time();
            let share = self.aging.grant(wall_time, proc::boottime());
            if share > 0 {
                store.delete_old(wall_time, share)?;
            }
            self.delete_due = now + DELETE_INTERVAL;
        }
        self.due = (!is_done).then_some(now);
        Ok(())
    }

    fn succeed(&mut self) {
        let Some((..)) = self.trouble.take() else {
            return;
        };
        self.status.set(State::Working);
        let lost = self.counts.failed.load(Relaxed) - self.failed_before;
        let (events, were) = (counted(lost, "event"), either(&lost, "was", "were"));
        tracing::warn!("the history can be written again; {events} {were} lost meanwhile");
    }

    fn fail(&mut self, trouble: &Trouble) {
        let mut message = trouble.message.clone();
        let is_open = self.store.is_some();
        match trouble.kind {
            // Written data is safe. A checkpoint may free space of the log.
            Kind::Full => {
                if let Some(store) = &self.store {
                    let _ = store.checkpoint();
                }
            }
            _ => drop(self.store.take()),
        }
        let file = &self.settings.config.file;
        if trouble.kind == Kind::Corrupt {
            match trouble::set_aside(file, Timestamp::now()) {
                Ok(aside) => {
                    message = format!("{message}: renamed to {}", aside.display());
                }
                Err(error) => message = format!("{message}; cannot rename it: {error}"),
            }
        }
        // Opening a new database fixes these: retry immediately.
        let is_fixed_by_reopening =
            trouble.kind == Kind::Corrupt || trouble.kind == Kind::Removed && is_open;
        let (known, wait) = match self.trouble {
            Some((kind, _, wait)) => (kind == trouble.kind, (wait * 2).min(MAX_WAIT)),
            None if is_fixed_by_reopening => (false, Duration::ZERO),
            None => (false, FIRST_WAIT),
        };
        if self.trouble.is_none() {
            self.failed_before = self.counts.failed.load(Relaxed);
        }
        let since = match self.status.get() {
            State::Failing { since, .. } => since,
            State::Working => proc::wall_time(),
        };
        if !known {
            tracing::warn!(
                "cannot write the history {}: {message}; retrying",
                file.display()
            );
        }
        self.trouble = Some((
            trouble.kind,
            Instant::now(),
            wait.max(Duration::from_millis(10)),
        ));
        self.due.get_or_insert_with(Instant::now);
        self.status.set(State::Failing {
            since,
            reason: message,
        });
    }

    /// Writes the remaining events, within `LAST_WRITES`.
    fn end(&mut self) {
        let until = Instant::now() + LAST_WRITES;
        self.receiver.close();
        while let Ok(order) = self.orders.try_recv() {
            self.handle(order);
        }
        loop {
            self.queue_waiting();
            let is_done =
                self.backlog.is_empty() && self.hourly.is_empty() && self.receiver.is_empty();
            if is_done || Instant::now() > until {
                break;
            }
            if let Err(trouble) = self.try_write() {
                self.fail(&trouble);
                let is_fixed_by_reopening = matches!(trouble.kind, Kind::Corrupt | Kind::Removed);
                if !is_fixed_by_reopening {
                    break;
                }
            }
        }
        let lost = (self.backlog.len() + self.receiver.len()) as u64;
        if lost > 0 {
            SinkStats::add(&self.counts.failed, lost);
            let events = counted(lost, "event");
            tracing::warn!("{events} could not be written to the history in time");
        }
        if let Some(store) = self.store.take() {
            store.close();
        }
    }
}
