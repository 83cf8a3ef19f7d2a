//! Of whom detail is wanted: those that are asked for, and those under suspicion, for a while. What
//! there is to see in it is not known here.

use rustc_hash::FxHashMap;

use super::{Live, now};
use crate::message::warn;
use fdwatch_core::model::{Model, Moment, Table};
use fdwatch_options::Detail;
use fdwatch_probe::ProbeError;

/// Processes that are under suspicion at once, at most.
const MAX: usize = 64;

/// How long one stays so after the last thing that was suspicious: nanoseconds.
const LONG: u64 = 600_000_000_000;

/// A table with fewer descriptors is none that grows.
const LARGE: usize = 64;

/// Stacks and paths that may be told from one tick to the next. Of who makes more, some have none.
const MAX_DETAIL: u64 = 1000;

/// Of whom detail is wanted.
pub struct DetailTargets {
    wanted: Detail,
    /// Those that are asked for.
    asked: Vec<u32>,
    /// Until when, and when each was started.
    suspects: FxHashMap<u32, (Moment, u64)>,
    /// How many descriptors each process had when it had the fewest, of those that have many.
    fewest: FxHashMap<u32, usize>,
    /// Of whom detail is asked of the kernel, and when they were started.
    in_detail: FxHashMap<u32, u64>,
    is_all: bool,
    /// Someone has come under suspicion since the kernel was asked last.
    pub is_news: bool,
    has_failed: bool,
}

impl DetailTargets {
    pub fn new(wanted: Detail, asked: Vec<u32>) -> Self {
        Self {
            wanted,
            asked,
            suspects: FxHashMap::default(),
            fewest: FxHashMap::default(),
            in_detail: FxHashMap::default(),
            is_all: false,
            is_news: false,
            has_failed: false,
        }
    }

    /// Something was found of the process.
    pub fn suspect(&mut self, tgid: u32, model: &Model) {
        if self.wanted != Detail::Suspects {
            return;
        }
        if let Some(process) = model.process(tgid)
            && (self.suspects.len() < MAX || self.suspects.contains_key(&tgid))
        {
            let until = Moment(now().0.saturating_add(LONG));
            let before = self.suspects.insert(tgid, (until, process.start_time));
            self.is_news |= before.is_none();
        }
    }

    /// Looks for tables that grow: to twice of what they had been at the least.
    fn suspect_growing(&mut self, model: &Model) {
        if self.wanted != Detail::Suspects {
            return;
        }
        let mut large = FxHashMap::default();
        let mut growing = Vec::new();
        for process in model.processes() {
            let len = model.table_of(process.tgid).map_or(0, Table::len);
            if len < LARGE {
                continue;
            }
            let fewest = self.fewest.get(&process.tgid).copied();
            let fewest = fewest.unwrap_or(len).min(len);
            if len >= fewest * 2 {
                growing.push(process.tgid);
                // It is to double again to be suspected for longer.
                large.insert(process.tgid, len);
            } else {
                large.insert(process.tgid, fewest);
            }
        }
        self.fewest = large;
        for tgid in growing {
            self.suspect(tgid, model);
        }
    }
}

impl Live {
    /// Something was found of the process.
    pub fn suspect(&mut self, tgid: u32) {
        self.suspects.suspect(tgid, &self.engine.model);
    }

    /// Detail is asked of the process, as if it had been asked for from the beginning.
    pub fn ask_detail_of(&mut self, tgid: u32) {
        self.suspects.asked.push(tgid);
        self.suspects.is_news = true;
    }

    /// Looks for tables that grow. Once a second.
    pub fn suspect_growing(&mut self) {
        self.suspects.suspect_growing(&self.engine.model);
    }

    /// Allows some more detail. At each tick.
    pub fn allow_detail(&mut self) {
        if self.suspects.wanted == Detail::Never && self.family.is_none() {
            return;
        }
        let allowed = self.try_to_allow();
        self.do_without(allowed);
    }

    fn try_to_allow(&mut self) -> Result<(), ProbeError> {
        self.probe
            .allow_detail(if self.suspects.is_all || self.family.is_some() {
                u64::MAX
            } else {
                MAX_DETAIL
            })
    }

    /// Asks for detail of those it is wanted of, and of no one else. Once a second, and when
    /// that has changed.
    pub fn ask_for_detail(&mut self) {
        let asked = self.try_to_ask();
        self.do_without(asked);
    }

    /// The kernel may refuse what it took before, as after privileges were lost: then there is no detail,
    /// and all else goes on.
    fn do_without(&mut self, asked: Result<(), ProbeError>) {
        if let Err(error) = asked {
            self.suspects.wanted = Detail::Never;
            if !std::mem::replace(&mut self.suspects.has_failed, true) {
                warn(&format!("{error}; there are no stacks and paths"));
            }
        }
    }

    fn try_to_ask(&mut self) -> Result<(), ProbeError> {
        let is_shed = self.shed.sheds_detail();
        let model = &self.engine.model;
        let suspects = &mut self.suspects;
        suspects.is_news = false;
        let now = now();
        suspects.suspects.retain(|&tgid, &mut (until, start_time)| {
            now < until && model.is_there(tgid, start_time)
        });
        let is_all = suspects.wanted == Detail::All && !is_shed;
        if is_all != suspects.is_all {
            suspects.is_all = is_all;
            self.probe.detail_of_all(is_all)?;
            self.probe.allow_detail(if is_all { u64::MAX } else { 0 })?;
        }
        let mut wanted = FxHashMap::default();
        if suspects.wanted != Detail::Never && !is_shed {
            let asked = suspects.asked.iter();
            wanted.extend(asked.filter_map(|&tgid| {
                let process = model.process(tgid)?;
                Some((tgid, process.start_time))
            }));
            let suspected = suspects.suspects.iter();
            wanted.extend(suspected.map(|(&tgid, &(_, start_time))| (tgid, start_time)));
        }
        if wanted == suspects.in_detail {
            return Ok(());
        }
        for &tgid in suspects.in_detail.keys() {
            if !wanted.contains_key(&tgid) {
                self.probe.detail_of(tgid, false)?;
            }
        }
        for &tgid in wanted.keys() {
            if !suspects.in_detail.contains_key(&tgid)
                && let Err(error) = self.probe.detail_of(tgid, true)
                && !std::mem::replace(&mut suspects.has_failed, true)
            {
                warn(&format!("{error}; there are no stacks and paths"));
            }
        }
        suspects.in_detail = wanted;
        self.try_to_allow()
    }
}
