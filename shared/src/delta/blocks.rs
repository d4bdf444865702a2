//! Where in the source a block of bytes occurs.

/// Length of a block.
pub(super) const BLOCK_BYTES: usize = 16;

/// Blocks of the source that are kept, which are 16 MiB. What lies further is not found.
const BLOCKS_MAX: usize = 1 << 20;

/// Blocks looked at to find one. Without a bound, many equal blocks (a source of zeros) or many
/// with one hash (made by an attacker) would cost the square of the length.
const PROBES_MAX: usize = 16;

/// Slots of the table for each block, or up to twice as many. Most lookups find nothing, and an empty
/// slot says so without a look at the source.
const SLOTS_PER_BLOCK: usize = 4;

/// The blocks of a source at multiples of their length, by hash.
///
/// A block is named by its number from 1; 0 means none.
#[derive(Debug)]
pub(super) struct Blocks<'a> {
    blocks: &'a [[u8; BLOCK_BYTES]],
    /// By hash: the first block with it. The length is a power of two.
    first: Vec<u32>,
    /// By block, from 0: the next one with the same hash.
    next: Vec<u32>,
}

impl<'a> Blocks<'a> {
    pub(super) fn of(source: &'a [u8]) -> Self {
        let (blocks, _) = source.as_chunks();
        let blocks = &blocks[..blocks.len().min(BLOCKS_MAX)];
        let mut first = vec![0; (SLOTS_PER_BLOCK * blocks.len()).next_power_of_two()];
        let mut next = vec![0; blocks.len()];
        // Backwards, so that the first of equal blocks is found first: it leaves most to copy
        // after it, and its offset is the shortest to write.
        for (number, block) in blocks.iter().enumerate().rev() {
            let slot = slot(block, first.len());
            next[number] = first[slot];
            first[slot] = number as u32 + 1;
        }
        Self {
            blocks,
            first,
            next,
        }
    }

    /// The offsets in the source of blocks like this one; not all if there are many.
    pub(super) fn matching(&self, block: &[u8; BLOCK_BYTES]) -> impl Iterator<Item = usize> {
        let numbered = |name: u32| (name as usize).checked_sub(1);
        let first = numbered(self.first[slot(block, self.first.len())]);
        std::iter::successors(first, move |number| numbered(self.next[*number]))
            .take(PROBES_MAX)
            .filter(move |number| self.blocks[*number] == *block)
            .map(|number| number * BLOCK_BYTES)
    }
}

/// Where a block belongs in a table of `slots`, a power of two that is no more than 2^32.
fn slot(block: &[u8; BLOCK_BYTES], slots: usize) -> usize {
    // Odd numbers without a pattern; the upper half of a product depends on all bits.
    const FIRST: u64 = 0x9e37_79b9_7f4a_7c15;
    const SECOND: u64 = 0xc2b2_ae3d_27d4_eb4f;
    let halves = u128::from_le_bytes(*block);
    let first = (halves as u64).wrapping_mul(FIRST);
    let second = ((halves >> 64) as u64).wrapping_mul(SECOND);
    ((first ^ second) >> 32) as usize & (slots - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_found_wherever_it_begins_at_a_multiple_of_its_length() {
        let source: Vec<u8> = (0..=255).chain(0..=255).collect();
        let blocks = Blocks::of(&source);
        for offset in (0..256).step_by(BLOCK_BYTES) {
            let block = source[offset..].first_chunk().unwrap();
            let found: Vec<usize> = blocks.matching(block).collect();
            assert_eq!(found, [offset, 256 + offset]);
        }
        let between = source[1..].first_chunk().unwrap();
        assert_eq!(blocks.matching(between).count(), 0);
    }

    #[test]
    fn a_source_without_a_whole_block_has_none() {
        assert_eq!(Blocks::of(&[0; 15]).matching(&[0; 16]).count(), 0);
    }

    #[test]
    fn of_many_equal_blocks_only_the_first_are_looked_at() {
        let zeros = vec![0; 1 << 20];
        let found: Vec<usize> = Blocks::of(&zeros).matching(&[0; 16]).collect();
        let first: Vec<usize> = (0..PROBES_MAX).map(|number| number * BLOCK_BYTES).collect();
        assert_eq!(found, first);
    }
}
