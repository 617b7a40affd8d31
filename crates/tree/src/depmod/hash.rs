//! The hash whose tables give `depmod` its order.
//!
//! kmod keeps modules and symbols in tables of 512 and 2048 buckets, each bucket sorted by name, and writes them as the
//! tables have them. Whoever compares files with kmod's needs the same order, hence the same hash: Paul Hsieh's
//! SuperFastHash of 2004.

/// Buckets of the table of modules.
pub(super) const MODULE_BUCKETS: u32 = 512;

/// Buckets of the table of symbols.
pub(super) const SYMBOL_BUCKETS: u32 = 2048;

/// SuperFastHash of a string, on a machine with little-endian 16-bit reads and signed characters, as x86 is.
pub(super) fn super_fast_hash(text: &[u8]) -> u32 {
    let pair = |low: u8, high: u8| u32::from(u16::from_le_bytes([low, high]));
    let signed = |byte: u8| i32::from(byte as i8) as u32;
    let mut hash = text.len() as u32;
    let (blocks, rest) = text.as_chunks::<4>();
    for &[a, b, c, d] in blocks {
        hash = hash.wrapping_add(pair(a, b));
        hash = (hash << 16) ^ (pair(c, d) << 11) ^ hash;
        hash = hash.wrapping_add(hash >> 11);
    }
    match *rest {
        [a, b, c] => {
            hash = hash.wrapping_add(pair(a, b));
            hash ^= hash << 16;
            hash ^= signed(c) << 18;
            hash = hash.wrapping_add(hash >> 11);
        }
        [a, b] => {
            hash = hash.wrapping_add(pair(a, b));
            hash ^= hash << 11;
            hash = hash.wrapping_add(hash >> 17);
        }
        [a] => {
            hash = hash.wrapping_add(signed(a));
            hash ^= hash << 10;
            hash = hash.wrapping_add(hash >> 1);
        }
        _ => {}
    }
    hash ^= hash << 3;
    hash = hash.wrapping_add(hash >> 5);
    hash ^= hash << 4;
    hash = hash.wrapping_add(hash >> 17);
    hash ^= hash << 25;
    hash.wrapping_add(hash >> 6)
}

/// Brings items into the order of a table with so many buckets.
pub(super) fn sort_as_table<'a, T>(items: &mut [T], buckets: u32, name: impl Fn(&T) -> &'a [u8]) {
    items.sort_by_cached_key(|item| {
        let name = name(item);
        (super_fast_hash(name) % buckets, name)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_published_function() {
        // Computed with the C code of the author's page.
        for (text, hash) in TABLE {
            assert_eq!(super_fast_hash(text.as_bytes()), *hash, "{text}");
        }
    }

    const TABLE: &[(&str, u32)] = &[
        ("", 0),
        ("a", 0x115e_a782),
        ("ab", 0x516b_8b44),
        ("ext4", 0xe679_ab16),
        ("jbd2_journal_start", 0xf1ba_de19),
        ("crc16", 0x6621_68a6),
        ("é", 0xc4fb_a554),
        ("snd_pcmä", 0x2fe3_84d1),
    ];

    #[test]
    fn a_table_is_sorted_by_bucket_then_name() {
        let mut names: Vec<String> = (0..200).map(|n| format!("module_{n}")).collect();
        let names_sorted = {
            names.sort();
            let mut buckets: Vec<Vec<&str>> = vec![Vec::new(); 7];
            for name in &names {
                buckets[super_fast_hash(name.as_bytes()) as usize % 7].push(name);
            }
            buckets.concat()
        };
        let mut items: Vec<&str> = names.iter().rev().map(String::as_str).collect();
        sort_as_table(&mut items, 7, |name| name.as_bytes());
        assert_eq!(items, names_sorted);
    }
}
