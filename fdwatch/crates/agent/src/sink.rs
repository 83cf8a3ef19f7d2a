//! A bounded queue of events that never delays the sender.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::sync::mpsc;

use fdwatch_events::event::Event;

/// Counters of a sink.
#[derive(Debug, Default)]
pub struct SinkStats {
    /// Events accepted into the queue.
    pub taken: AtomicU64,
    /// Events without room in the queue.
    pub dropped: AtomicU64,
    /// Events delivered to the destination.
    pub delivered: AtomicU64,
    /// Events given up after all attempts.
    pub failed: AtomicU64,
}

impl SinkStats {
    /// Adds `count` to a counter.
    pub fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Relaxed);
    }

    /// Returns the current values: taken, dropped, delivered, failed.
    #[must_use]
    pub fn now(&self) -> [u64; 4] {
        [&self.taken, &self.dropped, &self.delivered, &self.failed].map(|it| it.load(Relaxed))
    }
}

/// The sending side of the queue.
#[derive(Clone, Debug)]
pub struct Sink {
    /// The name in output: `history`, `alerts`, `otlp`, `fleet`.
    pub name: &'static str,
    sender: mpsc::Sender<Arc<Event>>,
    /// Its counters.
    pub counts: Arc<SinkStats>,
}

impl Sink {
    /// Creates a sink for up to `capacity` events, and its receiver. `counts` continue across a reload.
    #[must_use]
    pub fn new(
        name: &'static str,
        capacity: usize,
        counts: Arc<SinkStats>,
    ) -> (Self, mpsc::Receiver<Arc<Event>>) {
        let (sender, receiver) = mpsc::channel(capacity);
        let sink = Self {
            name,
            sender,
            counts,
        };
        (sink, receiver)
    }

    /// Queues an event if there is room.
    pub fn offer(&self, event: &Arc<Event>) {
        let counter = match self.sender.try_send(Arc::clone(event)) {
            Ok(()) => &self.counts.taken,
            Err(_) => &self.counts.dropped,
        };
        SinkStats::add(counter, 1);
    }
}
