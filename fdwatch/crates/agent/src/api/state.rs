//! The data that handlers of the API share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::response::Response;
use fdwatch_core::model::Moment;
use fdwatch_events::wire::Wire;

use super::{
    places::{Limits, Places},
    query::Shape,
    response::{ErrorResponse, internal, typed},
};
use crate::{config, state::AgentState};
use fdwatch_fleet::rows;
use fdwatch_host::{investigate::SupervisordConfigs, proc};
use fdwatch_render::{Format, Report, Reporter};

/// Limits of readers of events.
const MAX_READERS: Limits = Limits {
    total: 32,
    per_holder: 16,
    for_root: 8,
};

/// The data of all handlers.
#[derive(Clone)]
pub struct State {
    /// The state of the agent.
    pub shared: Arc<AgentState>,
    /// `[metrics]` of the configuration.
    pub metrics: config::Metrics,
    /// What the agent watches, so that clients can check whether it suffices.
    pub watch: config::Watch,
    /// The labels of this host, in the form of the fleet's rows.
    pub(super) labels: String,
    wire: Arc<Mutex<Wire>>,
    /// Places of readers of events.
    pub(super) readers: Arc<Places>,
    pub(super) supervisords: Arc<Mutex<SupervisordConfigs>>,
}

impl State {
    /// Creates the state. `wire` must be that of the events, so that open file descriptions have the same names.
    #[must_use]
    pub fn new(shared: Arc<AgentState>, config: &config::Config, wire: Wire) -> Self {
        Self {
            shared,
            metrics: config.metrics.clone(),
            watch: config.watch.clone(),
            labels: labels(config),
            wire: Arc::new(Mutex::new(wire)),
            readers: Places::new(MAX_READERS),
            supervisords: Arc::default(),
        }
    }

    /// Returns this state with another configuration.
    #[must_use]
    pub fn with(&self, config: &config::Config) -> Self {
        Self {
            metrics: config.metrics.clone(),
            watch: config.watch.clone(),
            labels: labels(config),
            ..self.clone()
        }
    }

    /// Returns the context of all JSON, with the current offset of the clock.
    pub(super) fn wire(&self) -> MutexGuard<'_, Wire> {
        let mut wire = self.wire.lock().unwrap_or_else(PoisonError::into_inner);
        wire.clock.adjust(proc::wall_time(), proc::boottime());
        wire
    }

    /// Returns the response for a report that was made at the moment `at`.
    pub(super) fn render(
        &self,
        shape: Shape,
        report: &impl Report,
        at: Moment,
    ) -> Result<Response, ErrorResponse> {
        let format = if shape == Shape::Text {
            Format::Text
        } else {
            Format::Json
        };
        let mut reporter = Reporter::new(Vec::new(), format, self.wire().clone());
        reporter.report(report, at).map_err(internal)?;
        Ok(typed(shape, reporter.into_output()))
    }
}

fn labels(config: &config::Config) -> String {
    let fleet = config.fleet.as_ref();
    fleet.map_or_else(String::new, |fleet| rows::labels(&fleet.labels))
}
