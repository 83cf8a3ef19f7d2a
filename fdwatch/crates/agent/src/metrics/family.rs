//! What there is, by name, type, unit and meaning: the one place that says so.

use std::{borrow::Cow, collections::BTreeMap, sync::OnceLock};

use clap::ValueEnum as _;
use fdwatch_common::Kind as Record;

use super::{
    label::Bounder,
    processes::{MAX_PROCESSES, choose, limit_share},
};
use crate::{
    config,
    sink::SinkStats,
    snapshot::{Active, Snapshot},
    state::{AgentState, ApiCounts},
};
use fdwatch_core::{
    Lost,
    budget::Shedding,
    diagnose::{Cause, Severity},
    model::Drift,
};
use fdwatch_events::{event::EventKind, time::seconds};
use fdwatch_probe::host::kernel_release;

/// What all names begin with.
pub const PREFIX: &str = "fdwatch";

/// Labels of a sample, in order.
pub type Labels = Vec<(&'static str, Cow<'static, str>)>;

/// Samples of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Its name, without what all begin with, its unit, and what its type puts at its end.
    pub name: &'static str,
    /// What it says, as a sentence.
    pub help: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What it is counted in, if that is not the things themselves.
    pub unit: Unit,
    /// What there is of it now: each with other labels.
    pub samples: Vec<Sample>,
}

/// How numbers behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They only become more, from the start of the agent on.
    Counter,
    /// They go up and down.
    Gauge,
    /// It is 1, and the labels are what is told.
    Info,
}

/// What numbers are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things, which the name says.
    Things,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A share, of 1.
    Ratio,
}

impl Unit {
    /// What names end with for it.
    #[must_use]
    pub const fn suffix(self) -> Option<&'static str> {
        match self {
            Self::Things => None,
            Self::Seconds => Some("seconds"),
            Self::Bytes => Some("bytes"),
            Self::Ratio => Some("ratio"),
        }
    }
}

/// One number.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// What it is of.
    pub labels: Labels,
    /// That.
    pub value: Value,
}

/// A number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// Of things.
    Whole(u64),
    /// Of what is measured.
    Real(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Whole(value as u64)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl Family {
    fn new(kind: Kind, name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            kind,
            unit: Unit::Things,
            samples: Vec::new(),
        }
    }

    fn counter(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Counter, name, help)
    }

    fn gauge(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Gauge, name, help)
    }

    fn of(mut self, unit: Unit) -> Self {
        self.unit = unit;
        self
    }

    fn with(mut self, labels: Labels, value: impl Into<Value>) -> Self {
        self.add(labels, value);
        self
    }

    fn is(self, value: impl Into<Value>) -> Self {
        self.with(Vec::new(), value)
    }

    /// One sample for each name of a label.
    fn each<V: Into<Value>>(
        mut self,
        label: &'static str,
        values: impl IntoIterator<Item = (&'static str, V)>,
    ) -> Self {
        for (name, value) in values {
            self.add(vec![(label, name.into())], value);
        }
        self
    }

    fn add(&mut self, labels: Labels, value: impl Into<Value>) {
        let value = value.into();
        self.samples.push(Sample { labels, value });
    }

    /// The name that Prometheus has for it: of its samples.
    #[must_use]
    pub fn full_name(&self) -> String {
        let mut name = format!("{PREFIX}_{}", self.name);
        let last = match self.kind {
            Kind::Counter => Some("total"),
            Kind::Gauge => None,
            Kind::Info => Some("info"),
        };
        for part in [self.unit.suffix(), last].into_iter().flatten() {
            name.push('_');
            name.push_str(part);
        }
        name
    }
}

/// All there is now.
#[must_use]
pub fn families(shared: &AgentState, config: &config::Metrics) -> Vec<Family> {
    let view = shared.view();
    let mut all = findings(&view, &shared.active());
    all.extend(processes(&view, config));
    all.extend(model(&view));
    all.extend(events(&view));
    all.extend(audits(&view));
    all.extend(budget(&view));
    all.extend(sinks(&shared.sinks()));
    all.extend(api(&shared.api));
    all.extend(itself(&view));
    all
}

