//! `.retpoline_sites`: branches to a register's thunk become branches through the register, where the CPU allows it.

use alloc::vec::Vec;
use core::ops::DerefMut;

use super::KernelFacts;
use super::Post;
use super::Retpolines;
use super::Rule;
use super::WarningKind;
use super::relative;
use super::s32;
use super::x86_code;
use super::x86_insn;
use super::x86_insn::Insn;

const RULE: Rule = Rule::Retpolines;

/// Bytes between the thunks of two registers (`RETPOLINE_THUNK_SIZE`).
const THUNK_SIZE: u64 = 32;

/// Registers by number.
const THUNKS: [&str; 16] = [
    "__x86_indirect_thunk_rax",
    "__x86_indirect_thunk_rcx",
    "__x86_indirect_thunk_rdx",
    "__x86_indirect_thunk_rbx",
    "__x86_indirect_thunk_rsp",
    "__x86_indirect_thunk_rbp",
    "__x86_indirect_thunk_rsi",
    "__x86_indirect_thunk_rdi",
    "__x86_indirect_thunk_r8",
    "__x86_indirect_thunk_r9",
    "__x86_indirect_thunk_r10",
    "__x86_indirect_thunk_r11",
    "__x86_indirect_thunk_r12",
    "__x86_indirect_thunk_r13",
    "__x86_indirect_thunk_r14",
    "__x86_indirect_thunk_r15",
];

pub(super) fn apply<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>) {
    if !post.on(RULE) {
        return;
    }
    let Retpolines::Indirect { lfence, its } = post.facts.retpolines() else { return };
    let Some(table) = post.last_section(".retpoline_sites") else { return };
    let Some(bytes) = post.bytes(RULE, table) else { return };
    let thunks = Thunks::new(post.facts);
    let mut its_thunks = ItsThunks::default();
    for (index, raw) in bytes.chunks_exact(4).enumerate() {
        let site = relative(table.address.wrapping_add(index as u64 * 4), s32(raw, 0));
        let its_thunks = its.then_some(&mut its_thunks);
        match replacement(post, &thunks, site, lfence, its_thunks) {
            Ok(mut code) => {
                x86_code::optimize_nops(&mut code, &[], post.profile.nop_max);
                post.patch(RULE, site, &code);
            }
            Err(kind) => post.warn(RULE, site, kind),
        }
    }
}

/// Addresses of the thunks.
struct Thunks([Option<u64>; 16]);

impl Thunks {
    fn new(facts: &dyn KernelFacts) -> Thunks {
        let array = facts.symbol("__x86_indirect_thunk_array");
        let mut thunks = [None; 16];
        for (number, (slot, name)) in thunks.iter_mut().zip(THUNKS).enumerate() {
            *slot = array
                .map(|array| array.wrapping_add(number as u64 * THUNK_SIZE))
                .or_else(|| facts.symbol(name));
        }
        Thunks(thunks)
    }

    fn register(&self, target: u64) -> Option<u8> {
        self.0.iter().position(|thunk| *thunk == Some(target)).map(|number| number as u8)
    }
}

/// Places for the thunks of ITS CPUs: each branch gets one of its own, in the upper half of a cache line.
#[derive(Debug, Default)]
struct ItsThunks {
    pages: usize,
    offset: u64,
}

impl ItsThunks {
    /// `its_allocate_thunk`
    fn next(&mut self, facts: &dyn KernelFacts, register: u8) -> Option<u64> {
        // jmp *%reg; int3
        let size = 3 + u64::from(register / 8);
        if self.pages == 0 || self.offset + size > 4096 {
            self.pages += 1;
            self.offset = 32;
        }
        if (self.offset + size - 1) % 64 < 32 {
            self.offset = (self.offset.saturating_sub(1) | 0x3f) + 33;
        }
        let thunk = facts.its_page(self.pages - 1)?.wrapping_add(self.offset);
        self.offset += size;
        Some(thunk)
    }
}

/// The code for one site, as long as the instruction that stands there.
fn replacement<B: DerefMut<Target = [u8]>>(
    post: &Post<'_, '_, B>,
    thunks: &Thunks,
    site: u64,
    lfence: bool,
    its: Option<&mut ItsThunks>,
) -> Result<Vec<u8>, WarningKind> {
    let code = post.code(site).ok_or(WarningKind::OutsideModule)?;
    let insn = x86_insn::decode(code).ok_or(WarningKind::Undecodable)?;
    if !matches!(insn.opcode[0], x86_code::CALL | x86_code::JMP32) && !insn.is_jcc32() {
        return Err(WarningKind::UnexpectedCode);
    }
    let target = x86_code::branch_target(site, code, insn.len).ok_or(WarningKind::Undecodable)?;
    let register = thunks.register(target).ok_or(WarningKind::UnexpectedCode)?;
    if register == 4 {
        return Err(WarningKind::KernelBug);
    }
    let mut out = Vec::new();
    let mut op = insn.opcode[0];
    if insn.is_jcc32() {
        // The opposite condition jumps over the indirect jump that takes the place of the conditional one.
        out.extend([0x70 | (insn.opcode[1] & 0x0f) ^ 1, (insn.len as u8).wrapping_sub(2)]);
        op = x86_code::JMP32;
    }
    if lfence {
        out.extend([0x0f, 0xae, 0xe8]);
    }
    let last = site.wrapping_add(out.len() as u64).wrapping_add(1 + u64::from(register / 8));
    if let Some(its) = its
        && last & 0x20 == 0
    {
        let thunk = its.next(post.facts, register).ok_or(WarningKind::UnknownFact)?;
        return Ok(branch_to_thunk(site, &insn, thunk));
    }
    if register >= 8 {
        out.push(0x41);
    }
    let kind = if op == x86_code::CALL { 0xd0 } else { 0xe0 };
    out.extend([0xff, kind | register & 7]);
    if op == x86_code::JMP32 && out.len() < insn.len {
        out.push(x86_code::INT3);
    }
    // The replacement of a short branch with LFENCE may not fit: the kernel then leaves the site alone.
    if out.len() > insn.len {
        return Err(WarningKind::UnexpectedCode);
    }
    out.resize(insn.len, x86_code::NOP);
    Ok(out)
}

