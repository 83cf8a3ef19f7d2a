//! What the live loop and the agent's other threads have in common. What is done with it on either
//! side is not known here.

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
use fdwatch_tracker::rows::TableAnswer;

/// Events that a client of the API may be behind by.
const MAX_BEHIND: usize = 4096;

/// Questions that wait for the loop at once.
const MAX_QUESTIONS: usize = 64;

/// What only the live loop can answer, as it alone has the tables.
#[derive(Debug)]
pub enum LoopRequest {
    /// The descriptors of a process.
    Table {
        /// The process.
        pid: u32,
        /// Takes the answer: nothing, if the process is not known.
        answer: oneshot::Sender<Option<Box<TableAnswer>>>,
    },
    /// Why a process holds what it holds.
    Explain {
        /// The process.
        pid: u32,
        /// What of it; all that is held twice, or was deleted.
        target: Option<Target>,
        /// Takes the answer, or why there is none.
        answer: oneshot::Sender<Result<Box<Explanation>, String>>,
    },
    /// The processes with the most descriptors.
    Processes {
        /// How many.
        most: usize,
        /// Takes the answer.
        answer: oneshot::Sender<Vec<fdwatch_events::ProcessRow>>,
    },
    /// The files of some devices that are open for writing.
    Written {
        /// The devices, in the kernel's own encoding.
        devices: Vec<u32>,
        /// Takes the answer.
        answer: oneshot::Sender<open_for_write::Found>,
    },
}

/// See the module.
#[derive(Debug)]
pub struct AgentState {
    view: RwLock<Arc<Snapshot>>,
    active: Mutex<BTreeMap<Key, Active>>,
    /// Where all events come by, for clients of the API.
    pub events: broadcast::Sender<Arc<Event>>,
    sinks: Mutex<Vec<Sink>>,
    questions: mpsc::Sender<LoopRequest>,
    /// What does not work as it should, and why.
    troubles: Mutex<BTreeMap<&'static str, String>>,
    /// Counted up by the live loop ten times a second: that it lives.
    pub heartbeat: Arc<AtomicU64>,
    /// What clients of the API asked, and how that went.
    pub api: ApiCounts,
}

/// What clients of the API did.
#[derive(Debug, Default)]
pub struct ApiCounts {
    /// Requests that were answered.
    pub requests: AtomicU64,
    /// Connections there was no room for, requests too large or too slow, tokens that were wrong.
    pub refused: AtomicU64,
    /// Readers of events that were too slow, and dropped.
    pub slow_readers: AtomicU64,
    /// Readers of events there are now.
    pub readers: AtomicU64,
}

impl AgentState {
    /// An empty one, and where the loop finds what it is asked.
    #[must_use]
    pub fn new() -> (Arc<Self>, mpsc::Receiver<LoopRequest>) {
        let (questions, asked) = mpsc::channel(MAX_QUESTIONS);
        let shared = Self {
            view: RwLock::default(),
            active: Mutex::default(),
            events: broadcast::channel(MAX_BEHIND).0,
            sinks: Mutex::default(),
            questions,
            troubles: Mutex::default(),
            heartbeat: Arc::default(),
            api: ApiCounts::default(),
        };
        (Arc::new(shared), asked)
    }

    /// Hands an event to all who want it, and keeps what is there.
    pub fn tell(&self, event: Event) {
        let event = Arc::new(event);
        if let (Some(key), Some(change)) = (event.key, event.told.change()) {
            let mut active = lock(&self.active);
            if change == fdwatch_core::duplicates::Change::Gone {
                active.remove(&key);
            } else {
                let last = Arc::clone(&event);
                let since = active
                    .get(&key)
                    .map_or(event.wall_time, |known| known.since);
                active.insert(key, Active { key, since, last });
            }
        }
        for sink in lock(&self.sinks).iter() {
            sink.offer(&event);
        }
        // Where no one listens it is nobody's loss.
        let _ = self.events.send(event);
    }

    /// Whether what the key is of is there now.
    #[must_use]
    pub fn is_active(&self, key: Key) -> bool {
        lock(&self.active).contains_key(&key)
    }

    /// What is there now, in the order of the keys.
    #[must_use]
    pub fn active(&self) -> Vec<Active> {
        lock(&self.active).values().cloned().collect()
    }

    /// The latest view.
    #[must_use]
    pub fn view(&self) -> Arc<Snapshot> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// There is a later view.
    pub fn set_view(&self, view: Snapshot) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }

    /// The sinks there are from now on.
    pub fn set_sinks(&self, sinks: Vec<Sink>) {
        *lock(&self.sinks) = sinks;
    }

    /// What each sink did so far, by its name.
    #[must_use]
    pub fn sinks(&self) -> Vec<(&'static str, Arc<SinkStats>)> {
        let sinks = lock(&self.sinks);
        let sinks = sinks.iter();
        sinks
            .map(|sink| (sink.name, Arc::clone(&sink.counts)))
            .collect()
    }

    /// What does not work as it should: what of it, and why.
    #[must_use]
    pub fn troubles(&self) -> Vec<(String, String)> {
        let troubles = lock(&self.troubles);
        let troubles = troubles.iter();
        troubles
            .map(|(&of, reason)| (of.to_owned(), reason.clone()))
            .collect()
    }

    /// Something does not work any more, or does again.
    pub fn set_trouble(&self, of: &'static str, reason: Option<String>) {
        let mut troubles = lock(&self.troubles);
        match reason {
            Some(reason) => troubles.insert(of, reason),
            None => troubles.remove(of),
        };
    }

    /// Asks the loop. Whether there is room for another question.
    #[must_use]
    pub fn ask(&self, question: LoopRequest) -> bool {
        self.questions.try_send(question).is_ok()
    }

    /// SinkStats one more.
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }
}

/// Nothing is left half done by a thread that panics with one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
