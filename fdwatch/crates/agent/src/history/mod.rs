//! What came and went, and how many descriptors processes had, hour by hour: in SQLite.
//!
//! A thread of its own writes (`writer`), fed by an sink; it keeps what it cannot write yet in a
//! bounded `backlog`, the texts of it in `blocks`. `record` is what is kept of an event, `schema` how the database is laid out,
//! `store` what is done to it, `trouble` what can be wrong with it. [`read`] is the other side: it
//! needs no agent, and writes nothing.
//!
//! Nothing here decides what is told, or is waited for by whoever tells it.

mod backlog;
mod blocks;
pub mod read;
mod record;
mod schema;
mod store;
#[cfg(test)]
mod tests;
mod trouble;
mod types;
mod writer;

use std::{
    sync::{Arc, mpsc as std_mpsc},
    thread,
    time::Duration,
};

use tokio::sync::mpsc;

pub use self::types::{HourlyCounts, MAX_PROCESSES, State};
use self::{
    types::{Run, Settings, Status},
    writer::{Order, Writer},
};
use super::{config, sink::SinkStats};
use fdwatch_events::event::Event;
use fdwatch_host::proc;

/// How long an end may take.
const STOP: Duration = Duration::from_secs(1);

/// Orders that wait for the thread at once: none is needed sooner than the next.
const MAX_ORDERS: usize = 8;

/// How long after the first snapshot what is there must have been found again.
const FOUND_AGAIN_WITHIN: Duration = Duration::from_secs(60);

/// The history while it is written.
#[derive(Debug)]
pub struct History {
    status: Arc<Status>,
    counts: Arc<SinkStats>,
    orders: Option<mpsc::Sender<Order>>,
    ended: Option<std_mpsc::Receiver<()>>,
}

impl History {
    /// Begins to write what comes out of `receiver`, in a thread of its own. What cannot be written is
    /// counted in `counts`, and why is a [`State`]: this never fails.
    #[must_use]
    pub fn start(
        config: config::History,
        receiver: mpsc::Receiver<Arc<Event>>,
        counts: Arc<SinkStats>,
    ) -> Self {
        let settings = Settings {
            config,
            run: Run::of_this_process(),
            found_again_within: FOUND_AGAIN_WITHIN,
        };
        Self::start_with(settings, receiver, counts)
    }

    fn start_with(
        settings: Settings,
        receiver: mpsc::Receiver<Arc<Event>>,
        counts: Arc<SinkStats>,
    ) -> Self {
        let status = Arc::new(Status::new());
        let (orders, ordered) = mpsc::channel(MAX_ORDERS);
        let (end, ended) = std_mpsc::sync_channel(1);
        let of_thread = (Arc::clone(&counts), Arc::clone(&status));
        let thread = thread::Builder::new().name("history".to_owned());
        let spawned = thread.spawn(move || {
            let (counts, status) = of_thread;
            writer::run(Writer::new(settings, receiver, ordered, counts, status));
            // Whoever waited for it may have given up.
            let _ = end.send(());
        });
        if let Err(error) = spawned {
            let reason = format!("no thread can be started: {error}");
            tracing::warn!("the history is not written: {reason}");
            let since = proc::wall_time();
            status.set(State::Failing { since, reason });
            return Self {
                status,
                counts,
                orders: None,
                ended: None,
            };
        }
        Self {
            status,
            counts,
            orders: Some(orders),
            ended: Some(ended),
        }
    }

    /// How it goes.
    #[must_use]
    pub fn state(&self) -> State {
        self.status.get()
    }

    /// Takes in how many descriptors there are: once an hour and before the end, or more often, such as
    /// every five minutes, which is what curves go back; of an hour the fewest, the most and the last are
    /// kept.
    pub fn hourly(&self, counts: impl Into<HourlyCounts>) {
        self.order(Order::Hourly(Box::new(counts.into())));
    }

    /// All that was there at the start has been told, or is about to be: what an earlier agent left open
    /// and is not found again within a minute has ended in between.
    pub fn first_snapshot_told(&self) {
        self.order(Order::FirstSnapshotTold);
    }

    fn order(&self, order: Order) {
        // A thread that has no time for eight of these waits for its disk.
        let orders = self.orders.as_ref();
        if orders.is_none_or(|orders| orders.try_send(order).is_err()) {
            SinkStats::add(&self.counts.failed, 1);
        }
    }

    /// Writes what there is and ends, within a second. What cannot be written until then is lost, and
    /// counted.
    pub fn stop(mut self) {
        drop(self.orders.take());
        if let Some(ended) = self.ended.take()
            && ended.recv_timeout(STOP) == Err(std_mpsc::RecvTimeoutError::Timeout)
        {
            tracing::warn!("the history does not end within a second, and is left to itself");
        }
    }
}
