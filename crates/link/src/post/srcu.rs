//! `___srcu_struct_ptrs`: what static SRCU domains of modules need at run time.

use core::ops::DerefMut;

use super::MaskRule;
use super::Post;
use super::Rule;
use super::SrcuInit;
use super::WarningKind;

const RULE: Rule = Rule::SrcuInit;

/// A work item that belongs to no pool: all bits of the pool's number, above the five flag bits.
const WORK_NO_POOL: u64 = 0xf_ffff_ffe0;

/// `TIMER_IRQSAFE`
const TIMER_IRQSAFE: u32 = 0x0020_0000;

pub(super) fn apply<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>) {
    let Some(table) = post.section("___srcu_struct_ptrs") else { return };
    let word = post.word();
    for index in 0..table.size / word as u64 {
        let Some(srcu) = post.pointer(table.address.wrapping_add(index * word as u64)) else { return };
        if let Some(init) = post.profile.offsets.srcu_init
            && post.on(RULE)
        {
            initialise(post, srcu, &init);
        }
        post.mask(MaskRule::SrcuStruct, srcu.wrapping_add(post.profile.offsets.srcu_sda), word);
    }
}

/// `init_srcu_struct` on memory that is all zero.
fn initialise<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>, srcu: u64, init: &SrcuInit) {
    let word = post.word();
    for offset in init.list_heads {
        let head = srcu.wrapping_add(offset);
        post.patch_pointer(RULE, head, head);
        post.patch_pointer(RULE, head.wrapping_add(word as u64), head);
    }
    post.patch_pointer(RULE, srcu.wrapping_add(init.work_data), WORK_NO_POOL);
    for (offset, name) in [(init.work_func, "process_srcu"), (init.timer_function, "delayed_work_timer_fn")] {
        let place = srcu.wrapping_add(offset);
        match post.facts.symbol(name) {
            Some(function) => {
                post.patch_pointer(RULE, place, function);
            }
            None => post.warn(RULE, place, WarningKind::UnknownFact),
        }
    }
    let flags = post.image.endian.u32_bytes(TIMER_IRQSAFE);
    post.patch(RULE, srcu.wrapping_add(init.timer_flags), &flags);
    post.mask(MaskRule::SrcuStruct, srcu.wrapping_add(init.last_gp_end), word);
}

#[cfg(test)]
mod tests {
    use super::super::PatchProfile;
    use super::super::PlainFacts;
    use super::super::testing::Bed;
    use super::super::testing::longs;
    use super::super::testing::words;
    use super::*;
    use crate::Arch;

    const FACTS: [(&str, u64); 2] = [("process_srcu", 0xc03d_9a38), ("delayed_work_timer_fn", 0xc036_91d0)];

    fn facts() -> PlainFacts {
        FACTS.into_iter().fold(PlainFacts::default(), |facts, (name, at)| facts.with_symbol(name, at))
    }

    /// Words other than zero of `drm_unplug_srcu` in a running 6.1 armmp kernel, moved to this address; without the
    /// time and the per-cpu pointer.
    #[test]
    fn as_in_a_running_kernel() {
        let mut bed = Bed::new(Arch::Arm);
        let srcu = Bed::ARM_CORE + 0xc28;
        bed.section("___srcu_struct_ptrs", Bed::ARM_CORE + 0x100, &words(&[srcu as u32]));
        bed.run_all(&PatchProfile::arm_6_1(), &facts()).unwrap();
        let at = srcu as u32;
        let expected = [
            (28, at + 28),
            (32, at + 28),
            (52, at + 52),
            (56, at + 52),
            (120, at + 120),
            (124, at + 120),
            (156, 0xffff_ffe0),
            (160, at + 160),
            (164, at + 160),
            (168, 0xc03d_9a38),
            (184, 0xc036_91d0),
            (188, 0x20_0000),
        ];
        for offset in (0..200).step_by(4) {
            let word = expected.iter().find(|row| row.0 == offset).map_or(0, |row| row.1);
            assert_eq!(bed.image.read_u32(srcu + offset), Some(word), "at {offset}");
        }
        let masks = [(MaskRule::SrcuStruct, srcu + 80, 4), (MaskRule::SrcuStruct, srcu + 96, 4)];
        assert_eq!(bed.record.masks, masks);
    }

    #[test]
    fn later_kernels_only_allocate() {
        let mut bed = Bed::new(Arch::X86_64);
        let srcu = Bed::X86_CORE + 0x400;
        bed.section("___srcu_struct_ptrs", Bed::X86_CORE + 0x100, &longs(&[srcu]));
        bed.run_all(&PatchProfile::x86_64_6_12(), &facts()).unwrap();
        assert_eq!(bed.get(srcu, 392), [0; 392]);
        assert_eq!(bed.record.masks, [(MaskRule::SrcuStruct, srcu + 8, 8)]);
    }
}
