//! Source of updates that loads the BPF programs itself.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use fdwatch_tracker::{
    EventHandler, FindingCollector, StopCondition, Tracker, TrackerOptions, Update,
    explain::{self, ExplainRequest, explanation},
    now,
    priority::{self, DEFAULT_NICE},
    rows::{ProcessRows, Rows, TableCopy, table},
};

use super::{
    MAX_ROWS, READ_INTERVAL, READ_SHARE,
    inbox::{Inbox, SourceRequest},
};
use crate::data::{Descriptors, FindingEvent, Row, Status, lines_of};
use fdwatch_core::{Lost, diagnose::Finding, duplicates::Change, model::Moment};
use fdwatch_events::{
    BudgetReport,
    time::Clock,
    wire::{Event, Wire},
};
use fdwatch_host::{
    investigate::{Investigator, Source, SupervisordConfigs},
    proc,
    users::Users,
};
use fdwatch_options::{Detail, Filters, MaxCpu};
use fdwatch_render::Report as _;

/// Maximum number of findings stored for explanations.
const MAX_FINDINGS: usize = 2048;

/// Interval between explanations of the open process if there are no new findings.
const EXPLANATION_INTERVAL: Duration = Duration::from_secs(10);

pub(crate) fn run(
    ring_bytes: u32,
    max_cpu: MaxCpu,
    filters: &Filters,
    inbox: &Arc<Inbox>,
    ready: impl FnOnce(),
) -> Result<()> {
    let live = Tracker::start(TrackerOptions {
        ring_bytes,
        all_types: filters.all_types(),
        max_cpu,
        detail: Detail::Suspects,
        pids: Vec::new(),
        family: None,
        nice: Some(DEFAULT_NICE),
        shows_steps: false,
    })?;
    let clock = Clock::new(proc::wall_time(), proc::boottime());
    let mut follower = ScreenUpdater {
        collector: FindingCollector::new(Investigator::new(filters.filter()?, Source::Live)),
        wire: Wire::new(proc::hostname(), clock),
        rows: Rows::default(),
        users: Users::read(),
        findings: BTreeMap::new(),
        inbox: Arc::clone(inbox),
        opened: None,
        reads: Arc::default(),
        ready: Some(ready),
    };
    live.follow(&mut Quit(Arc::clone(inbox)), &mut follower)
}

/// Ends the source when the user quits.
struct Quit(Arc<Inbox>);

impl StopCondition for Quit {
    fn begin(&mut self) -> Result<()> {
        Ok(())
    }

    async fn wait(&mut self) -> Result<()> {
        self.0.quits().await;
        Ok(())
    }
}

struct ScreenUpdater<F> {
    collector: FindingCollector,
    wire: Wire,
    rows: Rows,
    users: Users,
    /// Latest state of each finding by ID, with its closed descriptors.
    findings: BTreeMap<u64, Finding>,
    inbox: Arc<Inbox>,
    opened: Option<Opened>,
    reads: Arc<TableReads>,
    /// Called when the source is ready.
    ready: Option<F>,
}

/// The open process.
struct Opened {
    pid: u32,
    /// Next time its descriptors are read.
    next_read: Instant,
    /// Next time it is explained.
    next_explanation: Instant,
}

/// State that the threads which read descriptors share.
#[derive(Default)]
struct TableReads {
    supervisords: Mutex<SupervisordConfigs>,
    /// Duration of the last reading; `None` while one is running.
    took: Mutex<Option<Duration>>,
}

impl<F: FnOnce()> ScreenUpdater<F> {
    fn report(&self, event: &Event, at: Moment) {
        let time = self.wire.clock.time_of_day(at);
        if let Some(finding) = FindingEvent::of(event, time) {
            self.inbox.add(finding);
        }
    }

    fn handle(&mut self, update: Update, live: &mut Tracker, at: Moment) {
        let event = match &update {
            Update::Finding(_, finding) => Event::Finding(Box::new(self.wire.line(finding, at))),
            Update::Growth(report) => Event::Growth(Box::new(self.wire.line(report, at))),
        };
        self.report(&event, at);
        let Update::Finding(_, finding) = update else {
            return;
        };
        live.stats.count_finding(&finding);
        if let Some(opened) = &mut self.opened
            && opened.pid == finding.process.pid
        {
            let soon = Instant::now() + Duration::from_secs(1);
            opened.next_read = opened.next_read.min(soon);
            opened.next_explanation = opened.next_explanation.min(soon);
        }
        self.store(finding);
    }

    fn store(&mut self, finding: Finding) {
        explain::merge(&mut self.findings, finding);
        if self.findings.len() > MAX_FINDINGS {
            let gone = self.findings.iter();
            let gone = gone.filter(|(_, finding)| finding.change == Change::Gone);
            let oldest = gone.map(|(&id, _)| id).next();
            if let Some(id) = oldest.or_else(|| self.findings.keys().next().copied()) {
                self.findings.remove(&id);
            }
        }
    }

