//! Strings of string tables, found without reading a table more than a few times over.

use alloc::vec::Vec;

/// The bytes from `offset` up to a NUL or the end of the table; empty if the offset lies outside.
#[inline]
pub(crate) fn string_at(table: &[u8], offset: usize) -> &[u8] {
    let Some(rest) = table.get(offset..) else { return &[] };
    let (blocks, tail) = rest.as_chunks::<16>();
    let mut at = 0;
    for block in blocks {
        // Without an early exit, so that it becomes one comparison of a vector.
        if block.iter().fold(false, |found, byte| found | (*byte == 0)) {
            at += first_zero(block);
            return rest.get(..at).unwrap_or(rest);
        }
        at += 16;
    }
    at += tail.iter().position(|&byte| byte == 0).unwrap_or(tail.len());
    rest.get(..at).unwrap_or(rest)
}

/// Index of the first zero byte; 16 if there is none.
#[inline]
fn first_zero(block: &[u8; 16]) -> usize {
    let block = u128::from_le_bytes(*block);
    // The lowest bit set marks the first zero byte; higher ones may be wrong.
    let zeros = |word: u64| word.wrapping_sub(0x0101_0101_0101_0101) & !word & 0x8080_8080_8080_8080;
    let low = zeros(block as u64);
    if low != 0 {
        low.trailing_zeros() as usize / 8
    } else {
        8 + zeros((block >> 64) as u64).trailing_zeros() as usize / 8
    }
}

/// A string table that is asked for many strings.
///
/// Symbols of a hostile file may all name the same long string, so that scanning for each NUL takes quadratic time.
/// Once more bytes have been scanned than an honest file needs, the NULs are indexed.
#[derive(Debug)]
pub(crate) struct StringTable<'data> {
    bytes: &'data [u8],
    budget: usize,
    nuls: Option<Vec<usize>>,
}

impl<'data> StringTable<'data> {
    pub(crate) fn new(bytes: &'data [u8]) -> StringTable<'data> {
        StringTable { bytes, budget: bytes.len().saturating_mul(4), nuls: None }
    }

    /// The bytes from `offset` up to a NUL or the end of the table; empty if the offset lies outside.
    #[inline]
    pub(crate) fn get(&mut self, offset: u32) -> &'data [u8] {
        let offset = offset as usize;
        if self.budget == 0 {
            return self.get_indexed(offset);
        }
        let string = string_at(self.bytes, offset);
        self.budget = self.budget.saturating_sub(string.len());
        string
    }

    #[cold]
    fn get_indexed(&mut self, offset: usize) -> &'data [u8] {
        let bytes = self.bytes;
        let nuls = self.nuls.get_or_insert_with(|| {
            bytes.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(at, _)| at).collect()
        });
        let next = nuls.partition_point(|&at| at < offset);
        let end = nuls.get(next).copied().unwrap_or(bytes.len());
        bytes.get(offset..end).unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn both_ways_find_what_a_plain_scan_finds(
            table in proptest::collection::vec(prop_oneof![Just(0u8), any::<u8>(), Just(0x80u8), Just(1u8)], 0..80),
            offset in 0usize..90,
        ) {
            let plain = table.get(offset..).unwrap_or(&[]).split(|&byte| byte == 0).next().unwrap_or(&[]);
            prop_assert_eq!(string_at(&table, offset), plain);
            let mut strings = StringTable::new(&table);
            prop_assert_eq!(strings.get(offset as u32), plain);
            strings.budget = 0;
            prop_assert_eq!(strings.get(offset as u32), plain);
        }
    }
}
