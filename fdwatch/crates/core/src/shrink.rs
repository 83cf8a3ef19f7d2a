//! Releases memory that collections retain after a burst.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, Hash},
};

/// Capacity, in elements, that is never released.
const MIN_CAPACITY: usize = 4096;

/// Returns whether the capacity is far above what the elements need.
const fn is_sparse(capacity: usize, count: usize) -> bool {
    capacity > MIN_CAPACITY && count < capacity / 4
}

/// Shrinks a map that is mostly empty.
pub fn of_map<K: Eq + Hash, V, S: BuildHasher>(map: &mut HashMap<K, V, S>) {
    if is_sparse(map.capacity(), map.len()) {
        map.shrink_to((map.len() * 2).max(MIN_CAPACITY));
    }
}

/// Shrinks a queue that is mostly empty.
pub fn of_queue<T>(queue: &mut VecDeque<T>) {
    if is_sparse(queue.capacity(), queue.len()) {
        queue.shrink_to((queue.len() * 2).max(MIN_CAPACITY));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shrinking_frees_excess_and_keeps_elements() {
        let mut map: HashMap<u32, u32> = (0..100_000).map(|it| (it, it)).collect();
        of_map(&mut map);
        assert!(map.capacity() >= 100_000, "full map was shrunk");
        map.retain(|&key, _| key < 10);
        of_map(&mut map);
        assert!(map.capacity() < 4 * MIN_CAPACITY, "{}", map.capacity());
        assert_eq!(map.len(), 10);
        let mut queue: VecDeque<u32> = (0..100_000).collect();
        queue.truncate(10);
        of_queue(&mut queue);
        assert!(queue.capacity() < 4 * MIN_CAPACITY, "{}", queue.capacity());
        assert_eq!(queue.len(), 10);
    }
}
