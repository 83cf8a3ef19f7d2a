//! Detects files that several processes write through their own descriptions, which no single
//! table shows.
//!
//! Only files that stay open for writing are considered, and only when a new one appears: then all
//! tables are searched once. A file is reported if two searches find it.

use rustc_hash::{FxHashMap, FxHashSet};

use super::change::Change;
use crate::model::{Identity, Model, Moment, Table};

/// Minimum time between searches: nanoseconds.
const MIN_INTERVAL: u64 = 5_000_000_000;

/// Additional time between searches per open descriptor, which limits them to about 0.01 % of a
/// CPU: nanoseconds.
const INTERVAL_PER_FD: u64 = 100_000;

/// Maximum number of files in each state; further ones are skipped.
const MAX_FILES: usize = 4096;

/// Maximum number of reported files, and of those with the same first writer; further ones are skipped.
const MAX_KNOWN: usize = 512;
const MAX_KNOWN_OF_PROCESS: usize = 16;

/// Maximum number of files that one search reports. The rest follows with the next one.
const MAX_REPORTS: usize = 32;

/// Maximum number of processes listed per file.
const MAX_WRITERS: usize = 16;

/// A process that writes a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer {
    /// Its number.
    pub tgid: u32,
    /// Address of its table.
    pub table: u64,
    /// Its descriptor.
    pub fd: u32,
    /// Address of the description.
    pub file: u64,
}

/// A file that several processes write.
#[derive(Clone, Copy, Debug)]
pub struct SharedFile<'a> {
    /// Its ID.
    pub id: u64,
    /// What happened to it: found, or gone.
    pub change: Change,
    /// The file.
    pub identity: Identity,
    /// Its writers, at least one per description.
    pub writers: &'a [Writer],
}

/// State of the detection: files wait for a search, are found by one, or are known.
#[derive(Debug, Default)]
pub(super) struct SharedFiles {
    pending: FxHashSet<Identity>,
    suspected: FxHashSet<Identity>,
    known: FxHashMap<Identity, (u64, Vec<Writer>)>,
    last_search: Moment,
}

impl SharedFiles {
    /// Queues a file that has been open for writing for a while.
    pub(super) fn written(&mut self, identity: Identity) {
        if self.pending.len() < MAX_FILES {
            self.pending.insert(identity);
        }
    }

    /// Passes changes to `report`, if it is time to search.
    pub(super) fn search(
        &mut self,
        model: &Model,
        now: Moment,
        next_id: &mut u64,
        report: &mut impl FnMut(&SharedFile<'_>, &Model),
    ) {
        if self.pending.is_empty() && self.suspected.is_empty() && self.known.is_empty() {
            return;
        }
        let descriptors: usize = model.tables().map(Table::len).sum();
        let wait =
            MIN_INTERVAL.saturating_add((descriptors as u64).saturating_mul(INTERVAL_PER_FD));
        if now.since(self.last_search) < wait {
            return;
        }
        self.last_search = now;
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
                report(&shared, model);
            }
        }
        let before = std::mem::take(&mut self.suspected);
        self.pending.clear();
        writers.retain(|identity, found| !self.known.contains_key(identity) && is_shared(found));
        let mut reports = 0;
        for (identity, writers) in writers {
            let first = writers.first().map(|writer| writer.tgid);
            let known = self.known.values();
            let of_process = known.filter(|(_, known)| known.first().map(|it| it.tgid) == first);
            if !before.contains(&identity) || reports == MAX_REPORTS {
                self.suspected.insert(identity);
            } else if self.known.len() < MAX_KNOWN && of_process.count() < MAX_KNOWN_OF_PROCESS {
                reports += 1;
                *next_id += 1;
                let shared = SharedFile {
                    id: *next_id,
                    change: Change::Found,
                    identity,
                    writers: &writers,
                };
                report(&shared, model);
                self.known.insert(identity, (*next_id, writers));
            }
        }
    }

    /// Returns the writers of the given files, by one pass over each table. Skips tables with several
    /// descriptions of a file: these are duplicates.
    fn writers(&self, model: &Model) -> FxHashMap<Identity, Vec<Writer>> {
        let known = self.known.keys();
        let files: FxHashSet<Identity> = (self.pending.iter())
            .chain(&self.suspected)
            .chain(known)
            .copied()
            .collect();
        let mut writers: FxHashMap<Identity, Vec<Writer>> = FxHashMap::default();
        let mut uses: FxHashMap<Identity, Use> = FxHashMap::default();
        for table in model.tables() {
            let Some(holder) = table.holders().first() else {
                continue;
            };
            for (fd, entry) in table.iter() {
                let identity = entry.identity();
                if files.contains(&identity) {
                    let file = entry.file;
                    let it = uses.entry(identity).or_insert(Use {
                        file,
                        writes: None,
                        has_other: false,
                    });
                    it.has_other |= it.file != file;
                    if it.writes.is_none() && entry.access().writes() {
                        it.writes = Some(fd);
                    }
                }
            }
            for (identity, it) in uses.drain() {
                let Some(fd) = it.writes.filter(|_| !it.has_other) else {
                    continue;
                };
                let found = writers.entry(identity).or_default();
                let is_new = found.iter().all(|known| known.file != it.file);
                // Half of the list is reserved for further descriptions.
                if found.len() < MAX_WRITERS && (is_new || found.len() < MAX_WRITERS / 2) {
                    found.push(Writer {
                        tgid: holder.tgid,
                        table: table.address(),
                        fd,
                        file: it.file,
                    });
                }
            }
        }
        writers
    }
}

