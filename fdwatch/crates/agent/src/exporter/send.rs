//! Sends rows from the spool to the server, oldest first, and retries.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use tokio::sync::watch;

use super::queue::{InMemory, Queue, State};
use crate::{config::Fleet, exporter::spool::Batch, sink::SinkStats, state::AgentState};
use fdwatch_core::plural::{counted, either};
use fdwatch_fleet::{
    rows::Table,
    store::{Address, Client, StoreError},
};
use fdwatch_http::retry::Backoff;

/// The component that problems with the server are reported for.
pub(super) const SERVER: &str = "fleet";

/// Size limit of a request before compression: bytes.
const MAX_REQUEST_BYTES: usize = 4 << 20;

/// Rows to send, and where they are stored.
enum Next {
    Spooled(Batch),
    InMemory(InMemory),
}

impl Next {
    fn parts(&self) -> (Table, &[u8], u64) {
        match self {
            Self::Spooled(batch) => (batch.table, &batch.lines, batch.rows),
            Self::InMemory(rows) => (rows.table, &rows.lines, rows.rows),
        }
    }
}

/// The server and its state.
pub(super) struct Server {
    config: Arc<Fleet>,
    client: Option<Client>,
    shared: Arc<AgentState>,
    /// The last reported problem, without digits.
    problem: Option<String>,
}

impl Server {
    pub(super) const fn new(config: Arc<Fleet>, shared: Arc<AgentState>) -> Self {
        Self {
            config,
            client: None,
            shared,
            problem: None,
        }
    }

    async fn insert(&mut self, next: &Next) -> Result<(), StoreError> {
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(connect(&self.config)?),
        };
        let (table, lines, _) = next.parts();
        let result = client.insert(table, lines).await;
        if result.is_err() {
            // The address, password or certificate may have changed by the next attempt.
            self.client = None;
        }
        result
    }

    /// Handles a success.
    fn report_success(&mut self) {
        if self.problem.take().is_some() {
            tracing::info!("the fleet's server accepts findings again");
        }
        self.shared.set_trouble(SERVER, None);
    }

    /// Handles a temporary failure. Logged when it starts and when the reason changes.
    fn report_failure(&mut self, error: &StoreError) {
        let trouble = format!(
            "cannot write to the fleet's server, retrying: {error}; findings wait in {}",
            self.config.spool.display()
        );
        // Messages may contain names of parts, whose numbers change each time.
        let reason: String = trouble.chars().filter(|it| !it.is_ascii_digit()).collect();
        if self.problem.as_ref() != Some(&reason) {
            tracing::warn!("{trouble}");
            self.problem = Some(reason);
        }
        self.shared.set_trouble(SERVER, Some(trouble));
    }

    /// Handles rows that the server rejects permanently.
    fn report_rejection(&self, next: &Next, error: &StoreError) {
        let (table, _, rows) = next.parts();
        let trouble = format!(
            "the fleet's server rejected {} of {}, {} dropped: {error}. If another version set it up, run \
             fdwatch fleet init",
            counted(rows, "row"),
            table.name(),
            either(&rows, "it was", "they were")
        );
        tracing::error!("{trouble}");
        self.shared.set_trouble(SERVER, Some(trouble));
    }
}

/// Sends until `ended`, then tries once to send the remaining rows.
pub(super) async fn send(mut server: Server, queue: Arc<Queue>, mut ended: watch::Receiver<bool>) {
    let mut backoff = Backoff::default();
    loop {
        let Some(next) = next(&queue).await else {
            if *ended.borrow() {
                return;
            }
            tokio::select! {
                () = queue.more.notified() => {}
                _ = ended.changed() => {}
            }
            continue;
        };
        match server.insert(&next).await {
            Ok(()) => {
                server.report_success();
                backoff.reset();
                done(&queue, next, true).await;
            }
            Err(error) if error.is_invalid_rows() => {
                server.report_rejection(&next, &error);
                done(&queue, next, false).await;
            }
            Err(error) => {
                server.report_failure(&error);
                queue.with(|_, state| state.is_sending = false).await;
                if *ended.borrow() {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep(backoff.next_wait(None)) => {}
                    _ = ended.changed() => {}
                }
            }
        }
    }
}

fn connect(config: &Fleet) -> Result<Client, StoreError> {
    let address = Address::read(
        &config.url,
        &config.database,
        config.user.as_deref(),
        config.password_file.as_deref(),
        config.ca_file.as_deref(),
    )?;
    Client::new(address)
}

async fn next(queue: &Arc<Queue>) -> Option<Next> {
    let work = |_: &Queue, state: &mut State| {
        if let Some(spool) = &mut state.spool {
            match spool.next(MAX_REQUEST_BYTES) {
                Ok(Some(batch)) => return Some(Next::Spooled(batch)),
                Ok(None) => {}
                Err(error) => tracing::warn!("cannot read the spool: {error}"),
            }
        }
        let oldest = state.memory.front().cloned()?;
        state.is_sending = true;
        Some(Next::InMemory(oldest))
    };
    queue.with(work).await.flatten()
}

async fn done(queue: &Arc<Queue>, next: Next, is_accepted: bool) {
    let work = move |queue: &Queue, state: &mut State| {
        let (table, _, rows) = next.parts();
        let counter = if is_accepted {
            &queue.counts.delivered
        } else {
            queue.refused.fetch_add(rows, Relaxed);
            &queue.counts.failed
        };
        if table == Table::Findings {
            SinkStats::add(counter, rows);
        }
        match (&next, &mut state.spool) {
            (Next::Spooled(batch), Some(spool)) => {
                if let Err(error) = spool.done(batch) {
                    tracing::warn!("cannot delete sent rows from the spool: {error}");
                }
            }
            (Next::Spooled(_), None) => {}
            (Next::InMemory(_), _) => state.remove_sent(),
        }
    };
    queue.with(work).await;
}
