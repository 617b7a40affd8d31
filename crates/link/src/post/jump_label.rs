//! `__jump_table`: branches of static keys.

use alloc::vec::Vec;
use core::cmp::Ordering;
use core::ops::DerefMut;

use super::Post;
use super::Rule;
use super::StaticKey;
use super::Table;
use super::WarningKind;
use super::relative;
use super::s32;
use super::x86_code;
use super::x86_insn;
use crate::Arch;
use crate::sort::heapsort;

/// Bit 0 of an entry's key: the branch is taken when the key is on.
const BRANCH: u64 = 1;

/// Bit 1 of an entry's key: the code is in init memory.
const INIT: u64 = 2;

/// `struct jump_entry`, absolute.
#[derive(Clone, Copy)]
struct Entry {
    code: u64,
    target: u64,
    key: u64,
    flags: u64,
}

impl Entry {
    /// The site jumps (instead of falling through) when the key is `on`.
    fn jumps(&self, on: bool) -> bool {
        on != (self.flags & BRANCH != 0)
    }
}

pub(super) fn apply<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>) {
    if !post.on(Rule::JumpTable) {
        return;
    }
    let Some(table) = post.section("__jump_table") else { return };
    let Some(bytes) = post.bytes(Rule::JumpTable, table) else { return };
    let size = entry_size(post);
    if bytes.len() % size != 0 {
        post.warn(Rule::JumpTable, table.address, WarningKind::TableSize);
    }
    let mut entries: Vec<Entry> = bytes
        .chunks_exact(size)
        .enumerate()
        .map(|(index, raw)| read(post, field(table, index, size), raw))
        .collect();
    let by_code = post.profile.jump_sort_code;
    heapsort(post.profile.sort, &mut entries, |a, b| {
        let by_code = if by_code { a.code.cmp(&b.code) } else { Ordering::Equal };
        a.key.cmp(&b.key).then(by_code)
    });
    for entry in &mut entries {
        if post.profile.jump_init_bit {
            entry.flags = entry.flags & !INIT | if post.within_init(entry.code) { INIT } else { 0 };
        }
    }
    let mut sorted = Vec::with_capacity(bytes.len());
    for (index, entry) in entries.iter().enumerate() {
        write(post, field(table, index, size), entry, &mut sorted);
    }
    post.patch(Rule::JumpTable, table.address, &sorted);

    let mut first = 0;
    for group in entries.chunk_by(|a, b| a.key == b.key) {
        let address = field(table, first, size);
        first += group.len();
        let Some(key) = group.first().map(|entry| entry.key) else { continue };
        if post.image.locate(key).is_some() {
            own_key(post, key, address);
        } else if post.on(Rule::JumpSites) {
            foreign_key(post, key, group);
        }
    }
}

fn entry_size<B: DerefMut<Target = [u8]>>(post: &Post<'_, '_, B>) -> usize {
    if post.profile.jump_table_relative { 16 } else { 3 * post.word() }
}

fn field(table: Table, index: usize, size: usize) -> u64 {
    table.address.wrapping_add((index as u64).wrapping_mul(size as u64))
}

fn read<B: DerefMut<Target = [u8]>>(post: &Post<'_, '_, B>, at: u64, raw: &[u8]) -> Entry {
    let endian = post.image.endian;
    if post.profile.jump_table_relative {
        let key = endian.u64(raw.get(8..).unwrap_or_default());
        Entry {
            code: relative(at, s32(raw, 0)),
            target: relative(at.wrapping_add(4), s32(raw, 4)),
            key: at.wrapping_add(8).wrapping_add(key & !3),
            flags: key & 3,
        }
    } else {
        let word = post.word();
        let number = |index: usize| {
            post.info.arch.class().pointer(endian, raw.get(index * word..).unwrap_or_default())
        };
        Entry { code: number(0), target: number(1), key: number(2) & !3, flags: number(2) & 3 }
    }
}

fn write<B: DerefMut<Target = [u8]>>(post: &Post<'_, '_, B>, at: u64, entry: &Entry, out: &mut Vec<u8>) {
    let endian = post.image.endian;
    if post.profile.jump_table_relative {
        out.extend(endian.u32_bytes(entry.code.wrapping_sub(at) as u32));
        out.extend(endian.u32_bytes(entry.target.wrapping_sub(at.wrapping_add(4)) as u32));
        out.extend(endian.u64_bytes(entry.key.wrapping_sub(at.wrapping_add(8)) | entry.flags));
    } else {
        for number in [entry.code, entry.target, entry.key | entry.flags] {
            match post.word() {
                8 => out.extend(endian.u64_bytes(number)),
                _ => out.extend(endian.u32_bytes(number as u32)),
            }
        }
    }
}

/// The key points to its first entry; the low bits stay its type.
fn own_key<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>, key: u64, entries: u64) {
    if !post.on(Rule::StaticKeyEntries) {
        return;
    }
    let address = key.wrapping_add(post.profile.offsets.static_key_entries);
    match post.pointer(address) {
        Some(old) => {
            post.patch_pointer(Rule::StaticKeyEntries, address, entries | old & 3);
        }
        None => post.warn(Rule::StaticKeyEntries, address, WarningKind::OutsideModule),
    }
}

