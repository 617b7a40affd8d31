//! `__mcount_loc`: the calls at the start of functions, sorted by address and turned into NOPs.

use alloc::vec::Vec;
use core::ops::DerefMut;

use super::Post;
use super::Rule;
use super::Table;
use super::WarningKind;
use super::x86_code;
use crate::Arch;
use crate::sort::heapsort;

pub(super) fn apply<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>) {
    if !post.on(Rule::FtraceSort) && !post.on(Rule::FtraceNops) {
        return;
    }
    let Some(table) = post.section("__mcount_loc") else { return };
    let Some(bytes) = post.bytes(Rule::FtraceSort, table) else { return };
    let (endian, word) = (post.image.endian, post.word());
    let class = post.info.arch.class();
    let mut sites: Vec<u64> = bytes.chunks_exact(word).map(|raw| class.pointer(endian, raw)).collect();
    heapsort(post.profile.sort, &mut sites, u64::cmp);
    if post.on(Rule::FtraceSort) {
        write_sorted(post, table, &sites);
    }
    if !post.on(Rule::FtraceNops) {
        return;
    }
    for site in sites {
        // Linkers pad the table with zeros.
        let patched = match post.info.arch {
            _ if site == 0 => continue,
            Arch::X86_64 => x86(post, site),
            Arch::Arm => arm(post, site & !1),
        };
        if let Err(kind) = patched {
            // The first site that is not as expected switches the kernel's ftrace off.
            return post.warn(Rule::FtraceNops, site, kind);
        }
    }
}

fn write_sorted<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>, table: Table, sites: &[u64]) {
    let (endian, word) = (post.image.endian, post.word());
    let mut sorted = Vec::new();
    for site in sites {
        match word {
            8 => sorted.extend(endian.u64_bytes(*site)),
            _ => sorted.extend(endian.u32_bytes(*site as u32)),
        }
    }
    post.patch(Rule::FtraceSort, table.address, &sorted);
}

fn x86<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>, site: u64) -> Result<(), WarningKind> {
    let code = post.image.slice(site, 5).ok_or(WarningKind::OutsideModule)?;
    match post.facts.symbol("__fentry__") {
        Some(hook) if code == x86_code::branch(x86_code::CALL, site, hook) => {}
        // Without the address, any call will do.
        None if code.first() == Some(&x86_code::CALL) => {}
        _ => return Err(WarningKind::UnexpectedCode),
    }
    post.patch(Rule::FtraceNops, site, &x86_code::NOP5);
    Ok(())
}

/// The BL to `__gnu_mcount_nc`, directly or through a PLT slot, becomes `add sp, sp, #4` or `pop {lr}`: it undoes
/// the push of the link register before it.
fn arm<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>, site: u64) -> Result<(), WarningKind> {
    let code = post.image.slice(site, 4).ok_or(WarningKind::OutsideModule)?;
    let thumb = post.profile.thumb2;
    let target = if thumb { thumb_bl(site, code) } else { arm_bl(site, code) };
    let target = target.ok_or(WarningKind::UnexpectedCode)?;
    if let Some(hook) = post.facts.symbol("__gnu_mcount_nc") {
        let through_plt = || {
            // ldr pc, [pc, #distance]: the PLT's literals are one slot table behind its instructions.
            let insn = post.image.slice(target, 4)?;
            let (distance, ahead) = if thumb {
                let (first, second) = halves(insn);
                (first == 0xf8df && second >> 12 == 15).then_some((u64::from(second & 0xfff), 4))?
            } else {
                let insn = u32::from_le_bytes(*insn.first_chunk()?);
                (insn >> 12 == 0xe59ff).then_some((u64::from(insn & 0xfff), 8))?
            };
            post.pointer((target & !3).wrapping_add(ahead).wrapping_add(distance))
        };
        let hook = hook & !1;
        if target & !1 != hook && through_plt().map(|literal| literal & !1) != Some(hook) {
            return Err(WarningKind::UnexpectedCode);
        }
    }
    let nop = match (thumb, post.profile.ftrace_pop) {
        (false, false) => 0xe28d_d004u32.to_le_bytes(),
        (true, false) => [0x0d, 0xf1, 0x04, 0x0d],
        (false, true) => 0xe8bd_4000u32.to_le_bytes(),
        (true, true) => [0x5d, 0xf8, 0x04, 0xeb],
    };
    post.patch(Rule::FtraceNops, site, &nop);
    Ok(())
}

fn arm_bl(site: u64, code: &[u8]) -> Option<u64> {
    let insn = u32::from_le_bytes(*code.first_chunk()?);
    if insn >> 24 != 0xeb {
        return None;
    }
    let distance = ((insn << 8) as i32 >> 6) as u32;
    Some(u64::from((site as u32).wrapping_add(8).wrapping_add(distance)))
}

