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
