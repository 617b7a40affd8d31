//! `.alt.smp.init`: instructions of an SMP kernel that hardware with one CPU does not have.

use core::ops::DerefMut;

use super::Post;
use super::PostError;
use super::Rule;
use super::relative;
use super::s32;

const RULE: Rule = Rule::AltSmp;

/// # Errors
/// [`PostError::SmpModuleOnUp`] where such hardware meets a kernel that cannot patch.
pub(super) fn apply<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>) -> Result<(), PostError> {
    if !post.on(RULE) || post.facts.is_smp() {
        return Ok(());
    }
    let Some(table) = post.section(".alt.smp.init") else { return Ok(()) };
    if !post.profile.smp_on_up {
        return Err(PostError::SmpModuleOnUp);
    }
    let Some(bytes) = post.bytes(RULE, table) else { return Ok(()) };
    for (index, raw) in bytes.chunks_exact(8).enumerate() {
        let site = relative(table.address.wrapping_add(index as u64 * 8), s32(raw, 0)) & 0xffff_ffff;
        if let Some(insn) = raw.get(4..) {
            post.patch(RULE, site, insn);
        }
    }
    Ok(())
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
    fn one_cpu_gets_other_instructions_or_none() {
        let (text, table) = (Bed::ARM_CORE, Bed::ARM_CORE + 0x100);
        let run = |smp: bool, smp_on_up: bool| {
            let mut bed = Bed::new(Arch::Arm);
            bed.put(text, &words(&[0xe320_f004]));
            bed.section(".alt.smp.init", table, &words(&[rel(table, text), 0xe320_f000]));
            let facts = PlainFacts { smp, ..PlainFacts::default() };
            let profile = PatchProfile { smp_on_up, ..PatchProfile::arm_6_1() };
            let result = bed.run(&profile, &facts, |post| post.module_finalize());
            (result, bed.image.read_u32(text).unwrap())
        };
        assert_eq!(run(true, false), (Ok(()), 0xe320_f004));
        assert_eq!(run(false, true), (Ok(()), 0xe320_f000));
        assert_eq!(run(false, false), (Err(PostError::SmpModuleOnUp), 0xe320_f004));
    }
}
