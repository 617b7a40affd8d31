//! `.static_call_sites`: calls through trampolines become direct calls of what the trampoline jumps to.

use alloc::vec::Vec;
use core::ops::DerefMut;

use super::MaskRule;
use super::Post;
use super::PostError;
use super::Rule;
use super::StaticCallTarget;
use super::Table;
use super::Trampoline;
use super::WarningKind;
use super::relative;
use super::s32;
use super::x86_code;
use crate::Arch;
use crate::sort::heapsort;

/// Bit 0 of a site's key: the call is a jump at the end of a function.
const TAIL: u64 = 1;

/// Bit 1 of a site's key: the code is in init memory.
const INIT: u64 = 2;

const FLAGS: u64 = TAIL | INIT;

/// `struct static_call_site`, absolute.
#[derive(Clone, Copy)]
struct Site {
    address: u64,
    key: u64,
    flags: u64,
}

pub(super) fn apply<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>) -> Result<(), PostError> {
    if !post.on(Rule::StaticCallTable) || post.info.arch != Arch::X86_64 {
        return Ok(());
    }
    let Some(table) = post.section(".static_call_sites") else { return Ok(()) };
    let Some(bytes) = post.bytes(Rule::StaticCallTable, table) else { return Ok(()) };
    if bytes.len() % 8 != 0 {
        post.warn(Rule::StaticCallTable, table.address, WarningKind::TableSize);
    }
    let mut sites: Vec<Site> = bytes
        .chunks_exact(8)
        .enumerate()
        .map(|(index, raw)| {
            let at = field(table, index);
            let key = relative(at.wrapping_add(4), s32(raw, 4));
            Site { address: relative(at, s32(raw, 0)), key: key & !FLAGS, flags: key & FLAGS }
        })
        .collect();
    let converted = trampolines_to_keys(post, &mut sites);
    if converted.is_ok() {
        heapsort(post.profile.sort, &mut sites, |a, b| a.key.cmp(&b.key));
        for site in &mut sites {
            if post.within_init(site.address) {
                site.flags |= INIT;
            }
        }
    }
    let mut sorted = Vec::with_capacity(bytes.len());
    for (index, site) in sites.iter().enumerate() {
        let at = field(table, index);
        sorted.extend((site.address.wrapping_sub(at) as u32).to_le_bytes());
        sorted.extend(((site.key | site.flags).wrapping_sub(at.wrapping_add(4)) as u32).to_le_bytes());
    }
    post.patch(Rule::StaticCallTable, table.address, &sorted);
    converted?;

    for group in sites.chunk_by(|a, b| a.key == b.key) {
        let Some(key) = group.first().map(|site| site.key) else { continue };
        let own = post.image.locate(key).is_some();
        if own {
            let mods = key.wrapping_add(post.profile.offsets.static_call_key_mods);
            post.mask(MaskRule::StaticCallKeyMods, mods, post.word());
        }
        if !post.on(Rule::StaticCallSites) {
            continue;
        }
        let Some(target) = (if own { own_target(post, key) } else { post.facts.static_call(key) }) else {
            post.warn(Rule::StaticCallSites, key, WarningKind::UnknownFact);
            continue;
        };
        for site in group {
            if let Err(kind) = transform(post, site, target) {
                post.warn(Rule::StaticCallSites, site.address, kind);
            }
        }
    }
    Ok(())
}

fn field(table: Table, index: usize) -> u64 {
    table.address.wrapping_add(index as u64 * 8)
}

/// Where a key is not exported, modules refer to the trampoline, and the kernel knows the key. Stops at the first
/// that it does not know, as the kernel does: those before are converted.
fn trampolines_to_keys<B: DerefMut<Target = [u8]>>(
    post: &Post<'_, '_, B>,
    sites: &mut [Site],
) -> Result<(), PostError> {
    for site in sites {
        match post.facts.static_call_trampoline(site.key) {
            Trampoline::NotText => {}
            Trampoline::Key(key) => site.key = key,
            Trampoline::Unknown => return Err(PostError::StaticCallFixup { site: site.address }),
        }
    }
    Ok(())
}

