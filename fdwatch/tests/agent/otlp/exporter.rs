//! The exporter under test, with the sink that its events come from.

use std::{net::SocketAddr, sync::Arc, thread::JoinHandle, time::Duration};

use fdwatch_agent::{
    config,
    otlp::{Export, Pace},
    sink::{Sink, SinkStats},
    state::AgentState,
};
use fdwatch_test_support::eventually;
use tokio::sync::watch;

use super::sent::{event, threshold};

/// Short intervals, so that retries happen soon.
pub(crate) const PACE: Pace = Pace {
    request: Duration::from_secs(20),
    first_wait: Duration::from_millis(10),
    max_wait: Duration::from_millis(50),
    give_up: Duration::from_secs(120),
    stop: Duration::from_millis(500),
};

/// A running exporter.
pub(crate) struct Exporter {
    pub(crate) sink: Sink,
    pub(crate) shared: Arc<AgentState>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) thread: Option<JoinHandle<()>>,
}

impl Exporter {
    pub(crate) fn start(address: SocketAddr, queue: usize, pace: Pace) -> Self {
        let endpoint = config::Endpoint {
            url: format!("http://{address}/"),
            token_file: None,
            ca_file: None,
        };
        Self::start_with(endpoint, queue, Duration::from_secs(3600), pace)
    }

    pub(crate) fn start_with(
        endpoint: config::Endpoint,
        queue: usize,
        interval: Duration,
        pace: Pace,
    ) -> Self {
        let (shared, _questions) = AgentState::new();
        let counts = Arc::new(SinkStats::default());
        let (sink, events) = Sink::new("otlp", queue, Arc::clone(&counts));
        let (stop, stopped) = watch::channel(false);
        let export = Export {
            config: config::Otlp {
                endpoint,
                interval,
                queue,
            },
            metrics: config::Metrics::default(),
            pace,
            shared: Arc::clone(&shared),
            counts,
        };
        let thread = export.spawn(events, stopped).unwrap();
        Self {
            sink,
            shared,
            stop,
            thread: Some(thread),
        }
    }

    pub(crate) fn offer(&self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            self.sink.offer(&Arc::new(event(number, threshold())));
        }
    }

    /// Waits until the counts of accepted, dropped, delivered and abandoned events are as expected.
    pub(crate) fn counts(&self, expected: [u64; 4]) {
        eventually(&format!("{expected:?}"), || {
            (self.sink.counts.now() == expected).then_some(())
        });
    }

    /// Stops it and waits until it has ended.
    pub(crate) fn stop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
