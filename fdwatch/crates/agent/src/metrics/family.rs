//! The definition of all metrics: name, type, unit and help.

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
    budget::ShedLevel,
    diagnose::{Cause, Severity},
    model::Drift,
};
use fdwatch_events::{event::EventKind, time::seconds};
use fdwatch_probe::host::kernel_release;

/// The prefix of all names.
pub const PREFIX: &str = "fdwatch";

/// Labels of a sample, in order.
pub type Labels = Vec<(&'static str, Cow<'static, str>)>;

/// A metric and its samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Its name, without prefix, unit and the suffix of its type.
    pub name: &'static str,
    /// Its help, a sentence.
    pub help: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its unit.
    pub unit: Unit,
    /// Its samples, each with different labels.
    pub samples: Vec<Sample>,
}

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only increases while the agent runs.
    Counter,
    /// Increases and decreases.
    Gauge,
    /// Always 1; the labels are the information.
    Info,
}

/// The unit of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A count.
    Things,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A ratio from 0 to 1.
    Ratio,
}

impl Unit {
    /// Returns the suffix of names.
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

/// A sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its labels.
    pub labels: Labels,
    /// Its value.
    pub value: Value,
}

/// A value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// An integer.
    Whole(u64),
    /// A measured value.
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

    /// Adds a sample for each value of a label.
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

    /// Returns the full Prometheus name of its samples.
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

/// Returns all metrics with their current samples.
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
        let kind = &active.last.kind;
        let cause = match kind {
            EventKind::Finding(finding) => finding.cause.name(),
            other => other.kind(),
        };
        let severity = kind.severity().unwrap_or(Severity::Info);
        *counts.entry((severity, cause)).or_default() += 1;
    }
    let mut active_findings = Family::gauge(
        "findings",
        "Active findings, by severity and cause; growth and threshold are causes too.",
    );
    for ((severity, cause), count) in counts {
        let labels = vec![
            ("severity", severity.name().into()),
            ("cause", cause.into()),
        ];
        active_findings.add(labels, count);
    }
    let stats = &view.stats;
    vec![
        active_findings,
        Family::counter(
            "findings_told",
            "Reported changes of findings, by kind of change.",
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
            "Findings ignored by rules of the configuration.",
        )
        .is(view.ignored),
        Family::gauge(
            "files_unreported",
            "Files that are open more than once or deleted, and not reported: too many findings.",
        )
        .is(stats.unreported.files),
        Family::counter(
            "double_closes_unreported",
            "Double closes that were not reported: too many at once.",
        )
        .is(stats.unreported.double_closes),
        Family::counter(
            "rotation_checks_skipped",
            "Descriptors that were not checked for rotation: too many at once.",
        )
        .is(stats.unreported.rotation_checks),
    ]
}

/// PID and name of the row for all other processes. No process has this PID.
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
        "Descriptor limit of a process: its soft RLIMIT_NOFILE.",
    );
    let mut shares = Family::gauge(
        "process_descriptors_limit_used",
        "Used part of the soft RLIMIT_NOFILE of a process.",
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
        Family::gauge("processes_folded", "Processes without series of their own.")
            .is(folded.processes),
        Family::gauge(
            "processes_told_limit",
            "Limit of processes with series of their own.",
        )
        .is(config.most_processes.min(MAX_PROCESSES)),
        Family::gauge(
            "label_values_changed",
            "Label values that were shortened or escaped.",
        )
        .is(bounder.changed),
    ]
}

fn model(view: &Snapshot) -> Vec<Family> {
    let stats = &view.stats;
    vec![
        Family::gauge("processes", "Processes.").is(stats.processes),
        Family::gauge("descriptor_tables", "Descriptor tables.").is(view.tables),
        Family::gauge("descriptors", "Descriptors, each table counted once.").is(stats.descriptors),
        Family::gauge(
            "processes_unreadable",
            "Processes whose descriptors could not be read at the start.",
        )
        .is(stats.unreadable_processes),
        Family::gauge(
            "processes_not_followed",
            "Processes known from audits only, to stay within the budget.",
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
            "Records without room in the ring, by kind, and program runs skipped by the kernel.",
        )
        .each("kind", losses(&stats.lost)),
        Family::counter(
            "detail_left_out",
            "Records of stacks and paths that were skipped to prevent other losses.",
        )
        .is(stats.lost.detail_left_out()),
        Family::counter("events_malformed", "Records that could not be decoded.")
            .is(stats.malformed),
        Family::counter(
            "closes_unknown",
            "Closes of descriptors that the model did not have.",
        )
        .is(stats.statistics.unknown_closed),
        Family::counter(
            "closes_unopened",
            "Closes of descriptors that were not open, except in closing loops.",
        )
        .is(stats.statistics.closed_unopened),
        Family::gauge("ring_fill", "Used part of the ring.")
            .of(Unit::Ratio)
            .is(view.ring_fill),
        Family::gauge("ring_size", "Size of the ring.")
            .of(Unit::Bytes)
            .is(u64::from(stats.ring_bytes.unwrap_or(0))),
    ]
}

