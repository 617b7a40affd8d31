//! `.altinstructions`: instructions are replaced by others that this CPU can (or must) execute.

use alloc::vec::Vec;
use core::ops::DerefMut;

use super::AlternativesForm;
use super::Post;
use super::PvOp;
use super::Rule;
use super::Table;
use super::WarningKind;
use super::relative;
use super::s32;
use super::x86_code;
use super::x86_insn;
use super::x86_insn::Insn;

const RULE: Rule = Rule::Alternatives;

/// The longest site, in bytes (`MAX_PATCH_LEN`).
const MAX_PATCH: usize = 254;

/// Features and bugs together (`(NCAPINTS + NBUGINTS) * 32` of 6.1 and 6.12).
const MAX_FEATURE: u16 = 32 * 24;

/// `ALT_FLAG_NOT`
const FLAG_NOT: u16 = 1;

/// `ALT_FLAG_DIRECT_CALL`
const FLAG_DIRECT_CALL: u16 = 2;

/// `struct alt_instr`
struct Alternative {
    site: u64,
    replacement: u64,
    feature: u16,
    flags: u16,
    len: usize,
    replacement_len: usize,
}

pub(super) fn apply<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>) {
    if !post.on(RULE) {
        return;
    }
    let Some(table) = post.last_section(".altinstructions") else { return };
    let Some(bytes) = post.bytes(RULE, table) else { return };
    let size = match post.profile.alternatives {
        AlternativesForm::Packed12 => 12,
        AlternativesForm::Packed14 => 14,
    };
    if bytes.len() % size != 0 {
        post.warn(RULE, table.address, WarningKind::TableSize);
    }
    let mut entries: Vec<Alternative> = bytes
        .chunks_exact(size)
        .enumerate()
        .map(|(index, raw)| {
            entry(post.profile.alternatives, table.address.wrapping_add((index * size) as u64), raw)
        })
        .collect();
    if post.profile.alternatives == AlternativesForm::Packed14 {
        raise_lengths(post, table, &bytes, &mut entries);
    }
    for entry in &entries {
        if entry.len > MAX_PATCH || entry.feature >= MAX_FEATURE {
            post.warn(RULE, entry.site, WarningKind::KernelBug);
            continue;
        }
        match post.profile.alternatives {
            AlternativesForm::Packed12 => apply_packed12(post, entry),
            AlternativesForm::Packed14 => apply_packed14(post, entry),
        }
    }
}

fn entry(form: AlternativesForm, at: u64, raw: &[u8]) -> Alternative {
    let u16_at = |offset: usize| s32(raw, offset) as u16;
    let (feature, flags, lengths) = match form {
        AlternativesForm::Packed12 => (u16_at(8) & 0x7fff, u16_at(8) >> 15, 10),
        // The last four bytes of the entry, so that reading four at a time stays inside.
        AlternativesForm::Packed14 => (u16_at(8), (s32(raw, 8) >> 16) as u16, 12),
    };
    let length = |offset: usize| raw.get(offset).map_or(0, |len| usize::from(*len));
    Alternative {
        site: relative(at, s32(raw, 0)),
        replacement: relative(at.wrapping_add(4), s32(raw, 4)),
        feature,
        flags,
        len: length(lengths),
        replacement_len: length(lengths + 1),
    }
}

/// Consecutive entries of one site (nested alternatives) all get the greatest length, in the table itself.
fn raise_lengths<B: DerefMut<Target = [u8]>>(
    post: &mut Post<'_, '_, B>,
    table: Table,
    bytes: &[u8],
    entries: &mut [Alternative],
) {
    let mut raised = bytes.to_vec();
    for group in entries.chunk_by_mut(|a, b| a.site == b.site) {
        let len = group.iter().map(|entry| entry.len).max().unwrap_or(0);
        group.iter_mut().for_each(|entry| entry.len = len);
    }
    for (raw, entry) in raised.chunks_exact_mut(14).zip(entries.iter()) {
        if let Some(len) = raw.get_mut(12) {
            *len = entry.len as u8;
        }
    }
    if raised != bytes {
        post.patch(RULE, table.address, &raised);
    }
}

