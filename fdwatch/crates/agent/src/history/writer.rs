//! The thread that writes: collects for a moment, writes, and where that fails says so once, waits, and
//! tries again.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::{
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

/// How long events are collected before they are written: what a kill of the agent may cost, together
/// with the time that a commit takes.
const COLLECT: Duration = Duration::from_millis(250);

/// How long to wait after what failed first, and at most.
const FIRST_TRY: Duration = Duration::from_millis(250);
const LAST_TRY: Duration = Duration::from_secs(30);

/// How often it is looked whether the database is sound, while something is written.
const CHECK: Duration = Duration::from_secs(10);

/// How often what is too old is looked for.
const FORGET: Duration = Duration::from_secs(600);

/// Of a second, what writing may take at the end.
const LAST_WRITES: Duration = Duration::from_millis(700);

/// SinkStats of descriptors that may wait: of some hours, if they come every five minutes.
const MAX_COUNTS: usize = 32;

/// What the thread is told besides events.
#[derive(Debug)]
pub(super) enum Order {
    /// How many descriptors there are.
    Hourly(Box<HourlyCounts>),
    /// What was there at the start was told.
    FirstSnapshotTold,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Writer {
    settings: Settings,
    receiver: mpsc::Receiver<Arc<Event>>,
    /// Whether more may come out of it.
    is_fed: bool,
    orders: mpsc::Receiver<Order>,
    counts: Arc<SinkStats>,
    status: Arc<Status>,
    backlog: Backlog,
    hourly: Vec<HourlyCounts>,
    store: Option<Store>,
    /// When what is there is to be written.
    due: Option<Instant>,
    /// When what was not found again has ended.
    end_unfound: Option<Instant>,
    forget: Instant,
    checked: Instant,
    /// What was said to be wrong, and how long to wait for the next try.
    trouble: Option<(Kind, Instant, Duration)>,
    /// Counted as failed before that.
    failed_before: u64,
    said_of_size: bool,
}

/// Runs until orders can come no more.
pub(super) fn run(mut writer: Writer) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    match builder.enable_time().build() {
        Ok(runtime) => runtime.block_on(writer.work()),
        Err(error) => {
            let message = format!("its thread cannot wait: {error}");
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
        Self {
            settings,
            receiver,
            is_fed: true,
            orders,
            counts,
            status,
            backlog: Backlog::default(),
            hourly: Vec::new(),
            store: None,
            due: Some(Instant::now()),
            end_unfound: None,
            forget: Instant::now(),
            checked: Instant::now(),
            trouble: None,
            failed_before: 0,
            said_of_size: false,
        }
    }

    async fn work(&mut self) {
        // Even if nothing is ever told: whether it can be is known from here on.
        self.write();
        loop {
            let wake = self.wake();
            tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                event = self.receiver.recv(), if self.is_fed => match event {
                    Some(event) => {
                        self.take(&event);
                        self.take_waiting();
                    }
                    None => self.is_fed = false,
                },
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            if self.wake() <= Instant::now() {
                self.write();
            }
        }
    }

    /// When there is something to do.
    fn wake(&self) -> Instant {
        let times = [self.due, self.end_unfound].into_iter().flatten();
        let first = times.fold(self.forget, Instant::min);
        match self.trouble {
            Some((_, since, wait)) => first.max(since + wait),
            None => first,
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Hourly(counts) => {
                if self.hourly.len() == MAX_COUNTS {
                    self.hourly.remove(0);
                    SinkStats::add(&self.counts.failed, 1);
                }
                self.hourly.push(*counts);
                self.is_due();
            }
            Order::FirstSnapshotTold => {
                self.end_unfound = Some(Instant::now() + self.settings.found_again_within);
            }
        }
    }

    fn is_due(&mut self) {
        self.due.get_or_insert_with(|| Instant::now() + COLLECT);
    }

    /// Takes in an event.
    fn take(&mut self, event: &Event) {
        // What does not come and go has nothing to be kept of.
        let Some(record) = Record::of(event) else {
            SinkStats::add(&self.counts.delivered, 1);
            return;
        };
        if !self.backlog.push(record) {
            SinkStats::add(&self.counts.failed, 1);
        }
        self.is_due();
    }

    /// Takes in what waits, so that no room is wanting there while this one writes.
    fn take_waiting(&mut self) {
        const MAX: usize = 4096;
        for _ in 0..MAX {
            let Ok(event) = self.receiver.try_recv() else {
                return;
            };
            self.take(&event);
        }
    }

    fn write(&mut self) {
        match self.try_write() {
            Ok(()) => self.succeed(),
            Err(trouble) => self.fail(&trouble),
        }
    }

    /// Does some of what there is to do.
    fn try_write(&mut self) -> Result<(), Trouble> {
        let store = match &mut self.store {
            Some(store) => {
                store.check_is_there()?;
                if self.checked.elapsed() > CHECK {
                    store.check_is_sound()?;
                    self.checked = Instant::now();
                }
                store
            }
            empty @ None => empty.insert(Store::open(&self.settings)?),
        };
        let (is_within, there) = store.keep_size()?;
        if there > 0 && !self.said_of_size {
            self.said_of_size = true;
            tracing::warn!(
                "the history has no room for all that is there now: the oldest are forgotten; \
                 raise its `most_bytes`"
            );
        }
        let mut is_done = false;
        if is_within {
            // Small beside the bound, so that there is no going far beyond it.
            let batch = self.settings.config.most_bytes / 64;
            let batch = usize::try_from(batch.clamp(64 << 10, 1 << 20)).unwrap_or(64 << 10);
            if !self.backlog.is_empty() {
                let count = store.write(self.backlog.first(batch))?;
                self.backlog.written(count);
                SinkStats::add(&self.counts.delivered, count as u64);
            }
            while let Some(counts) = self.hourly.first() {
                store.hourly(counts)?;
                self.hourly.remove(0);
            }
            is_done = self.backlog.is_empty();
        }
        let now = Instant::now();
        if is_done && self.end_unfound.is_some_and(|at| at <= now) {
            store.end_unfound(proc::wall_time())?;
            self.end_unfound = None;
        }
        if self.forget <= now {
            store.forget(proc::wall_time())?;
            self.forget = now + FORGET;
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
        tracing::warn!("the history is written again; {events} {were} lost meanwhile");
    }

    fn fail(&mut self, trouble: &Trouble) {
        let mut message = trouble.message.clone();
        let is_open = self.store.is_some();
        match trouble.kind {
            // What was written is safe. The log may give some of its room back.
            Kind::Full => {
                if let Some(store) = &self.store {
                    let _ = store.checkpoint();
                }
            }
            _ => drop(self.store.take()),
        }
        let file = &self.settings.config.file;
        if trouble.kind == Kind::Corrupt {
            match trouble::put_aside(file, Timestamp::now()) {
                Ok(aside) => {
                    message = format!("{message}: put aside as {}", aside.display());
                }
                Err(error) => message = format!("{message}, and cannot be put aside: {error}"),
            }
        }
        // What is mended by opening it anew is tried at once.
        let is_mended_so =
            trouble.kind == Kind::Corrupt || trouble.kind == Kind::Removed && is_open;
        let (known, wait) = match self.trouble {
            Some((kind, _, wait)) => (kind == trouble.kind, (wait * 2).min(LAST_TRY)),
            None if is_mended_so => (false, Duration::ZERO),
            None => (false, FIRST_TRY),
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
                "the history {} cannot be written: {message}; it is tried again",
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

    /// Writes what is left, as long as that may take.
    fn end(&mut self) {
        let until = Instant::now() + LAST_WRITES;
        self.receiver.close();
        while let Ok(order) = self.orders.try_recv() {
            self.obey(order);
        }
        loop {
            self.take_waiting();
            let is_done =
                self.backlog.is_empty() && self.hourly.is_empty() && self.receiver.is_empty();
            if is_done || Instant::now() > until {
                break;
            }
            if let Err(trouble) = self.try_write() {
                self.fail(&trouble);
                let is_mended_so = matches!(trouble.kind, Kind::Corrupt | Kind::Removed);
                if !is_mended_so {
                    break;
                }
            }
        }
        let lost = (self.backlog.len() + self.receiver.len()) as u64;
        if lost > 0 {
            SinkStats::add(&self.counts.failed, lost);
            let events = counted(lost, "event");
            tracing::warn!("the history ends without {events} that could not be written");
        }
        if let Some(store) = self.store.take() {
            store.close();
        }
    }
}
