//! A descriptor table.

use std::sync::Arc;

use super::{
    chunks::{CHUNK, Chunks},
    fd_entry::{FdEntry, Identity},
    index::{Index, OnFile},
    lineage::Lineage,
    moment::Moment,
};

/// Tables with more descriptors than this get an index by file. In smaller ones a linear search is
/// as fast.
const INDEXED_FROM: usize = 64;

/// Identity of a table in the model. Unlike its address, it is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u64);

/// A thread with its own table, or a process whose threads share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub tgid: u32,
    /// The thread; equal to `tgid` unless the table is a single thread's own.
    pub tid: u32,
}

/// A descriptor table.
#[derive(Clone, Debug)]
pub struct Table {
    id: TableId,
    address: u64,
    holders: Vec<Holder>,
    chunks: Arc<Chunks>,
    open: usize,
    /// Descriptors per file, in large tables.
    index: Option<Index>,
    /// When it was copied from another table. Older descriptors came from there.
    pub(super) forked: Moment,
    /// When its process last ran another program. Older descriptors stayed open across exec.
    pub(super) execed: Moment,
    pub(super) lineage: Lineage,
}

impl Table {
    pub(super) fn new(id: TableId, address: u64, holder: Holder) -> Self {
        Self {
            id,
            address,
            holders: vec![holder],
            chunks: Arc::default(),
            open: 0,
            index: None,
            forked: Moment(0),
            execed: Moment(0),
            lineage: Lineage::default(),
        }
    }

    /// Returns a copy for `holder`. It shares all chunks until either side changes one.
    pub(super) fn fork(&self, id: TableId, address: u64, holder: Holder, at: Moment) -> Self {
        Self {
            id,
            address,
            holders: vec![holder],
            chunks: Arc::clone(&self.chunks),
            open: self.open,
            index: None,
            forked: at,
            execed: self.execed,
            lineage: self.lineage.clone(),
        }
    }

    /// Returns a copy for `holder`, whose process stops sharing this table. Its descriptors do not
    /// become inherited by that.
    pub(super) fn unshare(&self, id: TableId, address: u64, holder: Holder) -> Self {
        self.fork(id, address, holder, self.forked)
    }

    /// Returns its identity.
    #[must_use]
    pub const fn id(&self) -> TableId {
        self.id
    }

    /// Returns its address in the kernel.
    #[must_use]
    pub const fn address(&self) -> u64 {
        self.address
    }

    /// Returns the forks and execs that led to this table.
    #[must_use]
    pub const fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// Returns its holders, the longest-standing first.
    #[must_use]
    pub fn holders(&self) -> &[Holder] {
        &self.holders
    }

    pub(super) fn add_holder(&mut self, holder: Holder) {
        if !self.holders.contains(&holder) {
            self.holders.push(holder);
        }
    }

    /// Removes a holder and returns whether any is left.
    pub(super) fn remove_holder(&mut self, holder: Holder) -> bool {
        self.holders.retain(|&held| held != holder);
        !self.holders.is_empty()
    }

