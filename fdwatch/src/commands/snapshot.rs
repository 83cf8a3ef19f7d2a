//! A look at all descriptors as they are now, for the commands that need no more. What becomes of it
//! is not known here.

use anyhow::Result;

use crate::{
    engine::Engine,
    model::Moment,
    probe::{Options, Probe, proc_snapshot},
    proc,
    report::note,
};

/// What was looked at.
pub(super) struct Snapshot {
    pub(super) engine: Engine,
    /// Processes whose descriptors could not be read.
    pub(super) unreadable: u64,
}

/// Takes a snapshot of all processes: from /proc if that is asked for, or if the kernel refuses to
/// give it otherwise.
pub(super) fn take(from_proc: bool, all_types: bool) -> Result<Snapshot> {
    let mut engine = Engine::new(proc::anonymous_devices(), all_types);
    if !from_proc {
        let mut probe = Probe::load(Options::default())?;
        let result = engine.snapshot(|on_record| {
            probe.snapshot(|record| on_record(record, Moment(proc::boottime())))
        });
        match result {
            Ok(()) => {
                return Ok(Snapshot {
                    engine,
                    unreadable: 0,
                });
            }
            Err(error) => note(&format!("{error}; reading /proc instead")),
        }
        engine = Engine::new(proc::anonymous_devices(), all_types);
    }
    let mut unreadable = 0;
    engine.snapshot(|on_record| -> Result<()> {
        unreadable =
            proc_snapshot::take(&mut |record| on_record(record, Moment(proc::boottime())))?;
        Ok(())
    })?;
    Ok(Snapshot { engine, unreadable })
}
