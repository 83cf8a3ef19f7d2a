//! From the spool to the server, the oldest first; and again, if that failed.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::sync::watch;

use super::{Queue, State};
use crate::{
    agent::{config::Fleet, outlet::Counts},
    fleet::{
        rows::Table,
        spool::Batch,
        store::{Address, Client, StoreError},
    },
};

/// Bytes of one request, before it is packed.
const REQUEST: usize = 4 << 20;

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Rows to be sent, and where they are from.
enum Next {
    Spooled(Batch),
    InMemory(Table, Vec<u8>, u64),
}

impl Next {
    fn parts(&self) -> (Table, &[u8], u64) {
        match self {
            Self::Spooled(batch) => (batch.table, &batch.lines, batch.rows),
            Self::InMemory(table, lines, rows) => (*table, lines, *rows),
        }
    }
}

/// Sends until `ended`, and then what is left, once.
pub(super) async fn send(config: Arc<Fleet>, queue: Arc<Queue>, mut ended: watch::Receiver<bool>) {
    let mut client = None;
    let mut wait = FIRST_WAIT;
    let mut is_away = false;
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
        match try_one(&config, &mut client, &next).await {
            Ok(()) => {
                if std::mem::take(&mut is_away) {
                    tracing::info!("the fleet's server takes findings again");
                }
                wait = FIRST_WAIT;
                done(&queue, next, true).await;
            }
            Err(error) if error.is_of_rows() => {
                let (table, _, rows) = next.parts();
                tracing::error!(
                    "the fleet's server does not take {rows} rows of {}, and they are dropped: {error}. \
                     If it was set up by another version, run fdwatch fleet init",
                    table.name()
                );
                done(&queue, next, false).await;
            }
            Err(error) => {
                if !std::mem::replace(&mut is_away, true) {
                    tracing::warn!(
                        "cannot write to the fleet's server, and go on trying: {error}; findings \
                         wait in {}",
                        config.spool.display()
                    );
                }
                // Its address, the password or a certificate may be another the next time.
                client = None;
                if *ended.borrow() {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep(jittered(wait)) => {}
                    _ = ended.changed() => {}
                }
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }
}

/// Not all hosts come at the same moment when the server is back.
fn jittered(wait: Duration) -> Duration {
    use std::hash::{BuildHasher as _, RandomState};
    let part = u32::try_from(RandomState::new().hash_one(0) % 1000).unwrap_or_default();
    wait / 2 + wait / 2 * part / 1000
}

async fn try_one(
    config: &Fleet,
    client: &mut Option<Client>,
    next: &Next,
) -> Result<(), StoreError> {
    let client = match client {
        Some(client) => client,
        None => client.insert(made(config)?),
    };
    let (table, lines, _) = next.parts();
    client.insert(table, lines).await
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
        let (table, lines, rows) = state.memory.pop_front()?;
        state.memory_bytes -= lines.len();
        Some(Next::InMemory(table, lines, rows))
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
            Counts::add(counter, rows);
        }
        if let (Next::Spooled(batch), Some(spool)) = (&next, &mut state.spool)
            && let Err(error) = spool.done(batch)
        {
            tracing::warn!("cannot delete what was sent from the spool: {error}");
        }
    };
    queue.with(work).await;
}
