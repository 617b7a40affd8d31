//! `_ftrace_events` and `_ftrace_eval_map`: trace events are registered, and their formats updated.

use alloc::format;
use alloc::vec::Vec;
use core::ops::DerefMut;

use super::MaskRule;
use super::Post;
use super::Rule;
use super::Table;
use super::WarningKind;
use super::print_fmt::Map;
use super::print_fmt::System;

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

#[cfg(test)]
mod tests {
    use super::super::PatchProfile;
    use super::super::PlainFacts;
    use super::super::testing::Bed;
    use super::super::testing::longs;
    use super::*;
    use crate::Arch;

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
