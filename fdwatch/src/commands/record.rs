//! `fdwatch record FILE`: writes the kernel's records to a file, for `fdwatch replay`.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, BufWriter},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};

use crate::{cli::Record, error::HELP};
use fdwatch_core::{
    Lost,
    plural::{counted, either},
    recording::{Frame, Preamble, Recorder},
};
use fdwatch_events::BudgetReport;
use fdwatch_host::proc;
use fdwatch_options::{Detail, MaxCpu};
use fdwatch_tracker::message::{info, warn};
use fdwatch_tracker::{
    EventHandler, RECORDING_FAILED, SignalOrTimeout, Tracker, TrackerOptions, now,
    priority::DEFAULT_NICE,
};

pub(super) fn run(record: &Record) -> Result<ExitCode> {
    let mut live = Tracker::start(TrackerOptions {
        ring_bytes: record.ring_size.0,
        all_types: true,
        // A recording must be complete, so the budget is a whole processor.
        max_cpu: MaxCpu(100.0),
        detail: Detail::Never,
        pids: Vec::new(),
        family: None,
        nice: Some(DEFAULT_NICE),
        shows_steps: true,
    })?;
    let file = create(&record.file)?;
    let preamble = Preamble {
        anonymous: proc::anonymous_devices(),
        wall_time: proc::wall_time(),
        boottime: proc::boottime(),
        host: proc::hostname(),
    };
    let recorder = Recorder::new(BufWriter::new(file), &preamble).context(RECORDING_FAILED)?;
    live.recorder = Some(recorder);
    live.follow(&mut SignalOrTimeout::after(record.duration), &mut Recording)?;
    Ok(ExitCode::SUCCESS)
}

/// Creates the file for its owner only: a recording has what all processes open. Overwrites only a regular file of
/// this user, and follows no symbolic link, because others may have placed them in a shared directory.
fn create(path: &Path) -> Result<File> {
    let name = path.display();
    let mut options = OpenOptions::new();
    options
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let failed = || format!("cannot create {name}");
    match options.clone().create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        created => return created.with_context(failed),
    }
    if path.is_symlink() {
        bail!("cannot create {name}: it is a symbolic link{HELP}remove it, or use another path");
    }
    let file = options.open(path).with_context(failed)?;
    let metadata = file.metadata().with_context(failed)?;
    if !metadata.is_file() || metadata.uid() != proc::effective_user() {
        bail!(
            "cannot overwrite {name}: not a regular file of this user{HELP}remove it, or use another path"
        );
    }
    file.set_permissions(Permissions::from_mode(0o600))
        .and_then(|()| file.set_len(0))
        .with_context(failed)?;
    Ok(file)
}

/// Marks in the recording when changes settle.
struct Recording;

impl EventHandler for Recording {
    fn started(&mut self, live: &mut Tracker) -> Result<()> {
        info(&fdwatch_render::text::started(&live.stats));
        Ok(())
    }

    fn tick(&mut self, live: &mut Tracker, _: bool) -> Result<()> {
        // Changes are reported on replay. Settling drops them here.
        live.engine.settle(now(), &mut |_, _| {});
        let Some(recorder) = &mut live.recorder else {
            return Ok(());
        };
        recorder
            .frame(Frame::Settle, now(), &[])
            .context(RECORDING_FAILED)
    }

    fn lost(&mut self, _: &mut Tracker, lost: &Lost) -> Result<()> {
        let total = lost.total();
        warn(&format!(
            "{} {} lost; use a larger --ring-size",
            counted(total, "record"),
            either(&total, "was", "were")
        ));
        Ok(())
    }

    fn budget(&mut self, _: &mut Tracker, _: &BudgetReport) -> Result<()> {
        Ok(())
    }

    fn ended(&mut self, live: &mut Tracker) -> Result<()> {
        if let Some(recorder) = live.recorder.take() {
            recorder.end(now()).context(RECORDING_FAILED)?;
        }
        info(&fdwatch_render::text::summary(&live.stats));
        Ok(())
    }
}
