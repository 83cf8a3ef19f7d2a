//! Finds files that were rotated under a process that still holds them: it has one open for writing
//! that has been renamed or deleted, and what is at its path now as well.
//!
//! Events carry no paths, so that they are asked for, but only those of files that are open for
//! writing and stay so. Who is asked is handed in: this does no I/O.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::Change;
use crate::{
    model::{FdEntry, FileType, Identity, Model, Moment, Table, TableId},
    shrink,
};

/// How long a descriptor must be open for its path to be asked for: nanoseconds. Most are not.
const SETTLED_AFTER: u64 = 200_000_000;

/// Paths asked for at once.
const MAX_ASKED: usize = 512;

/// Descriptors that wait to be looked at; more than these are passed over.
const MAX_WAITING: usize = 1 << 17;

/// Files open for writing in one table that are looked at; more than these are passed over.
const MAX_HELD: usize = 1024;

/// The path of a file, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Bytes of it.
    pub bytes: Vec<u8>,
    /// Whether it leads nowhere any more.
    pub deleted: bool,
}

/// A file that was rotated, and what is at its path now.
#[derive(Clone, Copy, Debug)]
pub struct Rotation<'a> {
    /// Number of it, to know it again by.
    pub id: u64,
    /// What happened to it.
    pub change: Change,
    /// The process that has held the table the longest.
    pub tgid: u32,
    /// The table; none if the process has ended.
    pub table: Option<&'a Table>,
    /// The file that was rotated.
    pub old: Identity,
    /// The file that is at its path now.
    pub new: Identity,
    /// When that was seen.
    pub since: Moment,
}

/// A descriptor whose path is to be asked for.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    table: TableId,
    address: u64,
    fd: u32,
    file: u64,
    born: Moment,
}

/// A descriptor that is open for writing, and the path it was opened by.
#[derive(Clone, Debug)]
struct Held {
    fd: u32,
    file: u64,
    identity: Identity,
    path: Path,
    /// Whether it was there before its opening could be seen, so that it may have been renamed
    /// before.
    is_old: bool,
}

#[derive(Clone, Copy, Debug)]
struct Pair {
    id: u64,
    table: TableId,
    address: u64,
    tgid: u32,
    old: Identity,
    new: Identity,
    since: Moment,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Rotations {
    waiting: VecDeque<Waiting>,
    held: FxHashMap<TableId, Vec<Held>>,
    pairs: Vec<Pair>,
}

impl Rotations {
    /// A descriptor was made, or is there.
    pub(super) fn born(&mut self, table: &Table, fd: u32, slot: &FdEntry) {
        if slot.file_type() != FileType::Regular
            || !slot.access().writes()
            || slot.is_temporary()
            || self.waiting.len() >= MAX_WAITING
        {
            return;
        }
        self.waiting.push_back(Waiting {
            table: table.id(),
            address: table.address(),
            fd,
            file: slot.file,
            born: slot.born,
        });
    }

    pub(super) fn gone(&mut self, table: &Table) {
        self.held.remove(&table.id());
    }

    /// Tells `judge` what has changed since the last time, after asking `path_of` for the paths of
    /// what is new: of the descriptor of a process. `written` is told what stays open for writing.
    pub(super) fn sweep(
        &mut self,
        model: &Model,
        now: Moment,
        next_id: &mut u64,
        path_of: &mut impl FnMut(u32, u32, &FdEntry) -> Option<Path>,
        written: &mut impl FnMut(Identity),
        judge: &mut impl FnMut(&Rotation<'_>, &Model),
    ) {
        self.pairs.retain(|pair| {
            let table = table(model, pair.address, pair.table);
            let is_open = |identity| table.is_some_and(|table| is_written(table, identity));
            let stays = is_open(pair.old) && is_open(pair.new);
            if !stays {
                judge(&pair.rotation(Change::Gone, table), model);
            }
            stays
        });
        shrink::of_queue(&mut self.waiting);
        let mut asked = 0;
        while let Some(&waiting) = self.waiting.front() {
            if asked == MAX_ASKED || now.since(waiting.born) < SETTLED_AFTER {
                break;
            }
            self.waiting.pop_front();
            let Some(table) = table(model, waiting.address, waiting.table) else {
                continue;
            };
            let slot = table.get(waiting.fd);
            let Some(slot) = slot.filter(|slot| slot.file == waiting.file) else {
                continue;
            };
            written(slot.identity());
            // One alone has nothing to be compared with, but will have.
            let holder = table.holders().first().copied();
            let Some(holder) = holder else { continue };
            asked += 1;
            let Some(path) = path_of(holder.tid, waiting.fd, slot) else {
                continue;
            };
            let held = self.held.entry(waiting.table).or_default();
            held.retain(|held| is_still_open(table, held));
            if held.len() >= MAX_HELD || held.iter().any(|held| held.file == slot.file) {
                continue;
            }
            let new = Held {
                fd: waiting.fd,
                file: slot.file,
                identity: slot.identity(),
                path,
                is_old: slot.is_from_snapshot(),
            };
            let rotated = held.iter().find_map(|other| rotated(other, &new));
            if let Some((old, new)) = rotated {
                let known = self.pairs.iter();
                let mut known = known.filter(|pair| pair.table == waiting.table);
                if !known.any(|pair| pair.old == old && pair.new == new) {
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
                    judge(&pair.rotation(Change::Found, Some(table)), model);
                    self.pairs.push(pair);
                }
            }
            held.push(new);
        }
    }
}

impl Pair {
    fn rotation<'a>(&self, change: Change, table: Option<&'a Table>) -> Rotation<'a> {
        Rotation {
            id: self.id,
            change,
            tgid: self.tgid,
            table,
            old: self.old,
            new: self.new,
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
        .is_some_and(|slot| slot.file == held.file)
}

fn is_written(table: &Table, identity: Identity) -> bool {
    table
        .iter()
        .any(|(_, slot)| slot.identity() == identity && slot.access().writes())
}

/// The older and the newer of both, if one is what the other was before it was rotated.
fn rotated(one: &Held, other: &Held) -> Option<(Identity, Identity)> {
    if one.identity == other.identity {
        return None;
    }
    let (first, second) = (one.identity, other.identity);
    if one.path.bytes == other.path.bytes {
        // Opened by one path, which leads to the one that was opened last, unless that is told to
        // be deleted.
        return Some(if other.path.deleted && !one.path.deleted {
            (second, first)
        } else {
            (first, second)
        });
    }
    // What was there before may have been renamed before: a rotated file's name tells.
    if one.is_old && is_rotated_name(&one.path.bytes, &other.path.bytes) {
        return Some((first, second));
    }
    if other.is_old && is_rotated_name(&other.path.bytes, &one.path.bytes) {
        return Some((second, first));
    }
    None
}

/// Whether `old` is `new` with what rotation appends: a number, a date, or a word for old.
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
    fn rotated_names_are_known() {
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
    fn the_deleted_one_of_two_is_the_old_one() {
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
        let numbers = |pair: Option<(Identity, Identity)>| pair.map(|(a, b)| (a.number, b.number));
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
