//! Processes whose stacks and requested paths are collected: those that the user named and, for a limited
//! time, those with findings or a growing number of descriptors.

use crate::message::warn;
use fdwatch_core::model::{Model, Moment, Table};
use fdwatch_options::Detail;
use fdwatch_probe::{Probe, ProbeError};
use rustc_hash::FxHashMap;

use crate::clock::now;

/// Maximum number of suspects.
const MAX_SUSPECTS: usize = 64;

/// Time that a process remains a suspect after its last finding, in nanoseconds.
const SUSPECT_LIFETIME: u64 = 600_000_000_000;

/// Minimum number of descriptors of a table that counts as growing.
const MIN_GROWING: usize = 64;

/// Maximum number of details that the kernel sends between two ticks. Further descriptors lack detail.
const MAX_DETAIL: u64 = 1000;

/// Processes whose detail is collected.
pub(crate) struct DetailTargets {
    mode: Detail,
    /// Processes that the user named.
    named: Vec<u32>,
    /// Suspects by PID: when they stop being suspects, and their start time.
    suspects: FxHashMap<u32, (Moment, u64)>,
    /// Lowest number of descriptors seen of each large process.
    lowest: FxHashMap<u32, usize>,
    /// Processes whose detail the kernel sends, by PID, and their start times.
    active: FxHashMap<u32, u64>,
    /// Whether the kernel sends the detail of all processes.
    is_all: bool,
    /// Whether the kernel sends the detail of a command and its descendants, without limit.
    is_family: bool,
    /// Whether targets were added since the kernel was last updated.
    has_new: bool,
    has_failed: bool,
}

impl DetailTargets {
    pub(crate) fn new(mode: Detail, named: Vec<u32>, is_family: bool) -> Self {
        Self {
            mode,
            named,
            suspects: FxHashMap::default(),
            lowest: FxHashMap::default(),
            active: FxHashMap::default(),
            is_all: false,
            is_family,
            has_new: false,
            has_failed: false,
        }
    }

    pub(crate) const fn has_new(&self) -> bool {
        self.has_new
    }

    /// Returns whether the process has a finding, or its number of descriptors grows.
    pub(crate) fn is_suspect(&self, tgid: u32) -> bool {
        self.suspects.contains_key(&tgid)
    }

    /// Adds a process as if the user had named it.
    pub(crate) fn add_named(&mut self, tgid: u32) {
        self.named.push(tgid);
        self.has_new = true;
    }

    /// Adds a process with a finding.
    pub(crate) fn add_suspect(&mut self, tgid: u32, model: &Model) {
        if self.mode != Detail::Suspects {
            return;
        }
        if let Some(process) = model.process(tgid)
            && (self.suspects.len() < MAX_SUSPECTS || self.suspects.contains_key(&tgid))
        {
            let until = Moment(now().0.saturating_add(SUSPECT_LIFETIME));
            let previous = self.suspects.insert(tgid, (until, process.start_time));
            self.has_new |= previous.is_none();
        }
    }

    /// Adds the processes whose tables have doubled.
    pub(crate) fn add_growing(&mut self, model: &Model) {
        if self.mode != Detail::Suspects {
            return;
        }
        let mut lowest = FxHashMap::default();
        let mut growing = Vec::new();
        for process in model.processes() {
            let len = model.table_of(process.tgid).map_or(0, Table::len);
            if len < MIN_GROWING {
                continue;
            }
            let low = self.lowest.get(&process.tgid).copied();
            let low = low.unwrap_or(len).min(len);
            if len >= low * 2 {
                growing.push(process.tgid);
                // It has to double again to remain a suspect.
                lowest.insert(process.tgid, len);
            } else {
                lowest.insert(process.tgid, low);
            }
        }
        self.lowest = lowest;
        for tgid in growing {
            self.add_suspect(tgid, model);
        }
    }

    /// Renews the number of details that the kernel may send. Called at each tick.
    pub(crate) fn allow(&mut self, probe: &mut Probe) {
        if self.mode == Detail::Never && !self.is_family {
            return;
        }
        let allowed = self.try_allow(probe);
        self.disable_on_error(allowed);
    }

    fn try_allow(&self, probe: &mut Probe) -> Result<(), ProbeError> {
        probe.allow_detail(if self.is_all || self.is_family {
            u64::MAX
        } else {
            MAX_DETAIL
        })
    }

    /// Updates the kernel's list of targets; `is_shed` empties it. Called once a second, and when targets
    /// were added.
    pub(crate) fn update(&mut self, probe: &mut Probe, model: &Model, is_shed: bool) {
        let updated = self.try_update(probe, model, is_shed);
        self.disable_on_error(updated);
    }

    /// Continues without detail if the kernel refuses an update, for example after privileges were dropped.
    fn disable_on_error(&mut self, result: Result<(), ProbeError>) {
        if let Err(error) = result {
            self.mode = Detail::Never;
            self.note_failure(&error);
        }
    }

    /// Reports the first failure.
    fn note_failure(&mut self, error: &ProbeError) {
        if !std::mem::replace(&mut self.has_failed, true) {
            warn(&format!(
                "{error}; findings lack stacks and requested paths"
            ));
        }
    }

    fn try_update(
        &mut self,
        probe: &mut Probe,
        model: &Model,
        is_shed: bool,
    ) -> Result<(), ProbeError> {
        self.has_new = false;
        let now = now();
        self.suspects.retain(|&tgid, &mut (until, start_time)| {
            now < until && model.is_running(tgid, start_time)
        });
        let is_all = self.mode == Detail::All && !is_shed;
        if is_all != self.is_all {
            self.is_all = is_all;
            probe.set_global_detail(is_all)?;
            probe.allow_detail(if is_all { u64::MAX } else { 0 })?;
        }
        let mut targets = FxHashMap::default();
        if self.mode != Detail::Never && !is_shed {
            targets.extend(self.named.iter().filter_map(|&tgid| {
                let process = model.process(tgid)?;
                Some((tgid, process.start_time))
            }));
            let suspects = self.suspects.iter();
            targets.extend(suspects.map(|(&tgid, &(_, start_time))| (tgid, start_time)));
        }
        if targets == self.active {
            return Ok(());
        }
        for &tgid in self.active.keys() {
            if !targets.contains_key(&tgid) {
                probe.set_detail(tgid, false)?;
            }
        }
        for &tgid in targets.keys() {
            if !self.active.contains_key(&tgid)
                && let Err(error) = probe.set_detail(tgid, true)
            {
                self.note_failure(&error);
            }
        }
        self.active = targets;
        self.try_allow(probe)
    }
}
