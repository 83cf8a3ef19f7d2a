//! A queue that is fair to users and to tables: each takes its turn, however many entries the others
//! have added.

use std::{
    collections::{VecDeque, hash_map::Entry},
    hash::Hash,
};

use rustc_hash::FxHashMap;

/// The entries of one user, by table, or of one table.
#[derive(Debug)]
struct Turns<K, V> {
    parts: FxHashMap<K, V>,
    /// The keys of all parts. The first is next.
    order: VecDeque<K>,
}

/// Entries by user and table.
#[derive(Debug)]
pub(super) struct FairQueue<T, E> {
    users: Turns<u32, Turns<T, VecDeque<E>>>,
    len: usize,
}

impl<K: Copy + Eq + Hash, V> Turns<K, V> {
    fn new() -> Self {
        Self {
            parts: FxHashMap::default(),
            order: VecDeque::new(),
        }
    }

    fn part(&mut self, key: K, new: impl FnOnce() -> V) -> &mut V {
        match self.parts.entry(key) {
            Entry::Occupied(part) => part.into_mut(),
            Entry::Vacant(part) => {
                self.order.push_back(key);
                part.insert(new())
            }
        }
    }

    /// Takes an entry from the part whose turn it is; `take` also returns whether that leaves any.
    fn take<E>(&mut self, take: impl FnOnce(&mut V) -> (Option<E>, bool)) -> Option<E> {
        let key = self.order.pop_front()?;
        let (entry, is_left) = take(self.parts.get_mut(&key)?);
        if is_left {
            self.order.push_back(key);
        } else {
            self.parts.remove(&key);
        }
        entry
    }
}

impl<T: Copy + Eq + Hash, E> Default for FairQueue<T, E> {
    fn default() -> Self {
        Self {
            users: Turns::new(),
            len: 0,
        }
    }
}

impl<T: Copy + Eq + Hash, E> FairQueue<T, E> {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of entries of the table.
    pub(super) fn len_of(&self, user: u32, table: &T) -> usize {
        let tables = self.users.parts.get(&user);
        let entries = tables.and_then(|tables| tables.parts.get(table));
        entries.map_or(0, VecDeque::len)
    }

    pub(super) fn push(&mut self, user: u32, table: T, entry: E) {
        let tables = self.users.part(user, Turns::new);
        tables.part(table, VecDeque::new).push_back(entry);
        self.len += 1;
    }

    pub(super) fn pop(&mut self) -> Option<E> {
        let entry = self.users.take(|tables| {
            let entry = tables.take(|entries| (entries.pop_front(), !entries.is_empty()));
            (entry, !tables.order.is_empty())
        })?;
        self.len -= 1;
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_and_table_takes_its_turn() {
        let mut queue = FairQueue::default();
        for i in 0..1000 {
            queue.push(7, i % 10, i);
        }
        queue.push(0, 99, 5000);
        queue.push(7, 98, 5001);
        assert_eq!((queue.len(), queue.len_of(7, &98)), (1002, 1));
        let first: Vec<_> = (0..24).filter_map(|_| queue.pop()).collect();
        assert_eq!(first[1], 5000);
        assert!(first.contains(&5001), "{first:?}");
        let rest = std::iter::from_fn(|| queue.pop()).count();
        assert_eq!((rest, queue.len()), (1002 - 24, 0));
        assert!(queue.users.parts.is_empty());
    }

    #[test]
    fn entries_of_one_table_stay_in_order() {
        let mut queue = FairQueue::default();
        for i in 0..10 {
            queue.push(0, 0, i);
        }
        assert!(std::iter::from_fn(|| queue.pop()).eq(0..10));
    }
}
