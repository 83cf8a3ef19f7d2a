//! Storage of texts in large blocks, which are freed in the order they were filled. Pure.
//!
//! Texts that wait for minutes in allocations of their own would fragment the heap: later allocations keep its pages
//! in use. A block is a mapping of its own (`memory.rs` of the tracker), which is returned to the kernel as a whole.

use std::collections::VecDeque;

/// Size of a block: bytes. A few of the largest records fit.
const BLOCK: usize = 1 << 20;

/// The location of the texts of one record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<const TEXTS: usize> {
    block: usize,
    offset: usize,
    /// The length of each text: bytes.
    lengths: [Option<usize>; TEXTS],
}

/// The storage.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    blocks: VecDeque<Vec<u8>>,
    /// The number of the first block.
    first: usize,
}

impl Blocks {
    /// Stores the texts of a record.
    pub(super) fn push<const TEXTS: usize>(
        &mut self,
        texts: [Option<&[u8]>; TEXTS],
    ) -> Place<TEXTS> {
        let bytes = texts.iter().flatten().map(|text| text.len()).sum();
        let has_room = |block: &Vec<u8>| block.capacity() - block.len() >= bytes;
        if !self.blocks.back().is_some_and(has_room) {
            self.blocks.push_back(Vec::with_capacity(bytes.max(BLOCK)));
        }
        let index = self.blocks.len() - 1;
        let last = &mut self.blocks[index];
        let offset = last.len();
        let lengths = texts.map(|text| {
            last.extend_from_slice(text?);
            text.map(<[u8]>::len)
        });
        Place {
            block: self.first + index,
            offset,
            lengths,
        }
    }

    /// Returns stored texts.
    pub(super) fn get<const TEXTS: usize>(&self, place: &Place<TEXTS>) -> [Option<&[u8]>; TEXTS] {
        let block = &self.blocks[place.block - self.first];
        let mut rest = &block[place.offset..];
        place.lengths.map(|length| {
            let (text, after) = rest.split_at(length?);
            rest = after;
            Some(text)
        })
    }

    /// Frees the blocks before `place`, or all.
    pub(super) fn free_before<const TEXTS: usize>(&mut self, place: Option<&Place<TEXTS>>) {
        let end = self.first + self.blocks.len();
        let first = place.map_or(end, |place| place.block);
        self.blocks.drain(..first - self.first);
        self.first = first;
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    type Texts = [Option<Vec<u8>>; 3];

    fn text() -> impl Strategy<Value = Option<Vec<u8>>> {
        option::of((any::<u8>(), 0..BLOCK / 2).prop_map(|(byte, length)| vec![byte; length]))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn stored_texts_are_unchanged_until_freed(
            all in vec(([text(), text(), text()], 0..4_usize), 1..20)
        ) {
            let mut blocks = Blocks::default();
            let mut stored: VecDeque<(Texts, Place<3>)> = VecDeque::new();
            for (texts, removed) in all {
                let place = blocks.push(texts.each_ref().map(Option::as_deref));
                stored.push_back((texts, place));
                stored.drain(..removed.min(stored.len()));
                blocks.free_before(stored.front().map(|(_, place)| place));
                for (texts, place) in &stored {
                    prop_assert!(blocks.get(place) == texts.each_ref().map(Option::as_deref));
                }
                // Removed texts remain only in blocks that they share with stored ones.
                prop_assert!(blocks.blocks.len() <= stored.len());
            }
        }
    }
}
