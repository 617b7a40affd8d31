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
