//! The data that answers of the API are made of.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{http::StatusCode, response::Response};

use super::{
    answer::{Refusal, error, typed},
    query::Shape,
};
use crate::{config, state::AgentState};
use fdwatch_fleet::rows;
use fdwatch_host::{investigate::Supervisords, proc};
use fdwatch_render::{Format, Reporter};

/// The data of answers.
#[derive(Clone)]
pub struct State {
    /// The state of the agent.
    pub shared: Arc<AgentState>,
    /// `[metrics]` of the configuration.
    pub metrics: config::Metrics,
    /// What is watched: clients check whether it includes what they need.
    pub watch: config::Watch,
    /// The labels of this host, in the form of the fleet's rows.
    pub(super) labels: String,
    reporter: Arc<Mutex<Reporter<io::Sink>>>,
    pub(super) supervisords: Arc<Mutex<Supervisords>>,
}

impl State {
    /// Creates the state. `reporter` must use the same names for open file descriptions as the events.
    #[must_use]
    pub fn new(
        shared: Arc<AgentState>,
        config: &config::Config,
        reporter: Reporter<io::Sink>,
    ) -> Self {
        Self {
            shared,
            metrics: config.metrics.clone(),
            watch: config.watch.clone(),
            labels: labels(config),
            reporter: Arc::new(Mutex::new(reporter)),
            supervisords: Arc::default(),
        }
    }

    /// Returns the same with another configuration.
    #[must_use]
    pub fn with(&self, config: &config::Config) -> Self {
        Self {
            metrics: config.metrics.clone(),
            watch: config.watch.clone(),
            labels: labels(config),
            ..self.clone()
        }
    }

    /// Returns the reporter, with its clock adjusted.
    pub(super) fn reporter(&self) -> MutexGuard<'_, Reporter<io::Sink>> {
        let mut reporter = self.reporter.lock().unwrap_or_else(PoisonError::into_inner);
        reporter.clock.adjust(proc::wall_time(), proc::boottime());
        reporter
    }

    /// Returns an answer with what `write` prints.
    pub(super) fn show(
        &self,
        shape: Shape,
        write: impl FnOnce(&mut Reporter<Vec<u8>>) -> io::Result<()>,
    ) -> Result<Response, Refusal> {
        let format = if shape == Shape::Text {
            Format::Text
        } else {
            Format::Json
        };
        let mut reporter = self.reporter().to(Vec::new(), format);
        write(&mut reporter)
            .map_err(|cause| error(StatusCode::INTERNAL_SERVER_ERROR, &cause.to_string()))?;
        Ok(typed(shape, reporter.into_output()))
    }
}

fn labels(config: &config::Config) -> String {
    let fleet = config.fleet.as_ref();
    fleet.map_or_else(String::new, |fleet| rows::labels(&fleet.labels))
}