fn apply_packed12<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>, entry: &Alternative) {
    let wanted = post.facts.cpu_has(entry.feature) != (entry.flags & FLAG_NOT != 0);
    if wanted {
        let Some(replacement) = post.image.slice(entry.replacement, entry.replacement_len) else {
            if entry.replacement_len != 0 {
                return post.warn(RULE, entry.replacement, WarningKind::OutsideModule);
            }
            return fill_site(post, entry);
        };
        let mut code = replacement.to_vec();
        let opcode = code.first().copied();
        if let (Some(opcode), Some(place)) = (opcode, code.first_chunk_mut::<5>()) {
            if entry.replacement_len == 5 && opcode == x86_code::CALL {
                let target = relative(entry.replacement, s32(place, 1));
                *place = x86_code::branch(x86_code::CALL, entry.site, target.wrapping_add(5));
            } else if entry.replacement_len == 5 && matches!(opcode, x86_code::JMP32 | x86_code::JMP8) {
                let target = relative(entry.replacement.wrapping_add(5), s32(place, 1));
                *place = jump(entry.site, target, post.profile.nop_max);
            }
        }
        if code.len() < entry.len {
            code.resize(entry.len, x86_code::NOP);
        }
        if !post.patch(RULE, entry.site, &code) {
            return;
        }
    }
    optimize_site(post, entry);
}

/// Fills a site with NOPs: its replacement is empty.
fn fill_site<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>, entry: &Alternative) {
    let mut code = Vec::new();
    code.resize(entry.len, x86_code::NOP);
    if post.patch(RULE, entry.site, &code) {
        optimize_site(post, entry);
    }
}

/// Makes long NOPs of the short ones in a site, whether or not it was replaced.
fn optimize_site<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>, entry: &Alternative) {
    let Some(site) = post.image.slice(entry.site, entry.len) else {
        if entry.len != 0 {
            post.warn(RULE, entry.site, WarningKind::OutsideModule);
        }
        return;
    };
    let mut code = site.to_vec();
    let behind = post.code(entry.site.wrapping_add(entry.len as u64)).unwrap_or_default();
    x86_code::optimize_nops(&mut code, behind, post.profile.nop_max);
    if post.image.slice(entry.site, entry.len) != Some(&code) {
        post.patch(RULE, entry.site, &code);
    }
}

/// A jump of five bytes, the short form with NOPs where it reaches.
fn jump(site: u64, target: u64, nop_max: usize) -> [u8; 5] {
    let distance = target.wrapping_sub(site) as i64;
    // Backward jumps are always long.
    if distance >= 0 && distance as i32 <= 129 {
        let mut code = [x86_code::JMP8, (distance as u8).wrapping_sub(2), 0, 0, 0];
        if let Some(rest) = code.get_mut(2..) {
            x86_code::fill_nops(rest, nop_max);
        }
        code
    } else {
        x86_code::branch(x86_code::JMP32, site, target)
    }
}

fn apply_packed14<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>, entry: &Alternative) {
    let Some(site) = post.image.slice(entry.site, entry.len) else {
        if entry.len != 0 {
            post.warn(RULE, entry.site, WarningKind::OutsideModule);
        }
        return;
    };
    let wanted = post.facts.cpu_has(entry.feature) != (entry.flags & FLAG_NOT != 0);
    let mut code = site.to_vec();
    if wanted {
        if entry.replacement_len == 0 {
            code.fill(x86_code::NOP);
        } else {
            let Some(replacement) = post.image.slice(entry.replacement, entry.replacement_len) else {
                return post.warn(RULE, entry.replacement, WarningKind::OutsideModule);
            };
            let mut new = replacement.to_vec();
            if entry.flags & FLAG_DIRECT_CALL != 0 {
                match direct_call(post, entry, &code) {
                    Ok(call) => new = call,
                    Err(kind) => return post.warn(RULE, entry.site, kind),
                }
            }
            if new.len() > entry.len {
                return post.warn(RULE, entry.site, WarningKind::KernelBug);
            }
            new.resize(entry.len, x86_code::NOP);
            code = new;
        }
        relocate(&mut code, entry);
    }
    join_nops(&mut code, post.profile.nop_max);
    post.patch(RULE, entry.site, &code);
}

