//! Source of updates that queries an agent.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use fdwatch_http::AgentClient;
use tokio::runtime::Runtime;

use super::{
    MAX_ROWS, READ_INTERVAL, READ_SHARE,
    inbox::{Inbox, SourceRequest},
};
use crate::data::{Descriptors, FindingEvent, Row, Status, lines_of, row_of};
use fdwatch_core::model::Moment;
use fdwatch_events::{
    time::Clock,
    wire::{Event, Object, Processes, Time},
};
use fdwatch_host::{proc, users::Users};
use fdwatch_options::Filters;

/// Interval between queries of the agent's health.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// Health queries per query of the processes.
const STATUSES_PER_LIST: u32 = 2;

/// Maximum length of an event, which is one line, in bytes.
const MAX_LEN: usize = 16 << 20;

/// Descriptor queries of the open process per query of its explanation.
const READS_PER_EXPLANATION: u32 = 5;

/// Connection to the agent whose state is shown.
#[derive(Debug)]
pub struct AgentConnection {
    /// Client of the agent.
    pub client: AgentClient,
    /// Runtime in which the client must be used.
    pub runtime: Runtime,
    /// PID of the agent.
    pub pid: u32,
}

pub(crate) fn run(
    agent: AgentConnection,
    filters: &Filters,
    inbox: &Arc<Inbox>,
    ready: impl FnOnce(),
) -> Result<()> {
    let AgentConnection {
        client,
        runtime,
        pid,
    } = agent;
    ready();
    runtime.block_on(async {
        let source = AgentSource {
            client,
            inbox,
            source: format!("agent {pid}"),
            clock: Clock::of_wall_time(),
        };
        let events = format!("/v1/events?current=true&format=lines{}", filters.query());
        tokio::select! {
            result = source.status() => result,
            result = source.events(&events) => result,
            result = source.process() => result,
            () = inbox.quits() => Ok(()),
        }
    })
}

struct AgentSource<'a> {
    client: AgentClient,
    inbox: &'a Inbox,
    source: String,
    /// Of nanoseconds since 1970.
    clock: Clock,
}

impl AgentSource<'_> {
    /// Returns the local time of day of `wall_time`, in nanoseconds since 1970; the current one if `None`.
    fn time(&self, wall_time: Option<u64>) -> String {
        let time = wall_time.unwrap_or_else(proc::wall_time);
        self.clock.time_of_day(Moment(time))
    }

    /// Queries the status and the list of processes periodically.
    async fn status(&self) -> Result<()> {
        let users = Users::read();
        let mut ticks = interval(STATUS_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let path = format!("/v1/processes?limit={MAX_ROWS}");
        let mut count = 0_u32;
        loop {
            ticks.tick().await;
            let health = self.client.object("/v1/health").await?;
            let (source, time) = (self.source.clone(), self.time(None));
            let status = Status::of_health(&health, source, proc::boottime(), time);
            self.inbox.status(status);
            if count.is_multiple_of(STATUSES_PER_LIST) {
                let answer: Object<Processes> = self.client.object(&path).await?;
                let Processes {
                    processes, more, ..
                } = answer.body;
                let rows = processes.into_iter().map(row_of);
                let rows = rows.map(|row| Row::of(&row, &users.name(row.uid)));
                self.inbox.rows(rows.collect(), more as u64);
            }
            count = count.wrapping_add(1);
        }
    }

    /// Reads the agent's stream of events until it ends.
    async fn events(&self, path: &str) -> Result<()> {
        let mut response = self.client.response(path).await?;
        let mut line = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .context("the agent closed the connection")?
        {
            for part in chunk.split_inclusive(|&byte| byte == b'\n') {
                line.extend_from_slice(part);
                if line.len() > MAX_LEN {
                    bail!("invalid response from the agent: line longer than {MAX_LEN} bytes");
                }
                if line.ends_with(b"\n") {
                    self.report(&line);
                    line.clear();
                }
            }
        }
        bail!("the agent closed the connection");
    }

    fn report(&self, line: &[u8]) {
        let Ok(event) = serde_json::from_slice::<Event>(line) else {
            return;
        };
        let time = self.time(event.time().and_then(Time::nanoseconds));
        if let Some(finding) = FindingEvent::of(&event, time) {
            self.inbox.add(finding);
        }
    }

    /// Queries the open process periodically.
    async fn process(&self) -> Result<()> {
        let mut opened = None;
        let mut next = Instant::now();
        let mut count = 0_u32;
        loop {
            tokio::select! {
                () = self.inbox.requested() => match self.inbox.take_request() {
                    Some(SourceRequest::Open(pid)) => {
                        opened = Some(pid);
                        next = Instant::now();
                        count = 0;
                    }
                    Some(SourceRequest::Close) => opened = None,
                    None => {}
                },
                () = sleep_until(next), if opened.is_some() => {
                    let Some(pid) = opened else { continue };
                    let began = Instant::now();
                    self.read(pid, count.is_multiple_of(READS_PER_EXPLANATION)).await;
                    count = count.wrapping_add(1);
                    next = Instant::now() + READ_INTERVAL.max(began.elapsed() * READ_SHARE);
                }
            }
        }
    }

    /// Queries a process. If that fails, the error is shown in place of the descriptors.
    async fn read(&self, pid: u32, with_explanation: bool) {
        let path = format!("/v1/processes/{pid}/fds");
        match self.client.object(&path).await {
            Ok(table) => self.inbox.table(Descriptors::of(&table)),
            Err(error) => self.inbox.failed(pid, format!("{error:#}")),
        }
        if !with_explanation {
            return;
        }
        let path = format!("/v1/explain/{pid}?format=text");
        if let Ok(body) = self.client.body(&path).await {
            self.inbox
                .explanation(pid, lines_of(&String::from_utf8_lossy(&body)));
        }
    }
}
