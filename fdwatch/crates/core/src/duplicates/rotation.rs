//! Detects files that were rotated while open: a process has a renamed or deleted file open for
//! writing, and also the file that is now at its path.
//!
//! Events carry no paths. They are looked up through a callback, and only for files that stay open
//! for writing.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::{change::Change, queue::FairQueue};
use crate::{
    model::{FdEntry, FileType, Identity, Model, Moment, Table, TableId},
    shrink,
};

/// Minimum time that a descriptor is open before its path is looked up: nanoseconds. Excludes most
/// descriptors.
const SETTLED_AFTER: u64 = 200_000_000;

/// Maximum number of lookups per sweep.
const MAX_LOOKUPS: usize = 512;

/// Maximum number of new descriptors, and of those waiting for a lookup; further ones are skipped and
/// counted.
const MAX_WAITING: usize = 1 << 17;

/// Descriptors of a table that may wait for a lookup whatever others have.
const MIN_WAITING: usize = 64;

/// Maximum number of files per table; further ones are skipped and counted.
const MAX_FILES: usize = 1024;

/// Maximum number of files of all tables, before each is limited to [`MIN_FILES`].
const MAX_ALL_FILES: usize = 8192;

/// Files that a table may always have.
const MIN_FILES: usize = 16;

/// Maximum number of rotated files, before each table is limited to [`MIN_PAIRS`].
const MAX_PAIRS: usize = 1024;

/// Rotated files that a table may always have.
const MIN_PAIRS: usize = 4;

/// The current path of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether the file is no longer at that path.
    pub deleted: bool,
}

/// A rotated file, and the file at its path now.
#[derive(Clone, Copy, Debug)]
pub struct Rotation<'a> {
    /// Its ID.
    pub id: u64,
    /// What happened to it.
    pub change: Change,
    /// The longest-standing holder of the table.
    pub tgid: u32,
    /// The table; none if the process has ended.
    pub table: Option<&'a Table>,
    /// The rotated file.
    pub old: Identity,
    /// The file at its path now.
    pub new: Identity,
    /// When the rotation was detected.
    pub since: Moment,
}

/// A descriptor whose path is to be looked up.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    table: TableId,
    address: u64,
    fd: u32,
    file: u64,
    opened: Moment,
}

/// A descriptor that is open for writing, with the path it was opened by.
#[derive(Clone, Debug)]
struct Held {
    fd: u32,
    file: u64,
    identity: Identity,
    path: Path,
    /// Whether it was open before fdwatch saw events; then it may have been renamed before the
    /// lookup.
    is_old: bool,
}

#[derive(Clone, Copy, Debug)]
struct Pair {
    id: u64,
    table: TableId,
    address: u64,
    tgid: u32,
    old: Written,
    new: Written,
    since: Moment,
}

/// A file that is open for writing, and a descriptor that shows that.
#[derive(Clone, Copy, Debug)]
struct Written {
    identity: Identity,
    fd: u32,
}

/// State of the detection.
#[derive(Debug, Default)]
pub(super) struct Rotations {
    /// Descriptors that were opened a moment ago.
    young: VecDeque<Waiting>,
    /// Descriptors whose path is to be looked up; tables take turns.
    waiting: FairQueue<TableId, Waiting>,
    /// Descriptors that were skipped.
    skipped: u64,
    held: FxHashMap<TableId, Vec<Held>>,
    pairs: Vec<Pair>,
}

impl Rotations {
    /// Queues a descriptor that was opened or found.
    pub(super) fn opened(&mut self, table: &Table, fd: u32, entry: &FdEntry) {
        if entry.file_type() != FileType::Regular
            || !entry.access().writes()
            || entry.is_temporary()
        {
            return;
        }
        if self.young.len() >= MAX_WAITING {
            self.skipped += 1;
            return;
        }
        self.young.push_back(Waiting {
            table: table.id(),
            address: table.address(),
            fd,
            file: entry.file,
            opened: entry.opened,
        });
    }

    pub(super) fn table_dropped(&mut self, table: &Table) {
        self.held.remove(&table.id());
    }

