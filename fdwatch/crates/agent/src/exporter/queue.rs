//! The queue of rows to send to the server: on disk, or in memory while the disk cannot be written.
//!
//! The sender takes the oldest rows and confirms them; until then they stay in the queue.

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
use fdwatch_core::plural::counted;
use fdwatch_fleet::rows::Table;

/// The component that problems with the spool are reported for.
pub(super) const SPOOL: &str = "fleet.spool";

/// Size limit of rows in memory while the disk cannot be written: bytes.
const MAX_IN_MEMORY: usize = 8 << 20;

/// The queue.
pub(super) struct Queue {
    state: Mutex<State>,
    pub(super) more: Notify,
    pub(super) counts: Arc<SinkStats>,
    agent: Arc<AgentState>,
    /// Rows that the server rejected.
    pub(super) refused: AtomicU64,
}

pub(super) struct State {
    pub(super) spool: Option<Spool>,
    /// Rows that could not be written to disk, oldest first.
    pub(super) memory: VecDeque<InMemory>,
    memory_bytes: usize,
    /// Whether the oldest rows in memory are being sent.
    pub(super) is_sending: bool,
    /// Rows dropped for lack of room.
    dropped: u64,
    /// Whether the last write to the disk failed, and that was reported.
    is_failing: bool,
    reported_losses: Losses,
}

/// Rows that could not be written to disk.
#[derive(Clone)]
pub(super) struct InMemory {
    pub(super) table: Table,
    pub(super) lines: Arc<[u8]>,
    pub(super) rows: u64,
}

impl State {
    /// Removes the oldest rows in memory that are not being sent.
    fn pop_waiting(&mut self) -> Option<InMemory> {
        let oldest = self.memory.remove(usize::from(self.is_sending))?;
        self.memory_bytes -= oldest.lines.len();
        Some(oldest)
    }

    /// Removes the rows that were being sent: the server has them, or rejected them.
    pub(super) fn remove_sent(&mut self) {
        self.is_sending = false;
        self.pop_waiting();
    }

    /// Moves rows from memory to the spool. Those being sent stay, or they would be sent twice.
    fn move_to_spool(&mut self) -> io::Result<()> {
        while let Some(oldest) = self.memory.get(usize::from(self.is_sending)).cloned() {
            let spool = self.spool()?;
            spool.append(oldest.table, &oldest.lines, oldest.rows)?;
            self.pop_waiting();
        }
        Ok(())
    }

    fn spool(&mut self) -> io::Result<&mut Spool> {
        let spool = self.spool.as_mut();
        spool.ok_or_else(|| io::Error::other("the spool is not open"))
    }
}

impl Queue {
    pub(super) fn open(config: &Fleet, counts: Arc<SinkStats>, agent: Arc<AgentState>) -> Self {
        let spool = Spool::open(&config.spool, config.most_spool_bytes);
        let trouble = spool.as_ref().err().map(|error| {
            format!(
                "cannot open the spool {}: {error}; findings for the fleet are kept in memory only, up to {} MiB. \
                 Create the directory, or set spool in [fleet]",
                config.spool.display(),
                MAX_IN_MEMORY >> 20
            )
        });
        if let Some(trouble) = &trouble {
            tracing::error!("{trouble}");
        }
        agent.set_trouble(SPOOL, trouble);
        Self {
            state: Mutex::new(State {
                spool: spool.ok(),
                memory: VecDeque::new(),
                memory_bytes: 0,
                is_sending: false,
                dropped: 0,
                is_failing: false,
                reported_losses: Losses::default(),
            }),
            more: Notify::new(),
            counts,
            agent,
            refused: AtomicU64::new(0),
        }
    }

    /// Runs `work` on a blocking thread, because it accesses the disk.
    pub(super) async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self, &mut State) -> T + Send + 'static,
    ) -> Option<T> {
        let queue = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let mut state = lock(&queue.state);
            let result = work(&queue, &mut state);
            queue.report_losses(&mut state);
            result
        });
        done.await.ok()
    }

    pub(super) async fn append(self: &Arc<Self>, table: Table, lines: Vec<u8>, rows: u64) {
        let work = move |queue: &Self, state: &mut State| {
            // Rows in memory are older.
            let moved = state.move_to_spool();
            let result = moved.and_then(|()| state.spool()?.append(table, &lines, rows));
            queue.report_disk(state, result.as_ref().err());
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
                && let Some(oldest) = state.pop_waiting()
            {
                lost += oldest.rows;
                queue.count_lost(state, &oldest);
            }
            if lost > 0 {
                tracing::warn!(
                    "neither the spool nor the server can be written, and the memory limit is reached: dropped the \
                     oldest {} for the fleet",
                    counted(lost, "row")
                );
            }
        };
        self.with(work).await;
        self.more.notify_one();
    }

    /// Reports when the disk cannot be written, and when it can again.
    fn report_disk(&self, state: &mut State, error: Option<&io::Error>) {
        let was_failing = std::mem::replace(&mut state.is_failing, error.is_some());
        let Some(error) = error.filter(|_| state.spool.is_some()) else {
            if was_failing && state.spool.is_some() {
                self.agent.set_trouble(SPOOL, None);
            }
            return;
        };
        if !was_failing {
            let trouble = format!(
                "cannot write to the spool: {error}; findings for the fleet are kept in memory, up to {} MiB",
                MAX_IN_MEMORY >> 20
            );
            tracing::warn!("{trouble}");
            self.agent.set_trouble(SPOOL, Some(trouble));
        }
    }

    /// Counts lost rows.
    fn count_lost(&self, state: &mut State, lost: &InMemory) {
        state.dropped += lost.rows;
        if lost.table == Table::Findings {
            SinkStats::add(&self.counts.failed, lost.rows);
        }
    }

    /// Moves rows from memory to the disk; those that cannot be written are lost.
    pub(super) async fn close(self: &Arc<Self>) {
        let work = |queue: &Self, state: &mut State| {
            state.is_sending = false;
            let moved = state.move_to_spool();
            let mut lost = 0;
            while let Some(oldest) = state.pop_waiting() {
                lost += oldest.rows;
                queue.count_lost(state, &oldest);
            }
            if let Err(error) = moved
                && lost > 0
            {
                tracing::error!(
                    "lost {} for the fleet: neither the server nor the spool could be written: {error}",
                    counted(lost, "row"),
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
                tracing::warn!("cannot flush the spool: {error}");
            }
        };
        self.with(work).await;
    }

    fn report_losses(&self, state: &mut State) {
        let Some(spool) = &state.spool else { return };
        let (now, reported) = (spool.losses, state.reported_losses);
        if now == reported {
            return;
        }
        let findings = now.findings - reported.findings;
        SinkStats::add(&self.counts.failed, findings);
        state.dropped += findings + (now.others - reported.others);
        state.reported_losses = now;
        if now.damaged > reported.damaged {
            tracing::warn!(
                "the spool is damaged: skipped {}",
                counted(now.damaged - reported.damaged, "byte")
            );
        }
        if findings > 0 {
            tracing::warn!(
                "the spool is full: dropped the oldest {} for the fleet. Raise most_spool_bytes in [fleet], or \
                 check why the server is unreachable",
                counted(findings, "finding")
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
