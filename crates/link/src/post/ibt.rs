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