    /// Passes changes since the last call to `report`. `path_of` looks up the path of a process's
    /// descriptor. `written` receives files that stay open for writing.
    pub(super) fn sweep(
        &mut self,
        model: &Model,
        now: Moment,
        next_id: &mut u64,
        path_of: &mut impl FnMut(u32, u32, &FdEntry) -> Option<Path>,
        written: &mut impl FnMut(Identity),
        report: &mut impl FnMut(&Rotation<'_>, &Model),
    ) {
        self.pairs.retain_mut(|pair| {
            let table = table(model, pair.address, pair.table);
            let stays =
                table.is_some_and(|table| pair.old.is_open(table) && pair.new.is_open(table));
            if !stays {
                report(&pair.rotation(Change::Gone, table), model);
            }
            stays
        });
        self.queue_settled(model, now);
        let mut all_files: usize = self.held.values().map(Vec::len).sum();
        for _ in 0..MAX_LOOKUPS {
            let Some(waiting) = self.waiting.pop() else {
                break;
            };
            let Some((table, entry)) = waiting.entry(model) else {
                continue;
            };
            written(entry.identity());
            // The path of a single file is looked up as well, for comparisons with later ones.
            let holder = table.holders().first().copied();
            let Some(holder) = holder else { continue };
            let Some(path) = path_of(holder.tid, waiting.fd, entry) else {
                continue;
            };
            let held = self.held.entry(waiting.table).or_default();
            held.retain(|held| is_still_open(table, held));
            if held.iter().any(|held| held.file == entry.file) {
                continue;
            }
            let max = if all_files < MAX_ALL_FILES {
                MAX_FILES
            } else {
                MIN_FILES
            };
            if held.len() >= max {
                self.skipped += 1;
                continue;
            }
            let new = Held {
                fd: waiting.fd,
                file: entry.file,
                identity: entry.identity(),
                path,
                is_old: entry.is_from_snapshot(),
            };
            let rotated = held.iter().find_map(|other| rotated(other, &new));
            if let Some((old, new)) = rotated {
                let known = self.pairs.iter();
                let known = known.filter(|pair| pair.table == waiting.table);
                let is_known = known.clone().any(|pair| {
                    (pair.old.identity, pair.new.identity) == (old.identity, new.identity)
                });
                if self.pairs.len() >= MAX_PAIRS && known.count() >= MIN_PAIRS {
                    self.skipped += 1;
                } else if !is_known {
                    *next_id += 1;
                    let pair = Pair {
                        id: *next_id,
                        table: waiting.table,
                        address: waiting.address,
                        tgid: holder.tgid,
                        old,
                        new,
                        since: now,
                    };
                    report(&pair.rotation(Change::Found, Some(table)), model);
                    self.pairs.push(pair);
                }
            }
            held.push(new);
            all_files += 1;
        }
    }

    /// Returns the number of descriptors that were skipped, because there were too many.
    pub(super) const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Queues descriptors that have stayed open for a while.
    fn queue_settled(&mut self, model: &Model, now: Moment) {
        while let Some(young) = self.young.front()
            && now.since(young.opened) >= SETTLED_AFTER
        {
            let young = *young;
            self.young.pop_front();
            if young.entry(model).is_none() {
                continue;
            }
            if self.waiting.len() >= MAX_WAITING
                && self.waiting.len_of(0, &young.table) >= MIN_WAITING
            {
                self.skipped += 1;
            } else {
                self.waiting.push(0, young.table, young);
            }
        }
        shrink::of_queue(&mut self.young);
    }
}

impl Waiting {
    /// Returns the table and the entry, if the descriptor is still open.
    fn entry<'a>(&self, model: &'a Model) -> Option<(&'a Table, &'a FdEntry)> {
        let table = table(model, self.address, self.table)?;
        let entry = table.get(self.fd).filter(|entry| entry.file == self.file)?;
        Some((table, entry))
    }
}

impl Written {
    /// Returns whether the file is still open for writing. Searches the table only if the known
    /// descriptor was closed.
    fn is_open(&mut self, table: &Table) -> bool {
        let is_written =
            |entry: &FdEntry| entry.identity() == self.identity && entry.access().writes();
        if table.get(self.fd).is_some_and(is_written) {
            return true;
        }
        let other = table.iter().find(|(_, entry)| is_written(entry));
        if let Some((fd, _)) = other {
            self.fd = fd;
        }
        other.is_some()
    }
}