fn halves(code: &[u8]) -> (u16, u16) {
    let half = |at: usize| {
        code.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |raw| u16::from_le_bytes(*raw))
    };
    (half(0), half(2))
}

fn thumb_bl(site: u64, code: &[u8]) -> Option<u64> {
    let (first, second) = halves(code);
    if first & 0xf800 != 0xf000 || second & 0xd000 != 0xd000 {
        return None;
    }
    let (first, second) = (u32::from(first), u32::from(second));
    let sign = first >> 10 & 1;
    let i1 = !((second >> 13 & 1) ^ sign) & 1;
    let i2 = !((second >> 11 & 1) ^ sign) & 1;
    let distance = sign << 24 | i1 << 23 | i2 << 22 | (first & 0x3ff) << 12 | (second & 0x7ff) << 1;
    let distance = ((distance << 7) as i32 >> 7) as u32;
    Some(u64::from((site as u32).wrapping_add(4).wrapping_add(distance)))
}

#[cfg(test)]
mod tests {
    use super::super::PatchProfile;
    use super::super::PlainFacts;
    use super::super::testing::Bed;
    use super::super::testing::longs;
    use super::super::testing::words;
    use super::*;

    #[test]
    fn x86_calls_become_nops_in_sorted_order() {
        let (text, table, hook) = (Bed::X86_CORE, Bed::X86_CORE + 0x1000, 0xffff_ffff_8100_0000);
        let mut bed = Bed::new(Arch::X86_64);
        for at in [0, 0x10, 0x30] {
            bed.put(text + at, &x86_code::branch(x86_code::CALL, text + at, hook));
        }
        bed.put(text + 0x20, &[0xe8, 0, 0, 0, 0]);
        bed.section("__mcount_loc", table, &longs(&[text + 0x30, text + 0x20, 0, text + 0x10, text]));
        let facts = PlainFacts::default().with_symbol("__fentry__", hook);
        bed.run(&PatchProfile::x86_64_6_1(), &facts, |post| post.ftrace_module_init());
        assert_eq!(bed.get(table, 40), longs(&[0, text, text + 0x10, text + 0x20, text + 0x30]));
        assert_eq!(bed.get(text, 5), x86_code::NOP5);
        assert_eq!(bed.get(text + 0x10, 5), x86_code::NOP5);
        // A call of something else ends it: what follows keeps its call.
        assert_eq!(bed.get(text + 0x20, 5), [0xe8, 0, 0, 0, 0]);
        assert_eq!(bed.get(text + 0x30, 1), [0xe8]);
        assert_eq!(bed.record.warnings[0].kind, WarningKind::UnexpectedCode);
    }

    #[test]
    fn arm_direct_and_through_the_plt() {
        let text = Bed::ARM_CORE;
        let mut bed = Bed::new(Arch::Arm);
        // push {lr}; bl +0x20 (the PLT slot at 0x28)
        bed.put(text, &words(&[0xe52d_e004, 0xeb00_0007]));
        // ldr pc, [pc, #56]: literal at 0x28 + 8 + 56 = 0x68
        bed.put(text + 0x28, &words(&[0xe59f_f038]));
        bed.put(text + 0x68, &words(&[0xc030_0000]));
        // bl 0xc0300000 from 0xbf000010: (0xc0300000 - 0xbf000018) / 4 = 0x4bfffa
        bed.put(text + 0x10, &words(&[0xeb4b_fffa]));
        bed.section("__mcount_loc", text + 0x100, &words(&[text as u32 + 0x10, text as u32 + 4]));
        let facts = PlainFacts::default().with_symbol("__gnu_mcount_nc", 0xc030_0000);
        bed.run(&PatchProfile::arm_6_1(), &facts, |post| post.ftrace_module_init());
        assert_eq!(bed.record.warnings, []);
        assert_eq!(bed.get(text + 0x100, 8), words(&[text as u32 + 4, text as u32 + 0x10]));
        assert_eq!(bed.image.read_u32(text + 4), Some(0xe28d_d004));
        assert_eq!(bed.image.read_u32(text + 0x10), Some(0xe28d_d004));
    }

    /// `bl` as GNU as encodes it at 0: to 0x1000, and to 0xfffff000.
    #[test]
    fn thumb_branches() {
        assert_eq!(thumb_bl(0, &[0x00, 0xf0, 0xfe, 0xff]), Some(0x1000));
        assert_eq!(thumb_bl(0x1000, &[0xfe, 0xf7, 0xfe, 0xff]), Some(0));
    }
}
