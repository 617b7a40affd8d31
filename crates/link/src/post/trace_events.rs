//! `_ftrace_events` and `_ftrace_eval_map`: trace events are registered, and names of enums in their formats become
//! numbers.

use alloc::format;
use alloc::vec::Vec;
use core::ops::DerefMut;

use super::MaskRule;
use super::Post;
use super::Rule;
use super::Table;
use super::WarningKind;

/// Bytes of formats and names that one module may make us look at. The largest real modules need some millions.
const MAX_WORK: u64 = 1 << 27;

/// Bytes of all names of enums together. The largest real modules have some ten thousand.
const MAX_NAMES: usize = 1 << 22;

/// `struct trace_event_call`, as far as it matters.
struct Event {
    address: u64,
    class: u64,
    system: u64,
    print_fmt: u64,
    funcs: u64,
}

pub(super) fn apply<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>, this_module: u64) {
    let calls = pointers(post, post.section("_ftrace_events"));
    if calls.is_empty() {
        return;
    }
    let printer = post.facts.symbol("trace_nop_print");
    let mut events = Vec::new();
    for call in calls {
        match event(post, call) {
            Some(event) => {
                register(post, &event, this_module, printer);
                events.push(event);
            }
            None => post.warn(Rule::TraceEventFuncs, call, WarningKind::OutsideModule),
        }
    }
    link_events(post, &events);
    if post.on(Rule::TracePrintFmt) {
        let maps = pointers(post, post.section("_ftrace_eval_map"));
        update_formats(post, &events, &maps);
    }
}

fn pointers<B: DerefMut<Target = [u8]>>(post: &Post<'_, '_, B>, table: Option<Table>) -> Vec<u64> {
    let Some(table) = table else { return Vec::new() };
    let Some(bytes) = usize::try_from(table.size).ok().and_then(|size| post.image.slice(table.address, size))
    else {
        return Vec::new();
    };
    let class = post.info.arch.class();
    bytes.chunks_exact(post.word()).map(|raw| class.pointer(post.image.endian, raw)).collect()
}

fn event<B: DerefMut<Target = [u8]>>(post: &Post<'_, '_, B>, address: u64) -> Option<Event> {
    let offsets = &post.profile.offsets;
    let at = |offset: u64| post.pointer(address.wrapping_add(offset));
    let class = at(offsets.event_call_class)?;
    Some(Event {
        address,
        class,
        system: post.pointer(class.wrapping_add(offsets.event_class_system))?,
        print_fmt: at(offsets.event_call_print_fmt)?,
        funcs: at(offsets.event_call_funcs)?,
    })
}

fn register<B: DerefMut<Target = [u8]>>(
    post: &mut Post<'_, '_, B>,
    event: &Event,
    this_module: u64,
    printer: Option<u64>,
) {
    let (offsets, word) = (post.profile.offsets, post.word());
    let place = |offset: u64| event.address.wrapping_add(offset);
    let raw_init = post.pointer(event.class.wrapping_add(offsets.event_class_raw_init));
    if post.on(Rule::TraceEventFuncs) && raw_init != Some(0) {
        // trace, raw, hex, binary
        for index in 0..4 {
            let slot = event.funcs.wrapping_add(index * word as u64);
            match (post.pointer(slot), printer) {
                (Some(0), Some(printer)) => {
                    post.patch_pointer(Rule::TraceEventFuncs, slot, printer);
                }
                (Some(0), None) => post.warn(Rule::TraceEventFuncs, slot, WarningKind::UnknownFact),
                (Some(_), _) => {}
                (None, _) => post.warn(Rule::TraceEventFuncs, slot, WarningKind::OutsideModule),
            }
        }
    }
    if post.on(Rule::TraceEventModule) {
        post.patch_pointer(Rule::TraceEventModule, place(offsets.event_call_module), this_module);
    }
    // The number that is given out, and the place in the hash by that number.
    post.mask(MaskRule::TraceEventCall, place(offsets.event_call_type), 4);
    post.mask(MaskRule::TraceEventCall, place(offsets.event_call_node), 2 * word);
    post.mask(MaskRule::TraceEventClass, event.class.wrapping_add(offsets.event_class_fields), 2 * word);
}

/// Chains the events: the kernel's list of events grows at its head, that of numbered events (up to 6.1) at its end.
fn link_events<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>, events: &[Event]) {
    let offsets = post.profile.offsets;
    let list = |event: &Event| event.address.wrapping_add(offsets.event_call_list);
    let numbered = |event: &Event| Some(event.address.wrapping_add(offsets.event_call_numbered?));
    let head = post.facts.symbol("ftrace_events");
    let numbered_head = post.facts.symbol("ftrace_event_list");
    for (index, event) in events.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|index| events.get(index));
        let after = events.get(index + 1);
        chain(post, list(event), before.map(list), after.map(list).or(head));
        if let Some(place) = numbered(event) {
            chain(post, place, after.and_then(numbered).or(numbered_head), before.and_then(numbered));
        }
    }
}

