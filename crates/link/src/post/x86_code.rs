//! Encoding of the few x86 instructions that patching writes.

use super::x86_insn;

pub(super) const CALL: u8 = 0xe8;
pub(super) const JMP32: u8 = 0xe9;
pub(super) const JMP8: u8 = 0xeb;
pub(super) const RET: u8 = 0xc3;
pub(super) const INT3: u8 = 0xcc;
pub(super) const NOP: u8 = 0x90;

/// The 5-byte NOP.
pub(super) const NOP5: [u8; 5] = [0x0f, 0x1f, 0x44, 0, 0];

/// What stands in a static call site instead of a call of `__static_call_return0`: `xor %eax, %eax`, five bytes.
pub(super) const XOR5RAX: [u8; 5] = [0x2e, 0x2e, 0x2e, 0x31, 0xc0];

/// A return filled up to the size of a jump.
pub(super) const RET5: [u8; 5] = [RET, INT3, INT3, INT3, INT3];

const NOPS: [&[u8]; 12] = [
    &[],
    &[0x90],
    &[0x66, 0x90],
    &[0x0f, 0x1f, 0x00],
    &[0x0f, 0x1f, 0x40, 0],
    &[0x0f, 0x1f, 0x44, 0, 0],
    &[0x66, 0x0f, 0x1f, 0x44, 0, 0],
    &[0x0f, 0x1f, 0x80, 0, 0, 0, 0],
    &[0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
    &[0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
    &[0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
    &[0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
];

/// Fills `code` with NOPs: as many of `max` bytes as fit, and one for the rest (`add_nops`).
pub(super) fn fill_nops(code: &mut [u8], max: usize) {
    for part in code.chunks_mut(max.clamp(1, 11)) {
        if let Some(nop) = NOPS.get(part.len()) {
            part.copy_from_slice(nop);
        }
    }
}

/// A call or jump from `at` to `target`, five bytes: wraps as the kernel's own does.
pub(super) fn branch(opcode: u8, at: u64, target: u64) -> [u8; 5] {
    let [a, b, c, d] = (target.wrapping_sub(at.wrapping_add(5)) as u32).to_le_bytes();
    [opcode, a, b, c, d]
}

/// Where a branch instruction of `len` bytes at `at` goes, if its last four bytes are the distance.
pub(super) fn branch_target(at: u64, code: &[u8], len: usize) -> Option<u64> {
    let immediate = code.get(len.checked_sub(4)?..len)?.first_chunk::<4>()?;
    Some(at.wrapping_add(len as u64).wrapping_add(i64::from(i32::from_le_bytes(*immediate)) as u64))
}

/// Turns runs of single-byte NOPs in `code` into long ones (`optimize_nops` up to 6.3). Instructions are followed
/// from the start; what cannot be decoded ends it. `following` is what stands behind `code` in memory, for an
/// instruction that reaches past the end.
pub(super) fn optimize_nops(code: &mut [u8], following: &[u8], max: usize) {
    let mut at = 0;
    while at < code.len() {
        let mut window = [0; x86_insn::MAX_INSN];
        let mut filled = 0;
        for (slot, byte) in window.iter_mut().zip(code.iter().skip(at).chain(following)) {
            *slot = *byte;
            filled += 1;
        }
        let Some(insn) = window.get(..filled).and_then(x86_insn::decode) else { return };
        if insn.len == 1 && insn.opcode[0] == NOP {
            let run = code.iter().skip(at).take_while(|byte| **byte == NOP).count();
            match code.get_mut(at..at + run) {
                Some(nops) if run > 1 => fill_nops(nops, max),
                _ => {}
            }
            at += run.max(1);
        } else {
            at += insn.len;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_nops() {
        let mut code = [0x90, 0x90, 0x90, 0xb8, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xc3, 0x90];
        optimize_nops(&mut code, &[], 8);
        // The immediate of `mov` keeps its 0x90 bytes.
        assert_eq!(code, [0x0f, 0x1f, 0x00, 0xb8, 0x90, 0x90, 0x90, 0x90, 0x66, 0x90, 0xc3, 0x90]);
        let mut eleven = [0x90; 11];
        fill_nops(&mut eleven, 8);
        assert_eq!(eleven, [0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0x0f, 0x1f, 0x00]);
    }

    #[test]
    fn every_nop_decodes_to_its_length() {
        for len in 1..=11 {
            let mut code = [0x90; 11];
            fill_nops(&mut code[..len], 11);
            assert_eq!(x86_insn::decode(&code[..len]).map(|insn| insn.len), Some(len));
        }
    }

    #[test]
    fn branches() {
        assert_eq!(branch(CALL, 0x1000, 0x1005), [0xe8, 0, 0, 0, 0]);
        assert_eq!(
            branch(JMP32, 0xffff_ffff_c000_0000, 0xffff_ffff_8100_0000),
            [0xe9, 0xfb, 0xff, 0xff, 0xc0]
        );
        assert_eq!(
            branch_target(0xffff_ffff_c000_0000, &[0xe9, 0xfb, 0xff, 0xff, 0xc0], 5),
            Some(0xffff_ffff_8100_0000)
        );
    }
}
