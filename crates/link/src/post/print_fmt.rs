//! The format strings of trace events: names of enums become numbers, in place.

use alloc::vec::Vec;

/// `struct trace_eval_map`
pub(super) struct Map {
    /// Address of the system's name.
    pub(super) system: u64,
    pub(super) name: Vec<u8>,
    /// In decimal.
    pub(super) value: Vec<u8>,
}

/// The kernel's `isalpha`, which knows Latin-1.
fn is_alpha(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte >= 0xc0 && byte != 0xd7 && byte != 0xf7
}

fn is_alnum(byte: u8) -> bool {
    byte.is_ascii_digit() || is_alpha(byte)
}

fn is_word(byte: u8) -> bool {
    is_alnum(byte) || byte == b'_'
}

fn byte_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

fn is_name_at(bytes: &[u8], at: usize, name: &[u8]) -> bool {
    bytes.get(at..).is_some_and(|rest| rest.starts_with(name)) && !is_word(byte_at(bytes, at + name.len()))
}

/// What is done at a place where a name may stand.
enum Step {
    /// It is skipped.
    Skip,
    /// It was replaced; the search goes on behind this offset.
    Replaced(usize),
    /// The search ends.
    Stop,
}

/// Walks over a format as the kernel does: strings in quotes, numbers and members of structures are no names.
fn walk(bytes: &mut [u8], mut at_name: impl FnMut(&mut [u8], usize) -> Step) {
    let mut at = 0;
    let mut quoted = false;
    while byte_at(bytes, at) != 0 {
        match byte_at(bytes, at) {
            b'\\' => {
                at += 1;
                if byte_at(bytes, at) == 0 {
                    return;
                }
            }
            b'"' => quoted = !quoted,
            _ if quoted => {}
            byte if byte.is_ascii_digit() => {
                while is_alnum(byte_at(bytes, at)) {
                    at += 1;
                }
                if byte_at(bytes, at) == 0 {
                    return;
                }
            }
            byte if is_alpha(byte) || byte == b'_' => match at_name(bytes, at) {
                Step::Stop => return,
                Step::Replaced(end) => at = end,
                Step::Skip => match skip_name(bytes, at) {
                    Some(end) => at = end,
                    None => return,
                },
            },
            _ => {}
        }
        // The delimiter behind what was found is no name.
        at += 1;
    }
}

/// The offset behind a name and its members; `None` at the end of the format.
fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += 1;
        while is_word(byte_at(bytes, at)) {
            at += 1;
        }
        at += match (byte_at(bytes, at), byte_at(bytes, at + 1)) {
            (0, _) => return None,
            (b'.', _) => 1,
            (b'-', b'>') => 2,
            _ => return Some(at),
        };
        if byte_at(bytes, at) == 0 {
            return None;
        }
    }
}

/// Offsets of all places of a format where a name may stand.
fn names_in(bytes: &mut [u8], names: &mut Vec<usize>) {
    names.clear();
    walk(bytes, |_, at| {
        names.push(at);
        Step::Skip
    });
}

/// The maps of one trace system, in the kernel's order.
pub(super) struct System<'m> {
    pub(super) address: u64,
    maps: &'m [Map],
    /// The word that each name starts with, sorted, and the map's index.
    by_word: Vec<(&'m [u8], usize)>,
}

