//! The agent's handler of the live loop: turns findings and growth into events, according to the rules of the
//! configuration, and serves requests that need the tables.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use anyhow::Result;
use rustc_hash::FxHashMap;
use tokio::sync::mpsc;

use crate::{
    config::Config,
    rules::{self, Rules, Thresholds, Verdict},
    snapshot::Snapshot,
    state::{AgentState, LoopRequest},
    stop::StopFile,
};
use fdwatch_core::{
    Lost,
    diagnose::{Descriptor, Finding, ProcessInfo},
    duplicates::Change,
    model::Moment,
    open_for_write,
};
use fdwatch_events::{
    BudgetReport, GrowthReport,
    event::{Event, EventKind, Key, Measure},
    wire::Wire,
};
use fdwatch_host::proc;
use fdwatch_tracker::{
    EventHandler, FindingCollector, Subject, Tracker, Update,
    explain::{ExplainRequest, explanation},
    now,
    rows::{ProcessRows, Rows, table},
};

/// Minimum limit of processes in a snapshot.
const MIN_ROWS: usize = 50;

/// Closed descriptors to remember per finding.
const MAX_CLOSED: usize = 16;

/// Ended findings to remember, for explanations.
const MAX_GONE: usize = 256;

/// Time for which a double close stays active: nanoseconds. Its end cannot be observed.
const DOUBLE_CLOSE_DURATION: u64 = 600_000_000_000;

/// The state of the handler.
pub(super) struct AgentLoop {
    pub(super) config: Config,
    pub(super) rules: Rules,
    pub(super) thresholds: Thresholds,
    /// Whether a threshold measures the space that deleted files hold.
    pub(super) watches_pinned: bool,
    /// When all processes were last compared with the thresholds.
    pub(super) measured: Moment,
    pub(super) collector: FindingCollector,
    pub(super) wire: Wire,
    pub(super) shared: Arc<AgentState>,
    pub(super) incoming: mpsc::Receiver<LoopRequest>,
    /// Receives reloaded configurations.
    pub(super) configs: mpsc::Receiver<Config>,
    /// Called once the findings of the first snapshot are reported.
    pub(super) first_report: Option<Box<dyn FnOnce() + Send>>,
    pub(super) stop: StopFile,
    pub(super) boot_id: String,
    /// Active findings by ID, including those that rules suppress.
    pub(super) known: FxHashMap<u64, KnownFinding>,
    /// The last ended findings, for explanations.
    pub(super) gone: VecDeque<Finding>,
    pub(super) rows: Rows,
    /// Number of the last event.
    pub(super) number: u64,
    /// Findings ignored by rules since the start.
    pub(super) ignored: u64,
    pub(super) is_stopped: bool,
    /// Requests that are not handled yet.
    pub(super) requests: Vec<LoopRequest>,
    /// A reloaded configuration that is not applied yet.
    pub(super) new_config: Option<Config>,
}

/// An active finding.
pub(super) struct KnownFinding {
    /// The finding before rules changed its severity.
    finding: Finding,
    subject: Subject,
    key: Key,
    is_reported: bool,
    /// Its last closed descriptors, oldest first.
    closed: Vec<Descriptor>,
    /// When it ends unless it is found again; only for double closes.
    expires: Option<Moment>,
}

impl AgentLoop {
    pub(super) fn report(&mut self, kind: EventKind, key: Option<Key>, at: Moment) {
        self.number += 1;
        // All map keys are strings, so this cannot fail.
        let json = serde_json::to_string(&self.wire.event(&kind, at, key, None));
        self.shared.publish(Event {
            number: self.number,
            at,
            wall_time: proc::wall_time(),
            kind,
            json: json.unwrap_or_default(),
            key,
        });
    }

    pub(super) fn key(&self, subject: &str, process: &ProcessInfo, parts: &[u64]) -> Key {
        Key::of(&self.boot_id, subject, process, parts)
    }

