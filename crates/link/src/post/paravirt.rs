//! `.parainstructions`: indirect calls through `pv_ops` become direct calls or NOPs.

use core::ops::DerefMut;

use alloc::vec::Vec;

use super::Post;
use super::PvOp;
use super::Rule;
use super::WarningKind;
use super::x86_code;

const RULE: Rule = Rule::Paravirt;

pub(super) fn apply<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>) {
    if !post.on(RULE) {
        return;
    }
    let Some(table) = post.last_section(".parainstructions") else { return };
    let Some(bytes) = post.bytes(RULE, table) else { return };
    let endian = post.image.endian;
    // struct paravirt_patch_site: address, type, length, padding.
    for raw in bytes.chunks_exact(16) {
        let site = endian.u64(raw);
        let (number, len) = (raw[8], usize::from(raw[9]));
        let Some(op) = post.facts.pv_op(number) else {
            post.warn(RULE, site, WarningKind::UnknownFact);
            continue;
        };
        let mut code: Vec<u8> = match op {
            PvOp::Nop => Vec::new(),
            PvOp::Call(target) => x86_code::branch(x86_code::CALL, site, target).to_vec(),
        };
        if code.len() > len || len > 254 {
            post.warn(RULE, site, WarningKind::KernelBug);
            continue;
        }
        let used = code.len();
        code.resize(len, x86_code::NOP);
        if let Some(rest) = code.get_mut(used..) {
            x86_code::fill_nops(rest, post.profile.nop_max);
        }
        post.patch(RULE, site, &code);
    }
}

#[cfg(test)]
mod tests {
    use super::super::PatchProfile;
    use super::super::PlainFacts;
    use super::super::testing::Bed;
    use super::*;
    use crate::Arch;

    #[test]
    fn calls_and_nops() {
        let mut bed = Bed::new(Arch::X86_64);
        let text = Bed::X86_CORE;
        // call *pv_ops+...(%rip), six bytes, and one with a byte of room
        bed.put(text, &[0xff, 0x15, 1, 2, 3, 4, 0xff, 0x15, 5, 6, 7, 8, 0x90, 0xff, 0x15, 1, 1, 1, 1]);
        let site = |address: u64, number: u8, len: u8| {
            let mut raw = address.to_le_bytes().to_vec();
            raw.extend([number, len, 0, 0, 0, 0, 0, 0]);
            raw
        };
        let table = [site(text, 3, 6), site(text + 6, 4, 7), site(text + 13, 9, 6)].concat();
        bed.section(".parainstructions", text + 0x1000, &table);
        let mut facts = PlainFacts::default();
        facts.pv_ops.insert(3, PvOp::Call(0xffff_ffff_8100_0000));
        facts.pv_ops.insert(4, PvOp::Nop);
        bed.run(&PatchProfile::x86_64_6_1(), &facts, |post| post.module_finalize()).unwrap();
        // 0x81000000 - (0xc0000000 + 5) = -0x3f000005
        assert_eq!(bed.get(text, 6), [0xe8, 0xfb, 0xff, 0xff, 0xc0, 0x90]);
        assert_eq!(bed.get(text + 6, 7), [0x0f, 0x1f, 0x80, 0, 0, 0, 0]);
        assert_eq!(bed.get(text + 13, 6), [0xff, 0x15, 1, 1, 1, 1]);
        assert_eq!(bed.record.warnings[0].kind, WarningKind::UnknownFact);
    }
}
