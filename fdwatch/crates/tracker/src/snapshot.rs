//! A look at all descriptors as they are now, for the commands that need no more. What becomes of it
//! is not known here.

use std::{fs, io};

use anyhow::{Result, bail};

use crate::message::warn;
use fdwatch_core::{engine::Engine, model::Moment};
use fdwatch_host::proc;
use fdwatch_host::proc_snapshot;
use fdwatch_probe::{Options, Probe};

/// What was looked at.
pub struct Snapshot {
    pub engine: Engine,
    /// Processes whose descriptors could not be read.
    pub unreadable: u64,
}

impl Snapshot {
    /// Fails, and says why, if there is nothing of this process because it could not be looked at.
    pub fn check_table(&self, pid: u32) -> Result<()> {
        if self.engine.model.table_of(pid).is_some() || proc::has_no_descriptors(pid) {
            return Ok(());
        }
        let refused = fs::read_dir(format!("/proc/{pid}/fd")).err();
        let why = match refused.map(|error| error.kind()) {
            Some(io::ErrorKind::PermissionDenied) => "it is another user's: run fdwatch as root",
            _ => "it has ended, or the kernel hides them",
        };
        bail!("the descriptors of process {pid} cannot be read: {why}");
    }
}

/// Takes a snapshot of all processes: from /proc if that is asked for, or if the kernel refuses to
/// give it otherwise.
pub fn take(from_proc: bool, all_types: bool) -> Result<Snapshot> {
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
            Err(error) => warn(&format!("{error}; reading /proc instead")),
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
