//! What the commands that follow the kernel's events have in common: the programs, the ring, and when
//! it is read. What is told, and to whom, is for the [`Follower`] to know.

use std::{
    fs::File,
    future::{self, Future},
    io::{self, BufWriter},
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    io::unix::AsyncFd,
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use crate::{
    allocator, detail_targets::DetailTargets, load_shedder::LoadShedder, message::warn,
    steps::Steps,
};
use fdwatch_core::{
    Lost,
    engine::Engine,
    leaks::Leaks,
    model::Moment,
    recording::{Frame, Recorder},
    trace::Tracer,
};
use fdwatch_events::{BudgetReport, RunStats};
use fdwatch_host::proc;
use fdwatch_host::proc_snapshot;
use fdwatch_options::{Detail, MaxCpu};
use fdwatch_probe::{ASKED_OF_FAMILY, Options, Probe, ProbeError};

/// How often the ring is looked into and what has changed is told: what waits there longer is no
/// longer news.
const TICK: Duration = Duration::from_millis(100);

/// How often what is rarely news is looked at, in ticks.
const SLOW_TICKS: u32 = 10;

/// Records taken from the ring before signals and clocks have their turn.
const BATCH: usize = 1 << 13;

/// So often, at the end.
const MAX_BATCHES: u32 = 512;

/// How often the allocator gives back what it does not need: nanoseconds.
const GIVE_BACK_EVERY: u64 = 60_000_000_000;

/// An audit is held no more often than this: nanoseconds.
const AUDIT_EVERY: u64 = 10_000_000_000;

/// Nor more often than would take this share of one processor: one in so many.
const AUDIT_SHARE: u64 = 1_000;

/// What an audit has left open is looked at again after this long, and what was lost is looked for:
/// nanoseconds.
const AUDIT_AGAIN: u64 = 1_000_000_000;

/// And that may take this share of one processor.
const AUDIT_AGAIN_SHARE: u64 = 50;

/// What the ring takes for each record besides (`BPF_RINGBUF_HDR_SZ`, include/uapi/linux/bpf.h): bytes.
const RECORD_HEADER: usize = 8;

/// Where the records go besides the engine.
pub type FileRecorder = Recorder<BufWriter<File>>;

/// The kernel's events, and the engine they drive.
pub struct Live {
    pub(crate) probe: Probe,
    pub engine: Engine,
    pub recorder: Option<FileRecorder>,
    /// Who is shown each record of some processes, if that is wanted.
    pub tracer: Option<Tracer>,
    pub stats: RunStats,
    /// Nanoseconds since boot.
    pub(crate) began: u64,
    /// When the next audit is due; never, if the kernel does not give snapshots.
    pub(crate) next_audit: Option<Moment>,
    /// When the last one ended.
    pub(crate) last_audit: Moment,
    /// How long the last one took, in nanoseconds.
    pub audit_took: u64,
    /// How long all of them took, in nanoseconds.
    pub audit_time: u64,
    /// Bytes that waited in the ring at once, at the most, since this was last set to zero.
    pub most_waiting: usize,
    /// Whether the next one is to confirm what the last one found.
    pub(crate) is_second_look: bool,
    pub shed: LoadShedder,
    pub(crate) suspects: DetailTargets,
    pub(crate) family: Option<u32>,
    pub(crate) steps: Steps,
}

/// What a command wants of it.
pub struct Wanted {
    /// Size of the ring, in bytes.
    pub ring_bytes: u32,
    /// Files of all types are followed, not only regular ones.
    pub all_types: bool,
    /// What fdwatch itself may use.
    pub max_cpu: MaxCpu,
    /// Of whom stacks and paths are wanted.
    pub detail: Detail,
    /// Processes that are asked for.
    pub pids: Vec<u32>,
    /// A process of which, and of all that come of it, the leaks are wanted, and all detail.
    pub family: Option<u32>,
    /// Whether it is shown on a terminal what is done to begin.
    pub shows_steps: bool,
}

/// What ends the following of events.
pub trait End {
    /// It is begun, in the runtime.
    fn begin(&mut self) -> Result<()>;
    /// The snapshot is taken, and all is followed from here on.
    fn followed(&mut self) -> Result<()> {
        Ok(())
    }
    /// Waits for the end. What waits is dropped and asked for again all the time.
    fn come(&mut self) -> impl Future<Output = Result<()>>;
}

/// SIGINT, SIGTERM, or that so much time is over.
pub struct Stop {
    duration: Option<Duration>,
    at: Option<Instant>,
    signals: Option<[Signal; 2]>,
}

impl Stop {
    /// After `duration`, if not before.
    pub fn after(duration: Option<Duration>) -> Self {
        Self {
            duration,
            at: None,
            signals: None,
        }
    }
}

impl End for Stop {
    fn begin(&mut self) -> Result<()> {
        self.signals = Some([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
        ]);
        let duration = self.duration;
        self.at = duration.and_then(|duration| Instant::now().checked_add(duration));
        Ok(())
    }

    async fn come(&mut self) -> Result<()> {
        let Some([interrupted, terminated]) = &mut self.signals else {
            return Ok(());
        };
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
            () = until(self.at) => {}
        }
        Ok(())
    }
}

