//! The groups that are followed: bounded for each table and in all, so that no process can take the
//! room of others.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::group::{Group, Key};
use crate::model::{Identity, Table, TableId};

/// Groups of one table, while there is room.
const MAX_PER_TABLE: usize = 128;

/// Groups in all, before each table is limited to [`MIN_PER_TABLE`].
const MAX: usize = 4096;

/// Groups that a table may always have.
const MIN_PER_TABLE: usize = 4;

/// The groups of a table.
#[derive(Debug, Default)]
struct OfTable {
    /// In the order in which they were found.
    identities: Vec<Identity>,
    /// The user of its process, if that was needed.
    user: Option<u32>,
    /// Files that are not followed, at the last search.
    folded: usize,
    /// Whether the table is in `overfull`.
    is_overfull: bool,
}

/// Files that are open more than once or deleted, and not followed because their process has too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// Number of files.
    pub files: usize,
    /// Number of descriptor tables that have them.
    pub tables: usize,
}

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: FxHashMap<Key, Group>,
    tables: FxHashMap<TableId, OfTable>,
    /// Tables with more files than are followed, and their addresses. The first is to be searched next.
    overfull: VecDeque<(TableId, u64)>,
    folded: Folded,
}

impl Groups {
    pub(super) fn contains(&self, key: &Key) -> bool {
        self.groups.contains_key(key)
    }

    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut Group> {
        self.groups.get_mut(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    pub(super) const fn folded(&self) -> Folded {
        self.folded
    }

    /// Returns whether the table may have another group.
    pub(super) fn has_room(&self, table: TableId) -> bool {
        self.has_room_for(table, 0)
    }

    /// Returns whether the table may have another group, besides `more` that are to be added.
    pub(super) fn has_room_for(&self, table: TableId, more: usize) -> bool {
        let max = if self.groups.len() + more < MAX {
            MAX_PER_TABLE
        } else {
            MIN_PER_TABLE
        };
        let of_table = self.tables.get(&table);
        of_table.map_or(0, |of_table| of_table.identities.len()) + more < max
    }

    /// Returns whether there is room to remember a group that is no duplicate at the moment, without
    /// taking that of others.
    pub(super) fn has_room_to_remember(&self, table: TableId) -> bool {
        let of_table = self.tables.get(&table);
        self.groups.len() < MAX / 2
            && of_table.is_none_or(|of_table| of_table.identities.len() < MAX_PER_TABLE / 2)
    }

    pub(super) fn insert(&mut self, key: Key, group: Group) {
        let of_table = self.tables.entry(key.table).or_default();
        of_table.identities.push(key.identity);
        self.groups.insert(key, group);
    }

    /// Notes that the table has more files than are followed. They are counted by the next search.
    pub(super) fn fold(&mut self, table: &Table) {
        let of_table = self.tables.entry(table.id()).or_default();
        if !of_table.is_overfull {
            of_table.is_overfull = true;
            self.overfull.push_back((table.id(), table.address()));
        }
    }

    /// Sets the number of files of the table that are not followed.
    pub(super) fn set_folded(&mut self, table: &Table, files: usize) {
        if files > 0 {
            self.fold(table);
        }
        if let Some(of_table) = self.tables.get_mut(&table.id()) {
            self.folded.remove(of_table.folded);
            of_table.folded = files;
            self.folded.add(files);
        }
    }

    /// Takes the table that is to be searched next. It is added again if it still has too many files.
    pub(super) fn next_overfull(&mut self) -> Option<(TableId, u64)> {
        let (table, address) = self.overfull.pop_front()?;
        if let Some(of_table) = self.tables.get_mut(&table) {
            of_table.is_overfull = false;
        }
        Some((table, address))
    }

    pub(super) fn overfull(&self) -> usize {
        self.overfull.len()
    }

    /// Returns the user of the group's process, from `user_of` at the first call.
    pub(super) fn user(&mut self, key: &Key, user_of: &mut impl FnMut(u32) -> u32) -> u32 {
        let Some(group) = self.groups.get(key) else {
            return 0;
        };
        let of_table = self.tables.entry(key.table).or_default();
        *of_table.user.get_or_insert_with(|| user_of(group.tgid))
    }

    pub(super) fn identities(&self, table: TableId) -> Vec<Identity> {
        let of_table = self.tables.get(&table);
        of_table.map_or_else(Vec::new, |of_table| of_table.identities.clone())
    }

    pub(super) fn remove(&mut self, key: &Key) {
        if self.groups.remove(key).is_none() {
            return;
        }
        if let Some(of_table) = self.tables.get_mut(&key.table) {
            of_table.identities.retain(|it| *it != key.identity);
            if of_table.identities.is_empty() && of_table.folded == 0 {
                self.tables.remove(&key.table);
            }
        }
    }

    /// Stops to count a table that is gone, and returns its files. Their groups remain.
    pub(super) fn remove_table(&mut self, table: TableId) -> Option<Vec<Identity>> {
        let of_table = self.tables.remove(&table)?;
        self.folded.remove(of_table.folded);
        Some(of_table.identities)
    }
}

impl Folded {
    const fn add(&mut self, files: usize) {
        if files > 0 {
            self.files += files;
            self.tables += 1;
        }
    }

    const fn remove(&mut self, files: usize) {
        if files > 0 {
            self.files -= files;
            self.tables -= 1;
        }
    }
}
