//! How the agent does, and what it is: the answers that say so. What is asked besides is not known here.

use std::{fmt::Write as _, sync::atomic::Ordering::Relaxed};

use axum::{
    Json,
    extract::{RawQuery, State as Extracted},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde_json::json;

use super::{
    answer::{Refusal, bad, typed},
    query::{self, Shape},
    state::State,
};
use crate::{snapshot::Snapshot, state::AgentState};
use fdwatch_core::diagnose::Severity;
use fdwatch_host::proc;
use fdwatch_render::SCHEMA;

/// The view is as old as this, at the most, where the live loop does what it is to do: seconds.
const STALE: f64 = 5.0;

/// `/v1/health`: whether all is well, and if not, what is not. 503 if the live loop stands still.
pub(super) async fn health(
    Extracted(state): Extracted<State>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let query = query::read(query.as_deref(), &["format"], false).map_err(bad)?;
    let view = state.shared.view();
    let Health { status, troubles } = Health::of(&state.shared, &view);
    let code = if status == "stalled" {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    if query.shape == Shape::Text {
        let mut text = format!("{status}\n");
        for (what, trouble) in &troubles {
            let _ = writeln!(text, "{what}: {trouble}");
        }
        return Ok((code, typed(Shape::Text, text)).into_response());
    }
    let mut by_severity = [0_u32; 3];
    for active in state.shared.active() {
        if let Some(severity) = active.last.told.severity() {
            by_severity[severity as usize] += 1;
        }
    }
    let of = |severity: Severity| by_severity[severity as usize];
    let reporter = state.reporter();
    let stats = &view.stats;
    let drift = stats.statistics.drift;
    let sinks = state.shared.sinks();
    let sinks = sinks.iter().map(|(name, counts)| {
        let [taken, dropped, delivered, failed] = counts.now();
        let counts =
            json!({"taken": taken, "dropped": dropped, "delivered": delivered, "failed": failed});
        ((*name).to_owned(), counts)
    });
    let body = json!({
        "schema": SCHEMA,
        "type": "health",
        "time": reporter.clock.rfc3339(view.at),
        "host": reporter.host(),
        "labels": state.labels,
        "status": status,
        "troubles": troubles.iter().map(|(what, reason)| json!({"of": what, "reason": reason})).collect::<Vec<_>>(),
        "version": env!("CARGO_PKG_VERSION"),
        "kernel": fdwatch_probe::host::kernel_release(),
        "duration": fdwatch_events::time::seconds(stats.duration),
        "processes": stats.processes,
        "descriptors": stats.descriptors,
        "findings": {"info": of(Severity::Info), "warning": of(Severity::Warning), "critical": of(Severity::Critical)},
        "told": {"found": stats.found, "changed": stats.changed, "gone": stats.gone, "ignored": view.ignored},
        "events": stats.statistics.events(),
        "lost": stats.lost.total(),
        "drift": drift.total(),
        "audits": drift.audits,
        "budget": {"sheds": stats.shedding.name(), "max_cpu": view.budget_percent, "cpu": (view.used_percent * 100.0).round() / 100.0},
        "cpu_seconds": stats.usage.user + stats.usage.system,
        "rss_bytes": view.rss,
        "outlets": sinks.collect::<serde_json::Map<_, _>>(),
        "api": {
            "requests": state.shared.api.requests.load(Relaxed),
            "refused": state.shared.api.refused.load(Relaxed),
            "readers": state.shared.api.readers.load(Relaxed),
            "slow_readers": state.shared.api.slow_readers.load(Relaxed),
        },
    });
    Ok((code, Json(body)).into_response())
}

/// How the agent does.
struct Health {
    status: &'static str,
    troubles: Vec<(String, String)>,
}

impl Health {
    fn of(shared: &AgentState, view: &Snapshot) -> Self {
        let mut troubles = shared.troubles();
        let age = fdwatch_events::time::seconds(proc::boottime().saturating_sub(view.at.0));
        if age > STALE {
            let words = format!("the live loop has done nothing for {age:.0} s");
            troubles.push(("loop".to_owned(), words));
            return Self {
                status: "stalled",
                troubles,
            };
        }
        let shedding = view.stats.shedding;
        if shedding != fdwatch_core::budget::Shedding::Nothing {
            troubles.push((
                "budget".to_owned(),
                format!("left undone: {}", shedding.name()),
            ));
        }
        let status = if troubles.is_empty() {
            "ok"
        } else {
            "degraded"
        };
        Self { status, troubles }
    }
}

/// `/v1/version`
pub(super) async fn version(
    Extracted(state): Extracted<State>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    query::read(query.as_deref(), &[], false).map_err(bad)?;
    let view = state.shared.view();
    let watch = &state.watch;
    let body = json!({
        "schema": SCHEMA,
        "type": "version",
        "version": env!("CARGO_PKG_VERSION"),
        "api": "v1",
        "pid": std::process::id(),
        "kernel": fdwatch_probe::host::kernel_release(),
        "follows": {
            "severity": watch.severity.name(),
            "all_types": watch.all_types,
        },
        "processes": view.stats.processes,
        "descriptors": view.stats.descriptors,
    });
    Ok(Json(body).into_response())
}