fn findings(view: &Snapshot, active: &[Active]) -> Vec<Family> {
    let mut counts = BTreeMap::new();
    for &severity in Severity::value_variants() {
        let causes = Cause::ALL.iter().map(|cause| cause.name());
        for cause in causes.chain(["growth", "threshold"]) {
            counts.insert((severity, cause), 0_u64);
        }
    }
    for active in active {
        let told = &active.last.told;
        let cause = match told {
            EventKind::Finding(finding) => finding.cause.name(),
            other => other.kind(),
        };
        let severity = told.severity().unwrap_or(Severity::Info);
        *counts.entry((severity, cause)).or_default() += 1;
    }
    let mut there = Family::gauge(
        "findings",
        "Findings there are now, by severity and cause; growth and threshold are causes too.",
    );
    for ((severity, cause), count) in counts {
        let labels = vec![
            ("severity", severity.name().into()),
            ("cause", cause.into()),
        ];
        there.add(labels, count);
    }
    let stats = &view.stats;
    vec![
        there,
        Family::counter(
            "findings_told",
            "Duplicates that were told, by what had happened to them.",
        )
        .each(
            "change",
            [
                ("found", stats.found),
                ("changed", stats.changed),
                ("gone", stats.gone),
            ],
        ),
        Family::counter(
            "findings_ignored",
            "Findings that rules of the configuration have left out.",
        )
        .is(view.ignored),
    ]
}

/// Stands for the processes that are not told of one by one. There is no process of this number.
const OTHERS: (&str, &str) = ("0", "(others)");

fn processes(view: &Snapshot, config: &config::Metrics) -> Vec<Family> {
    let chosen = choose(view, config.most_processes);
    let mut bounder = Bounder::default();
    let mut descriptors = Family::gauge(
        "process_descriptors",
        "Descriptors of a process; all others together have pid 0.",
    );
    let mut files = Family::gauge(
        "process_duplicate_files",
        "Files a process holds on two or more descriptors; all others together have pid 0.",
    );
    let mut duplicates = Family::gauge(
        "process_duplicate_descriptors",
        "Descriptors of a process on files it holds already; all others together have pid 0.",
    );
    let mut limits = Family::gauge(
        "process_descriptors_limit",
        "Descriptors a process may have: its soft RLIMIT_NOFILE.",
    );
    let mut shares = Family::gauge(
        "process_descriptors_limit_used",
        "Share of its soft RLIMIT_NOFILE that a process has used.",
    )
    .of(Unit::Ratio);
    for row in &chosen.rows {
        let unit = row.unit.as_deref().unwrap_or_default();
        let labels: Labels = vec![
            ("pid", row.pid.to_string().into()),
            ("comm", bounder.value(&row.comm).into()),
            ("unit", bounder.value(unit.as_bytes()).into()),
        ];
        descriptors.add(labels.clone(), row.descriptors);
        files.add(labels.clone(), row.duplicate_files);
        duplicates.add(labels.clone(), row.duplicate_descriptors);
        if let Some((limit, share)) = row.limit.zip(limit_share(row)) {
            limits.add(labels.clone(), limit);
            shares.add(labels, share);
        }
    }
    let folded = &chosen.folded;
    let (pid, comm) = OTHERS;
    let others: Labels = vec![
        ("pid", pid.into()),
        ("comm", comm.into()),
        ("unit", "".into()),
    ];
    descriptors.add(others.clone(), folded.descriptors);
    files.add(others.clone(), folded.duplicate_files);
    duplicates.add(others, folded.duplicate_descriptors);
    vec![
        descriptors,
        files,
        duplicates,
        limits,
        shares,
        Family::gauge(
            "processes_folded",
            "Processes that are not told of one by one, but together.",
        )
        .is(folded.processes),
        Family::gauge(
            "processes_told_limit",
            "Processes that are told of one by one at the most.",
        )
        .is(config.most_processes.min(MAX_PROCESSES)),
        Family::gauge(
            "label_values_changed",
            "Values of labels here that were shortened, or had something escaped in them.",
        )
        .is(bounder.changed),
    ]
}

