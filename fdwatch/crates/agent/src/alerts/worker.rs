//! The task of one receiver: delivers its alerts and retries, independently of other receivers.

use std::{sync::Arc, time::Duration};

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
    delivery::{Pace, Sent, post},
    journald::Journal,
    notice::Notice,
    state::{Alert, Outcome},
    webhook,
};
use crate::config::Endpoint;
use fdwatch_events::event::Key;
use fdwatch_http::{client, retry::Backoff};

/// Commands that run at once.
const MAX_COMMANDS: usize = 4;

/// Limit of the wait that a receiver can request.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// A task for a worker.
#[derive(Debug)]
pub(super) enum Job {
    /// Send this alert.
    Send(Alert),
    /// Send a reminder of these alerts, which are still firing.
    Remind(Vec<Arc<Notice>>),
}

/// The result of a job.
#[derive(Debug)]
pub(super) struct Done {
    /// The index of the receiver.
    pub(super) by: usize,
    /// The key of the alert; `None` for a reminder.
    pub(super) key: Option<Key>,
    pub(super) sent: Sent,
}

/// A receiver of alerts.
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

    /// Returns whether it takes raised severities, and reminders of what is still firing.
    pub(super) const fn takes_updates(&self) -> bool {
        matches!(self, Self::Alertmanager(_))
    }

    /// Returns the number of deliveries at once. As many jobs wait for the worker: the order of those that wait in
    /// `AlertState` can still change.
    pub(super) const fn max_concurrent(&self) -> usize {
        match self {
            Self::Command(_) => MAX_COMMANDS,
            _ => 1,
        }
    }

    async fn send(&self, alert: &Alert, host: &str, pace: &Pace) -> Sent {
        match self {
            Self::Webhook(client, url) => match webhook::json(alert, host) {
                Ok(body) => post(client, url, body).await,
                Err(error) => Sent::refused(error.to_string()),
            },
            Self::Alertmanager(manager) => manager.send(alert).await,
            Self::Command(arguments) => command::run(arguments, alert, host, pace.command).await,
            Self::Journal(journal) => journal.send(alert, host).await,
        }
    }
}

/// Runs jobs until no more come, or until `stop`, which aborts those that are running.
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
            while running.len() >= receiver.max_concurrent() {
                running.join_next().await;
            }
            let (receiver, host) = (Arc::clone(&receiver), Arc::clone(&host));
            let (done, pace) = (done.clone(), pace.clone());
            running.spawn(async move {
                let (key, sent) = match job {
                    Job::Send(alert) => {
                        let sent = send_with_retries(&receiver, &alert, &host, &pace).await;
                        (Some(alert.notice.key), sent)
                    }
                    Job::Remind(notices) => match &*receiver {
                        Receiver::Alertmanager(manager) => (None, manager.remind(&notices).await),
                        _ => return,
                    },
                };
                // Fails when the agent stops.
                let _ = done.send(Done { by, key, sent }).await;
            });
        }
        while running.join_next().await.is_some() {}
    };
    // Dropping the tasks kills their commands.
    tokio::select! {
        () = working => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

async fn send_with_retries(receiver: &Receiver, alert: &Alert, host: &str, pace: &Pace) -> Sent {
    let mut backoff = Backoff::new(pace.first_wait, pace.max_wait);
    let mut tries = 1;
    let mut may_have_arrived = false;
    loop {
        let mut sent = receiver.send(alert, host, pace).await;
        may_have_arrived |= sent.outcome == Outcome::Unanswered;
        let has_failed = sent.outcome.has_failed();
        if !has_failed || tries >= pace.tries {
            if has_failed && may_have_arrived {
                sent.outcome = Outcome::Unanswered;
            }
            return sent;
        }
        tracing::debug!("retrying an alert: {}", sent.reason);
        let retry_after = sent.retry_after.map(|wait| wait.min(MAX_RETRY_AFTER));
        sleep(backoff.next_wait(retry_after)).await;
        tries += 1;
    }
}
