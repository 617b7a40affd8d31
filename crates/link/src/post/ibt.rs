//! `.ibt_endbr_seal`: functions whose address nobody takes lose their ENDBR.

use core::ops::DerefMut;

use super::Post;
use super::Rule;
use super::WarningKind;
use super::relative;
use super::s32;

const RULE: Rule = Rule::IbtSeal;

const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

/// A NOP that nothing else uses, so that a sealed place can be told.
const SEALED: [u8; 4] = [0x66, 0x0f, 0x1f, 0x00];

pub(super) fn apply<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>) {
    if !post.on(RULE) {
        return;
    }
    let Some(table) = post.last_section(".ibt_endbr_seal") else { return };
    let Some(bytes) = post.bytes(RULE, table) else { return };
    for (index, raw) in bytes.chunks_exact(4).enumerate() {
        let site = relative(table.address.wrapping_add(index as u64 * 4), s32(raw, 0));
        match post.image.slice(site, 4) {
            Some(code) if code == ENDBR64 => {
                post.patch(RULE, site, &SEALED);
            }
            Some(_) => post.warn(RULE, site, WarningKind::UnexpectedCode),
            None => post.warn(RULE, site, WarningKind::OutsideModule),
        }
    }
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

    #[test]
    fn seals_endbr_only() {
        for (profile, sealed) in [(PatchProfile::x86_64_6_12(), true), (PatchProfile::x86_64_6_1(), false)] {
            let mut bed = Bed::new(Arch::X86_64);
            let (text, table) = (Bed::X86_CORE, Bed::X86_CORE + 0x100);
            bed.put(text, &[0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x48, 0x89, 0xe5]);
            bed.section(".ibt_endbr_seal", table, &words(&[rel(table, text), rel(table + 4, text + 4)]));
            bed.run(&profile, &PlainFacts::default(), |post| post.module_finalize()).unwrap();
            assert_eq!(bed.get(text, 4), if sealed { SEALED } else { ENDBR64 });
            assert_eq!(bed.get(text + 4, 4), [0x55, 0x48, 0x89, 0xe5]);
        }
    }
}
