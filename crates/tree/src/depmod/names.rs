//! Names kept once each.

use std::hash::BuildHasher;
use std::hash::RandomState;

use crate::words::same;

/// Numbers that nobody outside can know, so that no choice of names makes a table slow. One set for all tables of a run:
/// they share hash values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seeds(u64, u64);

impl Seeds {
    pub(super) fn random() -> Seeds {
        let state = RandomState::new();
        Seeds(state.hash_one(1), state.hash_one(2) | 1)
    }

    /// The NUL-ended string at the start of `bytes` (all of them if there is no NUL) and its hash.
    #[inline]
    pub(super) fn string(self, bytes: &[u8]) -> (&[u8], u64) {
        const LOW: u64 = 0x0101_0101_0101_0101;
        const HIGH: u64 = 0x8080_8080_8080_8080;
        let mut state = self.0;
        let (words, rest) = bytes.as_chunks::<8>();
        for (position, word) in words.iter().enumerate() {
            let word = u64::from_le_bytes(*word);
            let zero = word.wrapping_sub(LOW) & !word & HIGH;
            if zero != 0 {
                let length = zero.trailing_zeros() / 8;
                let last = word & ((1 << (8 * length)) - 1);
                let text = bytes.get(..position * 8 + length as usize).unwrap_or(bytes);
                return (text, self.fold(state ^ last));
            }
            state = self.fold(state ^ word);
        }
        let length = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        let mut last = [0; 8];
        last.iter_mut().zip(rest.iter().take(length)).for_each(|(to, from)| *to = *from);
        let text = bytes.get(..words.len() * 8 + length).unwrap_or(bytes);
        (text, self.fold(state ^ u64::from_le_bytes(last)))
    }

    #[inline]
    fn fold(self, value: u64) -> u64 {
        let product = u128::from(value) * u128::from(self.1);
        (product as u64) ^ ((product >> 64) as u64)
    }
}

const EMPTY: u32 = u32::MAX;

/// A set of strings that are known by number.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) seeds: Seeds,
    bytes: Vec<u8>,
    /// Where each name ends in `bytes`, and its hash.
    entries: Vec<(usize, u64)>,
    /// Open addressing; a power of two long and at most half full.
    table: Vec<u32>,
}

impl Names {
    pub(super) fn new(seeds: Seeds) -> Names {
        Names { seeds, bytes: Vec::new(), entries: Vec::new(), table: vec![EMPTY; 1 << 10] }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of all names together.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn get(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let Some(&(end, _)) = self.entries.get(number) else { return b"" };
        let start =
            number.checked_sub(1).and_then(|before| self.entries.get(before)).map_or(0, |entry| entry.0);
        self.bytes.get(start..end).unwrap_or(b"")
    }

    pub(super) fn hash(&self, number: u32) -> u64 {
        self.entries.get(number as usize).map_or(0, |entry| entry.1)
    }

    /// The place of the name in the table, or the free one where it would be.
    #[inline]
    fn probe(&self, name: &[u8], hash: u64) -> usize {
        let mask = self.table.len() - 1;
        let mut place = hash as usize & mask;
        loop {
            match self.table.get(place) {
                Some(&number) if number != EMPTY => {
                    if self.hash(number) == hash && same(self.get(number), name) {
                        return place;
                    }
                }
                _ => return place,
            }
            place = (place + 1) & mask;
        }
    }

    /// Number of a name whose hash is known, if it is there.
    #[inline]
    pub(super) fn find(&self, name: &[u8], hash: u64) -> Option<u32> {
        self.table.get(self.probe(name, hash)).copied().filter(|number| *number != EMPTY)
    }

    /// Number of a name whose hash is known, new if it was not there.
    #[inline]
    pub(super) fn intern(&mut self, name: &[u8], hash: u64) -> u32 {
        let place = self.probe(name, hash);
        match self.table.get(place) {
            Some(&number) if number != EMPTY => number,
            _ => self.insert(place, name, hash),
        }
    }

    fn insert(&mut self, place: usize, name: &[u8], hash: u64) -> u32 {
        let number = self.entries.len() as u32;
        self.bytes.extend_from_slice(name);
        self.entries.push((self.bytes.len(), hash));
        if let Some(free) = self.table.get_mut(place) {
            *free = number;
        }
        if self.entries.len() * 2 > self.table.len() {
            let mask = self.table.len() * 2 - 1;
            self.table.clear();
            self.table.resize(mask + 1, EMPTY);
            for (number, (_, hash)) in self.entries.iter().enumerate() {
                let mut place = *hash as usize & mask;
                while self.table.get(place).is_some_and(|taken| *taken != EMPTY) {
                    place = (place + 1) & mask;
                }
                if let Some(free) = self.table.get_mut(place) {
                    *free = number as u32;
                }
            }
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_string_ends_at_its_nul_wherever_it_lies() {
        let seeds = Seeds::random();
        for length in 0..40 {
            let name: Vec<u8> = (0..length).map(|n| b'a' + n as u8 % 26).collect();
            let (same, hash) = seeds.string(&name);
            assert_eq!(same, name);
            for tail in 0..10 {
                let mut longer = name.clone();
                longer.push(0);
                longer.extend(std::iter::repeat_n(b'z', tail));
                assert_eq!(seeds.string(&longer), (name.as_slice(), hash), "{length} {tail}");
            }
        }
        assert_ne!(seeds.string(b"a").1, seeds.string(b"b").1);
        assert_ne!(seeds.string(b"12345678").1, seeds.string(b"12345678a").1);
    }

    proptest! {
        #[test]
        fn numbers_are_those_of_a_map(names in prop::collection::vec("[a-c]{0,9}", 0..3000)) {
            let mut ours = Names::new(Seeds::random());
            let mut map: HashMap<String, u32> = HashMap::new();
            for name in &names {
                let next = map.len() as u32;
                let expected = *map.entry(name.clone()).or_insert(next);
                let (text, hash) = ours.seeds.string(name.as_bytes());
                prop_assert_eq!(ours.intern(text, hash), expected);
                prop_assert_eq!(ours.get(expected), name.as_bytes());
            }
            prop_assert_eq!(ours.len(), map.len());
            let (text, hash) = ours.seeds.string(b"never there");
            prop_assert_eq!(ours.find(text, hash), None);
        }
    }
}
