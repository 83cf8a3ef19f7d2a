//! Source that loads BPF programs into this process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use fdwatch_tracker::{
    End, FindingCollector, Follower, Live, Update, Wanted,
    explain::{self, Asked, explanation},
    now,
    rows::{Rows, Shown, TableAnswer, table},
};

use super::{
    LOOK, LOOK_SHARE, MAX_ROWS,
    inbox::{Ask, Inbox},
};
use crate::data::{Descriptors, News, Row, Status, lines_of};
use fdwatch_core::{Lost, diagnose::Finding, duplicates::Change, model::Moment};
use fdwatch_events::{
    BudgetReport,
    time::Clock,
    wire::{Event, Wire},
};
use fdwatch_host::{
    investigate::{Investigator, Source, Supervisords},
    proc,
    users::Users,
};
use fdwatch_options::{Detail, Filters, MaxCpu};
use fdwatch_render::Report as _;

/// Findings that are kept for explanations, at most.
const MAX_KEPT: usize = 2048;

/// Interval at which an explanation is renewed without new findings.
const STORY: Duration = Duration::from_secs(10);

pub(crate) fn run(
    ring_bytes: u32,
    max_cpu: MaxCpu,
    filters: &Filters,
    inbox: &Arc<Inbox>,
    begun: impl FnOnce(),
) -> Result<()> {
    let live = Live::start(Wanted {
        ring_bytes,
        all_types: filters.all_types(),
        max_cpu,
        detail: Detail::Suspects,
        pids: Vec::new(),
        family: None,
        shows_steps: false,
    })?;
    let clock = Clock::new(proc::wall_time(), proc::boottime());
    let mut follower = OnScreen {
        collector: FindingCollector::new(Investigator::new(filters.filter()?, Source::Live)),
        wire: Wire::new(proc::hostname(), clock),
        rows: Rows::default(),
        users: Users::read(),
        kept: BTreeMap::new(),
        inbox: Arc::clone(inbox),
        opened: None,
        looks: Arc::default(),
        begun: Some(begun),
    };
    live.follow(&mut Quit(Arc::clone(inbox)), &mut follower)
}

/// Ends the source when the user quits.
struct Quit(Arc<Inbox>);

impl End for Quit {
    fn begin(&mut self) -> Result<()> {
        Ok(())
    }

    async fn come(&mut self) -> Result<()> {
        self.0.quits().await;
        Ok(())
    }
}

struct OnScreen<F> {
    collector: FindingCollector,
    wire: Wire,
    rows: Rows,
    users: Users,
    /// Latest state of each finding by ID, with its closed descriptors.
    kept: BTreeMap<u64, Finding>,
    inbox: Arc<Inbox>,
    opened: Option<Opened>,
    looks: Arc<Looks>,
    /// Called when the source is ready.
    begun: Option<F>,
}

/// The open process.
struct Opened {
    pid: u32,
    /// Next time its descriptors are read.
    look: Instant,
    /// Next time it is explained.
    story: Instant,
}

/// State that the threads which read descriptors share.
#[derive(Default)]
struct Looks {
    supervisords: Mutex<Supervisords>,
    /// Duration of the last reading; `None` while one is running.
    took: Mutex<Option<Duration>>,
}

impl<F: FnOnce()> OnScreen<F> {
    fn tell(&self, event: &Event, at: Moment) {
        let time = self.wire.clock.time_of_day(at);
        if let Some(news) = News::of(event, time) {
            self.inbox.tell(news);
        }
    }

    fn keep(&mut self, finding: Finding) {
        explain::add(&mut self.kept, finding);
        if self.kept.len() > MAX_KEPT {
            let gone = self.kept.iter();
            let gone = gone.filter(|(_, finding)| finding.change == Change::Gone);
            let oldest = gone.map(|(&id, _)| id).next();
            if let Some(id) = oldest.or_else(|| self.kept.keys().next().copied()) {
                self.kept.remove(&id);
            }
        }
    }

