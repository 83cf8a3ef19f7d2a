//! What is asked of the programs while they run: detail of some processes, and of some nothing. Why
//! it is asked is not known here.

use std::io;

use aya::maps::{Array, HashMap, MapData};
use fdwatch_common::{ASKED_OF_SOME, DETAIL, INHERITED, STOPPED};
use rustc_hash::FxHashMap;

/// What is asked, and the maps that say so.
pub(super) struct Control {
    of_all: Array<MapData, [u64; 2]>,
    of_some: HashMap<MapData, u32, u32>,
    is_detail_of_all: bool,
    /// Records of detail that may be written until more are allowed.
    allowance: u64,
    by_process: FxHashMap<u32, u32>,
    /// Nothing else is asked.
    is_stopped: bool,
}

impl Control {
    pub(super) fn new(
        of_all: Array<MapData, [u64; 2]>,
        of_some: HashMap<MapData, u32, u32>,
    ) -> Self {
        Self {
            of_all,
            of_some,
            is_detail_of_all: false,
            allowance: 0,
            by_process: FxHashMap::default(),
            is_stopped: false,
        }
    }

    /// Asks for [`DETAIL`] of all, or of none but those it is asked of.
    pub(super) fn ask_all(&mut self, detail: bool) -> io::Result<()> {
        self.is_detail_of_all = detail;
        self.write()
    }

    /// Asks for `what` of the process, or no longer.
    pub(super) fn ask(&mut self, tgid: u32, what: u32, wanted: bool) -> io::Result<()> {
        let before = self.by_process.get(&tgid).copied().unwrap_or(0);
        let now = if wanted {
            before | what
        } else {
            before & !what
        };
        if now == before {
            return Ok(());
        }
        if now == 0 {
            self.by_process.remove(&tgid);
            self.write()?;
            self.of_some.remove(&tgid).map_err(io::Error::other)
        } else {
            self.of_some
                .insert(tgid, now, 0)
                .map_err(io::Error::other)?;
            self.by_process.insert(tgid, now);
            self.write()
        }
    }

    /// Allows so many more records of detail, and no more than these.
    pub(super) fn allow(&mut self, records: u64) -> io::Result<()> {
        self.allowance = records;
        self.write()
    }

    /// Whether detail is asked of anyone.
    pub(super) fn is_detail_wanted(&self) -> bool {
        self.is_detail_of_all || self.by_process.values().any(|what| what & DETAIL != 0)
    }

    /// Whether it is asked of anyone whose children do not inherit that.
    pub(super) fn is_detail_of_one_wanted(&self) -> bool {
        let mut asked = self.by_process.values();
        self.is_detail_of_all || asked.any(|what| what & (DETAIL | INHERITED) == DETAIL)
    }

    /// Asks of all that nothing be told, ever again.
    pub(super) fn stop(&mut self) -> io::Result<()> {
        self.is_stopped = true;
        self.write()
    }

    fn write(&mut self) -> io::Result<()> {
        let detail = if self.is_detail_of_all { DETAIL } else { 0 };
        let some = if self.by_process.is_empty() {
            0
        } else {
            ASKED_OF_SOME
        };
        let inherited = self.by_process.values().fold(0, |all, asked| all | asked) & INHERITED;
        let asked = if self.is_stopped {
            STOPPED
        } else {
            detail | some | inherited
        };
        self.of_all
            .set(0, [u64::from(asked), self.allowance], 0)
            .map_err(io::Error::other)
    }
}
