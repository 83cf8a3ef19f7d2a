//! What waits to be sent to the server: on disk, or in memory where that takes nothing.
//!
//! Who sends it takes the oldest, and says when the server has it: until then it stays where it is. It
//! knows neither the server nor what a row is of.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::Notify;

use crate::{
    config::Fleet,
    exporter::spool::{Losses, Spool},
    sink::SinkStats,
    state::AgentState,
};
use fdwatch_core::plural::{counted, either};
use fdwatch_fleet::rows::Table;

/// The component that problems with the spool are reported for.
pub(super) const SPOOL: &str = "fleet.spool";

/// Bytes of rows that are kept in memory where the disk takes none.
const MAX_IN_MEMORY: usize = 8 << 20;

/// What waits to be sent: on disk, or in memory where that takes nothing.
pub(super) struct Queue {
    state: Mutex<State>,
    pub(super) more: Notify,
    pub(super) counts: Arc<SinkStats>,
    shared: Arc<AgentState>,
    /// Rows that were given up.
    pub(super) refused: AtomicU64,
}

pub(super) struct State {
    pub(super) spool: Option<Spool>,
    /// What the disk did not take: the oldest first.
    pub(super) memory: VecDeque<InMemory>,
    memory_bytes: usize,
    /// The oldest in memory is just being sent.
    pub(super) is_sending: bool,
    /// Rows there was no room for.
    dropped: u64,
    /// What was told of the disk last.
    is_wrong: bool,
    told_losses: Losses,
}

/// Rows that the disk did not take.
#[derive(Clone)]
pub(super) struct InMemory {
    pub(super) table: Table,
    pub(super) lines: Arc<[u8]>,
    pub(super) rows: u64,
}

impl State {
    /// The oldest in memory, but for what is just being sent, is there no more.
    fn forget_waiting(&mut self) -> Option<InMemory> {
        let oldest = self.memory.remove(usize::from(self.is_sending))?;
        self.memory_bytes -= oldest.lines.len();
        Some(oldest)
    }

    /// What was being sent is with the server, or given up.
    pub(super) fn forget_sent(&mut self) {
        self.is_sending = false;
        self.forget_waiting();
    }

    /// Has the spool take what is in memory, as far as it does. What is just being sent stays: it would
    /// be sent twice.
    fn move_to_spool(&mut self) -> io::Result<()> {
        while let Some(oldest) = self.memory.get(usize::from(self.is_sending)).cloned() {
            let spool = self.spool()?;
            spool.append(oldest.table, &oldest.lines, oldest.rows)?;
            self.forget_waiting();
        }
        Ok(())
    }

    fn spool(&mut self) -> io::Result<&mut Spool> {
        let spool = self.spool.as_mut();
        spool.ok_or_else(|| io::Error::other("it could not be opened"))
    }
}

impl Queue {
    pub(super) fn open(config: &Fleet, counts: Arc<SinkStats>, shared: Arc<AgentState>) -> Self {
        let spool = Spool::open(&config.spool, config.most_spool_bytes);
        let trouble = spool.as_ref().err().map(|error| {
            format!(
                "cannot use the spool {}: {error}; findings for the fleet are kept in memory only, \
                 up to {} MiB. Make the directory, or set fleet.spool",
                config.spool.display(),
                MAX_IN_MEMORY >> 20
            )
        });
        if let Some(trouble) = &trouble {
            tracing::error!("{trouble}");
        }
        shared.set_trouble(SPOOL, trouble);
        Self {
            state: Mutex::new(State {
                spool: spool.ok(),
                memory: VecDeque::new(),
                memory_bytes: 0,
                is_sending: false,
                dropped: 0,
                is_wrong: false,
                told_losses: Losses::default(),
            }),
            more: Notify::new(),
            counts,
            shared,
            refused: AtomicU64::new(0),
        }
    }