    fn show(&mut self, live: &mut Live, at: Moment) {
        live.count();
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
            max_cpu: live.shed.budget.percent(),
            sheds: stats.shedding.name().to_owned(),
        });
        let Shown {
            rows,
            more_processes,
            ..
        } = self.rows.show(live, MAX_ROWS, at);
        let rows = rows.iter();
        let rows = rows.map(|row| Row::of(row, &self.users.name(row.uid)));
        self.inbox.rows(rows.collect(), more_processes as u64);
    }

    /// Reads and explains the open process if it is time.
    fn look(&mut self, live: &mut Live) {
        let now = Instant::now();
        let Some(opened) = &mut self.opened else {
            return;
        };
        let pid = opened.pid;
        if now >= opened.look {
            // One reading at a time.
            if let Some(took) = self.looks.begin() {
                opened.look = now + LOOK.max(took * LOOK_SHARE);
                match table(live, pid) {
                    Some(answer) => look(answer, self.wire.clone(), &self.inbox, &self.looks),
                    None => {
                        let reason = format!("no such process, or it is hidden: {pid}");
                        self.inbox.failed(pid, reason);
                        self.looks.done(took);
                    }
                }
            }
        }
        if now >= opened.story {
            opened.story = now + STORY;
            let asked = Asked {
                pid,
                target: None,
                followed: true,
            };
            let found = self.kept.values();
            let found: Vec<_> = found
                .filter(|finding| finding.process.pid == pid)
                .cloned()
                .collect();
            let explained =
                explanation(&asked, found.into_iter(), &mut self.collector, &live.engine);
            if let Ok(explained) = explained {
                let text = explained.text(&self.wire.clock, self::now());
                self.inbox.story(pid, lines_of(&text));
            }
        }
    }
}

impl Looks {
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

/// Looks at a table, in a thread of its own: /proc is asked for each descriptor.
fn look(answer: TableAnswer, wire: Wire, inbox: &Arc<Inbox>, looks: &Arc<Looks>) {
    let (inbox, looks) = (Arc::clone(inbox), Arc::clone(looks));
    thread::spawn(move || {
        let began = Instant::now();
        let report = answer.report(&looks.supervisords);
        inbox.table(Descriptors::of(&wire.line(&report, now())));
        looks.done(began.elapsed());
    });
}

impl<F: FnOnce()> Follower for OnScreen<F> {
    fn started(&mut self, _: &mut Live) -> Result<()> {
        self.looks.done(Duration::ZERO);
        if let Some(begun) = self.begun.take() {
            begun();
        }
        Ok(())
    }

    fn tick(&mut self, live: &mut Live, is_slow: bool) -> Result<()> {
        let at = now();
        self.wire.clock.adjust(proc::wall_time(), at.0);
        let mut news = Vec::new();
        self.collector.look(live, is_slow, |it, stats| {
            if let Update::Finding(_, finding) = &it {
                stats.count_finding(finding);
            }
            news.push(it);
        });
        for it in news {
            let event = match &it {
                Update::Finding(_, finding) => {
                    Event::Finding(Box::new(self.wire.line(finding, at)))
                }
                Update::Growth(report) => Event::Growth(Box::new(self.wire.line(report, at))),
            };
            self.tell(&event, at);
            if let Update::Finding(_, finding) = it {
                if let Some(opened) = &mut self.opened
                    && opened.pid == finding.process.pid
                {
                    let soon = Instant::now() + Duration::from_secs(1);
                    opened.look = opened.look.min(soon);
                    opened.story = opened.story.min(soon);
                }
                self.keep(finding);
            }
        }
        if is_slow {
            self.show(live, at);
            self.look(live);
        }
        Ok(())
    }

    async fn wait(&mut self) {
        self.inbox.asks().await;
    }

    fn act(&mut self, live: &mut Live) -> Result<()> {
        match self.inbox.asked() {
            Some(Ask::Open(pid)) => {
                live.suspect(pid);
                let now = Instant::now();
                self.opened = Some(Opened {
                    pid,
                    look: now,
                    story: now,
                });
                self.look(live);
            }
            Some(Ask::Close) => self.opened = None,
            None => {}
        }
        Ok(())
    }

    fn lost(&mut self, _: &mut Live, lost: &Lost) -> Result<()> {
        let at = now();
        self.tell(&Event::Loss(self.wire.line(lost, at)), at);
        Ok(())
    }

    fn budget(&mut self, _: &mut Live, report: &BudgetReport) -> Result<()> {
        let at = now();
        self.tell(&Event::Budget(self.wire.line(report, at)), at);
        Ok(())
    }

    fn ended(&mut self, _: &mut Live) -> Result<()> {
        Ok(())
    }
}
