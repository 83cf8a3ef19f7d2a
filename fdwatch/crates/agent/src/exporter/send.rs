//! From the spool to the server, the oldest first; and again, if that failed.

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

/// Bytes of one request, before it is packed.
const REQUEST: usize = 4 << 20;

/// Rows to be sent, and where they are from.
enum Next {
    Spooled(Batch),
    InMemory(InMemory),
}

impl Next {
    fn parts(&self) -> (Table, &[u8], u64) {
        match self {
            Self::Spooled(batch) => (batch.table, &batch.lines, batch.rows),
            Self::InMemory(kept) => (kept.table, &kept.lines, kept.rows),
        }
    }
}

/// The server, and how it is with it.
pub(super) struct Server {
    config: Arc<Fleet>,
    client: Option<Client>,
    shared: Arc<AgentState>,
    /// What was told to be wrong last, if something is; without numbers.
    wrong: Option<String>,
}

impl Server {
    pub(super) const fn new(config: Arc<Fleet>, shared: Arc<AgentState>) -> Self {
        Self {
            config,
            client: None,
            shared,
            wrong: None,
        }
    }

    async fn insert(&mut self, next: &Next) -> Result<(), StoreError> {
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(made(&self.config)?),
        };
        let (table, lines, _) = next.parts();
        let result = client.insert(table, lines).await;
        if result.is_err() {
            // Its address, the password or a certificate may be another the next time.
            self.client = None;
        }
        result
    }

    /// It takes rows.
    fn is_well(&mut self) {
        if self.wrong.take().is_some() {
            tracing::info!("the fleet's server takes findings again");
        }
        self.shared.set_trouble(SERVER, None);
    }

    /// It does not, for now. In the log that stands when it begins, and when the reason is another.
    fn is_away(&mut self, error: &StoreError) {
        let trouble = format!(
            "cannot write to the fleet's server, and go on trying: {error}; findings wait in {}",
            self.config.spool.display()
        );
        // Names of parts, which have numbers, are others each time.
        let reason: String = trouble.chars().filter(|it| !it.is_ascii_digit()).collect();
        if self.wrong.as_ref() != Some(&reason) {
            tracing::warn!("{trouble}");
            self.wrong = Some(reason);
        }
        self.shared.set_trouble(SERVER, Some(trouble));
    }

    /// It never takes these rows.
    fn refuses(&self, next: &Next, error: &StoreError) {
        let (table, _, rows) = next.parts();
        let trouble = format!(
            "the fleet's server does not take {} of {}, and {} dropped: {error}. If it \
             was set up by another version, run fdwatch fleet init",
            counted(rows, "row"),
            table.name(),
            either(&rows, "it is", "they are")
        );
        tracing::error!("{trouble}");
        self.shared.set_trouble(SERVER, Some(trouble));
    }
}

/// Sends until `ended`, and then what is left, once.
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
                server.is_well();
                backoff.reset();
                done(&queue, next, true).await;
            }
            Err(error) if error.is_of_rows() => {
                server.refuses(&next, &error);
                done(&queue, next, false).await;
            }
            Err(error) => {
                server.is_away(&error);
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

fn made(config: &Fleet) -> Result<Client, StoreError> {
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
            match spool.next(REQUEST) {
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

async fn done(queue: &Arc<Queue>, next: Next, is_taken: bool) {
    let work = move |queue: &Queue, state: &mut State| {
        let (table, _, rows) = next.parts();
        let counter = if is_taken {
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
                    tracing::warn!("cannot delete what was sent from the spool: {error}");
                }
            }
            (Next::Spooled(_), None) => {}
            (Next::InMemory(_), _) => state.forget_sent(),
        }
    };
    queue.with(work).await;
}