/// Is told when it is time to look at what has changed.
pub trait Follower {
    /// The snapshot is taken, and events are followed from here on.
    fn started(&mut self, live: &mut Live) -> Result<()>;
    /// Ten times a second; `is_slow` once.
    fn tick(&mut self, live: &mut Live, is_slow: bool) -> Result<()>;
    /// Whether there is nothing more to wait for. Asked ten times a second.
    fn is_over(&self, _: &Live) -> bool {
        false
    }
    /// Waits for what cannot wait for the next tick, and keeps it for `act`. What waits is dropped and
    /// asked for again all the time.
    fn wait(&mut self) -> impl Future<Output = ()> {
        future::pending()
    }
    /// Something has come that was waited for.
    fn act(&mut self, _: &mut Live) -> Result<()> {
        Ok(())
    }
    /// Records were lost: how many in all.
    fn lost(&mut self, live: &mut Live, lost: &Lost) -> Result<()>;
    /// Something else is left undone than before, for the sake of the budget.
    fn budget(&mut self, live: &mut Live, report: &BudgetReport) -> Result<()>;
    /// There is nothing more to come.
    fn ended(&mut self, live: &mut Live) -> Result<()>;
}

impl Live {
    /// Loads and attaches the programs.
    pub fn start(wanted: Wanted) -> Result<Self> {
        let Wanted {
            ring_bytes,
            all_types,
            max_cpu: MaxCpu(percent),
            detail,
            pids,
            family,
            shows_steps,
        } = wanted;
        allocator::keep_large_apart();
        let mut steps = Steps::new(shows_steps);
        steps.show("fdwatch: loading its programs into the kernel");
        let mut options = Options {
            ring_bytes,
            ..Options::default()
        };
        if family.is_some() {
            options.asked_of = ASKED_OF_FAMILY;
        }
        let mut probe = Probe::load(options)?;
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
            next_audit: None,
            last_audit: Moment(0),
            audit_took: 0,
            audit_time: 0,
            most_waiting: 0,
            is_second_look: false,
            shed: LoadShedder::new(percent),
            suspects: DetailTargets::new(detail, pids),
            family,
            steps,
        })
    }

    /// Takes the snapshot and follows the events, until the `end`.
    pub fn follow(mut self, end: &mut impl End, follower: &mut impl Follower) -> Result<()> {
        let result = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")
            .and_then(|runtime| runtime.block_on(self.run(end, follower)));
        self.probe.detach();
        result
    }

    async fn run(&mut self, end: &mut impl End, follower: &mut impl Follower) -> Result<()> {
        end.begin()?;
        self.steps.show("fdwatch: looking at all descriptors");
        self.snapshot()?;
        self.steps.clear();
        if let Some(first) = self.family {
            let leaks = Leaks::of(first, &self.engine.model);
            self.engine.leaks = Some(Box::new(leaks));
            self.probe.detail_of_family(first)?;
        }
        self.probe.forget_btf();
        allocator::give_back();
        self.count();
        self.suspect_growing();
        self.ask_for_detail();
        follower.started(self)?;
        follower.tick(self, true)?;

        // A descriptor of its own, for what is read from the ring meanwhile to borrow nothing.
        let ring = self.probe.as_fd().try_clone_to_owned();
        let ring = ring.context("cannot wait for the ring")?;
        // SAFETY: the descriptor is owned, and not closed before this is dropped.
        let ring = unsafe { AsyncFd::register(ring) }.context("cannot wait for the ring")?;
        end.followed()?;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut slow = 0;
        let mut given_back = now();
        let mut more = false;
        loop {
            let (mut is_tick, mut is_act) = (false, false);
            tokio::select! {
                biased;
                ended = end.come() => {
                    ended?;
                    break;
                }
                _ = ticks.tick() => is_tick = true,
                () = follower.wait() => is_act = true,
                () = future::ready(()), if more => {}
                filled = filled(&ring) => filled.context("cannot wait for the ring")?,
            }
            more = self.drain()? == BATCH;
            if is_act {
                follower.act(self)?;
            }
            if is_tick {
                slow = (slow + 1) % SLOW_TICKS;
                follower.tick(self, slow == 0)?;
                self.allow_detail();
                if self.suspects.is_news {
                    self.ask_for_detail();
                }
                if slow == 0 {
                    self.look_for_losses(follower)?;
                    self.keep_to_budget(follower)?;
                    self.suspect_growing();
                    self.ask_for_detail();
                    self.audit_if_due()?;
                    self.engine.details.rest(now());
                    if now().since(given_back) >= GIVE_BACK_EVERY {
                        allocator::give_back();
                        given_back = now();
                    }
                }
                if follower.is_over(self) {
                    break;
                }
            }
        }
        // What happened before the end is told, and nothing comes after it that would have to be gone
        // through as well. Where the kernel refuses that, the ring may be filled as fast as it is read.
        let _ = self.probe.stop();
        for _ in 0..MAX_BATCHES {
            if self.drain()? < BATCH {
                break;
            }
        }
        follower.tick(self, true)?;
        self.look_for_losses(follower)?;
        self.count();
        follower.ended(self)
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
            self.next_audit = Some(Moment(now().0 + AUDIT_EVERY));
            return Ok(());
        };
        if !error.is::<ProbeError>() {
            return Err(error);
        }
        steps.clear();
        warn(&format!(
            "{error}; reading /proc instead: what was open before is known less exactly"
        ));
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

    /// Holds a snapshot against the model, if it is time.
    fn audit_if_due(&mut self) -> Result<()> {
        let began = now();
        if let Some(due) = &mut self.next_audit
            && self.engine.model.is_contested()
        {
            // Sooner, but for no larger share of the processor.
            let wait = AUDIT_AGAIN.max(self.audit_took.saturating_mul(AUDIT_SHARE));
            *due = (*due).min(Moment(self.last_audit.0 + wait));
        }
        if self.next_audit.is_none_or(|due| began < due) || self.shed.sheds_audits() {
            return Ok(());
        }
        let Self {
            probe,
            engine,
            recorder,
            ..
        } = self;
        mark(recorder, Frame::BeginAudit)?;
        engine.begin_audit();
        let taken = probe.snapshot(|record| {
            if let Some(recorder) = recorder {
                recorder.record(record);
            }
            engine.record(record, now());
        });
        let outcome = match taken {
            Ok(()) => {
                mark(recorder, Frame::EndAudit)?;
                Some(engine.end_audit())
            }
            // What is lost meanwhile is counted, and the next one comes to it.
            Err(error) => {
                mark(recorder, Frame::BreakOffAudit)?;
                engine.break_off_audit();
                warn(&format!("{error}; it is tried again"));
                None
            }
        };
        if let Some(outcome) = &outcome {
            engine.model.rest();
            for &tgid in &outcome.unvisited {
                if proc::is_to_be_forgotten(&engine.model, tgid) {
                    engine.forget(tgid);
                    if let Some(recorder) = recorder {
                        let tgid = u64::from(tgid).to_le_bytes();
                        recorder
                            .frame(Frame::Forget, now(), &tgid)
                            .context(CANNOT_RECORD)?;
                    }
                }
            }
        }
        let ended = now();
        let took = ended.since(began);
        self.audit_time += took;
        // One look more, and no third: where much is going on there is always something open.
        let wait = match outcome {
            None => AUDIT_EVERY.max(took.saturating_mul(AUDIT_SHARE)),
            Some(outcome) if outcome.is_open && !self.is_second_look => {
                self.is_second_look = true;
                self.audit_took = took;
                AUDIT_AGAIN.max(took.saturating_mul(AUDIT_AGAIN_SHARE))
            }
            Some(_) => {
                let both = took
                    + if self.is_second_look {
                        self.audit_took
                    } else {
                        0
                    };
                self.is_second_look = false;
                self.audit_took = took;
                AUDIT_EVERY.max(both.saturating_mul(AUDIT_SHARE))
            }
        };
        self.last_audit = ended;
        self.next_audit = Some(Moment(ended.0 + wait));
        Ok(())
    }

    /// Takes what there is from the ring, and tells how much it was.
    fn drain(&mut self) -> Result<usize> {
        let Self {
            probe,
            engine,
            recorder,
            tracer,
            shed,
            most_waiting,
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
                shed.count(record);
                engine.record(record, now);
            });
            *most_waiting = waiting.max(*most_waiting);
            return Ok(count);
        };
        let count = probe.drain(BATCH, |record| {
            shed.count(record);
            recorder.record(record);
            engine.record(record, now);
        });
        recorder.flush_records(now).context(CANNOT_RECORD)?;
        Ok(count)
    }

    fn look_for_losses(&mut self, follower: &mut impl Follower) -> Result<()> {
        for words in self.probe.notes() {
            warn(&words);
        }
        let lost = self.lost()?;
        let before = std::mem::replace(&mut self.stats.lost, lost);
        if lost.total() == before.total() {
            return Ok(());
        }
        // What was lost is missing: it is looked for at once, but for what looking takes.
        if let Some(due) = &mut self.next_audit {
            let soon = now().0 + self.audit_took.saturating_mul(AUDIT_AGAIN_SHARE);
            *due = (*due).min(Moment(soon));
            self.is_second_look = false;
        }
        if let Some(recorder) = &mut self.recorder {
            let total = lost.total().to_le_bytes();
            recorder
                .frame(Frame::Lost, now(), &total)
                .context(CANNOT_RECORD)?;
        }
        follower.lost(self, &lost)
    }

    fn lost(&self) -> Result<Lost> {
        self.probe.lost().map_err(|error| {
            ProbeError::Refused {
                what: "to show its counters of lost records".to_owned(),
                reason: error.to_string(),
            }
            .into()
        })
    }

    /// Brings the account up to date.
    pub fn count(&mut self) {
        self.stats.duration = proc::boottime().saturating_sub(self.began);
        self.stats.take_from(&self.engine);
        self.stats.usage = proc::usage();
    }
}

/// What there is to say when a recording cannot be written.
pub const CANNOT_RECORD: &str = "cannot write the recording";

/// The moment it is.
pub fn now() -> Moment {
    Moment(proc::boottime())
}

fn mark(recorder: &mut Option<FileRecorder>, frame: Frame) -> Result<()> {
    recorder.as_mut().map_or(Ok(()), |recorder| {
        recorder.frame(frame, now(), &[]).context(CANNOT_RECORD)
    })
}

pub fn listen(kind: SignalKind) -> Result<Signal> {
    signal(kind).context("cannot listen for signals")
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => future::pending().await,
    }
}

/// Waits until the ring has filled up to where the programs wake its reader.
async fn filled(ring: &AsyncFd<OwnedFd>) -> io::Result<()> {
    ring.readable().await?.clear_ready();
    Ok(())
}
