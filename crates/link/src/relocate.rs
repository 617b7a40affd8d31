//! Applying relocations.

use alloc::collections::BTreeMap;
use core::ops::DerefMut;

use lkm_module::elf::consts::SHT_REL;
use lkm_module::elf::consts::SHT_RELA;

use crate::LinkError;
use crate::arch;
use crate::arch::RelocSection;
use crate::image::Image;
use crate::info::LoadInfo;
use crate::rules::LinkRules;
use crate::symbols::Symbols;

/// One applied relocation, as an observer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelocEvent<'a> {
    /// Index of the relocation section.
    pub section: usize,
    /// Which of its entries, counted in the order in which the kernel applies them.
    pub index: usize,
    /// The type; [`Arch::reloc_name`](crate::Arch::reloc_name) gives its name.
    pub kind: u32,
    /// Index of the symbol.
    pub symbol: u32,
    /// Address of the place (P).
    pub place: u64,
    /// Value of the symbol (S).
    pub value: u64,
    /// The addend (A), read from the place for `SHT_REL`.
    pub addend: i64,
    /// The bytes at the place before.
    pub before: &'a [u8],
    /// The bytes at the place after.
    pub after: &'a [u8],
}

/// Listens to each relocation as it is applied. `()` listens to nothing and costs nothing.
pub trait RelocObserver {
    /// Whether anything listens.
    const ENABLED: bool;

    /// A relocation was applied.
    fn relocated(&mut self, event: &RelocEvent<'_>);
}

impl RelocObserver for () {
    const ENABLED: bool = false;

    fn relocated(&mut self, _: &RelocEvent<'_>) {}
}

/// What [`apply_relocations`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelocStats {
    /// Relocation sections applied.
    pub sections: usize,
    /// Relocations applied.
    pub relocations: usize,
    /// x86: pc-relative values that were cut off. The kernel does not test these and the code goes astray.
    pub overflows: usize,
    /// Section and entry of the first of them.
    pub first_overflow: Option<(usize, usize)>,
    /// ARM: PLT slots in use in the core and in the init part, fixed ones included.
    pub plt_slots: [usize; 2],
    /// ARM up to 4.8: the slots by part and target.
    pub(crate) plt_found: BTreeMap<(bool, u32), usize>,
}

/// `apply_relocations()`: applies every relocation section whose target is in module memory, in the order of the
/// section table; the first failure ends it.
pub fn apply_relocations<B: DerefMut<Target = [u8]>, O: RelocObserver>(
    info: &LoadInfo<'_>,
    rules: &LinkRules,
    symbols: &Symbols,
    image: &mut Image<B>,
    observer: &mut O,
) -> Result<RelocStats, LinkError> {
    let mut stats = RelocStats::default();
    let mut budget = info.elf.data.len();
    for (section, header) in info.sections.iter().enumerate().skip(1) {
        let target = header.info as usize;
        let Some(target_header) = info.sections.get(target) else { continue };
        let percpu = rules.relocate_percpu && target != 0 && target == info.index.pcpu;
        if !target_header.is_alloc() && !percpu {
            continue;
        }
        let form = match header.kind {
            SHT_REL => arch::apply_relocate::<B, O>,
            SHT_RELA => arch::apply_relocate_add::<B, O>,
            _ => continue,
        };
        if percpu && image.percpu.is_empty() {
            image.percpu = info.contents(target).to_vec();
        }
        let records = info.contents(section);
        budget = budget.checked_sub(records.len()).ok_or(LinkError::RelocsOverlap { section })?;
        let relocs = RelocSection { section, target, records };
        stats.sections += 1;
        form(info, rules, symbols, relocs, image, observer, &mut stats)?;
    }
    Ok(stats)
}

/// The bytes of a section in module memory.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    /// Its bytes.
    pub(crate) bytes: &'a mut [u8],
    /// Address of the section.
    pub(crate) address: u64,
}

impl Target<'_> {
    /// The place of a relocation; `None` if it is not inside the section.
    #[inline(always)]
    pub(crate) fn place<const SIZE: usize>(&mut self, offset: u64) -> Option<&mut [u8; SIZE]> {
        self.bytes.get_mut(usize::try_from(offset).ok()?..)?.first_chunk_mut()
    }
}

