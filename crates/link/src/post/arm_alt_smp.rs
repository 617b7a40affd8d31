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