/// Returns the losses of all kinds, including those without any.
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
        Family::counter("audits", "Completed audits.").is(audits),
        Family::counter("audit", "Duration of all audits.")
            .of(Unit::Seconds)
            .is(seconds(view.audit_time)),
        Family::gauge("last_audit", "Duration of the last audit.")
            .of(Unit::Seconds)
            .is(seconds(view.last_audit_time)),
        Family::counter(
            "drift_repaired",
            "Descriptors that audits repaired in the model, by kind of error.",
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
            "Descriptors that audits updated for processes that are not followed.",
        )
        .is(statistics.caught_up),
    ]
}

fn budget(view: &Snapshot) -> Vec<Family> {
    let now = view.stats.shedding;
    vec![
        Family::gauge(
            "budget_sheds",
            "Work skipped to stay within the budget: 1 for the current level, 0 for the others.",
        )
        .each(
            "what",
            ShedLevel::ALL.map(|it| (it.name(), u64::from(it == now))),
        ),
        Family::gauge(
            "budget_limit",
            "CPU budget of fdwatch, as part of one processor.",
        )
        .of(Unit::Ratio)
        .is(view.budget_percent / 100.0),
        Family::gauge(
            "budget_used",
            "Recent CPU usage of fdwatch, as part of one processor.",
        )
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
    let counters = [
        ("outlet_taken", "Events accepted by a sink."),
        (
            "outlet_dropped",
            "Events dropped because the queue of a sink was full.",
        ),
        ("outlet_delivered", "Events delivered by a sink."),
        (
            "outlet_failed",
            "Events given up by a sink after all attempts.",
        ),
    ];
    let counters = counters.into_iter().enumerate();
    counters
        .map(|(index, (name, help))| {
            let counts = by_name.iter().map(|(name, sums)| (*name, sums[index]));
            Family::counter(name, help).each("outlet", counts)
        })
        .collect()
}

fn api(counts: &ApiCounts) -> Vec<Family> {
    use std::sync::atomic::Ordering::Relaxed;
    vec![
        Family::counter("api_requests", "Permitted API requests.")
            .is(counts.requests.load(Relaxed)),
        Family::counter(
            "api_refused",
            "Rejected API connections and requests: too many, too large, too slow, or with a wrong token.",
        )
        .is(counts.refused.load(Relaxed)),
        Family::counter(
            "api_slow_readers",
            "Readers of events dropped because they were too slow.",
        )
        .is(counts.slow_readers.load(Relaxed)),
        Family::gauge("api_readers", "Current readers of events.")
            .is(counts.readers.load(Relaxed)),
    ]
}

fn itself(view: &Snapshot) -> Vec<Family> {
    static KERNEL: OnceLock<String> = OnceLock::new();
    let kernel = KERNEL.get_or_init(kernel_release);
    let usage = &view.stats.usage;
    let started = view.wall_time.saturating_sub(view.stats.duration);
    vec![
        Family::counter("cpu", "CPU time used by fdwatch.")
            .of(Unit::Seconds)
            .each("mode", [("user", usage.user), ("system", usage.system)]),
        Family::gauge("resident_memory", "Resident memory of fdwatch.")
            .of(Unit::Bytes)
            .is(view.rss),
        Family::gauge("resident_memory_peak", "Peak resident memory of fdwatch.")
            .of(Unit::Bytes)
            .is(usage.peak_rss),
        Family::gauge("start_time", "Start time of the agent, since 1970.")
            .of(Unit::Seconds)
            .is(seconds(started)),
        Family::gauge(
            "view_time",
            "Time of these values, since 1970; updated once a second.",
        )
        .of(Unit::Seconds)
        .is(seconds(view.wall_time)),
        Family::new(Kind::Info, "build", "Version of fdwatch and of the kernel.").with(
            vec![
                ("version", env!("CARGO_PKG_VERSION").into()),
                ("kernel", kernel.as_str().into()),
            ],
            1_u64,
        ),
    ]
}
