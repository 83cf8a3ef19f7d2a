//! The state that the live loop shares with the agent's other threads.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::{broadcast, mpsc, oneshot};

use super::{
    sink::{Sink, SinkStats},
    snapshot::{Active, Snapshot},
};
use fdwatch_core::open_for_write;
use fdwatch_events::{
    Explanation,
    event::{Event, Key},
};
use fdwatch_options::Target;
use fdwatch_tracker::rows::TableCopy;

/// Events by which a client of the API may lag.
const MAX_LAG: usize = 4096;

/// Limit of requests that wait for the loop.
const MAX_REQUESTS: usize = 64;

/// A request to the live loop, which owns the tables.
#[derive(Debug)]
pub enum LoopRequest {
    /// The descriptors of a process.
    Table {
        /// The process.
        pid: u32,
        /// Receives the table; `None` if there is no such process.
        reply: oneshot::Sender<Option<Box<TableCopy>>>,
    },
    /// How a process came to hold its descriptors.
    Explain {
        /// The process.
        pid: u32,
        /// The descriptor or path; by default all duplicates and deleted files.
        target: Option<Target>,
        /// Receives the explanation, or an error.
        reply: oneshot::Sender<Result<Box<Explanation>, String>>,
    },
    /// The processes with the most descriptors, the most duplicates, or close to their limit.
    Processes {
        /// Limit of processes of each kind.
        max: usize,
        /// Receives the processes.
        reply: oneshot::Sender<Vec<fdwatch_events::ProcessRow>>,
    },
    /// The files of some devices that are open for writing.
    OpenForWrite {
        /// The devices, in the kernel's encoding.
        devices: Vec<u32>,
        /// Receives the files.
        reply: oneshot::Sender<open_for_write::OpenFiles>,
    },
}

/// The shared state.
#[derive(Debug)]
pub struct AgentState {
    view: RwLock<Arc<Snapshot>>,
    active: Mutex<BTreeMap<Key, Active>>,
    /// The channel of all events, for clients of the API.
    pub events: broadcast::Sender<Arc<Event>>,
    sinks: Mutex<Vec<Sink>>,
    requests: mpsc::Sender<LoopRequest>,
    /// Current problems, by component.
    troubles: Mutex<BTreeMap<&'static str, String>>,
    /// Incremented by the live loop ten times a second, as a sign of life.
    pub heartbeat: Arc<AtomicU64>,
    /// Counters of the API.
    pub api: ApiCounts,
}

/// Counters of the API.
#[derive(Debug, Default)]
pub struct ApiCounts {
    /// Permitted requests.
    pub requests: AtomicU64,
    /// Rejected connections and requests: too many, too large, too slow, or with a wrong token.
    pub refused: AtomicU64,
    /// Readers of events that were dropped because they were too slow.
    pub slow_readers: AtomicU64,
    /// Current readers of events.
    pub readers: AtomicU64,
}

impl AgentState {
    /// Creates an empty state, and the receiver of requests for the loop.
    #[must_use]
    pub fn new() -> (Arc<Self>, mpsc::Receiver<LoopRequest>) {
        let (requests, incoming) = mpsc::channel(MAX_REQUESTS);
        let shared = Self {
            view: RwLock::default(),
            active: Mutex::default(),
            events: broadcast::channel(MAX_LAG).0,
            sinks: Mutex::default(),
            requests,
            troubles: Mutex::default(),
            heartbeat: Arc::default(),
            api: ApiCounts::default(),
        };
        (Arc::new(shared), incoming)
    }

    /// Passes an event to all sinks and clients, and updates the active findings.
    pub fn publish(&self, event: Event) {
        let event = Arc::new(event);
        if let (Some(key), Some(change)) = (event.key, event.kind.change()) {
            let mut active = lock(&self.active);
            if change == fdwatch_core::duplicates::Change::Gone {
                active.remove(&key);
            } else {
                let last = Arc::clone(&event);
                let since = active.get(&key).map_or(event.at, |known| known.since);
                active.insert(key, Active { key, since, last });
            }
        }
        for sink in lock(&self.sinks).iter() {
            sink.offer(&event);
        }
        // Fails if there are no clients.
        let _ = self.events.send(event);
    }

    /// Returns whether the finding of a key is active.
    #[must_use]
    pub fn is_active(&self, key: Key) -> bool {
        lock(&self.active).contains_key(&key)
    }

    /// Returns all active findings, in the order of their keys.
    #[must_use]
    pub fn active(&self) -> Vec<Active> {
        lock(&self.active).values().cloned().collect()
    }

    /// Returns the latest snapshot.
    #[must_use]
    pub fn view(&self) -> Arc<Snapshot> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the snapshot.
    pub fn set_view(&self, view: Snapshot) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }

    /// Replaces the sinks.
    pub fn set_sinks(&self, sinks: Vec<Sink>) {
        *lock(&self.sinks) = sinks;
    }

    /// Returns the counters of each sink by its name.
    #[must_use]
    pub fn sinks(&self) -> Vec<(&'static str, Arc<SinkStats>)> {
        let sinks = lock(&self.sinks);
        let sinks = sinks.iter();
        sinks
            .map(|sink| (sink.name, Arc::clone(&sink.counts)))
            .collect()
    }

    /// Returns the current problems: component and reason.
    #[must_use]
    pub fn troubles(&self) -> Vec<(String, String)> {
        let troubles = lock(&self.troubles);
        let troubles = troubles.iter();
        troubles
            .map(|(&of, reason)| (of.to_owned(), reason.clone()))
            .collect()
    }

    /// Sets or clears the problem of a component.
    pub fn set_trouble(&self, of: &'static str, reason: Option<String>) {
        let mut troubles = lock(&self.troubles);
        match reason {
            Some(reason) => troubles.insert(of, reason),
            None => troubles.remove(of),
        };
    }

    /// Sends a request to the loop. Returns whether there was room for it.
    #[must_use]
    pub fn send_request(&self, request: LoopRequest) -> bool {
        self.requests.try_send(request).is_ok()
    }

    /// Increments a counter.
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }
}

/// Locks a mutex. Poisoning is ignored, because no thread leaves the data inconsistent when it panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