/// Writes a list head's two pointers; what is not known is run-time state.
fn chain<B: DerefMut<Target = [u8]>>(
    post: &mut Post<'_, '_, B>,
    head: u64,
    next: Option<u64>,
    prev: Option<u64>,
) {
    let word = post.word();
    for (place, target) in [(head, next), (head.wrapping_add(word as u64), prev)] {
        match target {
            Some(target) if post.on(Rule::TraceEventLists) => {
                post.patch_pointer(Rule::TraceEventLists, place, target);
            }
            _ => post.mask(MaskRule::TraceEventCall, place, word),
        }
    }
}

/// `struct trace_eval_map`
struct Map {
    system: u64,
    name: Vec<u8>,
    value: Vec<u8>,
}

fn update_formats<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>, events: &[Event], maps: &[u64]) {
    let mut known = Vec::new();
    let mut names = MAX_NAMES;
    for address in maps {
        let Some(map) = map(post, *address, names) else {
            post.warn(Rule::TracePrintFmt, *address, WarningKind::OutsideModule);
            continue;
        };
        names = names.saturating_sub(map.name.len());
        known.push(map);
    }
    known.sort_by_key(|map: &Map| map.system);
    let systems: Vec<System<'_>> = known.chunk_by(|a, b| a.system == b.system).map(System::new).collect();
    let mut work = MAX_WORK;
    // Each event is put at the head of the kernel's list, so they are walked backwards.
    for event in events.iter().rev() {
        let system = systems.binary_search_by_key(&event.system, |system| system.address);
        let Some(system) = system.ok().and_then(|index| systems.get(index)) else { continue };
        let Some(mut bytes) = format_and_behind(post, event.print_fmt) else {
            post.warn(Rule::TracePrintFmt, event.print_fmt, WarningKind::OutsideModule);
            continue;
        };
        if !system.update(&mut bytes, &mut work) {
            return post.warn(Rule::TracePrintFmt, event.print_fmt, WarningKind::TooMuchWork);
        }
        write_difference(post, event.print_fmt, &bytes);
    }
}

/// A map whose name is shorter than `max` bytes.
fn map<B: DerefMut<Target = [u8]>>(post: &Post<'_, '_, B>, address: u64, max: usize) -> Option<Map> {
    let word = post.word() as u64;
    let name = behind(post, post.pointer(address.wrapping_add(word))?)?;
    let name = name.get(..max.min(name.len()))?;
    let name = name.get(..name.iter().position(|byte| *byte == 0)?)?.to_vec();
    let value = post.pointer(address.wrapping_add(2 * word))?;
    let value = if word == 8 { value as i64 } else { i64::from(value as u32 as i32) };
    Some(Map { system: post.pointer(address)?, name, value: format!("{value}").into_bytes() })
}

/// What follows an address in its allocation, up to 64 KiB.
fn behind<'p, B: DerefMut<Target = [u8]>>(post: &'p Post<'_, '_, B>, address: u64) -> Option<&'p [u8]> {
    let at = post.image.locate(address)?;
    let rest = post.image.region(at.region)?.layout.size.saturating_sub(at.offset).min(1 << 16);
    post.image.slice(address, rest as usize)
}

/// A string and what follows up to the next NUL: the kernel's search steps over a NUL that a replacement left.
fn format_and_behind<B: DerefMut<Target = [u8]>>(post: &Post<'_, '_, B>, address: u64) -> Option<Vec<u8>> {
    let bytes = behind(post, address)?;
    let end = bytes.iter().position(|byte| *byte == 0)? + 1;
    let more = bytes.get(end..)?.iter().position(|byte| *byte == 0).map_or(0, |len| len + 1);
    Some(bytes.get(..end + more)?.to_vec())
}

