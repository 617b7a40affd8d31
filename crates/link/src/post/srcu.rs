//! `___srcu_struct_ptrs`: each gets a per-cpu allocation, which only the running kernel can name.

use core::ops::DerefMut;

use super::MaskRule;
use super::Post;

pub(super) fn apply<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>) {
    let Some(table) = post.section("___srcu_struct_ptrs") else { return };
    let word = post.word();
    for index in 0..table.size / word as u64 {
        let Some(srcu) = post.pointer(table.address.wrapping_add(index * word as u64)) else { return };
        let sda = srcu.wrapping_add(post.profile.offsets.srcu_sda);
        post.mask(MaskRule::SrcuStruct, sda, word);
    }
}
