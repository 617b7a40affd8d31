//! `.smp_locks`: LOCK prefixes that a single CPU does not need.

use core::ops::DerefMut;

use super::Post;
use super::Rule;
use super::WarningKind;
use super::relative;
use super::s32;
use crate::RegionKind;

const RULE: Rule = Rule::SmpLocks;

const LOCK: u8 = 0xf0;
const DS: u8 = 0x3e;

pub(super) fn apply<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>) {
    if !post.on(RULE) || !post.facts.up_patched() {
        return;
    }
    let Some(table) = post.last_section(".smp_locks") else { return };
    let range = if post.profile.locks_in_all_text {
        post.image.region(RegionKind::Text).map(|region| (region.base, region.layout.size))
    } else {
        post.last_section(".text").map(|text| (text.address, text.size))
    };
    let Some((start, size)) = range else { return };
    let Some(bytes) = post.bytes(RULE, table) else { return };
    for (index, raw) in bytes.chunks_exact(4).enumerate() {
        let offset = s32(raw, 0);
        let site = relative(table.address.wrapping_add(index as u64 * 4), offset);
        if offset == 0 || site.wrapping_sub(start) >= size {
            continue;
        }
        match post.image.slice(site, 1) {
            Some([LOCK]) => {
                post.patch(RULE, site, &[DS]);
            }
            Some(_) => {}
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
    use crate::Arch;

    #[test]
    fn lock_prefixes_of_text_only() {
        for up in [true, false] {
            let mut bed = Bed::new(Arch::X86_64);
            let (text, exit, table) = (Bed::X86_CORE, Bed::X86_CORE + 0x40, Bed::X86_CORE + 0x100);
            bed.section(".text", text, &[0xf0, 0xff, 0x07, 0x3e, 0xff, 0x07]);
            bed.section(".exit.text", exit, &[0xf0, 0xff, 0x07]);
            bed.section(
                ".smp_locks",
                table,
                &words(&[rel(table, text), rel(table + 4, text + 3), rel(table + 8, exit), 0]),
            );
            let facts = PlainFacts { up_patched: up, ..PlainFacts::default() };
            bed.run(&PatchProfile::x86_64_6_1(), &facts, |post| post.module_finalize()).unwrap();
            let first = if up { 0x3e } else { 0xf0 };
            assert_eq!(bed.get(text, 6), [first, 0xff, 0x07, 0x3e, 0xff, 0x07]);
            assert_eq!(bed.get(exit, 3), [0xf0, 0xff, 0x07]);
            assert_eq!(bed.record.patches.len(), usize::from(up));
        }
    }
}
