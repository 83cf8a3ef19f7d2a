//! Metrics of the agent and the host, for Prometheus.
//!
//! Values are read from the agent's state on each request; nothing is stored here. `family` defines all metrics, for
//! the text format and for OTLP.

mod family;
mod label;
mod processes;

use std::{borrow::Cow, fmt};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet, prometheus_text, text},
    metrics::MetricType,
    registry::{self, Registry},
};

pub use self::{
    family::{Family, Kind, Labels, PREFIX, Sample, Unit, Value, families},
    processes::MAX_PROCESSES,
};
use super::{config, state::AgentState};

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' own older format: the default, and the one of `promtool`.
    Text,
}

impl Format {
    /// Returns the format for an `Accept` header: OpenMetrics if that is included.
    #[must_use]
    pub fn accepted(accept: Option<&str>) -> Self {
        let wants = |accept: &str| accept.contains("application/openmetrics-text");
        if accept.is_some_and(wants) {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    /// Returns its `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => CONTENT_TYPE,
            Self::Text => prometheus_text::CONTENT_TYPE,
        }
    }
}

/// The `Content-Type` of OpenMetrics.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Returns all metrics as OpenMetrics text.
#[must_use]
pub fn encode(shared: &AgentState, config: &config::Metrics) -> String {
    encode_as(Format::OpenMetrics, shared, config)
}

/// Returns all metrics in a text format.
#[must_use]
pub fn encode_as(format: Format, shared: &AgentState, config: &config::Metrics) -> String {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Walk(families(shared, config))));
    let mut text = String::new();
    let encoded = match format {
        Format::OpenMetrics => text::encode(&mut text, &registry),
        Format::Text => prometheus_text::encode(&mut text, &registry),
    };
    // Writing to a string does not fail.
    debug_assert!(encoded.is_ok());
    text
}

/// Passes all metrics to the encoder.
#[derive(Debug)]
struct Walk(Vec<Family>);

impl Collector for Walk {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.0 {
            let unit = unit(family.unit);
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Info => MetricType::Info,
            };
            let mut encoder =
                encoder.encode_descriptor(family.name, family.help, unit.as_ref(), kind)?;
            for sample in &family.samples {
                let labels = Pairs(&sample.labels);
                match (family.kind, sample.value) {
                    (Kind::Counter, Value::Whole(value)) => {
                        encoder
                            .encode_family(&labels)?
                            .encode_counter::<NoLabelSet, _, f64>(&value, None)?;
                    }
                    (Kind::Counter, Value::Real(value)) => {
                        encoder
                            .encode_family(&labels)?
                            .encode_counter::<NoLabelSet, _, f64>(&value, None)?;
                    }
                    (Kind::Gauge, Value::Whole(value)) => {
                        encoder.encode_family(&labels)?.encode_gauge(&value)?;
                    }
                    (Kind::Gauge, Value::Real(value)) => {
                        encoder.encode_family(&labels)?.encode_gauge(&value)?;
                    }
                    (Kind::Info, _) => encoder.encode_info(&labels)?,
                }
            }
        }
        Ok(())
    }
}

fn unit(unit: Unit) -> Option<registry::Unit> {
    unit.suffix()
        .map(|suffix| registry::Unit::Other(suffix.to_owned()))
}

struct Pairs<'a>(&'a [(&'static str, Cow<'static, str>)]);

impl EncodeLabelSet for Pairs<'_> {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelSetEncoder<'_>,
    ) -> fmt::Result {
        let Self(pairs) = self;
        pairs.encode(encoder)
    }
}

#[cfg(test)]
mod tests;