/// Patches the sites of a key that is not in the state its declaration says: the code was compiled for that state.
fn foreign_key<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>, key: u64, entries: &[Entry]) {
    let Some(StaticKey { enabled, initially }) = post.facts.static_key(key) else { return };
    if enabled == initially {
        return;
    }
    for entry in entries {
        let patched = match post.info.arch {
            Arch::X86_64 => x86(post, entry, entry.jumps(enabled)),
            Arch::Arm => arm(post, entry, entry.jumps(enabled)),
        };
        if let Err(kind) = patched {
            post.warn(Rule::JumpSites, entry.code, kind);
        }
    }
}

fn x86<B: DerefMut<Target = [u8]>>(
    post: &mut Post<'_, '_, B>,
    entry: &Entry,
    jump: bool,
) -> Result<(), WarningKind> {
    let code = post.code(entry.code).ok_or(WarningKind::OutsideModule)?;
    let insn = x86_insn::decode(code).ok_or(WarningKind::Undecodable)?;
    let mut nop = [x86_code::NOP; 5];
    let mut branch = x86_code::branch(x86_code::JMP32, entry.code, entry.target);
    match insn.len {
        5 => {}
        2 => {
            let distance = entry.target.wrapping_sub(entry.code.wrapping_add(2)) as u8;
            branch = [x86_code::JMP8, distance, 0, 0, 0];
        }
        _ => return Err(WarningKind::KernelBug),
    }
    let (Some(nop), Some(branch), Some(current)) =
        (nop.get_mut(..insn.len), branch.get(..insn.len), code.get(..insn.len))
    else {
        return Err(WarningKind::Undecodable);
    };
    x86_code::fill_nops(nop, 8);
    let (expected, wanted) = if jump { (&*nop, branch) } else { (branch, &*nop) };
    if current != expected {
        return Err(WarningKind::KernelBug);
    }
    post.patch(Rule::JumpSites, entry.code, wanted);
    Ok(())
}

fn arm<B: DerefMut<Target = [u8]>>(
    post: &mut Post<'_, '_, B>,
    entry: &Entry,
    jump: bool,
) -> Result<(), WarningKind> {
    let thumb = post.profile.thumb2;
    let insn = match (jump, thumb) {
        // Not the NOP that the compiler leaves there: `mov r0, r0`.
        (false, false) => 0xe1a0_0000u32.to_le_bytes(),
        (false, true) => [0xaf, 0xf3, 0x00, 0x80],
        (true, false) => arm_b(entry.code, entry.target).ok_or(WarningKind::KernelBug)?,
        (true, true) => thumb_b(entry.code, entry.target).ok_or(WarningKind::KernelBug)?,
    };
    if post.image.slice(entry.code, 4).is_none() {
        return Err(WarningKind::OutsideModule);
    }
    post.patch(Rule::JumpSites, entry.code, &insn);
    Ok(())
}

fn arm_b(at: u64, target: u64) -> Option<[u8; 4]> {
    let distance = (target as u32).wrapping_sub((at as u32).wrapping_add(8)) as i32;
    let reaches = (-0x0200_0000..0x0200_0000).contains(&distance);
    reaches.then(|| (0xea00_0000 | (distance as u32 >> 2) & 0x00ff_ffff).to_le_bytes())
}

