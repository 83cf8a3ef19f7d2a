//! Log messages of the programs, for rare conditions that have no record.

use std::{
    mem,
    sync::{Arc, Mutex},
};

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};

use super::ProbeError;

/// The programs' log.
pub(super) struct Notes {
    log: EbpfLogger<Arc<Lines>>,
    lines: Arc<Lines>,
}

impl Notes {
    /// Opens the log of the programs.
    pub(super) fn of(ebpf: &mut Ebpf) -> Result<Self, ProbeError> {
        let lines = Arc::new(Lines::default());
        let log = EbpfLogger::init_with_logger(ebpf, Arc::clone(&lines))
            .map_err(|error| ProbeError::refused("open map AYA_LOGS", &error))?;
        Ok(Self { log, lines })
    }

    /// Returns the messages since the last call.
    pub(super) fn take(&mut self) -> Vec<String> {
        self.log.flush();
        let lines = self.lines.0.lock();
        lines.map_or_else(|_| Vec::new(), |mut lines| mem::take(&mut *lines))
    }
}

#[derive(Debug, Default)]
struct Lines(Mutex<Vec<String>>);

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if let Ok(mut lines) = self.0.lock() {
            lines.push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}
