//! What lies between the thread that has the screen and the one that follows the events: of what is
//! replaced by what comes later there is the latest, of what is not so much and no more. Neither waits.

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
    data::{Descriptors, News, Row, Status},
};

/// Things told that wait at once; more are counted.
const MAX_NEWS: usize = 2000;

/// What is wanted of those who follow the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// To tell of a process, until another is opened.
    Open(u32),
    /// To tell of none.
    Close,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Inbox {
    waiting: Mutex<Waiting>,
    news: Notify,
    /// The last thing that was asked.
    asked: Mutex<Option<Ask>>,
    asks: Notify,
    /// There is nothing more to come.
    is_over: AtomicBool,
    /// Nobody looks any more.
    has_quit: AtomicBool,
    quits: Notify,
}

#[derive(Default)]
struct Waiting {
    status: Option<Box<Status>>,
    rows: Option<(Vec<Row>, u64)>,
    news: VecDeque<News>,
    missed: u64,
    table: Option<Box<Descriptors>>,
    story: Option<(u32, Vec<String>)>,
    failed: Option<(u32, String)>,
    note: Option<String>,
}

impl Inbox {
    fn change(&self, change: impl FnOnce(&mut Waiting)) {
        change(&mut lock(&self.waiting));
        self.news.notify_one();
    }

    pub(crate) fn status(&self, status: Status) {
        self.change(|waiting| waiting.status = Some(Box::new(status)));
    }

    pub(crate) fn rows(&self, rows: Vec<Row>, more: u64) {
        self.change(|waiting| waiting.rows = Some((rows, more)));
    }

    pub(crate) fn tell(&self, news: News) {
        self.change(|waiting| {
            if waiting.news.len() >= MAX_NEWS {
                waiting.news.pop_front();
                waiting.missed += 1;
            }
            waiting.news.push_back(news);
        });
    }

    pub(crate) fn table(&self, table: Descriptors) {
        self.change(|waiting| waiting.table = Some(Box::new(table)));
    }

    pub(crate) fn story(&self, pid: u32, lines: Vec<String>) {
        self.change(|waiting| waiting.story = Some((pid, lines)));
    }

    pub(crate) fn failed(&self, pid: u32, reason: String) {
        self.change(|waiting| waiting.failed = Some((pid, reason)));
    }

    pub(crate) fn note(&self, words: String) {
        self.change(|waiting| waiting.note = Some(words));
    }

    /// All that has come since the last time.
    pub(crate) fn take(&self) -> Vec<Update> {
        let Waiting {
            status,
            rows,
            news,
            missed,
            table,
            story,
            failed,
            note,
        } = std::mem::take(&mut *lock(&self.waiting));
        let mut updates = Vec::new();
        updates.extend(status.map(Update::Status));
        updates.extend(rows.map(|(rows, more)| Update::Rows(rows, more)));
        if !news.is_empty() {
            updates.push(Update::News(news.into()));
        }
        if missed > 0 {
            updates.push(Update::Missed(missed));
        }
        updates.extend(table.map(Update::Table));
        updates.extend(story.map(|(pid, lines)| Update::Story(pid, lines)));
        updates.extend(failed.map(|(pid, reason)| Update::Failed(pid, reason)));
        updates.extend(note.map(Update::Note));
        updates
    }

    /// Waits until there is something to take, or nothing more will come.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// There is nothing more to come.
    pub(crate) fn end(&self) {
        self.is_over.store(true, SeqCst);
        self.news.notify_one();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(SeqCst)
    }

    /// Asks; what was asked before and not yet taken is asked no more.
    pub(crate) fn ask(&self, ask: Ask) {
        *lock(&self.asked) = Some(ask);
        self.asks.notify_one();
    }

    /// Waits until something may have been asked.
    pub(crate) async fn asks(&self) {
        self.asks.notified().await;
    }

    pub(crate) fn asked(&self) -> Option<Ask> {
        lock(&self.asked).take()
    }

    /// Nobody looks any more.
    pub(crate) fn quit(&self) {
        self.has_quit.store(true, SeqCst);
        self.quits.notify_one();
    }

    /// Waits until nobody looks any more.
    pub(crate) async fn quits(&self) {
        while !self.has_quit.load(SeqCst) {
            self.quits.notified().await;
        }
    }

    /// What fdwatch has to say besides is shown from now on, and not written over the screen.
    pub(crate) fn take_notes(self: &Arc<Self>) {
        let subscriber = Registry::default().with(Notes(Arc::clone(self)));
        // There is none but in the agent.
        let _ = tracing::subscriber::set_global_default(subscriber);
    }
}

/// Nothing is left half done by a thread that panics with one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Notes(Arc<Inbox>);

impl<S: Subscriber> Layer<S> for Notes {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        // Libraries say much that is of no use here.
        metadata.target().starts_with("fdwatch")
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut words = Words(String::new());
        event.record(&mut words);
        self.0.note(words.0);
    }
}

/// A message.
struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