    fn handle_finding(&mut self, subject: Subject, found: Finding, live: &mut Tracker, at: Moment) {
        let known = self.known.remove(&found.id);
        let was_reported = known.as_ref().is_some_and(|known| known.is_reported);
        let is_new = known.is_none();
        let (key, known_closed) = match known {
            Some(known) => (known.key, known.closed),
            None => (self.key_of(subject, &found), Vec::new()),
        };
        let mut finding = found.clone();
        let verdict = self.rules.judge(&mut finding);
        if is_new && verdict == Verdict::Ignored {
            self.ignored += 1;
        }
        let is_gone = found.change == Change::Gone;
        let is_wanted = verdict == Verdict::Reported;
        match (was_reported, is_wanted) {
            (false, false) => {}
            // A rule suppresses it now, or it ended.
            (true, false) => finding.change = Change::Gone,
            (false, true) if !is_gone => finding.change = Change::Found,
            (_, true) => {}
        }
        let closed = last_closed(known_closed, &found);
        if is_gone {
            if self.gone.len() >= MAX_GONE {
                self.gone.pop_front();
            }
            self.gone.push_back(Finding { closed, ..found });
        } else {
            let expires = Moment(at.0.saturating_add(DOUBLE_CLOSE_DURATION));
            let known = KnownFinding {
                subject,
                key,
                is_reported: is_wanted,
                expires: (subject == Subject::DoubleClose).then_some(expires),
                closed,
                finding: found,
            };
            self.known.insert(known.finding.id, known);
        }
        // An ignored or ended finding exceeds no threshold.
        let mut measured = finding.clone();
        if verdict == Verdict::Ignored {
            measured.change = Change::Gone;
        }
        self.measure_finding(&measured, at);
        if was_reported || is_wanted {
            live.stats.count_finding(&finding);
            self.report(EventKind::Finding(Box::new(finding)), Some(key), at);
        }
    }

    fn key_of(&self, subject: Subject, finding: &Finding) -> Key {
        let file = [u64::from(finding.file.dev), finding.file.ino];
        match subject {
            Subject::File => self.key("file", &finding.process, &file),
            Subject::Rotation => self.key("rotation", &finding.process, &file),
            Subject::SharedFile => self.key("shared-file", &finding.process, &file),
            Subject::DoubleClose => {
                let at = finding.closed_again.as_ref().map_or(0, |again| again.at.0);
                self.key("double-close", &finding.process, &[at, finding.id])
            }
        }
    }

    fn handle_growth(&mut self, report: GrowthReport, at: Moment) {
        let key = self.key("growth", &report.process, &[]);
        let is_wanted = report
            .trend
            .as_ref()
            .is_none_or(|trend| trend.severity >= self.config.watch.severity);
        let is_active = self.shared.is_active(key);
        if is_active || (is_wanted && report.change != Change::Gone) {
            self.report(EventKind::Growth(Box::new(report)), Some(key), at);
        }
    }

    /// Ends the findings that have expired.
    fn end_expired(&mut self, live: &mut Tracker, at: Moment) {
        let expired = self.known.values();
        let expired = expired.filter(|known| known.expires.is_some_and(|expires| expires <= at));
        let expired: Vec<_> = expired
            .map(|known| {
                let mut finding = known.finding.clone();
                finding.change = Change::Gone;
                (known.subject, finding)
            })
            .collect();
        for (subject, finding) in expired {
            self.handle_finding(subject, finding, live, at);
        }
    }

    /// Applies another configuration, and judges the active findings again.
    fn apply_config(&mut self, config: Config, live: &mut Tracker, at: Moment) {
        self.set_rules(&config, at);
        self.collector
            .investigator
            .set_filter(rules::filter(&config));
        self.watches_pinned = watches_pinned(&config);
        self.config = config;
        let known = self.known.values();
        let known: Vec<_> = known
            .map(|known| {
                let mut finding = known.finding.clone();
                finding.change = Change::Changed;
                finding.closed.clear();
                (known.subject, known.is_reported, finding)
            })
            .collect();
        for (subject, was_reported, finding) in known {
            let mut judged = finding.clone();
            let verdict = self.rules.judge(&mut judged);
            // Findings with an unchanged verdict are not reported again.
            if (verdict == Verdict::Reported) != was_reported {
                self.handle_finding(subject, finding, live, at);
            } else if verdict != Verdict::Ignored {
                self.measure_finding(&judged, at);
            }
        }
    }

    /// Returns the active and ended findings of a process, with their closed descriptors.
    fn findings_of(&self, pid: u32) -> Vec<Finding> {
        let known = self.known.values();
        let known = known.filter(|known| known.finding.process.pid == pid);
        let known = known.map(|known| Finding {
            closed: known.closed.clone(),
            ..known.finding.clone()
        });
        let gone = self.gone.iter();
        let gone = gone.filter(|finding| finding.process.pid == pid).cloned();
        known.chain(gone).collect()
    }

    fn handle_request(&mut self, request: LoopRequest, live: &mut Tracker) {
        // Sending a reply fails if the requester has given up.
        match request {
            LoopRequest::Table { pid, reply } => {
                let _ = reply.send(table(live, pid).map(Box::new));
            }
            LoopRequest::Explain { pid, target, reply } => {
                live.add_suspect(pid);
                if live.engine.model.process(pid).is_none() {
                    let _ = reply.send(Err(format!("no such process: {pid}")));
                    return;
                }
                let request = ExplainRequest {
                    pid,
                    target: target.as_ref(),
                    followed: true,
                };
                let found = self.findings_of(pid);
                let explained = explanation(
                    &request,
                    found.into_iter(),
                    &mut self.collector,
                    &live.engine,
                );
                let explained = explained.map(Box::new).map_err(|error| error.to_string());
                let _ = reply.send(explained);
            }
            LoopRequest::Processes { max, reply } => {
                let _ = reply.send(self.rows.look_up(live, max, now()).rows);
            }
            LoopRequest::OpenForWrite { devices, reply } => {
                let model = &live.engine.model;
                let found = open_for_write::open_for_writing(model, &devices, open_for_write::MAX);
                let _ = reply.send(found);
            }
        }
    }

