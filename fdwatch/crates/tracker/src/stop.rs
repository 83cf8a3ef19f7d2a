//! Conditions for stopping to follow events.

use std::{
    future::{self, Future},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep_until},
};

/// Condition for stopping to follow events.
pub trait StopCondition {
    /// Prepares to wait. Called in the runtime, before the snapshot.
    fn begin(&mut self) -> Result<()>;
    /// Called after the snapshot, when events are followed.
    fn followed(&mut self) -> Result<()> {
        Ok(())
    }
    /// Waits for the condition. The future is dropped and created again for every other event.
    fn wait(&mut self) -> impl Future<Output = Result<()>>;
}

/// SIGINT, SIGTERM or a timeout.
pub struct SignalOrTimeout {
    duration: Option<Duration>,
    at: Option<Instant>,
    signals: Option<[Signal; 2]>,
}

impl SignalOrTimeout {
    /// Creates a condition with a timeout, which starts at [`StopCondition::begin`].
    pub fn after(duration: Option<Duration>) -> Self {
        Self {
            duration,
            at: None,
            signals: None,
        }
    }
}

impl StopCondition for SignalOrTimeout {
    fn begin(&mut self) -> Result<()> {
        self.signals = Some([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
        ]);
        let duration = self.duration;
        self.at = duration.and_then(|duration| Instant::now().checked_add(duration));
        Ok(())
    }

    async fn wait(&mut self) -> Result<()> {
        let Some([interrupted, terminated]) = &mut self.signals else {
            return Ok(());
        };
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
            () = until(self.at) => {}
        }
        Ok(())
    }
}

/// Returns a stream of one signal.
pub fn listen(kind: SignalKind) -> Result<Signal> {
    signal(kind).context("cannot listen for signals")
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => future::pending().await,
    }
}
