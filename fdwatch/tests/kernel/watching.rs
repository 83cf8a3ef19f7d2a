//! The probe and the engine in the test's own process.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsStr,
    fmt::Write as _,
    process::{Command, Stdio},
    slice,
    sync::{Mutex, MutexGuard, PoisonError},
};

use fdwatch_common::{Event, FdClose, FdOpen, SetCloexec};
use fdwatch_core::{Lost, engine::Engine, model::Moment};
use fdwatch_host::proc;
use fdwatch_probe::{Options, Probe};

use crate::truth::Difference;

/// Serializes tests: each would see the children of others.
static ONE: Mutex<()> = Mutex::new(());

/// Applies the kernel's events to a model.
pub(crate) struct Watching {
    pub(crate) probe: Probe,
    pub(crate) engine: Engine,
    /// Records that were drained since it was last cleared.
    pub(crate) records: Vec<Box<[u8]>>,
    _only: MutexGuard<'static, ()>,
}

impl Watching {
    /// Attaches the programs. Prints the reason and returns `None` where they cannot be loaded.
    pub(crate) fn attach() -> Option<Self> {
        Self::attach_with(Options::default())
    }

    /// Attaches the programs with other options.
    pub(crate) fn attach_with(options: Options) -> Option<Self> {
        let only = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut probe = match Probe::load(options) {
            Ok(probe) => probe,
            Err(error) => {
                assert!(env::var_os("FDWATCH_REQUIRE_BPF").is_none(), "{error}");
                println!("skipped: {error}");
                return None;
            }
        };
        probe.attach().unwrap();
        Some(Self {
            probe,
            engine: Engine::new(proc::anonymous_devices(), true),
            records: Vec::new(),
            _only: only,
        })
    }

    /// Takes the first snapshot.
    pub(crate) fn snapshot(&mut self) {
        let Self { probe, engine, .. } = self;
        engine
            .snapshot(|on_record| probe.snapshot(|record| on_record(record, now())))
            .unwrap();
    }

    /// Drains the ring.
    pub(crate) fn drain(&mut self) {
        let Self {
            probe,
            engine,
            records,
            ..
        } = self;
        probe.drain(usize::MAX, |record| {
            records.push(record.into());
            engine.record(record, now());
        });
    }

    /// Takes one snapshot of an audit.
    pub(crate) fn audit(&mut self) {
        let Self { probe, engine, .. } = self;
        engine.begin_audit();
        probe
            .snapshot(|record| engine.record(record, now()))
            .unwrap();
        for tgid in engine.end_audit().unvisited {
            if proc::is_stale_process(&engine.model, tgid) {
                engine.forget(tgid);
            }
        }
    }

    /// Returns whether the model marks the descriptor as racing.
    pub(crate) fn is_racing(&self, difference: &Difference) -> bool {
        let model = &self.engine.model;
        let fd = difference.fd;
        fd.is_some_and(|fd| model.is_racing(difference.table, fd))
    }

    /// Describes the records that concern a difference: of the table, of the tables it was copied from, and
    /// of the process.
    pub(crate) fn story_of(&self, difference: &Difference) -> String {
        let records: Vec<Vec<u64>> = self.records.iter().map(|it| aligned(it)).collect();
        let mut tables = BTreeSet::from([difference.table]);
        for words in records.iter().rev() {
            if let Ok(Event::Fork(fork)) = Event::parse(bytes(words))
                && tables.contains(&fork.table)
            {
                tables.insert(fork.parent_table);
            }
        }
        let mut story = String::new();
        for words in &records {
            let Ok(event) = Event::parse(bytes(words)) else {
                continue;
            };
            let header = event.header();
            let is_same = Some(header.fd) == difference.fd;
            let is_about = match event {
                Event::FdOpen(FdOpen { table, .. })
                | Event::FdClose(FdClose { table, .. })
                | Event::SetCloexec(SetCloexec { table, .. }) => {
                    is_same && (tables.contains(table) || header.tgid == difference.tgid)
                }
                Event::Fork(fork) => tables.contains(&fork.table) || header.tgid == difference.tgid,
                Event::TableBits(bits) => {
                    let at = difference.fd.and_then(|fd| fd.checked_sub(header.fd));
                    let is_near = at.is_none_or(|at| (at as usize) < bits.words().len() * 64);
                    is_near && (tables.contains(&bits.table) || header.tgid == difference.tgid)
                }
                _ => header.tgid == difference.tgid,
            };
            if is_about {
                writeln!(story, "    {event:?}").unwrap();
            }
        }
        story
    }

    /// Returns the count of lost records.
    pub(crate) fn lost(&self) -> Lost {
        self.probe.lost().unwrap()
    }
}

/// Returns a record, aligned as in the ring.
pub(crate) fn aligned(record: &[u8]) -> Vec<u64> {
    let words = record.chunks_exact(8);
    let words = words.map(|bytes| u64::from_ne_bytes(bytes.try_into().unwrap()));
    words.collect()
}

/// Returns its bytes.
pub(crate) fn bytes(words: &[u64]) -> &[u8] {
    // SAFETY: any words are valid bytes.
    unsafe { slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}

/// Returns the current time.
pub(crate) fn now() -> Moment {
    Moment(proc::boottime())
}

/// Returns a command that runs this program's part `part`.
pub(crate) fn again(part: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(arguments(part).map(OsStr::new))
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Returns the arguments of that command. The part runs in the main thread.
pub(crate) const fn arguments(part: &str) -> [&str; 5] {
    [
        "--exact",
        part,
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ]
}

/// Returns a number from the environment.
pub(crate) fn variable(name: &str, otherwise: u64) -> u64 {
    env::var(name).map_or(otherwise, |value| value.parse().unwrap())
}
