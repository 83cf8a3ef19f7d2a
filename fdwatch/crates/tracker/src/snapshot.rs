//! Snapshot of all descriptors, for commands that do not follow events.

use std::{fs, io};

use anyhow::{Result, bail};

use crate::message::warn;
use fdwatch_core::{engine::Engine, model::Moment};
use fdwatch_host::{proc, proc_snapshot};
use fdwatch_probe::{Options, Probe};

/// Tables of all processes at one moment.
pub struct Snapshot {
    /// The model of all tables.
    pub engine: Engine,
    /// Processes whose descriptors could not be read.
    pub unreadable: u64,
}

impl Snapshot {
    /// Fails if the process has descriptors that could not be read.
    pub fn check_table(&self, pid: u32) -> Result<()> {
        if self.engine.model.table_of(pid).is_some() || proc::has_no_descriptors(pid) {
            return Ok(());
        }
        let refused = fs::read_dir(format!("/proc/{pid}/fd")).err();
        let why = match refused.map(|error| error.kind()) {
            Some(io::ErrorKind::PermissionDenied) => {
                "permission denied\nhelp: run as root, or as the user of the process"
            }
            _ => "it has exited, or is hidden by the kernel",
        };
        bail!("cannot read the descriptors of process {pid}: {why}");
    }
}

/// Takes a snapshot of all processes, through BPF. Reads /proc instead with `from_proc`, or if the kernel
/// refuses.
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
