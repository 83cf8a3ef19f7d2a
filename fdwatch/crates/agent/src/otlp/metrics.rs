//! The agent's metrics in OTLP. Their definitions are those for Prometheus.

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{
        AggregationTemporality, Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
        metric::Data, number_data_point,
    },
};

use super::value::{pair, resource, scope, text};
use crate::metrics::{Family, Kind, PREFIX, Sample, Unit, Value};

/// When counting started, and when the values were read: nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) start: u64,
    pub(super) now: u64,
}

/// Creates a request with all metrics.
pub(super) fn request(families: &[Family], times: Times) -> ExportMetricsServiceRequest {
    let families = families.iter().filter(|it| !it.samples.is_empty());
    let metrics = ScopeMetrics {
        scope: Some(scope()),
        metrics: families.map(|family| metric(family, times)).collect(),
        ..ScopeMetrics::default()
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource()),
            scope_metrics: vec![metrics],
            ..ResourceMetrics::default()
        }],
    }
}

fn metric(family: &Family, times: Times) -> Metric {
    let is_counter = family.kind == Kind::Counter;
    let times = Times {
        start: if is_counter { times.start } else { 0 },
        ..times
    };
    let points = family.samples.iter();
    let data_points = points.map(|sample| point(sample, times)).collect();
    let data = if is_counter {
        Data::Sum(Sum {
            data_points,
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
            is_monotonic: true,
        })
    } else {
        Data::Gauge(Gauge { data_points })
    };
    Metric {
        name: name(family),
        description: family.help.to_owned(),
        unit: unit(family.unit).to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

/// Returns the name in OTLP. A collector that exports it to Prometheus appends unit and type, which results in the
/// agent's own Prometheus name.
fn name(family: &Family) -> String {
    let last = if family.kind == Kind::Info {
        "_info"
    } else {
        ""
    };
    format!("{PREFIX}.{}{last}", family.name)
}

/// Returns the unit in UCUM, as OpenTelemetry requires.
const fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Things => "",
        Unit::Seconds => "s",
        Unit::Bytes => "By",
        Unit::Ratio => "1",
    }
}

fn point(sample: &Sample, times: Times) -> NumberDataPoint {
    let labels = sample.labels.iter();
    let attributes = labels.map(|(label, value)| pair(label, text(value.as_ref())));
    let value = match sample.value {
        Value::Whole(value) => {
            number_data_point::Value::AsInt(i64::try_from(value).unwrap_or(i64::MAX))
        }
        Value::Real(value) => number_data_point::Value::AsDouble(value),
    };
    NumberDataPoint {
        attributes: attributes.collect(),
        start_time_unix_nano: times.start,
        time_unix_nano: times.now,
        value: Some(value),
        ..NumberDataPoint::default()
    }
}