fn write_difference<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>, address: u64, bytes: &[u8]) {
    if post.image.slice(address, bytes.len()).is_some_and(|old| old != bytes) {
        post.patch(Rule::TracePrintFmt, address, bytes);
    }
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
struct System<'m> {
    address: u64,
    maps: &'m [Map],
    /// The word that each name starts with, sorted, and the map's index.
    by_word: Vec<(&'m [u8], usize)>,
}

impl<'m> System<'m> {
    fn new(maps: &'m [Map]) -> System<'m> {
        let mut by_word: Vec<(&[u8], usize)> =
            maps.iter().enumerate().map(|(index, map)| (word_at(&map.name, 0), index)).collect();
        by_word.sort_unstable();
        System { address: maps.first().map_or(0, |map| map.system), maps, by_word }
    }

    /// Applies all maps, one after the other, to a format (with what follows it). False if `work` is used up.
    ///
    /// Equal to [`replace_all`] for each map: but where names stand is found out once, and again only after a
    /// replacement that is not plain.
    fn update(&self, bytes: &mut [u8], work: &mut u64) -> bool {
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
    use alloc::string::String;

    use proptest::prelude::*;

    use super::super::PatchProfile;
    use super::super::PlainFacts;
    use super::super::testing::Bed;
    use super::super::testing::longs;
    use super::*;
    use crate::Arch;

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
            let mut work = MAX_WORK;
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

    /// Three events: the list of all events runs backwards, that of numbered events forwards.
    #[test]
    fn events_are_chained() {
        let mut bed = Bed::new(Arch::X86_64);
        let base = Bed::X86_CORE;
        let calls = [0x100, 0x200, 0x300].map(|at| base + at);
        for call in calls {
            bed.put(call + 16, &longs(&[base + 0x500]));
            bed.put(call + 72, &longs(&[base + 0x600]));
            bed.put(call + 80, &longs(&[base + 0x700]));
        }
        bed.section("_ftrace_events", base + 0x1000, &longs(&calls));
        let facts =
            PlainFacts::default().with_symbol("ftrace_events", 8).with_symbol("ftrace_event_list", 16);
        bed.run_all(&PatchProfile::x86_64_6_1(), &facts).unwrap();
        let [first, second, third] = calls;
        assert_eq!(bed.get(first + 8, 8), longs(&[second]));
        assert_eq!(bed.get(second, 16), longs(&[first, third]));
        assert_eq!(bed.get(third, 16), longs(&[second, 8]));
        assert_eq!(bed.get(first + 48, 8), longs(&[second + 48]));
        assert_eq!(bed.get(second + 48, 16), longs(&[third + 48, first + 48]));
        assert_eq!(bed.get(third + 48, 16), longs(&[16, second + 48]));
        assert!(bed.record.masks.contains(&(MaskRule::TraceEventCall, first, 8)));
        assert!(bed.record.masks.contains(&(MaskRule::TraceEventCall, first + 56, 8)));
    }

    #[test]
    fn events_are_registered_and_their_formats_updated() {
        let mut bed = Bed::new(Arch::X86_64);
        let base = Bed::X86_CORE;
        let [call, class, funcs, format, system, map, name, other] =
            [0x100, 0x200, 0x300, 0x400, 0x500, 0x600, 0x700, 0x800].map(|at| base + at);
        bed.put(call + 16, &longs(&[class]));
        bed.put(call + 72, &longs(&[funcs]));
        bed.put(call + 80, &longs(&[format]));
        bed.put(class, &longs(&[system]));
        bed.put(class + 64, &longs(&[0xffff_ffff_8100_0000]));
        bed.put(funcs, &longs(&[0xffff_ffff_c000_1000, 0, 0, 0]));
        bed.put(format, b"\"%d\", KIND_A + KIND_B\0rest");
        bed.put(map, &longs(&[system, name, u64::MAX]));
        bed.put(map + 32, &longs(&[other, name + 16, 5]));
        bed.put(name, b"KIND_A\0");
        bed.put(name + 16, b"KIND_B\0");
        bed.section("_ftrace_events", base + 0x1000, &longs(&[call]));
        bed.section("_ftrace_eval_map", base + 0x1100, &longs(&[map, map + 32]));
        let facts = PlainFacts::default()
            .with_symbol("trace_nop_print", 0xffff_ffff_8123_4560)
            .with_symbol("ftrace_events", 0xffff_ffff_8200_0000);
        bed.run_all(&PatchProfile::x86_64_6_1(), &facts).unwrap();
        let nop = 0xffff_ffff_8123_4560;
        assert_eq!(bed.get(funcs, 32), longs(&[0xffff_ffff_c000_1000, nop, nop, nop]));
        assert_eq!(bed.get(call + 96, 8), longs(&[0x1234_5670]));
        assert_eq!(bed.get(call + 8, 8), longs(&[0xffff_ffff_8200_0000]));
        // The map of another system takes no part; bytes behind the string stay.
        assert_eq!(bed.get(format, 26), b"\"%d\", -1 + KIND_B\0D_B\0rest");
        assert_eq!(
            bed.record.masks,
            [
                (MaskRule::TraceEventCall, call + 64, 4),
                (MaskRule::TraceEventCall, call + 32, 16),
                (MaskRule::TraceEventClass, class + 48, 16),
                // The event registered before, the head of the numbered list, and what was its last.
                (MaskRule::TraceEventCall, call, 8),
                (MaskRule::TraceEventCall, call + 48, 8),
                (MaskRule::TraceEventCall, call + 56, 8),
            ]
        );
    }
}
