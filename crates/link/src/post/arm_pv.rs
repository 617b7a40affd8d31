//! `.pv_table`: ARM kernels that find out at boot where memory starts patch that into their address conversions.

use core::ops::DerefMut;

use super::Post;
use super::Rule;
use super::WarningKind;
use super::relative;
use super::s32;

const RULE: Rule = Rule::PvTable;

pub(super) fn apply<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>) {
    if !post.on(RULE) {
        return;
    }
    let Some(table) = post.section(".pv_table") else { return };
    let Some(bytes) = post.bytes(RULE, table) else { return };
    let Some(offset) = post.facts.pv_offset() else {
        post.warn(RULE, table.address, WarningKind::UnknownFact);
        return;
    };
    for (index, raw) in bytes.chunks_exact(4).enumerate() {
        let site = relative(table.address.wrapping_add(index as u64 * 4), s32(raw, 0)) & 0xffff_ffff;
        let Some(code) = post.image.slice(site, 4).and_then(|code| code.first_chunk().copied()) else {
            post.warn(RULE, site, WarningKind::OutsideModule);
            continue;
        };
        let new = if post.profile.thumb2 {
            thumb(code, offset, post.profile.lpae)
        } else {
            a32(code, offset, post.profile.lpae)
        };
        post.patch(RULE, site, &new);
    }
}

/// The high word of the offset as the immediate of MOV, or as MVN's for negative offsets (`mvn` bit set).
fn high_word(offset: i64, mvn: u32) -> u32 {
    match (offset >> 32) as u32 {
        u32::MAX => mvn,
        high => high,
    }
}

fn a32(code: [u8; 4], offset: i64, lpae: bool) -> [u8; 4] {
    let insn = u32::from_le_bytes(code);
    let low = offset as u32;
    let new = if lpae && insn & 1 << 24 != 0 {
        // MOVW takes bits 20 to 31 of the offset, MOV or MVN the bits above; MVN is MOV with bit 22.
        let cleared = insn & !0x0040_0fff;
        if insn & 0x00c0_0000 == 0 { cleared | low >> 20 } else { cleared | high_word(offset, 1 << 22) }
    } else if insn & 0x800 == 0 {
        // Rotated by 8: the top byte.
        insn & !0xff | low >> 24
    } else {
        // Rotated by 16: of the byte below, the high half; memory starts at a multiple of 2 MiB.
        insn & !0xff | low >> 16 & 0xf0
    };
    new.to_le_bytes()
}

/// MOVW's immediate takes bits 21 to 31 of the offset, those above 28 in its imm3 field.
fn thumb([a, b, c, d]: [u8; 4], offset: i64, lpae: bool) -> [u8; 4] {
    let first = u16::from_le_bytes([a, b]);
    let second = u16::from_le_bytes([c, d]) & 0x0f00;
    let low = offset as u32;
    let (first, second) = if lpae && first & 0x200 == 0 {
        let high = high_word(offset, 1 << 21);
        (first & !0x20 | (high >> 16) as u16, second | high as u16)
    } else {
        (first, second | (low >> 21 & 0xff) as u16 | ((low >> 29) << 12) as u16)
    };
    let ([a, b], [c, d]) = (first.to_le_bytes(), second.to_le_bytes());
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFSET: i64 = 0x6000_0000 - 0xc000_0000;

    /// Memory at 0x60000000 (vexpress), PAGE_OFFSET 0xc0000000: offset 0xa0000000.
    #[test]
    fn add_and_sub() {
        // add r0, r1, #0x81000000 (rotation 8 bits): imm12 = 0x481
        assert_eq!(a32(0xe281_0481u32.to_le_bytes(), OFFSET, false), 0xe281_04a0u32.to_le_bytes());
        // add r0, r0, #0x00f00000 (rotation 16 bits): imm12 = 0x8f0; bits 20 to 23 are zero.
        assert_eq!(a32(0xe280_08f0u32.to_le_bytes(), OFFSET, false), 0xe280_0800u32.to_le_bytes());
        assert_eq!(a32(0xe280_0800u32.to_le_bytes(), 0x4020_0000, false), 0xe280_0820u32.to_le_bytes());
    }

    #[test]
    fn lpae_pairs() {
        // movw r3, #0 and mov r1, #0 with a negative offset: the latter becomes mvn r1, #0.
        assert_eq!(a32(0xe300_3000u32.to_le_bytes(), OFFSET, true), 0xe300_3a00u32.to_le_bytes());
        assert_eq!(a32(0xe3a0_1081u32.to_le_bytes(), OFFSET, true), 0xe3e0_1000u32.to_le_bytes());
        assert_eq!(a32(0xe3a0_1081u32.to_le_bytes(), 0x7_4000_0000, true), 0xe3a0_1007u32.to_le_bytes());
    }

    #[test]
    fn thumb_movw() {
        // movw r3, #0 (f240 0300): offset bits 21 to 31 of 0xa0000000 are 0x500: imm3 5, imm8 0.
        assert_eq!(thumb([0x40, 0xf2, 0x00, 0x03], OFFSET, false), [0x40, 0xf2, 0x00, 0x53]);
    }
}