impl<'m> System<'m> {
    pub(super) fn new(maps: &'m [Map]) -> System<'m> {
        let mut by_word: Vec<(&[u8], usize)> =
            maps.iter().enumerate().map(|(index, map)| (word_at(&map.name, 0), index)).collect();
        by_word.sort_unstable();
        System { address: maps.first().map_or(0, |map| map.system), maps, by_word }
    }

    /// Applies all maps, one after the other, to a format (with what follows it). False if `work` is used up.
    ///
    /// Equal to [`replace_all`] for each map: but where names stand is found out once, and again only after a
    /// replacement that is not plain.
    pub(super) fn update(&self, bytes: &mut [u8], work: &mut u64) -> bool {
        let mut names = Vec::new();
        let mut uses = Vec::new();
        let mut next = 0;
        'again: loop {
            names_in(bytes, &mut names);
            self.uses(bytes, &names, next, &mut uses);
            let cost = (bytes.len() + names.len() + uses.len()) as u64;
            let mut len = bytes.iter().position(|byte| *byte == 0).unwrap_or(0);
            if !spend(work, cost) {
                return false;
            }
            for group in uses.chunk_by(|a, b| a.0 == b.0) {
                let Some((index, map)) =
                    group.first().and_then(|first| Some((first.0, self.maps.get(first.0)?)))
                else {
                    continue;
                };
                if !spend(work, (bytes.len() * group.len()) as u64 / 16) {
                    return false;
                }
                let plain = |(_, name): &(usize, usize)| {
                    names.get(*name).is_some_and(|at| is_plain(bytes, at + map.name.len()))
                };
                // `sizeof(struct x)` is more than a word: names stand inside.
                let one_word = word_at(&map.name, 0).len() == map.name.len();
                if map.value.len() >= map.name.len() || !one_word || !group.iter().all(plain) {
                    replace_all(bytes, map);
                    next = index + 1;
                    continue 'again;
                }
                for (_, name) in group {
                    let Some(at) = names.get(*name).copied() else { continue };
                    let Some(shift) = replace(bytes, at, len, map) else { continue };
                    len -= shift;
                    for later in names.iter_mut().skip(name + 1) {
                        *later -= shift;
                    }
                }
            }
            return true;
        }
    }

    /// Which maps from `first` on are used at which of the names, sorted.
    fn uses(&self, bytes: &[u8], names: &[usize], first: usize, uses: &mut Vec<(usize, usize)>) {
        uses.clear();
        for (name, at) in names.iter().enumerate() {
            let word = word_at(bytes, *at);
            let start = self.by_word.partition_point(|row| row.0 < word);
            let rows = self.by_word.iter().skip(start).take_while(|row| row.0 == word);
            for (_, index) in rows {
                let used = self.maps.get(*index).is_some_and(|map| is_name_at(bytes, *at, &map.name));
                if used && *index >= first {
                    uses.push((*index, name));
                }
            }
        }
        uses.sort_unstable();
        // A name that an earlier map replaces is no name any more.
        let mut taken: Vec<bool> = Vec::new();
        taken.resize(names.len(), false);
        uses.retain(|(_, name)| taken.get_mut(*name).is_some_and(|taken| !core::mem::replace(taken, true)));
    }
}

fn spend(work: &mut u64, cost: u64) -> bool {
    match work.checked_sub(cost) {
        Some(rest) => *work = rest,
        None => return false,
    }
    true
}

/// The run of letters, digits and underscores from an offset on.
fn word_at(bytes: &[u8], at: usize) -> &[u8] {
    let rest = bytes.get(at..).unwrap_or_default();
    let len = rest.iter().position(|byte| !is_word(*byte)).unwrap_or(rest.len());
    rest.get(..len).unwrap_or_default()
}

/// What follows a name neither ends the format nor names a member, so that replacing it changes no other name.
fn is_plain(bytes: &[u8], end: usize) -> bool {
    !matches!((byte_at(bytes, end), byte_at(bytes, end + 1)), (0 | b'.', _) | (b'-', b'>'))
}

/// Replaces a name at `at` by a value that is shorter, in a format of `len` bytes. Gives the difference.
fn replace(bytes: &mut [u8], at: usize, len: usize, map: &Map) -> Option<usize> {
    let end = at + map.value.len();
    let rest = at + map.name.len();
    let shift = rest.checked_sub(end)?;
    if rest > len || len >= bytes.len() {
        return None;
    }
    bytes.get_mut(at..end)?.copy_from_slice(&map.value);
    // The value is printed with a NUL, which the rest then overwrites.
    bytes.copy_within(rest..len, end);
    *bytes.get_mut(len - shift)? = 0;
    Some(shift)
}