fn thumb_b(at: u64, target: u64) -> Option<[u8; 4]> {
    let distance = (target as u32).wrapping_sub((at as u32).wrapping_add(4)) as i32;
    if !(-0x0100_0000..0x0100_0000).contains(&distance) {
        return None;
    }
    let bits = distance as u32;
    let sign = bits >> 24 & 1;
    let (j1, j2) = (!(bits >> 23 & 1 ^ sign) & 1, !(bits >> 22 & 1 ^ sign) & 1);
    let first = (0xf000 | sign << 10 | bits >> 12 & 0x3ff) as u16;
    let second = (0x9000 | j1 << 13 | j2 << 11 | bits >> 1 & 0x7ff) as u16;
    let ([a, b], [c, d]) = (first.to_le_bytes(), second.to_le_bytes());
    Some([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::super::PatchProfile;
    use super::super::PlainFacts;
    use super::super::testing::Bed;
    use super::super::testing::longs;
    use super::super::testing::rel;
    use super::super::testing::words;
    use super::*;

    const TEXT: u64 = Bed::X86_CORE;
    const TABLE: u64 = Bed::X86_CORE + 0x1000;
    const OWN: u64 = Bed::X86_CORE + 0x2000;
    const FOREIGN: u64 = 0xffff_ffff_8200_0000;

    fn x86_entry(index: u64, code: u64, target: u64, key: u64) -> Vec<u8> {
        let at = TABLE + 16 * index;
        let mut raw = words(&[rel(at, code), rel(at + 4, target)]);
        raw.extend(longs(&[key.wrapping_sub(at + 8)]));
        raw
    }

    #[test]
    fn sorted_marked_and_patched() {
        let mut bed = Bed::new(Arch::X86_64);
        bed.put(TEXT, &[0x0f, 0x1f, 0x44, 0, 0, 0x66, 0x90]);
        bed.put(TEXT + 0x10, &x86_code::branch(x86_code::JMP32, TEXT + 0x10, TEXT + 0x80));
        bed.put(Bed::X86_INIT, &[0x66, 0x90]);
        // The own key is declared true: type bit 0.
        bed.put(OWN, &longs(&[1, 1]));
        let entries = [
            x86_entry(0, Bed::X86_INIT, Bed::X86_INIT + 0x20, OWN),
            x86_entry(1, TEXT + 0x10, TEXT + 0x80, FOREIGN | BRANCH | INIT),
            x86_entry(2, TEXT + 5, TEXT + 0x40, FOREIGN),
            x86_entry(3, TEXT, TEXT + 0x80, FOREIGN),
        ];
        bed.section("__jump_table", TABLE, &entries.concat());
        let mut facts = PlainFacts::default();
        facts.static_keys.insert(FOREIGN, StaticKey { enabled: true, initially: false });
        bed.run_all(&PatchProfile::x86_64_6_1(), &facts).unwrap();
        let sorted = [
            x86_entry(0, TEXT, TEXT + 0x80, FOREIGN),
            x86_entry(1, TEXT + 5, TEXT + 0x40, FOREIGN),
            x86_entry(2, TEXT + 0x10, TEXT + 0x80, FOREIGN | BRANCH),
            x86_entry(3, Bed::X86_INIT, Bed::X86_INIT + 0x20, OWN | INIT),
        ];
        assert_eq!(bed.get(TABLE, 64), sorted.concat());
        assert_eq!(bed.get(OWN, 16), longs(&[1, (TABLE + 48) | 1]));
        // jmp +0x80 in five bytes, jmp in two, and the jump gone.
        assert_eq!(bed.get(TEXT, 7), [0xe9, 0x7b, 0, 0, 0, 0xeb, 0x39]);
        assert_eq!(bed.get(TEXT + 0x10, 5), x86_code::NOP5);
        assert_eq!(bed.get(Bed::X86_INIT, 2), [0x66, 0x90]);
        assert_eq!(bed.record.warnings, []);
    }

    #[test]
    fn keys_in_their_initial_state_change_nothing() {
        let mut bed = Bed::new(Arch::X86_64);
        bed.put(TEXT, &[0xe9, 1, 0, 0, 0]);
        bed.section("__jump_table", TABLE, &x86_entry(0, TEXT, TEXT + 6, FOREIGN));
        let mut facts = PlainFacts::default();
        facts.static_keys.insert(FOREIGN, StaticKey { enabled: true, initially: true });
        bed.run_all(&PatchProfile::x86_64_6_1(), &facts).unwrap();
        assert_eq!(bed.get(TEXT, 5), [0xe9, 1, 0, 0, 0]);
    }

    /// 4.x: sorted by key alone, and bit 1 of the key is not touched.
    #[test]
    fn older_tables() {
        let mut bed = Bed::new(Arch::Arm);
        let (table, key) = (Bed::ARM_CORE + 0x1000, 0xc100_0000);
        let init = Bed::ARM_INIT as u32;
        bed.section("__jump_table", table, &words(&[init + 8, 0, key, init + 4, 0, key]));
        bed.run_all(&PatchProfile::arm_4(), &PlainFacts::default()).unwrap();
        // The textbook heapsort exchanges two equal entries.
        assert_eq!(bed.get(table, 24), words(&[init + 4, 0, key, init + 8, 0, key]));
    }

    #[test]
    fn arm_branches() {
        let (text, table, key) = (Bed::ARM_CORE, Bed::ARM_CORE + 0x1000, 0xc100_0000u32);
        for (thumb2, nop, branch) in [
            (false, [0x00, 0x00, 0xa0, 0xe1], [0x3e, 0, 0, 0xea]),
            // nop.w; b.w +0x1000 as GNU as encodes it, from 4 before
            (true, [0xaf, 0xf3, 0x00, 0x80], [0x00, 0xf0, 0xfe, 0xbf]),
        ] {
            let mut bed = Bed::new(Arch::Arm);
            bed.put(text, &nop);
            bed.put(text + 8, &branch);
            let far = text as u32 + if thumb2 { 0x1000 } else { 0x100 };
            let entries = [text as u32 + 8, far, key | 1, text as u32, far, key];
            bed.section("__jump_table", table, &words(&entries));
            let mut facts = PlainFacts::default();
            facts.static_keys.insert(u64::from(key), StaticKey { enabled: true, initially: false });
            bed.run_all(&PatchProfile { thumb2, ..PatchProfile::arm_6_1() }, &facts).unwrap();
            assert_eq!(bed.get(text, 4), branch);
            assert_eq!(bed.get(text + 8, 4), nop);
        }
    }
}