    /// What it does with the disk is done where it holds up no one else.
    pub(super) async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self, &mut State) -> T + Send + 'static,
    ) -> Option<T> {
        let queue = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let mut state = lock(&queue.state);
            let result = work(&queue, &mut state);
            queue.tell_losses(&mut state);
            result
        });
        done.await.ok()
    }

    pub(super) async fn append(self: &Arc<Self>, table: Table, lines: Vec<u8>, rows: u64) {
        let work = move |queue: &Self, state: &mut State| {
            // What waits in memory comes first.
            let moved = state.move_to_spool();
            let result = moved.and_then(|()| state.spool()?.append(table, &lines, rows));
            queue.tell_of_disk(state, result.as_ref().err());
            if result.is_ok() {
                return;
            }
            state.memory_bytes += lines.len();
            state.memory.push_back(InMemory {
                table,
                lines: lines.into(),
                rows,
            });
            let mut lost = 0;
            while state.memory_bytes > MAX_IN_MEMORY
                && let Some(oldest) = state.forget_waiting()
            {
                lost += oldest.rows;
                queue.lose(state, &oldest);
            }
            if lost > 0 {
                tracing::warn!(
                    "neither the spool nor the server takes anything, and what is kept in memory is \
                     full: {lost} of the oldest rows for the fleet {} dropped",
                    either(&lost, "is", "are")
                );
            }
        };
        self.with(work).await;
        self.more.notify_one();
    }

    /// Tells when the disk takes nothing, and when it does again.
    fn tell_of_disk(&self, state: &mut State, error: Option<&io::Error>) {
        let was_wrong = std::mem::replace(&mut state.is_wrong, error.is_some());
        let Some(error) = error.filter(|_| state.spool.is_some()) else {
            if was_wrong && state.spool.is_some() {
                self.shared.set_trouble(SPOOL, None);
            }
            return;
        };
        if !was_wrong {
            let trouble = format!(
                "cannot write to the spool: {error}; findings for the fleet are kept in memory, up to \
                 {} MiB, until there is room",
                MAX_IN_MEMORY >> 20
            );
            tracing::warn!("{trouble}");
            self.shared.set_trouble(SPOOL, Some(trouble));
        }
    }

    /// There was no room for these.
    fn lose(&self, state: &mut State, lost: &InMemory) {
        state.dropped += lost.rows;
        if lost.table == Table::Findings {
            SinkStats::add(&self.counts.failed, lost.rows);
        }
    }

    /// What is in memory still goes to the disk, if that takes it now, or is lost.
    pub(super) async fn end(self: &Arc<Self>) {
        let work = |queue: &Self, state: &mut State| {
            state.is_sending = false;
            let moved = state.move_to_spool();
            let mut lost = 0;
            while let Some(oldest) = state.forget_waiting() {
                lost += oldest.rows;
                queue.lose(state, &oldest);
            }
            if let Err(error) = moved
                && lost > 0
            {
                tracing::error!(
                    "{} for the fleet {} lost: neither the server nor the spool has taken {}: {error}",
                    counted(lost, "row"),
                    either(&lost, "is", "are"),
                    either(&lost, "it", "them"),
                );
            }
        };
        self.with(work).await;
        self.sync().await;
    }

    pub(super) async fn sync(self: &Arc<Self>) {
        let work = |_: &Self, state: &mut State| {
            if let Some(spool) = &mut state.spool
                && let Err(error) = spool.sync()
            {
                tracing::warn!("cannot write the spool to the disk: {error}");
            }
        };
        self.with(work).await;
    }

    fn tell_losses(&self, state: &mut State) {
        let Some(spool) = &state.spool else { return };
        let (now, told) = (spool.losses, state.told_losses);
        if now == told {
            return;
        }
        let findings = now.findings - told.findings;
        SinkStats::add(&self.counts.failed, findings);
        state.dropped += findings + (now.others - told.others);
        state.told_losses = now;
        if now.damaged > told.damaged {
            tracing::warn!(
                "damage in the spool: {} left out",
                counted(now.damaged - told.damaged, "byte")
            );
        }
        if findings > 0 {
            tracing::warn!(
                "the spool is full: {findings} of the oldest findings for the fleet {} dropped. \
                 Raise most_spool_bytes in [fleet], or see why the server is away",
                either(&findings, "is", "are")
            );
        }
    }

    pub(super) fn spooled(&self) -> u64 {
        let state = lock(&self.state);
        let on_disk = state.spool.as_ref().map_or(0, Spool::bytes);
        on_disk + state.memory_bytes as u64
    }

    pub(super) fn dropped(&self) -> u64 {
        let [_, dropped, ..] = self.counts.now();
        dropped + lock(&self.state).dropped + self.refused.load(Relaxed)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