    /// Replaces the snapshot.
    fn update_snapshot(&mut self, live: &mut Tracker, at: Moment) {
        live.update_stats();
        let max_rows = self.config.metrics.most_processes.max(MIN_ROWS);
        let ProcessRows {
            rows,
            more_processes,
            more_descriptors,
        } = self.rows.show(live, max_rows, at);
        let ring = live.stats.ring_bytes.map_or(0.0, f64::from);
        #[expect(
            clippy::cast_precision_loss,
            reason = "a ratio does not need full precision"
        )]
        let waiting = std::mem::take(&mut live.max_waiting) as f64;
        let shed = &live.shedder;
        self.shared.set_view(Snapshot {
            at,
            wall_time: proc::wall_time(),
            stats: live.stats,
            ring_fill: if ring > 0.0 {
                (waiting / ring).min(1.0)
            } else {
                0.0
            },
            audit_time: live.audits.total_time,
            last_audit_time: live.audits.took,
            tables: live.engine.model.tables().count(),
            rss: proc::resident(),
            not_followed: shed.not_followed(),
            budget_percent: shed.budget.percent(),
            used_percent: shed.budget.percent_used(),
            ignored: self.ignored,
            processes: rows,
            more_processes,
            more_descriptors,
        });
    }
}

impl EventHandler for AgentLoop {
    fn started(&mut self, live: &mut Tracker) -> Result<()> {
        self.update_snapshot(live, now());
        Ok(())
    }

    fn tick(&mut self, live: &mut Tracker, is_slow: bool) -> Result<()> {
        let at = now();
        self.wire.clock.adjust(proc::wall_time(), at.0);
        self.collector.begin(live, is_slow);
        while let Some(updates) = self.collector.next_updates(live)? {
            for update in updates {
                match update {
                    Update::Finding(subject, finding) => {
                        self.handle_finding(subject, finding, live, at);
                    }
                    Update::Growth(report) => self.handle_growth(report, at),
                }
            }
            self.shared.heartbeat.fetch_add(1, Relaxed);
        }
        if is_slow {
            self.end_expired(live, at);
            self.measure_all(live, at);
            self.update_snapshot(live, at);
        }
        if let Some(first_report) = self.first_report.take() {
            first_report();
        }
        self.is_stopped = self.stop.is_there();
        self.shared.heartbeat.fetch_add(1, Relaxed);
        Ok(())
    }

    fn is_over(&self, _: &Tracker) -> bool {
        self.is_stopped
    }

    async fn wait(&mut self) {
        tokio::select! {
            Some(request) = self.incoming.recv() => self.requests.push(request),
            Some(config) = self.configs.recv() => self.new_config = Some(config),
            else => std::future::pending().await,
        }
    }

    fn act(&mut self, live: &mut Tracker) -> Result<()> {
        let at = now();
        if let Some(config) = self.new_config.take() {
            self.apply_config(config, live, at);
        }
        for request in std::mem::take(&mut self.requests) {
            self.handle_request(request, live);
        }
        Ok(())
    }

    fn lost(&mut self, _: &mut Tracker, lost: &Lost) -> Result<()> {
        self.report(EventKind::Loss(*lost), None, now());
        Ok(())
    }

    fn budget(&mut self, _: &mut Tracker, report: &BudgetReport) -> Result<()> {
        self.report(EventKind::Budget(report.clone()), None, now());
        Ok(())
    }

    fn ended(&mut self, live: &mut Tracker) -> Result<()> {
        self.update_snapshot(live, now());
        Ok(())
    }
}

/// Returns whether a threshold measures the space that deleted files hold.
pub(super) fn watches_pinned(config: &Config) -> bool {
    let mut thresholds = config.thresholds.iter();
    thresholds.any(|threshold| threshold.of == Measure::PinnedBytes)
}

/// Adds the newly closed descriptors of a finding to the known ones, and keeps the last [`MAX_CLOSED`].
fn last_closed(mut closed: Vec<Descriptor>, found: &Finding) -> Vec<Descriptor> {
    closed.extend(found.closed.iter().cloned());
    let excess = closed.len().saturating_sub(MAX_CLOSED);
    closed.drain(..excess);
    closed
}
