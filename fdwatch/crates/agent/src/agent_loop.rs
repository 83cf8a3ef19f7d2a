//! The agent's part of the live loop: makes events of what is found, by the rules of the
//! configuration, and answers what only the loop can.

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

/// Processes that the view has, at least.
const MIN_ROWS: usize = 50;

/// Closed descriptors of one finding that are remembered.
const MAX_CLOSED: usize = 16;

/// Findings that are gone and are remembered.
const MAX_GONE: usize = 256;

/// How long a double close is told to be there: nobody can say when it is over.
const DOUBLE_CLOSE_LASTS: u64 = 600_000_000_000;

/// See the module.
pub(super) struct AgentLoop {
    pub(super) config: Config,
    pub(super) rules: Rules,
    pub(super) thresholds: Thresholds,
    /// Whether there is a threshold of the space that deleted files take.
    pub(super) watches_pinned: bool,
    /// When all processes were held against the thresholds.
    pub(super) measured: Moment,
    pub(super) collector: FindingCollector,
    pub(super) wire: Wire,
    pub(super) shared: Arc<AgentState>,
    pub(super) incoming: mpsc::Receiver<LoopRequest>,
    /// Configurations that hold from now on.
    pub(super) configs: mpsc::Receiver<Config>,
    /// Called once the findings of the first snapshot are reported.
    pub(super) first_report: Option<Box<dyn FnOnce() + Send>>,
    pub(super) stop: StopFile,
    pub(super) boot_id: String,
    /// Findings that are there, also those that are not told, by their number.
    pub(super) known: FxHashMap<u64, Known>,
    /// The last findings that are not there any more, for what is to be explained.
    pub(super) gone: VecDeque<Finding>,
    pub(super) rows: Rows,
    /// Events told so far.
    pub(super) number: u64,
    /// Findings that rules have left out.
    pub(super) ignored: u64,
    pub(super) is_stopped: bool,
    /// What has come between ticks.
    pub(super) requests: Vec<LoopRequest>,
    pub(super) fresh: Option<Config>,
}

/// A finding that is there.
pub(super) struct Known {
    /// As it was found, before the rules.
    finding: Finding,
    subject: Subject,
    key: Key,
    is_reported: bool,
    /// What was closed of it so far: the last.
    story: Vec<Descriptor>,
    /// When it is over by itself.
    until: Option<Moment>,
}

