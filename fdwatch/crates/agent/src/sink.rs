//! A bounded way out for events, which never holds up who offers them. What is on the other side is
//! not known here.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::sync::mpsc;

use fdwatch_events::event::Event;

/// What an sink did with what it was offered, and what became of it further on.
#[derive(Debug, Default)]
pub struct SinkStats {
    /// Taken in.
    pub taken: AtomicU64,
    /// There was no room for it.
    pub dropped: AtomicU64,
    /// Handed on, to where the sink leads.
    pub delivered: AtomicU64,
    /// Given up after all tries.
    pub failed: AtomicU64,
}

impl SinkStats {
    /// SinkStats one more.
    pub fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Relaxed);
    }

    /// As they are now: taken, dropped, delivered, failed.
    #[must_use]
    pub fn now(&self) -> [u64; 4] {
        [&self.taken, &self.dropped, &self.delivered, &self.failed].map(|it| it.load(Relaxed))
    }
}

/// A way out.
#[derive(Clone, Debug)]
pub struct Sink {
    /// The name users see: `history`, `alerts`, `otlp`, `fleet`.
    pub name: &'static str,
    sender: mpsc::Sender<Arc<Event>>,
    /// What it did.
    pub counts: Arc<SinkStats>,
}

impl Sink {
    /// One with room for so many events, and where they come out. What was counted of it before goes
    /// on being counted.
    #[must_use]
    pub fn new(
        name: &'static str,
        room: usize,
        counts: Arc<SinkStats>,
    ) -> (Self, mpsc::Receiver<Arc<Event>>) {
        let (sender, receiver) = mpsc::channel(room);
        let sink = Self {
            name,
            sender,
            counts,
        };
        (sink, receiver)
    }

    /// Takes it in if there is room.
    pub fn offer(&self, event: &Arc<Event>) {
        let counter = match self.sender.try_send(Arc::clone(event)) {
            Ok(()) => &self.counts.taken,
            Err(_) => &self.counts.dropped,
        };
        SinkStats::add(counter, 1);
    }
}
