//! `fdwatch watch`: duplicates as they come and go.

use std::{
    future, io,
    os::fd::{AsFd as _, OwnedFd},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    io::unix::AsyncFd,
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{Output, WritingOutput as _, check_pids, reporter};
use crate::{
    cli::Watch,
    diagnose::Finding,
    duplicates::Change,
    engine::Engine,
    investigate::{self, Investigator},
    model::Moment,
    probe::{Lost, Options, Probe, ProbeError, proc_snapshot},
    proc,
    report::{Account, Reporter, note},
};

/// How often the ring is looked into and what has changed is told: what waits there longer is no
/// longer news.
const TICK: Duration = Duration::from_millis(100);

/// How often what is rarely news is looked at, in ticks.
const SLOW_TICKS: u32 = 10;

/// Records taken from the ring before signals and clocks have their turn.
const BATCH: usize = 1 << 16;

pub(super) fn run(watch: &Watch) -> Result<ExitCode> {
    let filter = watch.filters.filter()?;
    check_pids(&watch.filters)?;
    let mut probe = Probe::load(Options {
        ring_bytes: watch.ring_size.0,
        ..Options::default()
    })?;
    probe.attach()?;
    let mut watcher = Watcher {
        engine: Engine::new(proc::anonymous_device(), watch.filters.all),
        investigator: Investigator::new(filter),
        reporter: reporter(watch.output.format()),
        account: Account {
            ring_bytes: Some(watch.ring_size.0),
            ..Account::default()
        },
        began: proc::boottime(),
        probe,
    };
    let result = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(watcher.watch(watch.duration)));
    watcher.probe.detach();
    result.map(|()| ExitCode::SUCCESS)
}

struct Watcher {
    probe: Probe,
    engine: Engine,
    investigator: Investigator,
    reporter: Reporter<Output>,
    account: Account,
    /// Nanoseconds since boot.
    began: u64,
}

impl Watcher {
    async fn watch(&mut self, duration: Option<Duration>) -> Result<()> {
        let mut interrupted = listen(SignalKind::interrupt())?;
        let mut terminated = listen(SignalKind::terminate())?;
        self.snapshot()?;
        self.probe.forget_btf();
        give_back_memory();
        self.count();
        let now = self.engine.model.now();
        self.reporter.started(&self.account, now).writing_output()?;
        self.settle(true)?;

        // A descriptor of its own, for what is read from the ring meanwhile to borrow nothing.
        let ring = self.probe.as_fd().try_clone_to_owned();
        let ring = ring.context("cannot wait for the ring")?;
        // SAFETY: the descriptor is owned, and not closed before this is dropped.
        let ring = unsafe { AsyncFd::register(ring) }.context("cannot wait for the ring")?;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = duration.and_then(|duration| Instant::now().checked_add(duration));
        let mut slow = 0;
        let mut more = false;
        loop {
            let mut is_tick = false;
            tokio::select! {
                biased;
                _ = interrupted.recv() => break,
                _ = terminated.recv() => break,
                () = until(end) => break,
                _ = ticks.tick() => is_tick = true,
                () = future::ready(()), if more => {}
                filled = filled(&ring) => filled.context("cannot wait for the ring")?,
            }
            more = self.drain() == BATCH;
            if is_tick {
                slow = (slow + 1) % SLOW_TICKS;
                self.settle(slow == 0)?;
                if slow == 0 {
                    self.look_for_losses()?;
                }
            }
        }
        self.drain();
        self.settle(true)?;
        self.look_for_losses()?;
        self.count();
        self.reporter
            .summary(&self.account, self.engine.model.now())
            .writing_output()
    }

    fn snapshot(&mut self) -> Result<()> {
        let Self { probe, engine, .. } = self;
        let result = engine.snapshot(|on_record| {
            probe.snapshot(|record| on_record(record, Moment(proc::boottime())))
        });
        let Err(error) = result else {
            return Ok(());
        };
        note(&format!(
            "{error}; reading /proc instead: what was open before is known less exactly"
        ));
        let mut unreadable = 0;
        engine.snapshot(|on_record| -> Result<()> {
            let mut on_record = |record: &[u8]| on_record(record, Moment(proc::boottime()));
            unreadable = proc_snapshot::take(&mut on_record)?;
            probe.drain(usize::MAX, on_record);
            Ok(())
        })?;
        self.account.unreadable_processes = unreadable;
        Ok(())
    }

    /// Takes what there is from the ring, and tells how much it was.
    fn drain(&mut self) -> usize {
        let Self { probe, engine, .. } = self;
        let now = Moment(proc::boottime());
        probe.drain(BATCH, |record| engine.record(record, now))
    }

    /// Tells what has changed, of rotated files as well if it is time to look for them.
    fn settle(&mut self, with_rotations: bool) -> Result<()> {
        let Self {
            engine,
            investigator,
            reporter,
            account,
            ..
        } = self;
        let now = Moment(proc::boottime());
        reporter.clock.adjust(proc::wall_time(), now.0);
        let mut result = Ok(());
        let mut tell = |finding: Option<Finding>| {
            if let Some(finding) = finding {
                count_finding(account, &finding);
                if result.is_ok() {
                    result = reporter.finding(&finding, now);
                }
            }
        };
        engine.settle(now, &mut |duplicate, model| {
            tell(investigator.finding(duplicate, model));
        });
        if with_rotations {
            engine.sweep(now, &mut investigate::path_of, &mut |rotation, model| {
                tell(investigator.rotation(rotation, model));
            });
        }
        result.and_then(|()| reporter.flush()).writing_output()
    }

    fn look_for_losses(&mut self) -> Result<()> {
        for words in self.probe.notes() {
            note(&words);
        }
        let lost = self.lost()?;
        if lost == self.account.lost {
            return Ok(());
        }
        self.account.lost = lost;
        let now = Moment(proc::boottime());
        self.reporter
            .loss(&lost, now)
            .and_then(|()| self.reporter.flush())
            .writing_output()
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
    fn count(&mut self) {
        let Self {
            engine, account, ..
        } = self;
        account.duration = proc::boottime().saturating_sub(self.began);
        account.statistics = *engine.model.statistics();
        account.malformed = engine.malformed();
        account.processes = engine.model.processes().count();
        account.descriptors = engine.descriptors();
        account.usage = proc::usage();
    }
}

fn count_finding(account: &mut Account, finding: &Finding) {
    match finding.change {
        Change::Found => account.found += 1,
        Change::Changed => account.changed += 1,
        Change::Gone => account.gone += 1,
    }
}

fn listen(kind: SignalKind) -> Result<Signal> {
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

/// Loading needs tens of megabytes for a moment, which the allocator would keep.
fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call has no requirements.
    unsafe {
        libc::malloc_trim(0);
    }
}
