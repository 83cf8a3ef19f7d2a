//! Finds files that several processes write, each through a description of its own: what none of their
//! tables shows alone.
//!
//! Only files that are open for writing for a while are looked at, and only when another came to be
//! so: then all tables are gone through once. What is seen twice is told. Whether the processes have
//! to do with each other is not known here.

use rustc_hash::{FxHashMap, FxHashSet};

use super::Change;
use crate::model::{Identity, Model, Moment};

/// Looks are so far apart, at the least: nanoseconds.
const EVERY: u64 = 5_000_000_000;

/// And further by this for each descriptor there is: so that looking takes a ten-thousandth of a
/// processor or less.
const EVERY_FOR_EACH: u64 = 100_000;

/// Files that wait to be looked at, are suspected, or are known; others are passed over.
const MAX: usize = 4096;

/// Processes that are named of one file.
const MAX_WRITERS: usize = 16;

/// A process that writes the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer {
    /// Its number.
    pub tgid: u32,
    /// Address of its table.
    pub table: u64,
    /// Its descriptor.
    pub fd: u32,
    /// The description.
    pub file: u64,
}

/// A file that several processes write.
#[derive(Clone, Copy, Debug)]
pub struct SharedFile<'a> {
    /// Number of it, to know it again by.
    pub id: u64,
    /// What happened to it: found, or gone.
    pub change: Change,
    /// The file.
    pub identity: Identity,
    /// Who writes it: of each description one, or more.
    pub writers: &'a [Writer],
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct SharedFiles {
    pending: FxHashSet<Identity>,
    suspected: FxHashSet<Identity>,
    known: FxHashMap<Identity, (u64, Vec<Writer>)>,
    looked: Moment,
}

impl SharedFiles {
    /// The file has been open for writing for a while.
    pub(super) fn written(&mut self, identity: Identity) {
        if self.pending.len() < MAX {
            self.pending.insert(identity);
        }
    }

    /// Tells `judge` what has changed, if it is time to look.
    pub(super) fn look(
        &mut self,
        model: &Model,
        now: Moment,
        next_id: &mut u64,
        judge: &mut impl FnMut(&SharedFile<'_>, &Model),
    ) {
        if self.pending.is_empty() && self.suspected.is_empty() && self.known.is_empty() {
            return;
        }
        let descriptors: usize = model.tables().map(super::Table::len).sum();
        let wait = EVERY.saturating_add((descriptors as u64).saturating_mul(EVERY_FOR_EACH));
        if now.since(self.looked) < wait {
            return;
        }
        self.looked = now;
        let mut writers = self.writers(model);
        let known: Vec<_> = self.known.keys().copied().collect();
        for identity in known {
            if !writers.get(&identity).is_some_and(|found| is_shared(found))
                && let Some((id, writers)) = self.known.remove(&identity)
            {
                let shared = SharedFile {
                    id,
                    change: Change::Gone,
                    identity,
                    writers: &writers,
                };
                judge(&shared, model);
            }
        }
        let before = std::mem::take(&mut self.suspected);
        self.pending.clear();
        writers.retain(|identity, found| !self.known.contains_key(identity) && is_shared(found));
        for (identity, writers) in writers {
            if !before.contains(&identity) {
                self.suspected.insert(identity);
            } else if self.known.len() < MAX {
                *next_id += 1;
                let shared = SharedFile {
                    id: *next_id,
                    change: Change::Found,
                    identity,
                    writers: &writers,
                };
                judge(&shared, model);
                self.known.insert(identity, (*next_id, writers));
            }
        }
    }

    /// Who writes the files in question: of tables that have one description of them, for others are
    /// duplicates of their own.
    fn writers(&self, model: &Model) -> FxHashMap<Identity, Vec<Writer>> {
        let mut writers: FxHashMap<Identity, Vec<Writer>> = FxHashMap::default();
        for table in model.tables() {
            let Some(holder) = table.holders().first() else {
                continue;
            };
            for (fd, slot) in table.iter().filter(|(_, slot)| slot.access().writes()) {
                let identity = slot.identity();
                if !self.pending.contains(&identity)
                    && !self.suspected.contains(&identity)
                    && !self.known.contains_key(&identity)
                {
                    continue;
                }
                let found = writers.entry(identity).or_default();
                let has_other = table
                    .on_file(identity)
                    .any(|other| table.get(other).is_some_and(|it| it.file != slot.file));
                let is_named = found.iter().any(|it| it.table == table.address());
                let is_new = found.iter().all(|it| it.file != slot.file);
                // Of each description the first, whoever comes after.
                if !has_other && !is_named && (is_new || found.len() < MAX_WRITERS / 2) {
                    found.push(Writer {
                        tgid: holder.tgid,
                        table: table.address(),
                        fd,
                        file: slot.file,
                    });
                    found.truncate(MAX_WRITERS);
                }
            }
        }
        writers
    }
}

/// Whether there are two descriptions, of two processes.
fn is_shared(writers: &[Writer]) -> bool {
    writers.iter().any(|one| {
        let mut others = writers.iter();
        others.any(|other| one.file != other.file && one.tgid != other.tgid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated_host::{Host, LOG, O_WRONLY};

    /// What is told by a look some time later: changes, and who writes.
    fn look(files: &mut SharedFiles, host: &mut Host) -> Vec<(Change, Vec<u32>)> {
        let mut told = Vec::new();
        host.pass(2 * EVERY);
        files.look(&host.model, host.now(), &mut 0, &mut |shared, _| {
            let mut writers: Vec<_> = shared.writers.iter().map(|it| it.tgid).collect();
            writers.sort_unstable();
            told.push((shared.change, writers));
        });
        told
    }

    fn identity() -> Identity {
        Identity {
            number: LOG,
            dev: 0,
            end: 0,
        }
    }

    #[test]
    fn two_processes_with_descriptions_of_their_own_are_told_when_they_stay() {
        let mut host = Host::new();
        let mut files = SharedFiles::default();
        host.open(1, 3, 100, O_WRONLY);
        host.open(2, 3, 101, O_WRONLY);
        host.open(3, 3, 102, 0);
        files.written(identity());
        assert_eq!(look(&mut files, &mut host), []);
        assert_eq!(look(&mut files, &mut host), [(Change::Found, vec![1, 2])]);
        assert_eq!(look(&mut files, &mut host), []);
        host.close(2, 3);
        assert_eq!(look(&mut files, &mut host), [(Change::Gone, vec![1, 2])]);
        assert_eq!(look(&mut files, &mut host), []);
        assert!(files.known.is_empty() && files.suspected.is_empty());
    }

    #[test]
    fn one_description_that_children_have_as_well_is_not_shared_so() {
        let mut host = Host::new();
        let mut files = SharedFiles::default();
        host.open(1, 3, 100, O_WRONLY);
        host.fork(1, 2);
        files.written(identity());
        assert_eq!(look(&mut files, &mut host), []);
        assert_eq!(look(&mut files, &mut host), []);
        // That is a duplicate of the child.
        host.open(2, 4, 101, O_WRONLY);
        files.written(identity());
        assert_eq!(look(&mut files, &mut host), []);
        assert_eq!(look(&mut files, &mut host), []);
    }
}