/// The same branch with another target.
fn branch_to_thunk(site: u64, insn: &Insn, thunk: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let mut op = insn.opcode[0];
    if insn.is_jcc32() {
        out.push(0x0f);
        op = insn.opcode[1];
    } else if insn.len == 6 {
        out.push(0x2e);
    }
    out.extend(x86_code::branch(op, site.wrapping_add(out.len() as u64), thunk));
    out.resize(insn.len, x86_code::NOP);
    out
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
    const THUNKS_AT: u64 = 0xffff_ffff_8200_0000;

    /// Runs one site with the facts and gives its bytes afterwards.
    fn patched(code: &[u8], retpolines: Retpolines) -> Vec<u8> {
        let mut bed = Bed::new(Arch::X86_64);
        bed.put(TEXT, code);
        let table = TEXT + 0x1000;
        bed.section(".retpoline_sites", table, &words(&[rel(table, TEXT)]));
        let mut facts = PlainFacts::default().with_symbol("__x86_indirect_thunk_array", THUNKS_AT);
        facts.retpolines = retpolines;
        facts.its_pages.push(Bed::X86_CORE + 0x2000);
        bed.run(&PatchProfile::x86_64_6_1(), &facts, |post| post.module_finalize()).unwrap();
        bed.get(TEXT, code.len()).to_vec()
    }

    fn to_thunk(prefix: &[u8], register: u64) -> Vec<u8> {
        let end = TEXT + prefix.len() as u64 + 4;
        let mut code = prefix.to_vec();
        code.extend(rel(end, THUNKS_AT + 32 * register).to_le_bytes());
        code
    }

    const PLAIN: Retpolines = Retpolines::Indirect { lfence: false, its: false };
    const LFENCE: Retpolines = Retpolines::Indirect { lfence: true, its: false };
    const ITS: Retpolines = Retpolines::Indirect { lfence: false, its: true };

    #[test]
    fn kept_where_the_cpu_needs_them() {
        let call = to_thunk(&[0xe8], 0);
        assert_eq!(patched(&call, Retpolines::Keep), call);
    }

    #[test]
    fn calls_and_jumps() {
        // call *%rax; nopl
        assert_eq!(patched(&to_thunk(&[0xe8], 0), PLAIN), [0xff, 0xd0, 0x0f, 0x1f, 0x00]);
        // cs call *%r11 with its prefix byte: call *%r11; nop
        assert_eq!(patched(&to_thunk(&[0x2e, 0xe8], 11), PLAIN), [0x41, 0xff, 0xd3, 0x0f, 0x1f, 0x00]);
        // jmp *%rdx; int3; nop
        assert_eq!(patched(&to_thunk(&[0xe9], 2), PLAIN), [0xff, 0xe2, 0xcc, 0x66, 0x90]);
        // lfence; call *%rax
        assert_eq!(patched(&to_thunk(&[0xe8], 0), LFENCE), [0x0f, 0xae, 0xe8, 0xff, 0xd0]);
        // lfence and a call through %r11 make six bytes and fit behind a prefix only
        let short = to_thunk(&[0xe8], 11);
        assert_eq!(patched(&short, LFENCE), short);
    }

    #[test]
    fn conditional_jumps_turn_around() {
        // je thunk: jne +4; jmp *%rax; int3; nop
        assert_eq!(patched(&to_thunk(&[0x0f, 0x84], 0), PLAIN), [0x75, 0x04, 0xff, 0xe0, 0xcc, 0x90]);
    }

    /// No thunk's branch ends in the lower half of a cache line, and none crosses a page.
    #[test]
    fn its_thunks_fill_upper_halves() {
        let facts = PlainFacts { its_pages: [0x1_0000, 0x2_0000].to_vec(), ..PlainFacts::default() };
        let mut thunks = ItsThunks::default();
        let mut last = 0;
        for index in 0..900 {
            let register = if index % 3 == 0 { 8 } else { 1 };
            let thunk = thunks.next(&facts, register).unwrap();
            let end = thunk + 2 + u64::from(register / 8);
            assert!(thunk > last && end % 64 >= 32 && thunk & !0xfff == end & !0xfff, "{thunk:#x}");
            last = end;
        }
        assert!(last > 0x2_0000 && thunks.pages == 2);
    }

    #[test]
    fn its_thunks_in_lower_halves() {
        // TEXT is the start of a cache line; the distance to the first thunk at +0x2020
        assert_eq!(patched(&to_thunk(&[0xe8], 0), ITS), [0xe8, 0x1b, 0x20, 0, 0]);
    }
}