/// The bytes of a section in module memory. Empty if it has none there.
pub(crate) fn target<'a, B: DerefMut<Target = [u8]>>(
    info: &LoadInfo<'_>,
    image: &'a mut Image<B>,
    section: usize,
) -> Target<'a> {
    let address = info.section_addr(section);
    if section == info.index.pcpu && section != 0 {
        return Target { bytes: &mut image.percpu, address };
    }
    Target { bytes: section_bytes(info, image, section).unwrap_or(&mut []), address }
}

fn section_bytes<'a, B: DerefMut<Target = [u8]>>(
    info: &LoadInfo<'_>,
    image: &'a mut Image<B>,
    section: usize,
) -> Option<&'a mut [u8]> {
    let at = info.placement.get(section).copied().flatten()?;
    let region = image.region_mut(at.region)?;
    let limit = usize::try_from(region.layout.size).ok()?;
    let start = usize::try_from(at.offset).ok()?;
    let bytes = region.bytes.get_mut(..limit)?.get_mut(start..)?;
    // A section without contents may be said to be larger than its allocation.
    let size = usize::try_from(info.sections.get(section)?.size).unwrap_or(usize::MAX).min(bytes.len());
    bytes.get_mut(..size)
}

#[cfg(test)]
mod tests {
    use lkm_module::elf::Elf;
    use lkm_module::elf::consts::*;

    use super::*;
    use crate::Arch;
    use crate::test_support::*;

    const BASE: u64 = 0xffff_ffff_c000_0000;

    #[test]
    fn the_percpu_template_is_relocated_by_new_kernels_only() {
        let mut object = module(Arch::X86_64);
        let data = object.section(".data", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, 8, &[0; 8]);
        let percpu = object.section(".data..percpu", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, 8, &[0; 16]);
        let symbol = object.local("there", data, 4);
        let own = object.local("own", percpu, 8);
        object.reloc(percpu, 0, symbol, 1, 0);
        object.reloc(percpu, 8, own, 1, 0);
        let file = object.finish();
        let rules = rules_6_1(Arch::X86_64);
        let old = link(&file, Arch::X86_64, &rules, BASE, &mut Exports::default(), &mut ()).unwrap();
        assert_eq!((old.stats.sections, old.image.percpu.len()), (0, 0));
        let rules = LinkRules { relocate_percpu: true, ..rules };
        let new = link(&file, Arch::X86_64, &rules, BASE, &mut Exports::default(), &mut ()).unwrap();
        let mut expected = (new.info.section_addr(data) + 4).to_le_bytes().to_vec();
        // Its own symbols are relative to the cookie of its per-cpu memory.
        expected.extend_from_slice(&0x34008u64.to_le_bytes());
        assert_eq!(new.image.percpu, expected);
    }

    #[test]
    fn sections_that_change_nothing_in_memory_are_skipped() {
        let mut object = module(Arch::X86_64);
        let debug = object.section(".debug_info", SHT_PROGBITS, 0, 1, &[0; 8]);
        let symbol = object.absolute("there", 1);
        // A type that no kernel knows.
        object.reloc(debug, 0, symbol, 77, 0);
        let mut file = object.finish();
        let run = |file: &[u8]| {
            let rules = rules_6_1(Arch::X86_64);
            link(file, Arch::X86_64, &rules, BASE, &mut Exports::default(), &mut ())
                .map(|linked| linked.stats)
        };
        assert_eq!(run(&file).unwrap(), RelocStats::default());
        // So are those that are said to change a section that is not there.
        let elf = Elf::parse(&file).unwrap();
        let relocs = elf.sections.iter().position(|section| section.kind == SHT_RELA).unwrap();
        let sh_info = elf.header.shoff as usize + 64 * relocs + 44;
        let this_module = 2u32;
        for (target, links) in [(this_module, false), (elf.sections.len() as u32, true), (u32::MAX, true)] {
            file[sh_info..sh_info + 4].copy_from_slice(&target.to_le_bytes());
            assert_eq!(run(&file).is_ok(), links, "{target}");
        }
    }
}
