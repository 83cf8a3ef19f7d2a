//! The part of an event that is stored. Pure.

use fdwatch_core::{diagnose::Severity, duplicates::Change};
use fdwatch_events::event::{Event, EventKind, Key, Measure};

/// Length limit of a name or path: bytes. Twice the limit of the kernel.
const MAX_NAME: usize = 8192;

/// Size limit of the JSON of an event: bytes. A finding of 100,000 descriptors exceeds it.
pub(super) const MAX_JSON: usize = 256 << 10;

/// Approximate size of a record without its texts: bytes.
const OVERHEAD: usize = 512;

/// Number of texts of a record.
pub(super) const TEXTS: usize = 5;

/// The stored part of an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) key: Key,
    /// `finding`, `growth` or `threshold`.
    pub(super) kind: &'static str,
    pub(super) change: Change,
    /// The number of the event.
    pub(super) number: u64,
    /// Nanoseconds since 1970.
    pub(super) wall_time: u64,
    /// The time of the boot by the clock of `wall_time`: nanoseconds since 1970.
    pub(super) booted: u64,
    /// The lifetime of a finding that is gone, if known: nanoseconds.
    pub(super) lifetime: Option<u64>,
    /// The cause of a finding, the measure of a threshold.
    pub(super) cause: Option<&'static str>,
    pub(super) severity: Option<Severity>,
    pub(super) pid: u32,
    pub(super) start_time: u64,
    pub(super) comm: &'a [u8],
    pub(super) exe: Option<&'a [u8]>,
    pub(super) unit: Option<&'a str>,
    pub(super) path: Option<&'a [u8]>,
    pub(super) dev: Option<u32>,
    pub(super) ino: Option<u64>,
    /// Number of descriptors, if counted.
    pub(super) fds: Option<u64>,
    /// How often it occurred since its last event.
    pub(super) times: u32,
    /// The event as JSON; `None` if too large.
    pub(super) json: Option<&'a str>,
    /// Size of that JSON: bytes.
    pub(super) json_bytes: usize,
}

impl<'a> Record<'a> {
    /// Returns the record of an event, if it has a key and a change.
    pub(super) fn of(event: &'a Event) -> Option<Self> {
        let key = event.key?;
        let change = event.kind.change()?;
        let process = event.kind.process()?;
        let mut record = Self {
            key,
            kind: event.kind.kind(),
            change,
            number: event.number,
            wall_time: event.wall_time,
            booted: event.wall_time.wrapping_sub(event.at.0),
            lifetime: None,
            cause: None,
            severity: event.kind.severity(),
            pid: process.pid,
            start_time: process.start_time,
            comm: clipped(&process.comm),
            exe: process.exe.as_deref().map(clipped),
            unit: process.workload.unit.as_deref(),
            path: None,
            dev: None,
            ino: None,
            fds: None,
            times: 1,
            json: (event.json.len() <= MAX_JSON).then_some(event.json.as_str()),
            json_bytes: event.json.len(),
        };
        match &event.kind {
            EventKind::Finding(finding) => {
                record.lifetime = finding.lifetime;
                record.cause = Some(finding.cause.name());
                record.path = finding.file.path.as_deref().map(clipped);
                record.dev = Some(finding.file.dev);
                record.ino = Some(finding.file.ino);
                record.fds = u64::try_from(finding.open()).ok();
                record.times = finding.times.max(1);
            }
            EventKind::Growth(report) => record.fds = u64::try_from(report.open).ok(),
            EventKind::Threshold(report) => {
                record.cause = Some(report.of.name());
                record.fds = (report.of == Measure::Descriptors).then(|| whole(report.value));
            }
            EventKind::Loss(_) | EventKind::Budget(_) => return None,
        }
        Some(record)
    }

    /// Returns its approximate size in memory.
    pub(super) fn bytes(&self) -> usize {
        let texts = self.texts();
        OVERHEAD + texts.iter().flatten().map(|text| text.len()).sum::<usize>()
    }

    /// Returns its texts.
    pub(super) fn texts(&self) -> [Option<&'a [u8]>; TEXTS] {
        [
            Some(self.comm),
            self.exe,
            self.unit.map(str::as_bytes),
            self.path,
            self.json.map(str::as_bytes),
        ]
    }

    /// Returns the same with other texts, in the order of [`Self::texts`].
    pub(super) fn with<'b>(&self, texts: [Option<&'b [u8]>; TEXTS]) -> Record<'b> {
        let [comm, exe, unit, path, json] = texts;
        let text = |bytes: Option<&'b [u8]>| str::from_utf8(bytes?).ok();
        Record {
            comm: comm.unwrap_or_default(),
            exe,
            unit: text(unit),
            path,
            json: text(json),
            key: self.key,
            kind: self.kind,
            change: self.change,
            number: self.number,
            wall_time: self.wall_time,
            booted: self.booted,
            lifetime: self.lifetime,
            cause: self.cause,
            severity: self.severity,
            pid: self.pid,
            start_time: self.start_time,
            dev: self.dev,
            ino: self.ino,
            fds: self.fds,
            times: self.times,
            json_bytes: self.json_bytes,
        }
    }

    /// Returns the record without the texts that the end of a finding does not need.
    pub(super) fn without_json(self) -> Self {
        Self {
            exe: None,
            unit: None,
            json: None,
            ..self
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count, and `as` saturates"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

fn clipped(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(MAX_NAME)]
}
