//! The recorder of a run.

use std::{fs::File, io::BufWriter};

use anyhow::{Context as _, Result};
use fdwatch_core::recording::{Frame, Recorder};

use crate::clock::now;

/// Recorder to a file.
pub type FileRecorder = Recorder<BufWriter<File>>;

/// Context of errors of writing a recording.
pub const RECORDING_FAILED: &str = "cannot write the recording";

/// Writes a frame without data, if there is a recorder.
pub(crate) fn mark(recorder: &mut Option<FileRecorder>, frame: Frame) -> Result<()> {
    recorder.as_mut().map_or(Ok(()), |recorder| {
        recorder.frame(frame, now(), &[]).context(RECORDING_FAILED)
    })
}