impl Pair {
    fn rotation<'a>(&self, change: Change, table: Option<&'a Table>) -> Rotation<'a> {
        Rotation {
            id: self.id,
            change,
            tgid: self.tgid,
            table,
            old: self.old.identity,
            new: self.new.identity,
            since: self.since,
        }
    }
}

fn table(model: &Model, address: u64, id: TableId) -> Option<&Table> {
    model.table(address).filter(|table| table.id() == id)
}

fn is_still_open(table: &Table, held: &Held) -> bool {
    table
        .get(held.fd)
        .is_some_and(|entry| entry.file == held.file)
}

/// Returns the older and the newer file, if one was rotated and replaced by the other.
fn rotated(one: &Held, other: &Held) -> Option<(Written, Written)> {
    if one.identity == other.identity {
        return None;
    }
    let [first, second] = [one, other].map(|held| Written {
        identity: held.identity,
        fd: held.fd,
    });
    if one.path.bytes == other.path.bytes {
        // Both were opened by the same path, which leads to the one opened last, unless that is the
        // deleted one.
        return Some(if other.path.deleted && !one.path.deleted {
            (second, first)
        } else {
            (first, second)
        });
    }
    // A file that was open before fdwatch started may have been renamed before; its name shows that.
    if one.is_old && is_rotated_name(&one.path.bytes, &other.path.bytes) {
        return Some((first, second));
    }
    if other.is_old && is_rotated_name(&other.path.bytes, &one.path.bytes) {
        return Some((second, first));
    }
    None
}

/// Returns whether `old` is `new` with a suffix that rotation appends: a number, a date, or a word
/// such as `old`.
fn is_rotated_name(old: &[u8], new: &[u8]) -> bool {
    let Some(rest) = old.strip_prefix(new) else {
        return false;
    };
    let rest = rest.strip_suffix(b".gz").unwrap_or(rest);
    match rest {
        b"~" => true,
        [b'.' | b'-' | b'_', suffix @ ..] => {
            let words: [&[u8]; 4] = [b"old", b"bak", b"prev", b"rotated"];
            let is_number = suffix
                .iter()
                .all(|byte| byte.is_ascii_digit() || b"-_T:.Z".contains(byte));
            words.contains(&suffix) || (is_number && suffix.first().is_some_and(u8::is_ascii_digit))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_suffixes_are_recognized() {
        let is_rotated = |old: &str| is_rotated_name(old.as_bytes(), b"/var/log/x.log");
        for old in [
            "x.log.1",
            "x.log-20261123",
            "x.log.2.gz",
            "x.log.old",
            "x.log~",
        ] {
            assert!(is_rotated(&format!("/var/log/{old}")), "{old}");
        }
        for other in [
            "x.log",
            "x.log.err",
            "x.logs",
            "x.log.",
            "y.log.1",
            "x.log.1x",
        ] {
            assert!(!is_rotated(&format!("/var/log/{other}")), "{other}");
        }
    }

    #[test]
    fn deleted_file_is_the_old_one() {
        let held = |number, deleted| Held {
            fd: 3,
            file: number,
            identity: Identity {
                number,
                dev: 1,
                end: 0,
            },
            path: Path {
                bytes: b"/x".to_vec(),
                deleted,
            },
            is_old: true,
        };
        let numbers = |pair: Option<(Written, Written)>| {
            pair.map(|(a, b)| (a.identity.number, b.identity.number))
        };
        assert_eq!(
            numbers(rotated(&held(1, false), &held(2, true))),
            Some((2, 1))
        );
        assert_eq!(
            numbers(rotated(&held(1, true), &held(2, false))),
            Some((1, 2))
        );
        assert_eq!(
            numbers(rotated(&held(1, false), &held(2, false))),
            Some((1, 2))
        );
        assert_eq!(numbers(rotated(&held(1, false), &held(1, true))), None);
    }
}
