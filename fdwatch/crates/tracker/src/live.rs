//! The loop that follows the kernel's events: it owns the probe, reads the ring buffer, and calls a
//! [`EventHandler`] on each tick.

use std::{
    future::{self, Future},
    io,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use crate::message::warn;
use anyhow::{Context as _, Result};
use fdwatch_core::{Lost, engine::Engine, leaks::Leaks, recording::Frame, trace::Tracer};
use fdwatch_events::{BudgetReport, RunStats};
use fdwatch_host::{proc, proc_snapshot};
use fdwatch_options::{Detail, MaxCpu};
use fdwatch_probe::{MAX_FAMILY_PROCESSES, Options, Probe, ProbeError};
use tokio::{
    io::unix::AsyncFd,
    runtime,
    time::{MissedTickBehavior, interval},
};

use crate::{
    allocator,
    allowance::Allowance,
    auditing::Auditing,
    audits::Audits,
    clock::now,
    detail_targets::DetailTargets,
    load_shedder::{Change, LoadShedder},
    priority,
    recorder::{FileRecorder, RECORDING_FAILED, mark},
    steps::Steps,
    stop::StopCondition,
};

/// Interval of ticks. At each tick, the ring is read and changes are reported.
const TICK: Duration = Duration::from_millis(100);

/// Interval of slow ticks, which run expensive checks, in ticks.
const SLOW_TICKS: u32 = 10;

/// Records read from the ring before signals and timers are polled.
const BATCH: usize = 1 << 13;

/// Maximum number of batches read after the programs were stopped.
const MAX_BATCHES: u32 = 512;

/// Interval at which freed memory is returned to the kernel, in nanoseconds.
const TRIM_INTERVAL: u64 = 60_000_000_000;

/// Header of each record in the ring, in bytes (`BPF_RINGBUF_HDR_SZ`, include/uapi/linux/bpf.h).
const RECORD_HEADER: usize = 8;

/// The loop and its state.
pub struct Tracker {
    probe: Probe,
    /// The model of all tables, and what is derived from it.
    pub engine: Engine,
    /// Receives each record, and marks of snapshots and audits, if set.
    pub recorder: Option<FileRecorder>,
    /// Receives each record, if set.
    pub tracer: Option<Tracer>,
    /// Statistics of the run; [`Self::update_stats`] updates them.
    pub stats: RunStats,
    /// Start of the run, in nanoseconds since boot.
    began: u64,
    /// Schedule and cost of the audits.
    pub audits: Audits,
    pub(crate) auditing: Auditing,
    pub(crate) allowance: Allowance,
    /// Maximum fill of the ring since the last reset, in bytes. Callers that report it reset it.
    pub max_waiting: usize,
    /// Decides what work is dropped to stay within the CPU budget.
    pub shedder: LoadShedder,
    detail_targets: DetailTargets,
    family: Option<u32>,
    /// Whether the loop has the requested priority, or its absence was reported.
    is_prioritized: bool,
    steps: Steps,
}

/// Options of the loop.
pub struct TrackerOptions {
    /// Size of the ring, in bytes.
    pub ring_bytes: u32,
    /// Whether to follow files of all types, or only regular files.
    pub all_types: bool,
    /// CPU budget of fdwatch.
    pub max_cpu: MaxCpu,
    /// Processes whose stacks and requested paths are collected.
    pub detail: Detail,
    /// Processes that the user named; their detail is always collected.
    pub pids: Vec<u32>,
    /// Process whose leaks, and those of its descendants, are collected, with all detail.
    pub family: Option<u32>,
    /// Nice value of this thread from now on; none to leave it as it is.
    pub nice: Option<i32>,
    /// Whether to show the progress of the start on a terminal.
    pub shows_steps: bool,
}

/// Handler of the loop's events. It decides what is reported, and where.
pub trait EventHandler {
    /// Called after the snapshot, when events are followed.
    fn started(&mut self, live: &mut Tracker) -> Result<()>;
    /// Called ten times a second, with `is_slow` once a second.
    fn tick(&mut self, live: &mut Tracker, is_slow: bool) -> Result<()>;
    /// Returns whether to stop. Called at each tick.
    fn is_over(&self, _: &Tracker) -> bool {
        false
    }
    /// Waits for requests that must be served before the next tick, and stores them for `act`. The future
    /// is dropped and created again for every other event.
    fn wait(&mut self) -> impl Future<Output = ()> {
        future::pending()
    }
    /// Serves the requests that `wait` received.
    fn act(&mut self, _: &mut Tracker) -> Result<()> {
        Ok(())
    }
    /// Called when records were lost, with the totals.
    fn lost(&mut self, live: &mut Tracker, lost: &Lost) -> Result<()>;
    /// Called when the set of work that is dropped to stay within the CPU budget has changed.
    fn budget(&mut self, live: &mut Tracker, report: &BudgetReport) -> Result<()>;
    /// Called after the last event.
    fn ended(&mut self, live: &mut Tracker) -> Result<()>;
}

impl Tracker {
    /// Loads and attaches the BPF programs.
    pub fn start(options: TrackerOptions) -> Result<Self> {
        let TrackerOptions {
            ring_bytes,
            all_types,
            max_cpu: MaxCpu(percent),
            detail,
            pids,
            family,
            nice,
            shows_steps,
        } = options;
        let is_prioritized = nice.is_none_or(|nice| priority::set_up(nice).is_ok());
        allocator::fix_mmap_threshold();
        let mut steps = Steps::new(shows_steps);
        steps.show("fdwatch: loading BPF programs");
        let mut probe_options = Options {
            ring_bytes,
            ..Options::default()
        };
        if family.is_some() {
            probe_options.max_processes = MAX_FAMILY_PROCESSES;
        }
        let mut probe = Probe::load(probe_options)?;
        probe.attach()?;
        let mut engine = Engine::new(proc::anonymous_devices(), all_types);
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        engine
            .details
            .unwind_by(Box::<fdwatch_host::unwind::Unwinder>::default());
        Ok(Self {
            probe,
            engine,
            recorder: None,
            tracer: None,
            stats: RunStats {
                ring_bytes: Some(ring_bytes),
                ..RunStats::default()
            },
            began: proc::boottime(),
            audits: Audits::default(),
            auditing: Auditing::default(),
            allowance: Allowance::new(percent),
            max_waiting: 0,
            shedder: LoadShedder::new(percent),
            detail_targets: DetailTargets::new(detail, pids, family.is_some()),
            family,
            is_prioritized,
            steps,
        })
    }

    /// Takes the snapshot and follows events until `stop`.
    pub fn follow(
        mut self,
        stop: &mut impl StopCondition,
        handler: &mut impl EventHandler,
    ) -> Result<()> {
        let result = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")
            .and_then(|runtime| runtime.block_on(self.run(stop, handler)));
        self.probe.detach();
        result
    }

    async fn run(
        &mut self,
        stop: &mut impl StopCondition,
        handler: &mut impl EventHandler,
    ) -> Result<()> {
        stop.begin()?;
        self.steps
            .show("fdwatch: taking a snapshot of all descriptors");
        self.snapshot()?;
        self.steps.clear();
        if let Some(first) = self.family {
            let leaks = Leaks::of(first, &self.engine.model);
            self.engine.leaks = Some(Box::new(leaks));
            self.probe.enable_family_detail(first)?;
        }
        self.probe.forget_btf();
        allocator::trim();
        self.update_stats();
        self.detail_targets.add_growing(&self.engine.model);
        self.update_detail();
        handler.started(self)?;
        handler.tick(self, true)?;

        // A duplicate of the descriptor, so that waiting does not borrow the probe.
        let ring = self.probe.as_fd().try_clone_to_owned();
        let ring = ring.context("cannot wait for the ring")?;
        // SAFETY: the `AsyncFd` owns the descriptor, so it stays open while registered.
        let ring = unsafe { AsyncFd::register(ring) }.context("cannot wait for the ring")?;
        stop.followed()?;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut slow = 0;
        let mut trimmed = now();
        let mut more = false;
        loop {
            let (mut is_tick, mut is_act) = (false, false);
            tokio::select! {
                biased;
                ended = stop.wait() => {
                    ended?;
                    break;
                }
                _ = ticks.tick() => is_tick = true,
                () = handler.wait() => is_act = true,
                () = future::ready(()), if more => {}
                filled = filled(&ring) => filled.context("cannot wait for the ring")?,
            }
            more = self.drain()? == BATCH;
            if is_act {
                handler.act(self)?;
            }
            if is_tick {
                slow = (slow + 1) % SLOW_TICKS;
                handler.tick(self, slow == 0)?;
                self.audit()?;
                self.detail_targets.allow(&mut self.probe);
                if self.detail_targets.has_new() {
                    self.update_detail();
                }
                if slow == 0 {
                    self.check_loss(handler)?;
                    self.enforce_budget(handler)?;
                    self.detail_targets.add_growing(&self.engine.model);
                    self.update_detail();
                    self.engine.details.free_caches(now());
                    if now().since(trimmed) >= TRIM_INTERVAL {
                        allocator::trim();
                        trimmed = now();
                    }
                }
                if handler.is_over(self) {
                    break;
                }
            }
        }
        // Events before the stop are reported, and later ones are not recorded. If the kernel refuses to stop the
        // programs, they may fill the ring as fast as it is read, hence the limit.
        let _ = self.probe.stop();
        for _ in 0..MAX_BATCHES {
            if self.drain()? < BATCH {
                break;
            }
        }
        self.allowance.lift();
        handler.tick(self, true)?;
        self.check_loss(handler)?;
        self.update_stats();
        handler.ended(self)
    }

    fn snapshot(&mut self) -> Result<()> {
        let Self {
            probe,
            engine,
            recorder,
            steps,
            ..
        } = self;
        let result = engine.snapshot(|on_record| -> Result<()> {
            mark(recorder, Frame::BeginSnapshot)?;
            probe.snapshot(|record| {
                if let Some(recorder) = recorder {
                    recorder.record(record);
                }
                on_record(record, now());
            })?;
            mark(recorder, Frame::EndSnapshot)
        });
        let Err(error) = result else {
            self.audits.enable(now());
            return Ok(());
        };
        let error: ProbeError = error.downcast()?;
        steps.clear();
        warn(
            &error.with_help(
                "reading /proc instead, which is less exact for descriptors already open",
            ),
        );
        let mut unreadable = 0;
        engine.snapshot(|on_record| -> Result<()> {
            mark(recorder, Frame::BeginSnapshot)?;
            let mut on_record = |record: &[u8]| {
                if let Some(recorder) = recorder {
                    recorder.record(record);
                }
                on_record(record, now());
            };
            unreadable = proc_snapshot::take(&mut on_record).context("cannot read /proc")?;
            probe.drain_once(on_record);
            mark(recorder, Frame::EndSnapshot)
        })?;
        self.stats.unreadable_processes = unreadable;
        Ok(())
    }

    /// Compares a part of the model with a snapshot, if an audit is due or in progress.
    fn audit(&mut self) -> Result<()> {
        let is_shed = self.shedder.sheds_audits();
        self.auditing.step(
            &mut self.probe,
            &mut self.engine,
            &mut self.recorder,
            &mut self.audits,
            is_shed,
        )
    }

    /// Reads a batch of records from the ring and returns their number.
    pub(crate) fn drain(&mut self) -> Result<usize> {
        let Self {
            probe,
            engine,
            recorder,
            tracer,
            shedder,
            max_waiting,
            ..
        } = self;
        let now = now();
        let mut waiting = 0;
        if let Some(tracer) = tracer {
            return Ok(probe.drain(BATCH, |record| {
                engine.record(record, now);
                tracer.take(record, &engine.model);
            }));
        }
        let Some(recorder) = recorder else {
            let count = probe.drain(BATCH, |record| {
                waiting += record.len() + RECORD_HEADER;
                shedder.count(record);
                engine.record(record, now);
            });
            *max_waiting = waiting.max(*max_waiting);
            return Ok(count);
        };
        let count = probe.drain(BATCH, |record| {
            shedder.count(record);
            recorder.record(record);
            engine.record(record, now);
        });
        recorder.flush_records(now).context(RECORDING_FAILED)?;
        Ok(count)
    }

    /// Reports records that were lost since the last call.
    fn check_loss(&mut self, handler: &mut impl EventHandler) -> Result<()> {
        for text in self.probe.notes() {
            warn(&text);
        }
        let lost = self.lost()?;
        let previous = std::mem::replace(&mut self.stats.lost, lost);
        if lost.total() == previous.total() {
            return Ok(());
        }
        if !std::mem::replace(&mut self.is_prioritized, true) {
            warn(
                "the event loop has no priority over other work (CAP_SYS_NICE): records may be lost on a busy host",
            );
        }
        // An audit finds what the lost records would have changed.
        // Processes with findings are checked first: wrong findings are worse than wrong tables.
        self.auditing
            .check_first(self.engine.duplicates.processes());
        self.audits.schedule_after_loss(now());
        if let Some(recorder) = &mut self.recorder {
            let total = lost.total().to_le_bytes();
            recorder
                .frame(Frame::Lost, now(), &total)
                .context(RECORDING_FAILED)?;
        }
        handler.lost(self, &lost)
    }

    fn lost(&self) -> Result<Lost> {
        let lost = self.probe.lost();
        lost.map_err(|error| {
            ProbeError::refused("read the counters of lost records", &error).into()
        })
    }

    /// Drops or resumes work to stay within the CPU budget.
    fn enforce_budget(&mut self, handler: &mut impl EventHandler) -> Result<()> {
        let targets = &self.detail_targets;
        let change = self
            .shedder
            .update(&mut self.probe, &mut self.engine, |tgid| {
                targets.is_suspect(tgid)
            })?;
        let Some(Change {
            report,
            needs_audit,
        }) = change
        else {
            return Ok(());
        };
        if needs_audit {
            self.audits.schedule_by(now());
        }
        self.update_detail();
        self.stats.shedding = report.shedding;
        self.stats.most_not_followed = self.stats.most_not_followed.max(report.not_followed.len());
        handler.budget(self, &report)
    }

    /// Collects detail of a process that has a finding, for a limited time.
    pub fn add_suspect(&mut self, tgid: u32) {
        self.detail_targets.add_suspect(tgid, &self.engine.model);
    }

    /// Collects detail of a process as if the user had named it.
    pub fn add_detail_target(&mut self, tgid: u32) {
        self.detail_targets.add_named(tgid);
    }

    fn update_detail(&mut self) {
        let is_shed = self.shedder.sheds_detail();
        self.detail_targets
            .update(&mut self.probe, &self.engine.model, is_shed);
    }

    /// Updates the statistics.
    pub fn update_stats(&mut self) {
        self.stats.duration = proc::boottime().saturating_sub(self.began);
        self.stats.take_from(&self.engine);
        self.stats.usage = proc::usage();
    }
}

/// Waits until the programs wake the reader of the ring.
async fn filled(ring: &AsyncFd<OwnedFd>) -> io::Result<()> {
    ring.readable().await?.clear_ready();
    Ok(())
}