    fn show(&mut self, live: &mut Tracker, at: Moment) {
        live.update_stats();
        let stats = &live.stats;
        self.inbox.status(Status {
            source: "own programs".to_owned(),
            host: self.wire.host().to_owned(),
            time: self.wire.clock.time_of_day(at),
            at: at.0,
            processes: stats.processes as u64,
            descriptors: stats.descriptors as u64,
            events: stats.statistics.events(),
            lost: stats.lost.total(),
            drift: stats.statistics.drift.total(),
            cpu_seconds: stats.usage.user + stats.usage.system,
            memory: proc::resident(),
            max_cpu: live.shedder.budget.percent(),
            sheds: stats.shedding.name().to_owned(),
        });
        let ProcessRows {
            rows,
            more_processes,
            ..
        } = self.rows.show(live, MAX_ROWS, at);
        let rows = rows.iter();
        let rows = rows.map(|row| Row::of(row, &self.users.name(row.uid)));
        self.inbox.rows(rows.collect(), more_processes as u64);
    }

    /// Reads and explains the open process if either is due.
    fn read(&mut self, live: &mut Tracker) {
        let now = Instant::now();
        let Some(opened) = &mut self.opened else {
            return;
        };
        let pid = opened.pid;
        if now >= opened.next_read {
            // Only one reading runs at a time.
            if let Some(took) = self.reads.begin() {
                opened.next_read = now + READ_INTERVAL.max(took * READ_SHARE);
                match table(live, pid) {
                    Some(answer) => read_table(answer, self.wire.clone(), &self.inbox, &self.reads),
                    None => {
                        let reason = format!("no such process, or hidden by the kernel: {pid}");
                        self.inbox.failed(pid, reason);
                        self.reads.done(took);
                    }
                }
            }
        }
        if now >= opened.next_explanation {
            opened.next_explanation = now + EXPLANATION_INTERVAL;
            let request = ExplainRequest {
                pid,
                target: None,
                followed: true,
            };
            let found = self.findings.values();
            let found: Vec<_> = found
                .filter(|finding| finding.process.pid == pid)
                .cloned()
                .collect();
            let explained = explanation(
                &request,
                found.into_iter(),
                &mut self.collector,
                &live.engine,
            );
            if let Ok(explained) = explained {
                let text = explained.text(&self.wire.clock, self::now());
                self.inbox.explanation(pid, lines_of(&text));
            }
        }
    }
}

impl TableReads {
    /// Starts a reading unless one is running. Returns the duration of the last one.
    fn begin(&self) -> Option<Duration> {
        let mut last = self.took.lock().unwrap_or_else(PoisonError::into_inner);
        last.take()
    }

    fn done(&self, took: Duration) {
        let mut last = self.took.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(took);
    }
}

/// Reads descriptors in a separate thread, because it reads /proc for each descriptor.
fn read_table(answer: TableCopy, wire: Wire, inbox: &Arc<Inbox>, reads: &Arc<TableReads>) {
    let (inbox, reads) = (Arc::clone(inbox), Arc::clone(reads));
    thread::spawn(move || {
        priority::lower();
        let began = Instant::now();
        let report = answer.report(&reads.supervisords);
        inbox.table(Descriptors::of(&wire.line(&report, now())));
        reads.done(began.elapsed());
    });
}

impl<F: FnOnce()> EventHandler for ScreenUpdater<F> {
    fn started(&mut self, _: &mut Tracker) -> Result<()> {
        self.reads.done(Duration::ZERO);
        if let Some(ready) = self.ready.take() {
            ready();
        }
        Ok(())
    }

    fn tick(&mut self, live: &mut Tracker, is_slow: bool) -> Result<()> {
        let at = now();
        self.wire.clock.adjust(proc::wall_time(), at.0);
        self.collector.begin(live, is_slow);
        while let Some(updates) = self.collector.next_updates(live)? {
            for update in updates {
                self.handle(update, live, at);
            }
        }
        if is_slow {
            self.show(live, at);
            self.read(live);
        }
        Ok(())
    }

    async fn wait(&mut self) {
        self.inbox.requested().await;
    }

    fn act(&mut self, live: &mut Tracker) -> Result<()> {
        match self.inbox.take_request() {
            Some(SourceRequest::Open(pid)) => {
                live.add_suspect(pid);
                let now = Instant::now();
                self.opened = Some(Opened {
                    pid,
                    next_read: now,
                    next_explanation: now,
                });
                self.read(live);
            }
            Some(SourceRequest::Close) => self.opened = None,
            None => {}
        }
        Ok(())
    }

    fn lost(&mut self, _: &mut Tracker, lost: &Lost) -> Result<()> {
        let at = now();
        self.report(&Event::Loss(self.wire.line(lost, at)), at);
        Ok(())
    }

    fn budget(&mut self, _: &mut Tracker, report: &BudgetReport) -> Result<()> {
        let at = now();
        self.report(&Event::Budget(self.wire.line(report, at)), at);
        Ok(())
    }

    fn ended(&mut self, _: &mut Tracker) -> Result<()> {
        Ok(())
    }
}
