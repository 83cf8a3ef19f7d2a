//! The handlers of requests about the agent itself: its health and its version.

use std::{fmt::Write as _, sync::atomic::Ordering::Relaxed};

use super::{
    query::{self, Shape},
    response::{ErrorResponse, bad_request, typed},
    state::State,
};
use crate::{snapshot::Snapshot, state::AgentState};
use axum::{
    Json,
    extract::{RawQuery, State as Extracted},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use fdwatch_core::{diagnose::Severity, plural::counted};
use fdwatch_events::wire::{
    self, ApiStats, BudgetState, EventCounts, Object, Scope, SeverityCounts, SinkCounts, Text,
    Trouble, Version, hundredths,
};
use fdwatch_host::proc;

/// Age of the snapshot above which the event loop counts as stalled: seconds. The loop updates it once a second.
const MAX_SNAPSHOT_AGE: f64 = 5.0;

/// `/v1/health`: the status of the agent and its current problems. The status code is 503 if the event loop is stalled.
pub(super) async fn health(
    Extracted(state): Extracted<State>,
    RawQuery(query): RawQuery,
) -> Result<Response, ErrorResponse> {
    let query = query::read(query.as_deref(), &["format"], false).map_err(bad_request)?;
    let view = state.shared.view();
    let Health { status, troubles } = Health::of(&state.shared, &view);
    let code = if status == "stalled" {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    if query.shape == Shape::Text {
        let mut text = format!("{status}\n");
        for (of, reason) in &troubles {
            let _ = writeln!(text, "{of}: {reason}");
        }
        return Ok((code, typed(Shape::Text, text)).into_response());
    }
    let mut findings = SeverityCounts::default();
    for active in state.shared.active() {
        match active.last.kind.severity() {
            Some(Severity::Info) => findings.info += 1,
            Some(Severity::Warning) => findings.warning += 1,
            Some(Severity::Critical) => findings.critical += 1,
            None => {}
        }
    }
    let stats = &view.stats;
    let drift = stats.statistics.drift;
    let sinks = state.shared.sinks();
    let sinks = sinks.iter().map(|(name, counts)| {
        let [taken, dropped, delivered, failed] = counts.now();
        let counts = SinkCounts {
            taken,
            dropped,
            delivered,
            failed,
        };
        (Text::Borrowed(*name), counts)
    });
    let api = &state.shared.api;
    let body = wire::Health {
        labels: state.labels.clone(),
        status: status.into(),
        troubles: troubles
            .into_iter()
            .map(|(of, reason)| Trouble { of, reason })
            .collect(),
        version: env!("CARGO_PKG_VERSION").into(),
        kernel: fdwatch_probe::host::kernel_release(),
        duration: fdwatch_events::time::seconds(stats.duration),
        processes: stats.processes,
        descriptors: stats.descriptors,
        findings,
        told: EventCounts {
            found: stats.found,
            changed: stats.changed,
            gone: stats.gone,
            ignored: view.ignored,
        },
        events: stats.statistics.events(),
        lost: stats.lost.total(),
        drift: drift.total(),
        audits: drift.audits,
        budget: BudgetState {
            sheds: stats.shedding.name().into(),
            max_cpu: view.budget_percent,
            cpu: hundredths(view.used_percent),
        },
        cpu_seconds: stats.usage.user + stats.usage.system,
        rss_bytes: view.rss,
        unreported: stats.unreported.into(),
        outlets: sinks.collect(),
        api: ApiStats {
            requests: api.requests.load(Relaxed),
            refused: api.refused.load(Relaxed),
            readers: api.readers.load(Relaxed),
            slow_readers: api.slow_readers.load(Relaxed),
        },
    };
    let line = state.wire().body(body, view.at);
    Ok((code, Json(line)).into_response())
}

/// The status of the agent, and its current problems.
struct Health {
    status: &'static str,
    troubles: Vec<(String, String)>,
}

impl Health {
    fn of(shared: &AgentState, view: &Snapshot) -> Self {
        let mut troubles = shared.troubles();
        let age = fdwatch_events::time::seconds(proc::boottime().saturating_sub(view.at.0));
        if age > MAX_SNAPSHOT_AGE {
            // The time is zero until the first snapshot.
            let reason = if view.at.0 == 0 {
                "the event loop is starting".to_owned()
            } else {
                format!("event loop stalled for {age:.0} s")
            };
            troubles.push(("loop".to_owned(), reason));
            return Self {
                status: "stalled",
                troubles,
            };
        }
        let shedding = view.stats.shedding;
        if shedding != fdwatch_core::budget::ShedLevel::Nothing {
            troubles.push((
                "budget".to_owned(),
                format!("budget exceeded: skipping {}", shedding.name()),
            ));
        }
        let unreported = view.stats.unreported;
        if unreported.files > 0 {
            let files = counted(unreported.files, "file");
            let processes = counted(unreported.processes, "process");
            troubles.push((
                "findings".to_owned(),
                format!("{files} of {processes} not reported: too many findings"),
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
) -> Result<Response, ErrorResponse> {
    query::read(query.as_deref(), &[], false).map_err(bad_request)?;
    let view = state.shared.view();
    let watch = &state.watch;
    let body = Version {
        version: env!("CARGO_PKG_VERSION").into(),
        api: "v1".into(),
        pid: std::process::id(),
        kernel: fdwatch_probe::host::kernel_release(),
        follows: Scope {
            severity: watch.severity.name().into(),
            all_types: watch.all_types,
        },
        processes: view.stats.processes,
        descriptors: view.stats.descriptors,
    };
    Ok(Json(Object::new(body)).into_response())
}