/// What a key in the module's own data calls: its first word.
fn own_target<B: DerefMut<Target = [u8]>>(post: &Post<'_, '_, B>, key: u64) -> Option<StaticCallTarget> {
    Some(match post.pointer(key)? {
        0 => StaticCallTarget::Null,
        func if Some(func) == post.facts.symbol("__static_call_return0") => StaticCallTarget::Return0,
        func => StaticCallTarget::Func(func),
    })
}

fn transform<B: DerefMut<Target = [u8]>>(
    post: &mut Post<'_, '_, B>,
    site: &Site,
    target: StaticCallTarget,
) -> Result<(), WarningKind> {
    let at = site.address;
    let code = post.code(at).ok_or(WarningKind::OutsideModule)?;
    let return0 =
        |post: &Post<'_, '_, B>| post.facts.symbol("__static_call_return0").ok_or(WarningKind::UnknownFact);
    let opcode = code.first().copied().ok_or(WarningKind::OutsideModule)?;
    let condition = match code {
        [0x0f, second, ..] if second & 0xf0 == 0x80 => Some(*second),
        _ => None,
    };
    if site.flags & TAIL == 0 {
        if opcode != x86_code::CALL
            && !code.starts_with(&x86_code::NOP5)
            && !code.starts_with(&x86_code::XOR5RAX)
        {
            return Err(WarningKind::KernelBug);
        }
        let new = match target {
            StaticCallTarget::Null => x86_code::NOP5,
            StaticCallTarget::Return0 => x86_code::XOR5RAX,
            StaticCallTarget::Func(func) => x86_code::branch(x86_code::CALL, at, func),
        };
        post.patch(Rule::StaticCallSites, at, &new);
        return Ok(());
    }
    let func = match target {
        StaticCallTarget::Null => None,
        StaticCallTarget::Func(func) => Some(func),
        StaticCallTarget::Return0 => Some(return0(post)?),
    };
    if let Some(condition) = condition {
        let func = match func.or(post.facts.return_thunk().any()) {
            Some(func) => func,
            None => post.facts.symbol("__static_call_return").ok_or(WarningKind::UnknownFact)?,
        };
        let [second, a, b, c, d] = x86_code::branch(condition, at.wrapping_add(1), func);
        post.patch(Rule::StaticCallSites, at, &[0x0f, second, a, b, c, d]);
        return Ok(());
    }
    if opcode != x86_code::JMP32 && opcode != x86_code::RET {
        return Err(WarningKind::KernelBug);
    }
    let new = match func.or(post.facts.return_thunk().target(at)) {
        Some(target) => x86_code::branch(x86_code::JMP32, at, target),
        None => x86_code::RET5,
    };
    post.patch(Rule::StaticCallSites, at, &new);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::PatchProfile;
    use super::super::PlainFacts;
    use super::super::ReturnThunk;
    use super::super::testing::Bed;
    use super::super::testing::longs;
    use super::super::testing::rel;
    use super::super::testing::words;
    use super::*;

    const TEXT: u64 = Bed::X86_CORE;
    const TABLE: u64 = Bed::X86_CORE + 0x1000;
    const OWN: u64 = Bed::X86_CORE + 0x2000;
    const KEY: u64 = 0xffff_ffff_8200_0000;
    const TRAMPOLINE: u64 = 0xffff_ffff_8100_0040;
    const FUNC: u64 = Bed::X86_CORE + 0x505;

    fn entry(index: u64, site: u64, key: u64) -> Vec<u8> {
        let at = TABLE + 8 * index;
        words(&[rel(at, site), rel(at + 4, key)])
    }

    fn facts(target: StaticCallTarget) -> PlainFacts {
        let mut facts = PlainFacts::default().with_symbol("__static_call_return0", FUNC + 0x100);
        facts.text = 0xffff_ffff_8100_0000..0xffff_ffff_8180_0000;
        facts.trampolines.insert(TRAMPOLINE, KEY);
        facts.static_calls.insert(KEY, target);
        facts
    }

    #[test]
    fn trampolines_become_keys_and_the_table_is_sorted() {
        let mut bed = Bed::new(Arch::X86_64);
        bed.put(TEXT, &[0xe8, 0, 0, 0, 0]);
        bed.put(Bed::X86_INIT, &[0xe9, 0, 0, 0, 0]);
        bed.put(OWN, &longs(&[FUNC, 0]));
        bed.section(
            ".static_call_sites",
            TABLE,
            &[entry(0, TEXT, OWN), entry(1, Bed::X86_INIT, TRAMPOLINE | TAIL)].concat(),
        );
        bed.run_all(&PatchProfile::x86_64_6_1(), &facts(StaticCallTarget::Null)).unwrap();
        let sorted = [entry(0, Bed::X86_INIT, KEY | TAIL | INIT), entry(1, TEXT, OWN)];
        assert_eq!(bed.get(TABLE, 16), sorted.concat());
        assert_eq!(bed.get(TEXT, 5), [0xe8, 0x00, 0x05, 0, 0]);
        assert_eq!(bed.get(Bed::X86_INIT, 5), [0xc3, 0xcc, 0xcc, 0xcc, 0xcc]);
        assert_eq!(bed.record.masks, [(MaskRule::StaticCallKeyMods, OWN + 8, 8)]);
    }

    fn site(code: &[u8], tail: u64, target: StaticCallTarget, thunk: ReturnThunk) -> Vec<u8> {
        let mut bed = Bed::new(Arch::X86_64);
        bed.put(TEXT, code);
        bed.section(".static_call_sites", TABLE, &entry(0, TEXT, KEY | tail));
        let facts = PlainFacts { return_thunk: thunk, ..facts(target) };
        bed.run_all(&PatchProfile::x86_64_6_1(), &facts).unwrap();
        bed.get(TEXT, code.len()).to_vec()
    }

    #[test]
    fn forms_of_sites() {
        use StaticCallTarget::*;
        let (call, jmp, je) = ([0xe8, 9, 9, 9, 9], [0xe9, 9, 9, 9, 9], [0x0f, 0x84, 9, 9, 9, 9]);
        let ret = ReturnThunk::Ret;
        assert_eq!(site(&call, 0, Func(FUNC), ret), [0xe8, 0x00, 0x05, 0, 0]);
        assert_eq!(site(&call, 0, Null, ret), x86_code::NOP5);
        assert_eq!(site(&call, 0, Return0, ret), x86_code::XOR5RAX);
        assert_eq!(site(&jmp, TAIL, Func(FUNC), ret), [0xe9, 0x00, 0x05, 0, 0]);
        assert_eq!(site(&jmp, TAIL, Return0, ret), [0xe9, 0x00, 0x06, 0, 0]);
        assert_eq!(site(&jmp, TAIL, Null, ReturnThunk::Thunk(FUNC)), [0xe9, 0x00, 0x05, 0, 0]);
        assert_eq!(site(&je, TAIL, Func(FUNC), ret), [0x0f, 0x84, 0xff, 0x04, 0, 0]);
        assert_eq!(site(&je, TAIL, Null, ReturnThunk::Thunk(FUNC)), [0x0f, 0x84, 0xff, 0x04, 0, 0]);
        // Anything else there would stop the kernel.
        assert_eq!(site(&[0x90; 5], 0, Null, ret), [0x90; 5]);
    }

    #[test]
    fn unknown_trampolines_are_refused() {
        let mut bed = Bed::new(Arch::X86_64);
        bed.section(".static_call_sites", TABLE, &entry(0, TEXT, TRAMPOLINE + 8));
        let error = bed.run_all(&PatchProfile::x86_64_6_1(), &facts(StaticCallTarget::Null)).unwrap_err();
        assert_eq!(error, PostError::StaticCallFixup { site: TEXT });
        assert_eq!(error.errno().raw(), 22);
        let mut line = alloc::string::String::new();
        let level = error.log(|site, out| write!(out, "f+{:#x}", site - TEXT), &mut line).unwrap();
        assert_eq!(line, "Failed to fixup __raw_static_call() usage at: f+0x0");
        assert_eq!(level, Some(lkm_module::Level::Warning));
    }
}