    /// Returns the number of open descriptors.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.open
    }

    /// Returns whether no descriptor is open.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Returns the entry of `fd`, if it is open.
    #[must_use]
    pub fn get(&self, fd: u32) -> Option<&FdEntry> {
        let (chunk, i) = place(fd);
        let chunk = self.chunks.get(chunk)?;
        (chunk.open >> i & 1 != 0).then(|| &chunk.entries[i])
    }

    /// Iterates over the open descriptors, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &FdEntry)> {
        let chunks = self.chunks.iter_from(0);
        chunks.flat_map(|(place, chunk)| chunk.open(place))
    }

    /// Iterates over the open descriptors from `first` to below `end`, in order.
    pub(crate) fn range(&self, first: u32, end: u32) -> impl Iterator<Item = (u32, &FdEntry)> {
        let chunks = self.chunks.iter_from(first / CHUNK);
        chunks
            .take_while(move |(place, _)| *place < end.div_ceil(CHUNK))
            .flat_map(|(place, chunk)| chunk.open(place))
            .filter(move |&(fd, _)| fd >= first && fd < end)
    }

    /// Opens `fd` and returns the entry it replaces.
    pub(super) fn insert(&mut self, fd: u32, entry: FdEntry) -> Option<FdEntry> {
        let (place, i) = place(fd);
        let chunk = Arc::make_mut(&mut self.chunks).get_or_insert(place);
        let before = (chunk.open >> i & 1 != 0).then(|| chunk.entries[i]);
        chunk.open |= 1 << i;
        chunk.entries[i] = entry;
        if before.is_none() {
            self.open += 1;
        }
        if let Some(index) = &mut self.index {
            if let Some(before) = before {
                index.remove(fd, before.identity());
            }
            index.add(fd, entry.identity());
        }
        before
    }

    /// Closes `fd` and returns its entry.
    pub(super) fn remove(&mut self, fd: u32) -> Option<FdEntry> {
        self.get(fd)?;
        let (place, i) = place(fd);
        let chunk = Arc::make_mut(&mut self.chunks).get_mut(place)?;
        chunk.open &= !(1 << i);
        self.open -= 1;
        let entry = chunk.entries[i];
        if let Some(index) = &mut self.index {
            index.remove(fd, entry.identity());
        }
        Some(entry)
    }

    /// Records which thread closed `fd`, in the unused entry.
    pub(super) fn set_closer(&mut self, fd: u32, tid: u32, at: Moment) {
        let (place, i) = place(fd);
        if let Some(chunk) = Arc::make_mut(&mut self.chunks).get_mut(place) {
            let entry = &mut chunk.entries[i];
            (entry.file, entry.tid, entry.opened) = (0, tid, at);
        }
    }

    /// Returns which thread closed `fd` and when, if `fd` is closed and others could use the table
    /// then.
    pub(super) fn closer(&self, fd: u32) -> Option<(u32, Moment)> {
        let (chunk, i) = place(fd);
        let chunk = self.chunks.get(chunk)?;
        let entry = &chunk.entries[i];
        let is_noted =
            chunk.open >> i & 1 == 0 && entry.file == 0 && { entry.opened } > self.forked;
        is_noted.then_some((entry.tid, entry.opened))
    }

    /// Marks the file of `fd` as having no name.
    pub(super) fn set_unlinked(&mut self, fd: u32) {
        let (place, i) = place(fd);
        if let Some(chunk) = Arc::make_mut(&mut self.chunks).get_mut(place) {
            chunk.entries[i].set_unlinked();
        }
    }

    pub(super) fn set_closes_on_exec(&mut self, fd: u32, closes: bool) {
        if self
            .get(fd)
            .is_some_and(|entry| entry.closes_on_exec() != closes)
        {
            let (place, i) = place(fd);
            if let Some(chunk) = Arc::make_mut(&mut self.chunks).get_mut(place) {
                chunk.entries[i].set_closes_on_exec(closes);
            }
        }
    }

    /// Returns the open numbers from `first` on whose bit in `bits` is clear.
    pub(super) fn missing_from(&self, first: u32, bits: &[u64]) -> Vec<u32> {
        let len = u32::try_from(bits.len() * 64).unwrap_or(u32::MAX);
        let open = self.range(first, first.saturating_add(len));
        let missing = open.filter(|(fd, _)| {
            let at = fd - first;
            bits[at as usize / 64] >> (at % 64) & 1 == 0
        });
        missing.map(|(fd, _)| fd).collect()
    }

    /// Returns the numbers whose bit in `bits`, which starts at `first`, is set and which are not
    /// open here.
    pub(super) fn unknown_from(&self, first: u32, bits: &[u64]) -> Vec<u32> {
        let words = bits.iter().zip((0u32..).step_by(64));
        let numbers = words
            .filter(|&(&word, _)| word != 0)
            .flat_map(|(&word, at)| {
                let set = (0..64).filter(move |bit| word >> bit & 1 != 0);
                set.filter_map(move |bit| first.checked_add(at + bit))
            });
        numbers.filter(|&fd| self.get(fd).is_none()).collect()
    }

    /// Returns whether another descriptor than `fd` is on the file. Builds the index of a large
    /// table on first use.
    pub(crate) fn has_other(&mut self, fd: u32, identity: Identity) -> bool {
        let own = self.is_on(fd, identity);
        match self.index() {
            Some(index) => index.get(identity).count > u32::from(own),
            None => self
                .iter()
                .any(|(other, entry)| other != fd && entry.identity() == identity),
        }
    }

    /// Returns all descriptors on the file, of which `fd` is one. Searches a large table only if
    /// there are more than two.
    pub(crate) fn all_on_file(&mut self, fd: u32, identity: Identity) -> Vec<u32> {
        if let Some(index) = self.index() {
            let OnFile { count, combined } = index.get(identity);
            let other = combined ^ fd;
            match count {
                1 if combined == fd => return vec![fd],
                2 if self.is_on(other, identity) => return vec![fd.min(other), fd.max(other)],
                _ => {}
            }
        }
        self.on_file(identity).collect()
    }

    fn is_on(&self, fd: u32, identity: Identity) -> bool {
        self.get(fd)
            .is_some_and(|entry| entry.identity() == identity)
    }

    fn index(&mut self) -> Option<&mut Index> {
        if self.open > INDEXED_FROM && self.index.is_none() {
            self.index = Some(Index::of(self.iter()));
        }
        self.index.as_mut()
    }

    /// Drops the index if it was not used since the last call.
    pub(super) fn drop_idle_index(&mut self) {
        if self.index.as_mut().is_some_and(|index| !index.take_use()) {
            self.index = None;
        }
    }

    /// Iterates over all descriptors on the file.
    pub fn on_file(&self, identity: Identity) -> impl Iterator<Item = u32> {
        self.iter()
            .filter(move |(_, entry)| entry.identity() == identity)
            .map(|(fd, _)| fd)
    }

    /// Returns whether its process still runs the program it ran at that moment.
    #[must_use]
    pub fn is_same_program_since(&self, at: Moment) -> bool {
        at > self.execed
    }

    /// Returns how the descriptor came into this table.
    #[must_use]
    pub fn provenance(&self, entry: &FdEntry) -> Provenance {
        let opened = entry.opened;
        if opened <= self.execed {
            Provenance::KeptAcrossExec {
                inherited: opened <= self.forked,
            }
        } else if opened <= self.forked {
            Provenance::Inherited
        } else if entry.is_from_snapshot() {
            Provenance::Unknown
        } else {
            Provenance::Made
        }
    }
}

