//! Sends to one who is told, with patience: what hangs there holds up no one else.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use anyhow::Result;
use reqwest::Client;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};

use super::{
    alertmanager::Alertmanager,
    command,
    delivery::{Pace, Sent},
    journald::Journal,
    notice::Notice,
    state::{Alert, Outcome},
    webhook,
};
use crate::config::Endpoint;
use fdwatch_events::event::Key;
use fdwatch_http::client;

/// Alerts that wait for one who is told.
pub(super) const MAX_WAITING: usize = 64;

/// Commands that run at once.
const MAX_COMMANDS: usize = 4;

/// What there is to do.
#[derive(Debug)]
pub(super) enum Job {
    /// To send this.
    Send(Alert),
    /// To say that these are still there.
    Remind(Vec<Arc<Notice>>),
}

/// What was done.
#[derive(Debug)]
pub(super) struct Done {
    /// By whom: its place among all.
    pub(super) by: usize,
    /// What was sent; none, if it was a reminder.
    pub(super) key: Option<Key>,
    pub(super) sent: Sent,
}

/// One who is told.
#[derive(Debug)]
pub(super) enum Receiver {
    Webhook(Client, String),
    Alertmanager(Alertmanager),
    Command(Vec<String>),
    Journal(Journal),
}

impl Receiver {
    pub(super) fn webhook(endpoint: &Endpoint) -> Result<Self> {
        Ok(Self::Webhook(client(endpoint)?, endpoint.url.clone()))
    }

    pub(super) fn alertmanager(endpoint: &Endpoint, host: &Arc<str>) -> Result<Self> {
        let client = client(endpoint)?;
        let manager = Alertmanager::new(client, &endpoint.url, Arc::clone(host));
        Ok(Self::Alertmanager(manager))
    }

    /// Whether it wants to know what matters more than before, and what is still there.
    pub(super) const fn takes_updates(&self) -> bool {
        matches!(self, Self::Alertmanager(_))
    }

    const fn most_at_once(&self) -> usize {
        match self {
            Self::Command(_) => MAX_COMMANDS,
            _ => 1,
        }
    }

    async fn send(&self, alert: &Alert, host: &str, pace: &Pace) -> Sent {
        match self {
            Self::Webhook(client, url) => match webhook::json(alert, host) {
                Ok(body) => webhook::post(client, url, body).await,
                Err(error) => Sent::refused(error.to_string()),
            },
            Self::Alertmanager(manager) => manager.send(alert).await,
            Self::Command(arguments) => command::run(arguments, alert, host, pace.command).await,
            Self::Journal(journal) => journal.send(alert, host).await,
        }
    }
}

/// Does what there is to do until there is no more, or until it is to `stop` at once.
pub(super) async fn work(
    by: usize,
    receiver: Receiver,
    host: Arc<str>,
    pace: Pace,
    mut jobs: mpsc::Receiver<Job>,
    done: mpsc::Sender<Done>,
    mut stop: watch::Receiver<bool>,
) {
    let receiver = Arc::new(receiver);
    let mut running = JoinSet::new();
    let working = async {
        while let Some(job) = jobs.recv().await {
            while running.len() >= receiver.most_at_once() {
                running.join_next().await;
            }
            let (receiver, host) = (Arc::clone(&receiver), Arc::clone(&host));
            let (done, pace) = (done.clone(), pace.clone());
            running.spawn(async move {
                let (key, sent) = match job {
                    Job::Send(alert) => {
                        let sent = with_patience(&receiver, &alert, &host, &pace).await;
                        (Some(alert.notice.key), sent)
                    }
                    Job::Remind(notices) => match &*receiver {
                        Receiver::Alertmanager(manager) => (None, manager.remind(&notices).await),
                        _ => return,
                    },
                };
                // Where no one wants to know any more, it is the end.
                let _ = done.send(Done { by, key, sent }).await;
            });
        }
        while running.join_next().await.is_some() {}
    };
    // What runs then is dropped, and commands with it.
    tokio::select! {
        () = working => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

async fn with_patience(receiver: &Receiver, alert: &Alert, host: &str, pace: &Pace) -> Sent {
    let mut wait = pace.first_wait;
    let mut tries = 1;
    loop {
        let sent = receiver.send(alert, host, pace).await;
        if sent.outcome != Outcome::Failed || tries >= pace.tries {
            return sent;
        }
        tracing::debug!("an alert is tried again: {}", sent.reason);
        sleep(jittered(wait)).await;
        wait = (wait * 2).min(pace.most_wait);
        tries += 1;
    }
}

/// A quarter more or less, for the hosts of a fleet not to come all at once.
fn jittered(wait: Duration) -> Duration {
    let share = RandomState::new().hash_one(()) % 512;
    // 512 steps from three quarters to five quarters.
    wait.mul_f64(0.75 + share as f64 / 1024.0)
}
