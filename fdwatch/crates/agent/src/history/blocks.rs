//! Texts one behind the other in large blocks, forgotten in the order they came in. Pure. What the texts are
//! is not known here.
//!
//! What waits for minutes in pieces of its own leaves its room full of holes: what is allocated meanwhile
//! and stays holds the pages. A block is a mapping of its own (`commands/live/memory.rs`), which the kernel
//! has back as a whole.

use std::collections::VecDeque;

/// Of a block: bytes. A few of the largest records fit.
const BLOCK: usize = 1 << 20;

/// Where the texts of one record are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<const TEXTS: usize> {
    block: usize,
    offset: usize,
    /// Of each of them: bytes.
    lengths: [Option<usize>; TEXTS],
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    blocks: VecDeque<Vec<u8>>,
    /// The number of the first block that is there.
    first: usize,
}

impl Blocks {
    /// Takes in the texts of a record.
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

    /// The texts that were put there.
    pub(super) fn get<const TEXTS: usize>(&self, place: &Place<TEXTS>) -> [Option<&[u8]>; TEXTS] {
        let block = &self.blocks[place.block - self.first];
        let mut rest = &block[place.offset..];
        place.lengths.map(|length| {
            let (text, behind) = rest.split_at(length?);
            rest = behind;
            Some(text)
        })
    }

    /// Forgets what came in before the texts at `place`, or all.
    pub(super) fn keep_from<const TEXTS: usize>(&mut self, place: Option<&Place<TEXTS>>) {
        let end = self.first + self.blocks.len();
        let kept = place.map_or(end, |place| place.block);
        self.blocks.drain(..kept - self.first);
        self.first = kept;
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
        fn texts_are_as_they_were_until_they_are_forgotten(
            all in vec(([text(), text(), text()], 0..4_usize), 1..20)
        ) {
            let mut blocks = Blocks::default();
            let mut kept: VecDeque<(Texts, Place<3>)> = VecDeque::new();
            for (texts, forgotten) in all {
                let place = blocks.push(texts.each_ref().map(Option::as_deref));
                kept.push_back((texts, place));
                kept.drain(..forgotten.min(kept.len()));
                blocks.keep_from(kept.front().map(|(_, place)| place));
                for (texts, place) in &kept {
                    prop_assert!(blocks.get(place) == texts.each_ref().map(Option::as_deref));
                }
                // Of what is forgotten no more stays than what shares a block with what is kept.
                prop_assert!(blocks.blocks.len() <= kept.len());
            }
        }
    }
}