/// How a descriptor came into its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// Created by the process itself, with the entry's system call.
    Made,
    /// Copied by fork.
    Inherited,
    /// Opened before the current program, and kept across exec.
    KeptAcrossExec {
        /// Whether it was copied by fork before that.
        inherited: bool,
    },
    /// Open before fdwatch received events.
    Unknown,
}

impl Provenance {
    /// Returns whether it came from the parent process.
    #[must_use]
    pub const fn is_inherited(self) -> bool {
        matches!(
            self,
            Self::Inherited | Self::KeptAcrossExec { inherited: true }
        )
    }
}

/// Returns the chunk of a descriptor and its position in it.
const fn place(fd: u32) -> (u32, usize) {
    (fd / CHUNK, (fd % CHUNK) as usize)
}

#[cfg(test)]
mod tests {
    use fdwatch_common::{Header, Payload};

    use super::{super::fd_entry::AnonymousDevices, *};

    const HOLDER: Holder = Holder { tgid: 1, tid: 1 };

    fn table(fds: impl IntoIterator<Item = u32>) -> Table {
        let mut table = Table::new(TableId(1), 1, HOLDER);
        for fd in fds {
            table.insert(fd, entry(fd.into()));
        }
        table
    }

    fn entry(ino: u64) -> FdEntry {
        let payload = Payload {
            ino,
            mode: 0o100_644,
            ..Payload::default()
        };
        let anonymous = AnonymousDevices::default();
        FdEntry::new(&Header::default(), &payload, Moment(0), false, anonymous)
    }