/// How a table uses a file.
#[derive(Clone, Copy, Debug)]
struct Use {
    /// Address of the first description.
    file: u64,
    /// The first descriptor that can write.
    writes: Option<u32>,
    /// Whether there is another description.
    has_other: bool,
}

/// Returns whether two processes have their own descriptions.
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

    /// Searches after some time, and returns the reported changes with the writers.
    fn search_later(files: &mut SharedFiles, host: &mut Host) -> Vec<(Change, Vec<u32>)> {
        let mut reports = Vec::new();
        host.pass(2 * MIN_INTERVAL);
        files.search(&host.model, host.now(), &mut 0, &mut |shared, _| {
            let mut writers: Vec<_> = shared.writers.iter().map(|it| it.tgid).collect();
            writers.sort_unstable();
            reports.push((shared.change, writers));
        });
        reports
    }

    fn identity() -> Identity {
        Identity {
            number: LOG,
            dev: 0,
            end: 0,
        }
    }

    #[test]
    fn separate_writers_are_found_by_second_search() {
        let mut host = Host::new();
        let mut files = SharedFiles::default();
        host.open(1, 3, 100, O_WRONLY);
        host.open(2, 3, 101, O_WRONLY);
        host.open(3, 3, 102, 0);
        files.written(identity());
        assert_eq!(search_later(&mut files, &mut host), []);
        assert_eq!(
            search_later(&mut files, &mut host),
            [(Change::Found, vec![1, 2])]
        );
        assert_eq!(search_later(&mut files, &mut host), []);
        host.close(2, 3);
        assert_eq!(
            search_later(&mut files, &mut host),
            [(Change::Gone, vec![1, 2])]
        );
        assert_eq!(search_later(&mut files, &mut host), []);
        assert!(files.known.is_empty() && files.suspected.is_empty());
    }

    #[test]
    fn inherited_description_is_not_shared_file() {
        let mut host = Host::new();
        let mut files = SharedFiles::default();
        host.open(1, 3, 100, O_WRONLY);
        host.fork(1, 2);
        files.written(identity());
        assert_eq!(search_later(&mut files, &mut host), []);
        assert_eq!(search_later(&mut files, &mut host), []);
        // That makes it a duplicate of the child.
        host.open(2, 4, 101, O_WRONLY);
        files.written(identity());
        assert_eq!(search_later(&mut files, &mut host), []);
        assert_eq!(search_later(&mut files, &mut host), []);
    }
}
