//! Findings about several processes, double closes, and growing tables.

use rustc_hash::FxHashSet;

use super::{
    investigator::{Investigator, Source},
    lookup::name_of,
};
use crate::proc;
use fdwatch_core::{
    detail::Details,
    diagnose::{Finding, diagnose_double_close, diagnose_shared, is_memory},
    duplicates::{Change, DoubleClose, SharedFile},
    growth,
    growth::{GrowthReport, Pinned},
    model::{FileType, Model, Table},
};

impl Investigator {
    /// Returns the finding to report for `shared`, if any.
    pub fn shared(&mut self, shared: &SharedFile<'_>, model: &Model) -> Option<Finding> {
        if shared.change == Change::Gone {
            let known = self.shared.remove(&shared.id)?;
            return Some(Finding {
                change: Change::Gone,
                fds: Vec::new(),
                others: Vec::new(),
                ..known
            });
        }
        let writers = shared.writers.iter();
        if !writers.clone().any(|it| self.filter.wants_process(it.tgid)) {
            return None;
        }
        let processes = writers
            .clone()
            .map(|writer| Some(self.process(writer.tgid, model)))
            .collect();
        let name = writers.clone().find_map(|writer| {
            let table = model.table(writer.table)?;
            let live = self.source == Source::Live;
            live.then(|| name_of(table, &[writer.fd])).flatten()
        });
        let are_related = writers.clone().any(|one| {
            writers
                .clone()
                .any(|other| one.file != other.file && related(one.tgid, other.tgid, model))
        });
        let finding = diagnose_shared(shared, model, processes, name, are_related)?;
        if !self.filter.wants(&finding) {
            return None;
        }
        self.shared.insert(shared.id, finding.clone());
        Some(finding)
    }

    /// Returns the report of a table that grows or has stopped growing, if it is to be reported.
    pub fn growth(&mut self, event: growth::Event, model: &Model) -> Option<GrowthReport> {
        let (tgid, trend, open) = match event {
            growth::Event::Grows(trend) => (trend.tgid, Some(trend.clone()), trend.open),
            growth::Event::Ended(tgid, open) => (tgid, None, open),
        };
        let is_wanted = trend
            .as_ref()
            .is_none_or(|trend| trend.severity >= self.filter.severity);
        let was_reported = self.growing.contains(&tgid);
        if !self.filter.wants_process(tgid) || !is_wanted || (trend.is_none() && !was_reported) {
            return None;
        }
        let change = match (&trend, was_reported) {
            (None, _) => {
                self.growing.remove(&tgid);
                Change::Gone
            }
            (Some(_), true) => Change::Changed,
            (Some(_), false) => {
                self.growing.insert(tgid);
                Change::Found
            }
        };
        Some(GrowthReport {
            change,
            process: self.process(tgid, model),
            open,
            pinned: model
                .table_of(tgid)
                .map_or_else(Pinned::default, |table| pinned(tgid, table)),
            trend,
        })
    }

    /// Returns the finding to report for `double`, if any.
    pub fn double_close(
        &mut self,
        double: &DoubleClose,
        model: &Model,
        details: &Details,
    ) -> Option<Finding> {
        let tgid = double.again.tgid;
        if !self.filter.wants_process(tgid) {
            return None;
        }
        let stack = |at| details.of_close(at).map(|detail| &detail.stack);
        let stacks = stack(double.first.at).zip(stack(double.again.at));
        let is_elsewhere = stacks.is_some_and(|(first, again)| first != again);
        let process = self.process(tgid, model);
        let table = model.table(double.again.table)?;
        let mut finding = diagnose_double_close(double, process, table.lineage(), is_elsewhere);
        let opened = details.of(double.first.entry.opened);
        finding.file.path = opened
            .and_then(|detail| detail.path.as_deref())
            .filter(|path| path.starts_with(b"/"))
            .map(<[u8]>::to_vec);
        self.filter.wants(&finding).then_some(finding)
    }
}

/// Maximum number of deleted files examined per process.
const MAX_PINNED: usize = 1024;

/// Returns the number of deleted files that a process holds open, and the disk space they use; each
/// counts once.
pub fn pinned(pid: u32, table: &Table) -> Pinned {
    let mut seen = FxHashSet::default();
    let deleted = table.iter().filter(|(_, entry)| {
        entry.was_unlinked()
            && entry.file_type() == FileType::Regular
            && seen.insert(entry.identity())
    });
    let mut pinned = Pinned::default();
    for (fd, _) in deleted.take(MAX_PINNED) {
        let name = proc::name(pid, fd).filter(|name| !is_memory(&name.path));
        if let Some(bytes) = name.and_then(|name| name.pinned) {
            pinned.files += 1;
            pinned.bytes += bytes;
        }
    }
    pinned
}

/// Returns whether two processes belong to one service: parent and child, children of one parent other than
/// process 1, or in one control group other than the root.
fn related(one: u32, other: u32, model: &Model) -> bool {
    let parent = |tgid| {
        let process = model.process(tgid);
        process.map_or(0, |process| process.parent)
    };
    let (parent_of_one, parent_of_other) = (parent(one), parent(other));
    one != other
        && (parent_of_one == other
            || parent_of_other == one
            || (parent_of_one > 1 && parent_of_one == parent_of_other)
            || proc::non_root_cgroup(one)
                .is_some_and(|group| Some(group) == proc::non_root_cgroup(other)))
}