    fn fds(table: &Table) -> Vec<u32> {
        table.iter().map(|(fd, _)| fd).collect()
    }

    #[test]
    fn copy_and_original_change_separately() {
        let mut parent = table([0, 1, 40]);
        let mut child = parent.fork(TableId(2), 2, HOLDER, Moment(1));
        child.remove(1);
        parent.insert(90, entry(90));
        child.insert(33, entry(33));
        assert_eq!(fds(&parent), [0, 1, 40, 90]);
        assert_eq!(fds(&child), [0, 33, 40]);
        assert_eq!((parent.len(), child.len()), (4, 3));
    }

    #[test]
    fn any_number_is_accepted() {
        let all = [0, 131_071, 131_072, 1 << 30, u32::MAX];
        let mut table = table(all);
        assert_eq!(fds(&table), all);
        assert!(
            table
                .range(131_072, u32::MAX)
                .map(|(fd, _)| fd)
                .eq([131_072, 1 << 30])
        );
        for fd in all {
            assert!(table.remove(fd).is_some());
            assert!(table.get(fd).is_none());
        }
        assert!(table.is_empty());
    }

    #[test]
    fn copy_shares_chunks_until_changed() {
        let parent = table(0..1000);
        let mut child = parent.fork(TableId(2), 2, HOLDER, Moment(1));
        assert!(Arc::ptr_eq(&parent.chunks, &child.chunks));
        child.remove(999);
        let shared = (0..1000 / CHUNK + 1).filter(|&place| {
            let (a, b) = (parent.chunks.shared(place), child.chunks.shared(place));
            a.zip(b).is_some_and(|(a, b)| Arc::ptr_eq(a, b))
        });
        assert_eq!(shared.count() as u32, 1000 / CHUNK);
    }

    #[test]
    fn missing_numbers_are_found() {
        let table = table([0, 3, 31, 32, 63, 64, 130]);
        assert_eq!(
            table.missing_from(0, &[1 << 3 | 1 << 32, 0]),
            [0, 31, 63, 64]
        );
        assert_eq!(table.missing_from(128, &[0]), [130]);
        assert!(table.missing_from(4096, &[0]).is_empty());
        // An unaligned start, and one that exceeds the highest number.
        assert_eq!(table.missing_from(31, &[1 << 1]), [31, 63, 64]);
        assert!(table.missing_from(u32::MAX - 1, &[0, 0]).is_empty());
    }

    #[test]
    fn has_other_works_in_small_and_large_tables() {
        for size in [10, INDEXED_FROM as u32 + 100] {
            let mut table = table(0..size);
            assert!(!table.has_other(3, entry(3).identity()));
            table.insert(size, entry(3));
            assert!(table.has_other(size, entry(3).identity()));
            assert_eq!(
                table.on_file(entry(3).identity()).collect::<Vec<_>>(),
                [3, size]
            );
            assert_eq!(table.all_on_file(3, entry(3).identity()), [3, size]);
            assert_eq!(table.all_on_file(size, entry(3).identity()), [3, size]);
            assert_eq!(table.all_on_file(5, entry(5).identity()), [5]);
            table.insert(size + 1, entry(3));
            let three = [3, size, size + 1];
            assert_eq!(table.all_on_file(size, entry(3).identity()), three);
            table.remove(size + 1);
            assert_eq!(table.all_on_file(3, entry(3).identity()), [3, size]);
            table.insert(3, entry(4000));
            assert!(!table.has_other(size, entry(3).identity()));
            table.remove(size);
            assert!(!table.has_other(0, entry(3).identity()));
        }
    }
}
