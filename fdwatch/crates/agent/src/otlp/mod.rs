//! Export of events and metrics to an OpenTelemetry collector.
//!
//! Events wait in the sink's queue, whose size is configured; those without room are counted as dropped. They are
//! sent in batches, and each batch is retried with growing waits while the collector is unreachable or overloaded.
//! Metrics are not queued: the next export contains the same counters.
//!
//! The live loop and the export never wait for each other.

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

/// Events per request.
const MAX_EVENTS: usize = 128;

/// An export to one collector.
#[derive(Clone, Debug)]
pub struct Export {
    /// The collector, and the interval of metrics.
    pub config: config::Otlp,
    /// The processes whose metrics are sent.
    pub metrics: config::Metrics,
    /// Time limits.
    pub pace: Pace,
    /// The source of the metrics.
    pub shared: Arc<AgentState>,
    /// Statistics of the events.
    pub counts: Arc<SinkStats>,
}

impl Export {
    /// Exports on a thread of its own until `stop` becomes true or `events` end, then tries once to send the remaining
    /// events.
    ///
    /// # Errors
    ///
    /// If the token or the certificates cannot be read, or no thread can be started.
    pub fn spawn(
        self,
        events: mpsc::Receiver<Arc<Event>>,
        stop: watch::Receiver<bool>,
    ) -> Result<thread::JoinHandle<()>> {
        let sender = self.sender(stop).context("OTLP")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("OTLP: cannot start a runtime")?;
        let run = move || runtime.block_on(self.run(&sender, events));
        let thread: io::Result<_> = thread::Builder::new().name("otlp".to_owned()).spawn(run);
        thread.context("OTLP: cannot start a thread")
    }

    fn sender(&self, stop: watch::Receiver<bool>) -> Result<Sender> {
        Ok(Sender {
            client: client(&self.config.endpoint)?,
            url: self.config.endpoint.url.clone(),
            pace: self.pace,
            stop,
            failing: RefCell::default(),
        })
    }

    async fn run(self, sender: &Sender, mut events: mpsc::Receiver<Arc<Event>>) {
        // A batch under way when time is up may have been accepted: it counts as failed.
        let in_flight = Cell::new(0);
        let timed_out = async {
            stopped(&sender.stop).await;
            sleep(self.pace.stop).await;
        };
        tokio::select! {
            biased;
            () = self.run_until_end(sender, &mut events, &in_flight) => {}
            () = timed_out => {}
        }
        events.close();
        let mut left = in_flight.get();
        while events.try_recv().is_ok() {
            left += 1;
        }
        if left > 0 {
            let events = counted(left, "event");
            tracing::warn!("OTLP: {events} could not be sent in time");
            SinkStats::add(&self.counts.failed, left);
        }
    }

    /// Sends events until there are no more, and metrics meanwhile and once at the end.
    async fn run_until_end(
        &self,
        sender: &Sender,
        events: &mut mpsc::Receiver<Arc<Event>>,
        in_flight: &Cell<u64>,
    ) {
        tokio::select! {
            () = self.send_events(sender, events, in_flight) => {}
            () = self.send_metrics_periodically(sender) => {}
        }
        self.send_metrics(sender).await;
    }

    async fn send_events(
        &self,
        sender: &Sender,
        events: &mut mpsc::Receiver<Arc<Event>>,
        in_flight: &Cell<u64>,
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
            // The events have ended.
            if batch.is_empty() {
                return;
            }
            let count = batch.len() as u64;
            in_flight.set(count);
            let body = logs::request(&batch).encode_to_vec();
            let response = sender.send("/v1/logs", body, self.pace.give_up).await;
            let rejected = match response {
                Ok(response) => rejected(&response).min(count),
                Err(reason) => {
                    let (events, were) = (counted(count, "event"), either(&count, "was", "were"));
                    tracing::warn!("OTLP: {events} {were} dropped: {reason}");
                    count
                }
            };
            SinkStats::add(&self.counts.delivered, count - rejected);
            SinkStats::add(&self.counts.failed, rejected);
            in_flight.set(0);
            batch.clear();
        }
    }

    async fn send_metrics_periodically(&self, sender: &Sender) {
        let every = self.config.interval.max(Duration::from_millis(1));
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.send_metrics(sender).await;
        }
    }

    async fn send_metrics(&self, sender: &Sender) {
        let view = self.shared.view();
        // There are no values before the first snapshot.
        if view.wall_time == 0 {
            return;
        }
        let times = metrics::Times {
            start: view.wall_time.saturating_sub(view.stats.duration),
            now: view.wall_time,
        };
        let body = metrics::request(&families(&self.shared, &self.metrics), times).encode_to_vec();
        // The failure is logged already, and the next export contains the same counters.
        let _ = sender.send("/v1/metrics", body, self.config.interval).await;
    }
}

/// Returns how many events of an accepted request the collector rejected.
fn rejected(response: &[u8]) -> u64 {
    let response = ExportLogsServiceResponse::decode(response).ok();
    let Some(partial) = response.and_then(|response| response.partial_success) else {
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
