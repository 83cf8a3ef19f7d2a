//! What the programs have to say in words, on the rare occasions that no record is for.

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
    /// The log of the programs in `ebpf`.
    pub(super) fn of(ebpf: &mut Ebpf) -> Result<Self, ProbeError> {
        let lines = Arc::new(Lines::default());
        let log = EbpfLogger::init_with_logger(ebpf, Arc::clone(&lines))
            .map_err(|error| ProbeError::refused("the map AYA_LOGS", &error))?;
        Ok(Self { log, lines })
    }

    /// What was said since the last time.
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