fn model(view: &Snapshot) -> Vec<Family> {
    let stats = &view.stats;
    vec![
        Family::gauge("processes", "Processes there are.").is(stats.processes),
        Family::gauge("descriptor_tables", "Descriptor tables there are.").is(view.tables),
        Family::gauge(
            "descriptors",
            "Descriptors there are, each table counted once.",
        )
        .is(stats.descriptors),
        Family::gauge(
            "processes_unreadable",
            "Processes whose descriptors could not be read at the start.",
        )
        .is(stats.unreadable_processes),
        Family::gauge(
            "processes_not_followed",
            "Processes that are known from audits alone, for the sake of the budget.",
        )
        .is(view.not_followed),
    ]
}

fn events(view: &Snapshot) -> Vec<Family> {
    let stats = &view.stats;
    let records = &stats.statistics.records;
    vec![
        Family::counter("events", "Records that came from the kernel, by kind.").each(
            "kind",
            Record::ALL.map(|kind| (kind.name(), records[kind as usize])),
        ),
        Family::counter(
            "events_lost",
            "Records that found no room in the ring, by kind, and runs of programs the kernel has left out.",
        )
        .each("kind", losses(&stats.lost)),
        Family::counter(
            "detail_left_out",
            "Records of stacks and paths that were left out so that nothing else be lost.",
        )
        .is(stats.lost.detail_left_out()),
        Family::counter("events_malformed", "Records that could not be understood.")
            .is(stats.malformed),
        Family::counter(
            "closes_unknown",
            "Closes of descriptors that the model did not have.",
        )
        .is(stats.statistics.unknown_closed),
        Family::counter(
            "closes_unopened",
            "Closes of numbers that were not open, but for those of loops.",
        )
        .is(stats.statistics.closed_unopened),
        Family::gauge("ring_fill", "Share of the ring that waits to be read.")
            .of(Unit::Ratio)
            .is(view.ring_fill),
        Family::gauge("ring_size", "Size of the ring.")
            .of(Unit::Bytes)
            .is(u64::from(stats.ring_bytes.unwrap_or(0))),
    ]
}

/// Of all kinds, those that none are of too.
fn losses(lost: &Lost) -> BTreeMap<&'static str, u64> {
    let kinds = Record::ALL.into_iter();
    let kinds = kinds.filter(|kind| !Record::DETAIL.contains(kind));
    let names = kinds.map(Record::name).chain(["missed-run"]);
    let mut losses: BTreeMap<_, _> = names.map(|name| (name, 0)).collect();
    losses.extend(lost.by_kind());
    losses
}

fn audits(view: &Snapshot) -> Vec<Family> {
    let statistics = &view.stats.statistics;
    let Drift {
        audits,
        missing,
        phantom,
        wrong_file,
        close_on_exec,
    } = statistics.drift;
    vec![
        Family::counter("audits", "Audits that were held.").is(audits),
        Family::counter("audit", "Time that audits took.")
            .of(Unit::Seconds)
            .is(seconds(view.audit_time)),
        Family::gauge("last_audit", "Time that the last audit took.")
            .of(Unit::Seconds)
            .is(seconds(view.last_audit_time)),
        Family::counter(
            "drift_repaired",
            "Descriptors that audits have found wrong in the model, and repaired, by what was wrong.",
        )
        .each(
            "kind",
            [
                ("missing", missing),
                ("phantom", phantom),
                ("wrong-file", wrong_file),
                ("close-on-exec", close_on_exec),
            ],
        ),
        Family::counter(
            "caught_up",
            "Descriptors that audits have brought up to date of processes that are not followed.",
        )
        .is(statistics.caught_up),
    ]
}