impl AgentLoop {
    pub(super) fn report(&mut self, kind: EventKind, key: Option<Key>, at: Moment) {
        self.number += 1;
        // All keys of its maps are strings: this cannot fail.
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

    fn take_finding(&mut self, subject: Subject, found: Finding, live: &mut Tracker, at: Moment) {
        let known = self.known.remove(&found.id);
        let was_reported = known.as_ref().is_some_and(|known| known.is_reported);
        let is_new = known.is_none();
        let (key, known_story) = match known {
            Some(known) => (known.key, known.story),
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
            // It matters no more, or is gone.
            (true, false) => finding.change = Change::Gone,
            (false, true) if !is_gone => finding.change = Change::Found,
            (_, true) => {}
        }
        let story = stories(known_story, &found);
        if is_gone {
            if self.gone.len() >= MAX_GONE {
                self.gone.pop_front();
            }
            self.gone.push_back(Finding {
                closed: story,
                ..found
            });
        } else {
            let lasts = Moment(at.0.saturating_add(DOUBLE_CLOSE_LASTS));
            let known = Known {
                subject,
                key,
                is_reported: is_wanted,
                until: (subject == Subject::DoubleClose).then_some(lasts),
                story,
                finding: found,
            };
            self.known.insert(known.finding.id, known);
        }
        // What is left out, or gone, is beyond no threshold any more.
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

    fn take_growth(&mut self, report: GrowthReport, at: Moment) {
        let key = self.key("growth", &report.process, &[]);
        let is_wanted = report
            .trend
            .as_ref()
            .is_none_or(|trend| trend.severity >= self.config.watch.severity);
        let is_there = self.shared.is_active(key);
        if is_there || (is_wanted && report.change != Change::Gone) {
            self.report(EventKind::Growth(Box::new(report)), Some(key), at);
        }
    }

    /// Double closes that were told long ago are over.
    fn end_old(&mut self, live: &mut Tracker, at: Moment) {
        let over = self.known.values();
        let over = over.filter(|known| known.until.is_some_and(|until| until <= at));
        let over: Vec<_> = over
            .map(|known| {
                let mut finding = known.finding.clone();
                finding.change = Change::Gone;
                (known.subject, finding)
            })
            .collect();
        for (subject, finding) in over {
            self.take_finding(subject, finding, live, at);
        }
    }

    /// Another configuration holds: what is there is judged again.
    fn take_config(&mut self, config: Config, live: &mut Tracker, at: Moment) {
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
            // What is told as it was is not told again.
            if (verdict == Verdict::Reported) != was_reported {
                self.take_finding(subject, finding, live, at);
            } else if verdict != Verdict::Ignored {
                self.measure_finding(&judged, at);
            }
        }
    }

    /// All that was found of a process, with what was closed of it.
    fn found_of(&self, pid: u32) -> Vec<Finding> {
        let known = self.known.values();
        let known = known.filter(|known| known.finding.process.pid == pid);
        let known = known.map(|known| Finding {
            closed: known.story.clone(),
            ..known.finding.clone()
        });
        let gone = self.gone.iter();
        let gone = gone.filter(|finding| finding.process.pid == pid).cloned();
        known.chain(gone).collect()
    }

    fn answer(&mut self, request: LoopRequest, live: &mut Tracker) {
        // Who has asked may have gone since.
        match request {
            LoopRequest::Table { pid, answer } => {
                let _ = answer.send(table(live, pid).map(Box::new));
            }
            LoopRequest::Explain {
                pid,
                target,
                answer,
            } => {
                live.add_suspect(pid);
                if live.engine.model.process(pid).is_none() {
                    let _ = answer.send(Err(format!("there is no process {pid}")));
                    return;
                }
                let request = ExplainRequest {
                    pid,
                    target: target.as_ref(),
                    followed: true,
                };
                let found = self.found_of(pid);
                let explained = explanation(
                    &request,
                    found.into_iter(),
                    &mut self.collector,
                    &live.engine,
                );
                let explained = explained.map(Box::new).map_err(|error| error.to_string());
                let _ = answer.send(explained);
            }
            LoopRequest::Processes { most, answer } => {
                let _ = answer.send(self.rows.look_up(live, most, now()).rows);
            }
            LoopRequest::Written { devices, answer } => {
                let model = &live.engine.model;
                let found = open_for_write::open_for_writing(model, &devices, open_for_write::MAX);
                let _ = answer.send(found);
            }
        }
    }

    /// Shows how things are.
    fn show(&mut self, live: &mut Tracker, at: Moment) {
        live.update_stats();
        let most = self.config.metrics.most_processes.max(MIN_ROWS);
        let ProcessRows {
            rows,
            more_processes,
            more_descriptors,
        } = self.rows.show(live, most, at);
        let ring = live.stats.ring_bytes.map_or(0.0, f64::from);
        #[expect(clippy::cast_precision_loss, reason = "a share, for people")]
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
        self.show(live, now());
        Ok(())
    }

    fn tick(&mut self, live: &mut Tracker, is_slow: bool) -> Result<()> {
        let at = now();
        self.wire.clock.adjust(proc::wall_time(), at.0);
        let mut news = Vec::new();
        self.collector.collect(live, is_slow, |it, _| news.push(it));
        for it in news {
            match it {
                Update::Finding(subject, finding) => self.take_finding(subject, finding, live, at),
                Update::Growth(report) => self.take_growth(report, at),
            }
        }
        if is_slow {
            self.end_old(live, at);
            self.measure_all(live, at);
            self.show(live, at);
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
            Some(config) = self.configs.recv() => self.fresh = Some(config),
            else => std::future::pending().await,
        }
    }

    fn act(&mut self, live: &mut Tracker) -> Result<()> {
        let at = now();
        if let Some(config) = self.fresh.take() {
            self.take_config(config, live, at);
        }
        for request in std::mem::take(&mut self.requests) {
            self.answer(request, live);
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
        self.show(live, now());
        Ok(())
    }
}

/// Whether it matters which processes hold deleted files.
pub(super) fn watches_pinned(config: &Config) -> bool {
    let mut thresholds = config.thresholds.iter();
    thresholds.any(|threshold| threshold.of == Measure::PinnedBytes)
}

/// What was closed of a finding before, and since: the last.
fn stories(mut story: Vec<Descriptor>, found: &Finding) -> Vec<Descriptor> {
    story.extend(found.closed.iter().cloned());
    let more = story.len().saturating_sub(MAX_CLOSED);
    story.drain(..more);
    story
}
