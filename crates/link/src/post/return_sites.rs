//! `.return_sites`: jumps to the return thunk become returns, or jumps to the thunk that the CPU needs.

use core::ops::DerefMut;

use super::Post;
use super::Rule;
use super::WarningKind;
use super::relative;
use super::s32;
use super::x86_code;
use super::x86_insn;

const RULE: Rule = Rule::Returns;

pub(super) fn apply<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>) {
    if !post.on(RULE) {
        return;
    }
    let Some(table) = post.last_section(".return_sites") else { return };
    let Some(bytes) = post.bytes(RULE, table) else { return };
    let Some(thunk) = post.facts.symbol("__x86_return_thunk") else {
        post.warn(RULE, table.address, WarningKind::UnknownFact);
        return;
    };
    for (index, raw) in bytes.chunks_exact(4).enumerate() {
        let site = relative(table.address.wrapping_add(index as u64 * 4), s32(raw, 0));
        let Some(code) = post.code(site) else {
            post.warn(RULE, site, WarningKind::OutsideModule);
            continue;
        };
        let Some(insn) = x86_insn::decode(code) else {
            post.warn(RULE, site, WarningKind::Undecodable);
            continue;
        };
        let target = match insn.opcode[0] {
            x86_code::JMP32 => x86_code::branch_target(site, code, insn.len),
            _ => None,
        };
        if target != Some(thunk) {
            post.warn(RULE, site, WarningKind::UnexpectedCode);
            continue;
        }
        let mut out = [x86_code::INT3; x86_insn::MAX_INSN];
        match post.facts.return_thunk().target(site) {
            Some(target) => {
                let jump = x86_code::branch(x86_code::JMP32, site, target);
                if let Some(place) = out.first_chunk_mut() {
                    *place = jump;
                }
            }
            None => out[0] = x86_code::RET,
        }
        if let Some(out) = out.get(..insn.len) {
            post.patch(RULE, site, out);
        }
    }
}
