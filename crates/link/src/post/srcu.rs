//! `___srcu_struct_ptrs`: each gets a per-cpu allocation, which only the running kernel can name.

use core::ops::DerefMut;

use lkm_module::elf::consts::STT_OBJECT;

use super::MaskRule;
use super::Post;

pub(super) fn apply<B: DerefMut<Target = [u8]>>(post: &mut Post<'_, '_, B>) {
    let Some(table) = post.section("___srcu_struct_ptrs") else { return };
    let word = post.word();
    for index in 0..table.size / word as u64 {
        let Some(srcu) = post.pointer(table.address.wrapping_add(index * word as u64)) else { return };
        match object_size(post, srcu).filter(|_| post.profile.srcu_whole) {
            Some(size) => post.mask(MaskRule::SrcuStruct, srcu, size),
            None => {
                let sda = srcu.wrapping_add(post.profile.offsets.srcu_sda);
                post.mask(MaskRule::SrcuStruct, sda, word);
            }
        }
    }
}

/// Bytes of the object at an address, as the symbol table has them.
fn object_size<B>(post: &Post<'_, '_, B>, address: u64) -> Option<usize> {
    let info = post.info;
    let symbols = (1..info.symbol_count() as u32).filter_map(|index| info.symbol(index));
    let at = |shndx, value| info.section_addr(usize::from(shndx)).wrapping_add(value);
    let object = |symbol: &lkm_module::elf::RawSymbol| {
        symbol.shndx != 0 && symbol.kind() == STT_OBJECT && at(symbol.shndx, symbol.value) == address
    };
    usize::try_from(symbols.into_iter().find(object)?.size).ok()
}

#[cfg(test)]
mod tests {
    use super::super::PatchProfile;
    use super::super::PlainFacts;
    use super::super::testing::Bed;
    use super::super::testing::longs;
    use super::*;
    use crate::Arch;

    #[test]
    fn the_percpu_pointer_is_masked() {
        let mut bed = Bed::new(Arch::X86_64);
        let srcu = Bed::X86_CORE + 0x400;
        bed.section("___srcu_struct_ptrs", Bed::X86_CORE + 0x100, &longs(&[srcu]));
        bed.run_all(&PatchProfile::x86_64_6_1(), &PlainFacts::default()).unwrap();
        assert_eq!(bed.record.masks, [(MaskRule::SrcuStruct, srcu + 192, 8)]);
    }
}