fn budget(view: &Snapshot) -> Vec<Family> {
    let now = view.stats.shedding;
    vec![
        Family::gauge(
            "budget_sheds",
            "What is left undone for the sake of the budget: 1 for what it is, 0 for what it is not.",
        )
        .each(
            "what",
            Shedding::ALL.map(|it| (it.name(), u64::from(it == now))),
        ),
        Family::gauge("budget_limit", "What fdwatch may use, of one processor.")
            .of(Unit::Ratio)
            .is(view.budget_percent / 100.0),
        Family::gauge("budget_used", "What fdwatch has used of late, of one processor.")
            .of(Unit::Ratio)
            .is(view.used_percent / 100.0),
    ]
}

fn sinks(sinks: &[(&'static str, std::sync::Arc<SinkStats>)]) -> Vec<Family> {
    let mut by_name = BTreeMap::new();
    for (name, counts) in sinks {
        let sums: &mut [u64; 4] = by_name.entry(*name).or_default();
        for (sum, count) in sums.iter_mut().zip(counts.now()) {
            *sum += count;
        }
    }
    let told = [
        ("outlet_taken", "Events that an sink has taken in."),
        (
            "outlet_dropped",
            "Events that an sink had no room for: it was too slow, or nobody took them from it.",
        ),
        ("outlet_delivered", "Events that an sink has handed on."),
        (
            "outlet_failed",
            "Events that an sink has given up after all tries.",
        ),
    ];
    let told = told.into_iter().enumerate();
    told.map(|(index, (name, help))| {
        let counts = by_name.iter().map(|(name, sums)| (*name, sums[index]));
        Family::counter(name, help).each("outlet", counts)
    })
    .collect()
}

fn api(counts: &ApiCounts) -> Vec<Family> {
    use std::sync::atomic::Ordering::Relaxed;
    vec![
        Family::counter("api_requests", "Requests of the API that were answered.")
            .is(counts.requests.load(Relaxed)),
        Family::counter(
            "api_refused",
            "Connections to the API there was no room for, requests too large or too slow, and wrong tokens.",
        )
        .is(counts.refused.load(Relaxed)),
        Family::counter(
            "api_slow_readers",
            "Readers of the API's events that were dropped, as they were too slow.",
        )
        .is(counts.slow_readers.load(Relaxed)),
        Family::gauge("api_readers", "Readers of the API's events there are.")
            .is(counts.readers.load(Relaxed)),
    ]
}

fn itself(view: &Snapshot) -> Vec<Family> {
    static KERNEL: OnceLock<String> = OnceLock::new();
    let kernel = KERNEL.get_or_init(kernel_release);
    let usage = &view.stats.usage;
    let started = view.wall_time.saturating_sub(view.stats.duration);
    vec![
        Family::counter("cpu", "Processor time that fdwatch has used.")
            .of(Unit::Seconds)
            .each("mode", [("user", usage.user), ("system", usage.system)]),
        Family::gauge("resident_memory", "Memory that fdwatch has now.")
            .of(Unit::Bytes)
            .is(view.rss),
        Family::gauge(
            "resident_memory_peak",
            "Most memory that fdwatch had at once.",
        )
        .of(Unit::Bytes)
        .is(usage.peak_rss),
        Family::gauge("start_time", "When the agent was started, since 1970.")
            .of(Unit::Seconds)
            .is(seconds(started)),
        Family::gauge(
            "view_time",
            "When these numbers were taken, since 1970: once a second, if all is well.",
        )
        .of(Unit::Seconds)
        .is(seconds(view.wall_time)),
        Family::new(
            Kind::Info,
            "build",
            "Which fdwatch this is, and on which kernel.",
        )
        .with(
            vec![
                ("version", env!("CARGO_PKG_VERSION").into()),
                ("kernel", kernel.as_str().into()),
            ],
            1_u64,
        ),
    ]
}
