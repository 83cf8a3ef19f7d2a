//! Control flags of the running programs, global and by process.

use std::io;

use aya::maps::{Array, HashMap, MapData};
use fdwatch_common::{DETAIL, INHERIT, PER_PROCESS, STOPPED};
use rustc_hash::FxHashMap;

/// The control flags, and the maps that the programs read them from.
pub(super) struct Control {
    global_map: Array<MapData, [u64; 2]>,
    process_map: HashMap<MapData, u32, u32>,
    has_global_detail: bool,
    /// Number of detail records that may still be written.
    allowance: u64,
    by_process: FxHashMap<u32, u32>,
    is_stopped: bool,
}

impl Control {
    pub(super) fn new(
        global_map: Array<MapData, [u64; 2]>,
        process_map: HashMap<MapData, u32, u32>,
    ) -> Self {
        Self {
            global_map,
            process_map,
            has_global_detail: false,
            allowance: 0,
            by_process: FxHashMap::default(),
            is_stopped: false,
        }
    }

    /// Enables or disables [`DETAIL`] of all processes. Those with a flag of their own keep it.
    pub(super) fn set_global_detail(&mut self, detail: bool) -> io::Result<()> {
        self.has_global_detail = detail;
        self.write()
    }

    /// Sets or clears flags of a process.
    pub(super) fn set(&mut self, tgid: u32, flags: u32, enabled: bool) -> io::Result<()> {
        let before = self.by_process.get(&tgid).copied().unwrap_or(0);
        let now = if enabled {
            before | flags
        } else {
            before & !flags
        };
        if now == before {
            return Ok(());
        }
        if now == 0 {
            self.by_process.remove(&tgid);
            self.write()?;
            self.process_map.remove(&tgid).map_err(io::Error::other)
        } else {
            self.process_map
                .insert(tgid, now, 0)
                .map_err(io::Error::other)?;
            self.by_process.insert(tgid, now);
            self.write()
        }
    }

    /// Sets the number of detail records that may be written from now on.
    pub(super) fn allow(&mut self, records: u64) -> io::Result<()> {
        self.allowance = records;
        self.write()
    }

    /// Returns whether detail is enabled for any process.
    pub(super) fn has_detail(&self) -> bool {
        self.has_global_detail || self.by_process.values().any(|flags| flags & DETAIL != 0)
    }

    /// Returns whether detail is enabled for any process whose children do not inherit it.
    pub(super) fn has_uninherited_detail(&self) -> bool {
        let mut all = self.by_process.values();
        self.has_global_detail || all.any(|flags| flags & (DETAIL | INHERIT) == DETAIL)
    }

    /// Stops all recording permanently.
    pub(super) fn stop(&mut self) -> io::Result<()> {
        self.is_stopped = true;
        self.write()
    }

    fn write(&mut self) -> io::Result<()> {
        let detail = if self.has_global_detail { DETAIL } else { 0 };
        let per_process = if self.by_process.is_empty() {
            0
        } else {
            PER_PROCESS
        };
        let inherit = self.by_process.values().fold(0, |all, flags| all | flags) & INHERIT;
        let flags = if self.is_stopped {
            STOPPED
        } else {
            detail | per_process | inherit
        };
        self.global_map
            .set(0, [u64::from(flags), self.allowance], 0)
            .map_err(io::Error::other)
    }
}
