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

/// The BL to `__gnu_mcount_nc`, directly or through a PLT slot, becomes `add sp, sp, #4`: it undoes the push of the
/// link register before it.
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
    let nop = if thumb { [0x0d, 0xf1, 0x04, 0x0d] } else { 0xe28d_d004u32.to_le_bytes() };
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