/// What an indirect call through a slot of `pv_ops` becomes: a call at the *replacement's* place, re-based later.
fn direct_call<B: DerefMut<Target = [u8]>>(
    post: &Post<'_, '_, B>,
    entry: &Alternative,
    site: &[u8],
) -> Result<Vec<u8>, WarningKind> {
    // call *slot(%rip) and a replacement of one call.
    if entry.replacement_len != 5 || site.len() != 6 || !site.starts_with(&[0xff, 0x15]) {
        return Err(WarningKind::KernelBug);
    }
    let slot = relative(entry.site.wrapping_add(6), s32(site, 2));
    match post.facts.pv_slot(slot).ok_or(WarningKind::UnknownFact)? {
        PvOp::Nop => Ok(Vec::new()),
        PvOp::Call(target) => Ok(x86_code::branch(x86_code::CALL, entry.replacement, target).to_vec()),
    }
}

/// Moves code from the replacement's place to the site's: branches out of it and addresses relative to the
/// instruction pointer are re-based, long jumps that can be short become so.
fn relocate(code: &mut [u8], entry: &Alternative) {
    let moved = entry.replacement.wrapping_sub(entry.site) as i32;
    let leaves = |target: i64| target < 0 || target > entry.replacement_len as i64;
    let mut at = 0;
    while at < code.len() {
        let Some(insn) = code.get(at..).and_then(x86_insn::decode) else { return };
        let next = at + insn.len;
        let op = insn.opcode[0];
        if matches!(op, 0x70..=0x7f | x86_code::JMP8) {
            if let Some(place) = code.get_mut(next - 1) {
                let distance = *place as i8;
                if leaves(next as i64 + i64::from(distance)) {
                    *place = distance.wrapping_add(moved as i8) as u8;
                }
            }
        } else if matches!(op, x86_code::CALL | x86_code::JMP32) || insn.is_jcc32() {
            let distance = s32(code, next - 4);
            if leaves(next as i64 + i64::from(distance)) {
                put_s32(code, next - 4, distance.wrapping_add(moved));
            }
            // The kernel takes every jump as one that leaves.
            let short = i8::try_from(distance.wrapping_add(moved).wrapping_add(3));
            if let (x86_code::JMP32, Ok(short), Some([first, second, rest @ ..])) =
                (op, short, code.get_mut(at..next))
            {
                (*first, *second) = (x86_code::JMP8, short as u8);
                rest.fill(x86_code::INT3);
            }
        }
        if let Some(field) = insn.rip_relative() {
            let distance = s32(code, at + field);
            if leaves(next as i64 + i64::from(distance)) {
                put_s32(code, at + field, distance.wrapping_add(moved));
            }
        }
        at = next;
    }
}

