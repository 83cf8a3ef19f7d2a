//! Passes updates and requests between the screen's thread and the source's. Newer states replace older ones,
//! and the number of queued findings is limited, so neither thread waits for the other.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use tokio::sync::Notify;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt as _},
};

use crate::{
    Update,
    data::{Descriptors, FindingEvent, Row, Status},
};

/// Maximum number of queued findings. When exceeded, the oldest are dropped and counted.
const MAX_FINDINGS: usize = 2000;

/// Request to the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceRequest {
    /// Read the process with this PID periodically.
    Open(u32),
    /// Stop reading it.
    Close,
}

/// Channel between the screen and the source.
#[derive(Default)]
pub(crate) struct Inbox {
    pending: Mutex<Pending>,
    has_changed: Notify,
    /// The latest request.
    request: Mutex<Option<SourceRequest>>,
    has_request: Notify,
    /// The source has ended.
    is_over: AtomicBool,
    /// The user has quit.
    has_quit: AtomicBool,
    quits: Notify,
}

/// Updates that the screen has not taken yet.
#[derive(Default)]
struct Pending {
    status: Option<Box<Status>>,
    rows: Option<(Vec<Row>, u64)>,
    findings: VecDeque<FindingEvent>,
    missed: u64,
    table: Option<Box<Descriptors>>,
    explanation: Option<(u32, Vec<String>)>,
    failed: Option<(u32, String)>,
    note: Option<String>,
}

impl Inbox {
    fn change(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut lock(&self.pending));
        self.has_changed.notify_one();
    }

    pub(crate) fn status(&self, status: Status) {
        self.change(|pending| pending.status = Some(Box::new(status)));
    }

    pub(crate) fn rows(&self, rows: Vec<Row>, more: u64) {
        self.change(|pending| pending.rows = Some((rows, more)));
    }

    pub(crate) fn add(&self, finding: FindingEvent) {
        self.change(|pending| {
            if pending.findings.len() >= MAX_FINDINGS {
                pending.findings.pop_front();
                pending.missed += 1;
            }
            pending.findings.push_back(finding);
        });
    }

    pub(crate) fn table(&self, table: Descriptors) {
        self.change(|pending| pending.table = Some(Box::new(table)));
    }

    pub(crate) fn explanation(&self, pid: u32, lines: Vec<String>) {
        self.change(|pending| pending.explanation = Some((pid, lines)));
    }

    pub(crate) fn failed(&self, pid: u32, reason: String) {
        self.change(|pending| pending.failed = Some((pid, reason)));
    }

    pub(crate) fn note(&self, message: String) {
        self.change(|pending| pending.note = Some(message));
    }

    /// Returns all updates since the last call.
    pub(crate) fn take(&self) -> Vec<Update> {
        let Pending {
            status,
            rows,
            findings,
            missed,
            table,
            explanation,
            failed,
            note,
        } = std::mem::take(&mut *lock(&self.pending));
        let mut updates = Vec::new();
        updates.extend(status.map(Update::Status));
        updates.extend(rows.map(|(rows, more)| Update::Rows(rows, more)));
        if !findings.is_empty() {
            updates.push(Update::Findings(findings.into()));
        }
        if missed > 0 {
            updates.push(Update::Missed(missed));
        }
        updates.extend(table.map(Update::Table));
        updates.extend(explanation.map(|(pid, lines)| Update::Explanation(pid, lines)));
        updates.extend(failed.map(|(pid, reason)| Update::Failed(pid, reason)));
        updates.extend(note.map(Update::Note));
        updates
    }

    /// Waits for updates, or for the end of the source.
    pub(crate) async fn changed(&self) {
        self.has_changed.notified().await;
    }

    /// Reports that the source has ended.
    pub(crate) fn end(&self) {
        self.is_over.store(true, SeqCst);
        self.has_changed.notify_one();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(SeqCst)
    }

    /// Sends a request. It replaces a previous one that was not taken yet.
    pub(crate) fn request(&self, request: SourceRequest) {
        *lock(&self.request) = Some(request);
        self.has_request.notify_one();
    }

    /// Waits for a request.
    pub(crate) async fn requested(&self) {
        self.has_request.notified().await;
    }

    /// Returns the pending request, if any.
    pub(crate) fn take_request(&self) -> Option<SourceRequest> {
        lock(&self.request).take()
    }

    /// Requests that the source ends.
    pub(crate) fn quit(&self) {
        self.has_quit.store(true, SeqCst);
        self.quits.notify_one();
    }

    /// Waits until the user quits.
    pub(crate) async fn quits(&self) {
        while !self.has_quit.load(SeqCst) {
            self.quits.notified().await;
        }
    }

    /// Redirects fdwatch's log messages to the footer.
    pub(crate) fn take_notes(self: &Arc<Self>) {
        let subscriber = Registry::default().with(Notes(Arc::clone(self)));
        // Only the agent has set another one.
        let _ = tracing::subscriber::set_global_default(subscriber);
    }
}

/// Locks a mutex, also after a panic: no change is left incomplete.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends log messages to the inbox.
struct Notes(Arc<Inbox>);

impl<S: Subscriber> Layer<S> for Notes {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        // Skips messages of libraries.
        metadata.target().starts_with("fdwatch")
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        self.0.note(message.0);
    }
}

/// Extracts the message of a log event.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
