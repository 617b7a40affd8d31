//! Bytes eight at a time. What the standard library calls for this in static programs looks at one after the other.

use std::cmp::Ordering;

/// Whether two texts are the same.
#[inline]
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    let ((a_words, a_rest), (b_words, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let same = |(a, b): (&[u8; 8], &[u8; 8])| u64::from_le_bytes(*a) == u64::from_le_bytes(*b);
    a.len() == b.len()
        && a_words.iter().zip(b_words).all(same)
        && a_rest.iter().zip(b_rest).all(|(a, b)| a == b)
}

/// The order of two texts by their bytes.
#[inline]
pub(crate) fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let length = a.len().min(b.len()) & !7;
    let (a_words, b_words) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
    for (a, b) in a_words.iter().zip(b_words) {
        let (a, b) = (u64::from_be_bytes(*a), u64::from_be_bytes(*b));
        if a != b {
            return a.cmp(&b);
        }
    }
    let (a, b) = (a.get(length..).unwrap_or(&[]), b.get(length..).unwrap_or(&[]));
    let different = a.iter().zip(b).find(|(a, b)| a != b);
    different.map_or_else(|| a.len().cmp(&b.len()), |(a, b)| a.cmp(b))
}

/// How many bytes two texts have in common at their start.
#[inline]
pub(crate) fn common(a: &[u8], b: &[u8]) -> usize {
    let (a_words, b_words) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
    for (index, (a, b)) in a_words.iter().zip(b_words).enumerate() {
        let different = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if different != 0 {
            return index * 8 + different.trailing_zeros() as usize / 8;
        }
    }
    let length = a.len().min(b.len()) & !7;
    let (a, b) = (a.get(length..).unwrap_or(&[]), b.get(length..).unwrap_or(&[]));
    length + a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Where the first NUL is.
#[inline]
pub(crate) fn nul(text: &[u8]) -> Option<usize> {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let (words, rest) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let zero = word.wrapping_sub(LOW) & !word & HIGH;
        if zero != 0 {
            return Some(index * 8 + zero.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(|byte| *byte == 0).map(|position| words.len() * 8 + position)
}

/// Texts that end in a NUL each, the last one perhaps without; empty ones are passed over.
pub(crate) struct Strings<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.0.is_empty() {
            let end = nul(self.0).unwrap_or(self.0.len());
            let (text, rest) = self.0.split_at_checked(end)?;
            self.0 = rest.get(1..).unwrap_or(&[]);
            if !text.is_empty() {
                return Some(text);
            }
        }
        None
    }
}

/// Whether all bytes are ASCII and none is NUL.
#[inline]
pub(crate) fn is_plain(text: &[u8]) -> bool {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let (words, rest) = text.as_chunks::<8>();
    let bad = |word: u64| (word.wrapping_sub(LOW) | word) & HIGH != 0;
    !words.iter().any(|word| bad(u64::from_le_bytes(*word)))
        && rest.iter().all(|byte| (1..128).contains(byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_same_as_byte_by_byte(a in prop::collection::vec(0u8..3, 0..40), b in prop::collection::vec(0u8..3, 0..40), cut in 0usize..40) {
            let near = [&a[..cut.min(a.len())], &b].concat();
            for b in [&b, &near, &a] {
                prop_assert_eq!(same(&a, b), a == *b);
                prop_assert_eq!(compare(&a, b), a.cmp(b));
                prop_assert_eq!(common(&a, b), a.iter().zip(b).take_while(|(a, b)| a == b).count());
            }
            prop_assert_eq!(nul(&a), a.iter().position(|byte| *byte == 0));
            let pieces: Vec<&[u8]> = a.split(|byte| *byte == 0).filter(|piece| !piece.is_empty()).collect();
            prop_assert_eq!(Strings(&a).collect::<Vec<_>>(), pieces);
        }

        #[test]
        fn plain_is_what_an_index_can_hold(text in prop::collection::vec(any::<u8>(), 0..20), ascii in "[ -~\u{1}\u{7f}]{0,20}") {
            prop_assert_eq!(is_plain(&text), text.iter().all(|byte| (1..128).contains(byte)));
            prop_assert!(is_plain(ascii.as_bytes()));
        }
    }
}
