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

#[cfg(test)]
mod tests {
    use super::super::PatchProfile;
    use super::super::PlainFacts;
    use super::super::ReturnThunk;
    use super::super::testing::Bed;
    use super::super::testing::rel;
    use super::super::testing::words;
    use super::*;
    use crate::Arch;

    const TEXT: u64 = Bed::X86_CORE;
    const THUNK: u64 = 0xffff_ffff_8200_0000;

    fn run(thunk: ReturnThunk) -> Bed {
        let mut bed = Bed::new(Arch::X86_64);
        for at in [0, 0x20] {
            bed.put(TEXT + at, &x86_code::branch(x86_code::JMP32, TEXT + at, THUNK));
        }
        bed.put(TEXT + 0x40, &[0xe9, 0, 0, 0, 0]);
        let table = TEXT + 0x1000;
        let sites = [0, 0x20, 0x40].map(|at| TEXT + at);
        let fields: [u32; 3] = core::array::from_fn(|i| rel(table + 4 * i as u64, sites[i]));
        bed.section(".return_sites", table, &words(&fields));
        let mut facts = PlainFacts::default().with_symbol("__x86_return_thunk", THUNK);
        facts.return_thunk = thunk;
        bed.run(&PatchProfile::x86_64_6_1(), &facts, |post| post.module_finalize()).unwrap();
        // A jump to something else is left alone.
        assert_eq!(bed.get(TEXT + 0x40, 5), [0xe9, 0, 0, 0, 0]);
        assert_eq!(bed.record.warnings[0].kind, WarningKind::UnexpectedCode);
        bed
    }

    #[test]
    fn plain_returns() {
        let bed = run(ReturnThunk::Ret);
        assert_eq!(bed.get(TEXT, 5), [0xc3, 0xcc, 0xcc, 0xcc, 0xcc]);
        assert_eq!(bed.get(TEXT + 0x20, 5), [0xc3, 0xcc, 0xcc, 0xcc, 0xcc]);
    }

    #[test]
    fn its_by_half_of_the_cache_line() {
        let bed = run(ReturnThunk::ItsThunk(TEXT + 0x105));
        assert_eq!(bed.get(TEXT, 5), [0xe9, 0x00, 0x01, 0, 0]);
        assert_eq!(bed.get(TEXT + 0x20, 5), [0xc3, 0xcc, 0xcc, 0xcc, 0xcc]);
    }

    #[test]
    fn other_thunks_everywhere() {
        let bed = run(ReturnThunk::Thunk(TEXT + 0x105));
        assert_eq!(bed.get(TEXT + 0x20, 5), [0xe9, 0xe0, 0, 0, 0]);
    }
}
