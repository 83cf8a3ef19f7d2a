//! What the agent tells of itself and of the host in numbers, for Prometheus.
//!
//! The numbers are read when they are asked for: nothing is kept here, and nothing is counted for the
//! sake of this. What there is, by name, type, unit and meaning, is in `family`, once: both the text
//! made here and OTLP are made of that. Who asks, and how often, is not known here.

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

/// The forms there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus's own, from before that: of who does not ask for the other, and of `promtool`.
    Text,
}

impl Format {
    /// The one for who sends this `Accept`: OpenMetrics if it is among what is wanted.
    #[must_use]
    pub fn accepted(accept: Option<&str>) -> Self {
        let wants = |accept: &str| accept.contains("application/openmetrics-text");
        if accept.is_some_and(wants) {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    /// Its `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => CONTENT_TYPE,
            Self::Text => prometheus_text::CONTENT_TYPE,
        }
    }
}

/// The `Content-Type` of what [`encode`] makes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All there is now, as OpenMetrics text.
#[must_use]
pub fn encode(shared: &AgentState, config: &config::Metrics) -> String {
    encode_as(Format::OpenMetrics, shared, config)
}

/// All there is now, in one of the forms.
#[must_use]
pub fn encode_as(format: Format, shared: &AgentState, config: &config::Metrics) -> String {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Walk(families(shared, config))));
    let mut text = String::new();
    let encoded = match format {
        Format::OpenMetrics => text::encode(&mut text, &registry),
        Format::Text => prometheus_text::encode(&mut text, &registry),
    };
    // Nothing that is written to a string fails.
    debug_assert!(encoded.is_ok());
    text
}

/// Hands over what there is, one after the other.
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
