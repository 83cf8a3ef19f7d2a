//! What was told and the agent's numbers, handed on to a collector of OpenTelemetry.
//!
//! What is told waits in the sink's queue, of as many events as the configuration says, and what
//! finds no room there is counted as dropped. It is sent in batches, each until it is taken: again and
//! again, ever more slowly, while the receiver is not there or has too much to do. Numbers are not kept
//! for later: the next ones tell all that these did.
//!
//! Nothing here waits for the live loop, nor does that for any of this.

mod logs;
mod metrics;
mod send;
mod value;

use std::{
    cell::{Cell, RefCell},
    io,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message as _;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};

pub use self::send::Pace;
use self::send::{Sender, is_stopping, stopped};
use super::{config, metrics::families, sink::SinkStats, state::AgentState};
use fdwatch_core::plural::{counted, either};
use fdwatch_events::event::Event;
use fdwatch_http::client;
use fdwatch_render::escape::Escaped;

/// Events of one request, at the most.
const MAX_EVENTS: usize = 128;

/// A collector, and what it is handed on to.
#[derive(Clone, Debug)]
pub struct Export {
    /// Where it is, and how often numbers are sent.
    pub config: config::Otlp,
    /// Of which processes numbers are sent.
    pub metrics: config::Metrics,
    /// How long is waited.
    pub pace: Pace,
    /// Where the numbers are.
    pub shared: Arc<AgentState>,
    /// What became of the events.
    pub counts: Arc<SinkStats>,
}

impl Export {
    /// Does it on a thread of its own, until `stop` becomes true, or nothing is left where events come
    /// from. What is left then is sent once more, if that can be done soon.
    ///
    /// # Errors
    ///
    /// If the token or the certificates of the configuration cannot be read, or there can be no thread.
    pub fn spawn(
        self,
        events: mpsc::Receiver<Arc<Event>>,
        stop: watch::Receiver<bool>,
    ) -> Result<thread::JoinHandle<()>> {
        let sender = self.sender(stop).context("OTLP")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("OTLP: there can be no runtime")?;
        let run = move || runtime.block_on(self.run(&sender, events));
        let thread: io::Result<_> = thread::Builder::new().name("otlp".to_owned()).spawn(run);
        thread.context("OTLP: there can be no thread")
    }

    fn sender(&self, stop: watch::Receiver<bool>) -> Result<Sender> {
        Ok(Sender {
            client: client(&self.config.endpoint)?,
            url: self.config.endpoint.url.clone(),
            pace: self.pace,
            stop,
            fails: RefCell::default(),
        })
    }

    async fn run(self, sender: &Sender, mut events: mpsc::Receiver<Arc<Event>>) {
        // Of a batch that is on its way when time is over it is not known whether it was taken.
        let on_the_way = Cell::new(0);
        let late = async {
            stopped(&sender.stop).await;
            sleep(self.pace.stop).await;
        };
        tokio::select! {
            biased;
            () = self.run_both(sender, &mut events, &on_the_way) => {}
            () = late => {}
        }
        events.close();
        let mut left = on_the_way.get();
        while events.try_recv().is_ok() {
            left += 1;
        }
        if left > 0 {
            let events = counted(left, "event");
            tracing::warn!("OTLP: {events} could not be sent before the end");
            SinkStats::add(&self.counts.failed, left);
        }
    }

    /// Events until there are no more, and numbers meanwhile, and once more then.
    async fn run_both(
        &self,
        sender: &Sender,
        events: &mut mpsc::Receiver<Arc<Event>>,
        on_the_way: &Cell<u64>,
    ) {
        tokio::select! {
            () = self.send_events(sender, events, on_the_way) => {}
            () = self.send_numbers_always(sender) => {}
        }
        self.send_numbers(sender).await;
    }

    async fn send_events(
        &self,
        sender: &Sender,
        events: &mut mpsc::Receiver<Arc<Event>>,
        on_the_way: &Cell<u64>,
    ) {
        let mut batch = Vec::with_capacity(MAX_EVENTS);
        loop {
            if is_stopping(&sender.stop) {
                while let Some(event) = (batch.len() < MAX_EVENTS)
                    .then(|| events.try_recv().ok())
                    .flatten()
                {
                    batch.push(event);
                }
            } else {
                tokio::select! {
                    _ = events.recv_many(&mut batch, MAX_EVENTS) => {}
                    () = stopped(&sender.stop) => continue,
                }
            }
            // None came: there are no more.
            if batch.is_empty() {
                return;
            }
            let count = batch.len() as u64;
            on_the_way.set(count);
            let body = logs::request(&batch).encode_to_vec();
            let answer = sender.send("/v1/logs", body, self.pace.give_up).await;
            let rejected = match answer {
                Ok(answer) => rejected(&answer).min(count),
                Err(reason) => {
                    let (events, were) = (counted(count, "event"), either(&count, "was", "were"));
                    tracing::warn!("OTLP: {events} {were} given up: {reason}");
                    count
                }
            };
            SinkStats::add(&self.counts.delivered, count - rejected);
            SinkStats::add(&self.counts.failed, rejected);
            on_the_way.set(0);
            batch.clear();
        }
    }

    async fn send_numbers_always(&self, sender: &Sender) {
        let every = self.config.interval.max(Duration::from_millis(1));
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.send_numbers(sender).await;
        }
    }

    async fn send_numbers(&self, sender: &Sender) {
        let view = self.shared.view();
        // Before the first view there is nothing to tell.
        if view.wall_time == 0 {
            return;
        }
        let times = metrics::Times {
            start: view.wall_time.saturating_sub(view.stats.duration),
            now: view.wall_time,
        };
        let body = metrics::request(&families(&self.shared, &self.metrics), times).encode_to_vec();
        // Why they were not taken has been said, and the next ones tell the same.
        let _ = sender.send("/v1/metrics", body, self.config.interval).await;
    }
}

/// How many of what was taken were not, by the answer.
fn rejected(answer: &[u8]) -> u64 {
    let answer = ExportLogsServiceResponse::decode(answer).ok();
    let Some(partial) = answer.and_then(|answer| answer.partial_success) else {
        return 0;
    };
    let rejected = u64::try_from(partial.rejected_log_records).unwrap_or(0);
    if rejected > 0 {
        let reason = Escaped(partial.error_message.as_bytes());
        let events = counted(rejected, "event");
        let were = either(&rejected, "was", "were");
        tracing::warn!("OTLP: {events} {were} rejected: {reason}");
    }
    rejected
}