/// Replaces every use of a map's name by its value, in place.
fn replace_all(bytes: &mut [u8], map: &Map) {
    walk(bytes, |bytes, at| {
        if !is_name_at(bytes, at, &map.name) {
            return Step::Skip;
        }
        if map.name.len() < map.value.len() {
            return Step::Stop;
        }
        let end = at + map.value.len();
        let (Some(place), rest) = (bytes.get_mut(at..end), at + map.name.len()) else { return Step::Stop };
        place.copy_from_slice(&map.value);
        // The value is printed with a NUL, which cuts the format where both are equally long.
        if let Some(nul) = bytes.get_mut(end) {
            *nul = 0;
        }
        let len = bytes.get(rest..).unwrap_or_default().iter().position(|byte| *byte == 0).unwrap_or(0);
        if rest + len <= bytes.len() {
            bytes.copy_within(rest..rest + len, end);
        }
        if let Some(nul) = bytes.get_mut(end + len) {
            *nul = 0;
        }
        Step::Replaced(end)
    });
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;

    use proptest::prelude::*;

    use super::*;

    fn replaced(format: &str, name: &str, value: &str) -> String {
        let mut bytes = format.as_bytes().to_vec();
        bytes.push(0);
        replace_all(&mut bytes, &Map { system: 0, name: name.into(), value: value.into() });
        let len = bytes.iter().position(|byte| *byte == 0).unwrap();
        String::from_utf8(bytes[..len].to_vec()).unwrap()
    }

    #[test]
    fn names_and_what_only_looks_like_them() {
        let format =
            r#""%s FOO", __print_symbolic(REC->kind, { FOO, "FOO" }, { FOOT, "x" }), REC->FOO, a.FOO, 0FOO"#;
        let expected =
            r#""%s FOO", __print_symbolic(REC->kind, { 7, "FOO" }, { FOOT, "x" }), REC->FOO, a.FOO, 0FOO"#;
        assert_eq!(replaced(format, "FOO", "7"), expected);
        assert_eq!(replaced(r#""a\"FOO", FOO"#, "FOO", "-1"), r#""a\"FOO", -1"#);
        assert_eq!(replaced("f(sizeof(struct x), 1)", "sizeof(struct x)", "24"), "f(24, 1)");
    }

    /// A number that is longer than the name does not fit; one of equal length cuts the format.
    #[test]
    fn lengths_that_do_not_work() {
        assert_eq!(replaced("(AB, AB)", "AB", "123"), "(AB, AB)");
        assert_eq!(replaced("(AB, CD)", "AB", "12"), "(12");
    }

    proptest! {
        /// The quick way gives the bytes of the kernel's way: map after map, each searching the whole format.
        #[test]
        fn as_one_map_after_the_other(
            words in prop::collection::vec(prop::sample::select(WORDS.to_vec()), 0..24),
            maps in prop::collection::vec((prop::sample::select(NAMES.to_vec()), -3i64..2000), 0..6),
        ) {
            let mut quick = words.concat().into_bytes();
            quick.extend(b"\0behind ABC\0");
            let mut slow = quick.clone();
            let maps: Vec<Map> = maps
                .into_iter()
                .map(|(name, value)| Map { system: 0, name: name.into(), value: format!("{value}").into_bytes() })
                .collect();
            let mut work = u64::MAX;
            prop_assert!(System::new(&maps).update(&mut quick, &mut work));
            maps.iter().for_each(|map| replace_all(&mut slow, map));
            prop_assert_eq!(String::from_utf8_lossy(&quick), String::from_utf8_lossy(&slow));
        }
    }

    const NAMES: [&str; 7] =
        ["ABC", "LONGER_NAME", "LONGER", "A", "sizeof(struct x)", "sizeof(int)", "behind"];

    const WORDS: [&str; 20] = [
        "ABC",
        "LONGER_NAME",
        "LONGER",
        "A",
        "sizeof(struct x)",
        "sizeof(int)",
        ", ",
        " ",
        "{ ",
        " }",
        "(",
        ")",
        "\"",
        "\\",
        ".",
        "->",
        "-",
        "12",
        "0x",
        "_",
    ];
}
