//! The entries of a table, in chunks. Copies share the chunks that neither side has changed since.

use std::{collections::BTreeMap, sync::Arc};

use super::fd_entry::FdEntry;

/// Descriptors per chunk, the unit of sharing and copying.
pub(super) const CHUNK: u32 = 16;

/// Number of chunks in a vector: those of 131,072 descriptors. Higher ones are in a tree, because a
/// record can name any number and a vector up to that could take a gigabyte.
const MAX_LOW: u32 = 1 << 13;

#[derive(Clone, Debug)]
pub(super) struct Chunk {
    /// One bit per open descriptor.
    pub(super) open: u16,
    pub(super) entries: [FdEntry; CHUNK as usize],
}

impl Chunk {
    const EMPTY: Self = Self {
        open: 0,
        entries: [FdEntry::EMPTY; CHUNK as usize],
    };

    /// Iterates over the open entries of the chunk at `place`.
    pub(super) fn open(&self, place: u32) -> impl Iterator<Item = (u32, &FdEntry)> {
        Bits(self.open).map(move |i| (place * CHUNK + i, &self.entries[i as usize]))
    }
}

/// All chunks of a table, by place: the number of the first descriptor, divided by the chunk size.
#[derive(Clone, Debug, Default)]
pub(super) struct Chunks {
    low: Vec<Option<Arc<Chunk>>>,
    high: BTreeMap<u32, Arc<Chunk>>,
}

impl Chunks {
    pub(super) fn get(&self, place: u32) -> Option<&Chunk> {
        self.shared(place).map(Arc::as_ref)
    }

    /// Returns the chunk for writing, copied first if it is shared.
    pub(super) fn get_mut(&mut self, place: u32) -> Option<&mut Chunk> {
        let chunk = if place < MAX_LOW {
            self.low.get_mut(place as usize)?.as_mut()?
        } else {
            self.high.get_mut(&place)?
        };
        Some(Arc::make_mut(chunk))
    }

    /// Returns the chunk for writing, created if missing.
    pub(super) fn get_or_insert(&mut self, place: u32) -> &mut Chunk {
        let make = || Arc::new(Chunk::EMPTY);
        let chunk = if place < MAX_LOW {
            let place = place as usize;
            if self.low.len() <= place {
                self.low.resize(place + 1, None);
            }
            self.low[place].get_or_insert_with(make)
        } else {
            self.high.entry(place).or_insert_with(make)
        };
        Arc::make_mut(chunk)
    }

    /// Iterates over the chunks from the place `first` on, in order.
    pub(super) fn iter_from(&self, first: u32) -> impl Iterator<Item = (u32, &Chunk)> {
        let low = self.low.iter().zip(0..).skip(first as usize);
        let low = low.filter_map(|(chunk, place)| Some((place, chunk.as_deref()?)));
        let high = self.high.range(first..);
        low.chain(high.map(|(&place, chunk)| (place, chunk.as_ref())))
    }

    pub(super) fn shared(&self, place: u32) -> Option<&Arc<Chunk>> {
        if place < MAX_LOW {
            self.low.get(place as usize)?.as_ref()
        } else {
            self.high.get(&place)
        }
    }
}

/// The indexes of set bits.
struct Bits(u16);

impl Iterator for Bits {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros();
        self.0 &= self.0 - 1;
        Some(bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn high_chunk_needs_no_room_below() {
        let mut chunks = Chunks::default();
        let places = [0, MAX_LOW - 1, MAX_LOW, u32::MAX / CHUNK];
        for place in places {
            assert!(chunks.get(place).is_none());
            assert!(chunks.get_mut(place).is_none());
            chunks.get_or_insert(place).open = place as u16;
        }
        assert_eq!(chunks.low.len(), MAX_LOW as usize);
        assert_eq!(chunks.high.len(), 2);
        for place in places {
            assert_eq!(
                chunks.get_mut(place).map(|chunk| chunk.open),
                Some(place as u16)
            );
            let from = chunks.iter_from(place);
            assert!(
                from.map(|(at, _)| at)
                    .eq(places.into_iter().filter(|&at| at >= place))
            );
        }
    }
}