fn put_s32(code: &mut [u8], at: usize, value: i32) {
    if let Some(place) = code.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

/// Joins NOPs of every form. A run longer than the longest NOP is jumped over.
fn join_nops(code: &mut [u8], nop_max: usize) {
    let mut at = 0;
    while at < code.len() {
        let Some(insn) = code.get(at..).and_then(x86_insn::decode) else { return };
        let mut next = at + insn.len;
        if insn.is_nop() {
            if next == code.len() {
                return;
            }
            while let Some(nop) = code.get(next..).and_then(x86_insn::decode).filter(Insn::is_nop) {
                next += nop.len;
            }
            if let Some(run) = code.get_mut(at..next) {
                one_nop(run, nop_max);
            }
        }
        at = next;
    }
}

/// One NOP for the whole of `run`, or a jump over INT3s.
fn one_nop(run: &mut [u8], nop_max: usize) {
    let len = run.len();
    if len <= nop_max {
        return x86_code::fill_nops(run, nop_max);
    }
    run.fill(x86_code::INT3);
    if len < 128 {
        if let [op, distance, ..] = run {
            (*op, *distance) = (x86_code::JMP8, (len - 2) as u8);
        }
    } else if let Some(jump) = run.first_chunk_mut::<5>() {
        *jump = x86_code::branch(x86_code::JMP32, 0, len as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::super::PatchProfile;
    use super::super::PlainFacts;
    use super::super::testing::Bed;
    use super::super::testing::rel;
    use super::super::testing::words;
    use super::*;
    use crate::Arch;

    const TEXT: u64 = Bed::X86_CORE;
    const REPLACEMENT: u64 = Bed::X86_CORE + 0x200;
    const TABLE: u64 = Bed::X86_CORE + 0x1000;
    const FEATURE: u16 = 9 * 32 + 5;

    fn facts() -> PlainFacts {
        let mut facts = PlainFacts::default();
        facts.features.insert(FEATURE);
        facts
    }

    /// One site of 6.1 after patching.
    fn old(site: &[u8], replacement: &[u8], cpuid: u16) -> Vec<u8> {
        let mut bed = Bed::new(Arch::X86_64);
        bed.put(TEXT, site);
        bed.put(REPLACEMENT, replacement);
        let mut entry = words(&[rel(TABLE, TEXT), rel(TABLE + 4, REPLACEMENT)]);
        entry.extend(cpuid.to_le_bytes());
        entry.extend([site.len() as u8, replacement.len() as u8]);
        bed.section(".altinstructions", TABLE, &entry);
        bed.run(&PatchProfile::x86_64_6_1(), &facts(), |post| post.module_finalize()).unwrap();
        assert_eq!(bed.record.warnings, []);
        bed.get(TEXT, site.len()).to_vec()
    }

    #[test]
    fn by_feature_or_its_absence() {
        let (site, new) = ([0x90, 0x90, 0x90], [0x0f, 0x01, 0xcb]);
        assert_eq!(old(&site, &new, FEATURE), new);
        assert_eq!(old(&site, &new, FEATURE + 1), [0x0f, 0x1f, 0x00]);
        assert_eq!(old(&site, &new, FEATURE | 0x8000), [0x0f, 0x1f, 0x00]);
        assert_eq!(old(&site, &new, (FEATURE + 1) | 0x8000), new);
        assert_eq!(old(&site, &[], FEATURE), [0x0f, 0x1f, 0x00]);
    }

    #[test]
    fn branches_are_rebased() {
        // A call of TEXT + 0x300 from REPLACEMENT: 0xfb there, 0x2fb at the site.
        assert_eq!(old(&[0x90; 6], &[0xe8, 0xfb, 0, 0, 0], FEATURE), [0xe8, 0xfb, 2, 0, 0, 0x90]);
        // jmp TEXT + 0x40 (backwards from the replacement, forwards from the site): the short form
        let near = rel(REPLACEMENT + 5, TEXT + 0x40).to_le_bytes();
        let jump = [0xe9, near[0], near[1], near[2], near[3]];
        assert_eq!(old(&[0x90; 5], &jump, FEATURE), [0xeb, 0x3e, 0x0f, 0x1f, 0x00]);
        // 129 bytes ahead is the farthest that is short.
        for (distance, expected) in [(129, [0xeb, 0x7f, 0x0f, 0x1f, 0x00]), (130, [0xe9, 0x7d, 0, 0, 0])] {
            let far = rel(REPLACEMENT + 5, TEXT + distance).to_le_bytes();
            assert_eq!(old(&[0x90; 5], &[0xe9, far[0], far[1], far[2], far[3]], FEATURE), expected);
        }
    }

    #[test]
    fn nops_are_joined_even_where_nothing_is_replaced() {
        let site = [0x48, 0x89, 0xf8, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90];
        let joined = [0x48, 0x89, 0xf8, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0x90];
        assert_eq!(old(&site, &[0xc3], FEATURE + 1), joined);
    }

    /// Sites of 6.12 after patching: entries (cpuid, flags, len, replacement) of the site at `TEXT`.
    fn new(site: &[u8], entries: &[(u16, u16, u8, &[u8])], facts: &PlainFacts) -> (Vec<u8>, Vec<u8>) {
        let mut bed = Bed::new(Arch::X86_64);
        bed.put(TEXT, site);
        let mut table = Vec::new();
        for (index, (cpuid, flags, len, replacement)) in entries.iter().enumerate() {
            let at = TABLE + 14 * index as u64;
            let place = REPLACEMENT + 0x20 * index as u64;
            bed.put(place, replacement);
            table.extend(words(&[rel(at, TEXT), rel(at + 4, place)]));
            table.extend([cpuid.to_le_bytes(), flags.to_le_bytes()].concat());
            table.extend([*len, replacement.len() as u8]);
        }
        bed.section(".altinstructions", TABLE, &table);
        bed.run(&PatchProfile::x86_64_6_12(), facts, |post| post.module_finalize()).unwrap();
        assert_eq!(bed.record.warnings, []);
        (bed.get(TEXT, site.len()).to_vec(), bed.get(TABLE, table.len()).to_vec())
    }

    #[test]
    fn nested_entries_share_the_greatest_length() {
        let site = [0x90; 4];
        let entries: &[(u16, u16, u8, &[u8])] =
            &[(FEATURE, 0, 2, &[0x66, 0x90]), (FEATURE + 1, 0, 4, &[0xc3])];
        let (code, table) = new(&site, entries, &facts());
        // The first replaces all four; its NOPs form one run.
        assert_eq!(code, [0x0f, 0x1f, 0x40, 0x00]);
        assert_eq!((table[12], table[26]), (4, 4));
    }

    #[test]
    fn calls_through_pv_ops() {
        let slot = 0xffff_ffff_8200_0000u64;
        let [a, b, c, d] = rel(TEXT + 6, slot + 8).to_le_bytes();
        let site = [0xff, 0x15, a, b, c, d];
        // call BUG_func in the replacement
        let entries: &[(u16, u16, u8, &[u8])] = &[(FEATURE, FLAG_DIRECT_CALL, 6, &[0xe8, 1, 2, 3, 4])];
        let mut facts = facts();
        facts.pv_ops_address = slot;
        facts.pv_ops.insert(1, PvOp::Call(TEXT + 0x405));
        assert_eq!(new(&site, entries, &facts).0, [0xe8, 0x00, 0x04, 0, 0, 0x90]);
        facts.pv_ops.insert(1, PvOp::Nop);
        assert_eq!(new(&site, entries, &facts).0, [0x66, 0x0f, 0x1f, 0x44, 0, 0]);
    }

    #[test]
    fn replacements_are_relocated() {
        let one = |site: &[u8], code: &[u8]| new(site, &[(FEATURE, 0, site.len() as u8, code)], &facts()).0;
        // lea 0x10(%rip), %rax: 0x200 farther from the site
        assert_eq!(one(&[0x90; 7], &[0x48, 0x8d, 0x05, 0x10, 0, 0, 0]), [0x48, 0x8d, 0x05, 0x10, 2, 0, 0]);
        // jmp to TEXT + 0x40 becomes short
        let [a, b, c, d] = rel(REPLACEMENT + 5, TEXT + 0x40).to_le_bytes();
        assert_eq!(one(&[0x90; 5], &[0xe9, a, b, c, d]), [0xeb, 0x3e, 0xcc, 0xcc, 0xcc]);
        // je over the next instruction stays inside and unchanged
        assert_eq!(one(&[0x90; 4], &[0x74, 0x01, 0x50, 0xc3]), [0x74, 0x01, 0x50, 0xc3]);
    }

    #[test]
    fn long_runs_of_nops_are_jumped_over() {
        let (code, _) = new(&[0x90; 14], &[(FEATURE + 1, 0, 14, &[0xc3])], &facts());
        assert_eq!(code[..2], [0xeb, 0x0c]);
        assert_eq!(code[2..], [0xcc; 12]);
    }
}
