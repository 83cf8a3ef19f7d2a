//! The history of findings, and of the number of descriptors per process and hour, in SQLite.
//!
//! A thread of its own (`writer`) receives events from a sink. Events that cannot be written yet wait in a bounded
//! `backlog`, with their texts in `blocks`. `record` defines the stored part of an event, `schema` the layout of the
//! database, `store` the operations on it, `aging` the limit of deletions by age, and `trouble` its errors. [`read`] is
//! the reader: it needs no agent, and does not write.
//!
//! No other part of the agent waits for the history.

mod aging;
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

/// Time limit for stopping.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Limit of orders that wait for the thread.
const MAX_ORDERS: usize = 8;

/// Time after the first snapshot in which findings of an earlier run must be found again.
const FOUND_AGAIN_WITHIN: Duration = Duration::from_secs(60);

/// A handle to the thread that writes the history.
#[derive(Debug)]
pub struct History {
    status: Arc<Status>,
    counts: Arc<SinkStats>,
    orders: Option<mpsc::Sender<Order>>,
    ended: Option<std_mpsc::Receiver<()>>,
}

impl History {
    /// Starts a thread that writes the events of `receiver`. Never fails: events that cannot be written are counted in
    /// `counts`, and the reason is in [`State`].
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
            // Fails if `stop` has given up waiting.
            let _ = end.send(());
        });
        if let Err(error) = spawned {
            let reason = format!("cannot start a thread: {error}");
            tracing::warn!("cannot write the history: {reason}");
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

    /// Returns whether the history can be written.
    #[must_use]
    pub fn state(&self) -> State {
        self.status.get()
    }

    /// Stores the number of descriptors per process. Called every five minutes, the time that curves cover, and at the
    /// end; the minimum, the maximum and the last value of each hour are stored.
    pub fn hourly(&self, counts: impl Into<HourlyCounts>) {
        self.order(Order::Hourly(Box::new(counts.into())));
    }

    /// Signals that all findings of the first snapshot are reported. Findings that an earlier agent left active, and
    /// that are not found again within a minute, are ended.
    pub fn mark_first_snapshot(&self) {
        self.order(Order::FirstSnapshotReported);
    }

    fn order(&self, order: Order) {
        // The channel is full only if the thread waits for its disk.
        let orders = self.orders.as_ref();
        if orders.is_none_or(|orders| orders.try_send(order).is_err()) {
            SinkStats::add(&self.counts.failed, 1);
        }
    }

    /// Writes the remaining events and stops, within a second. Events that cannot be written by then are lost and
    /// counted.
    pub fn stop(mut self) {
        drop(self.orders.take());
        if let Some(ended) = self.ended.take()
            && ended.recv_timeout(STOP_TIMEOUT) == Err(std_mpsc::RecvTimeoutError::Timeout)
        {
            tracing::warn!("the history did not stop within a second");
        }
    }
}
