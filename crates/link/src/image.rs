//! A module's memory while it is being linked.

use alloc::vec::Vec;
use core::ops::DerefMut;

use lkm_module::elf::Endian;
use lkm_module::elf::SectionHeader;

use crate::LinkError;
use crate::info::LoadInfo;

/// One allocation of a module's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum RegionKind {
    /// Core of kernels up to 6.3.
    Core,
    /// Init part of kernels up to 6.3.
    Init,
    /// `MOD_TEXT`
    Text,
    /// `MOD_DATA`
    Data,
    /// `MOD_RODATA`
    RoData,
    /// `MOD_RO_AFTER_INIT`
    RoAfterInit,
    /// `MOD_INIT_TEXT`
    InitText,
    /// `MOD_INIT_DATA`
    InitData,
    /// `MOD_INIT_RODATA`
    InitRoData,
}

impl RegionKind {
    /// It is given back after the init function has returned.
    pub const fn is_init(self) -> bool {
        matches!(
            self,
            RegionKind::Init | RegionKind::InitText | RegionKind::InitData | RegionKind::InitRoData
        )
    }
}

/// Sizes of one allocation, in bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionLayout {
    /// Which one.
    pub kind: RegionKind,
    /// All of it.
    pub size: u64,
    /// End of the executable part; only for [`RegionKind::Core`] and [`RegionKind::Init`].
    pub text_size: u64,
    /// End of the read-only part (`ro_size`); likewise.
    pub ro_size: u64,
    /// End of the part that is read-only after init (`ro_after_init_size`); likewise.
    pub ro_after_init_size: u64,
}

/// An allocation with its address and bytes. `B` is what the host gave: a `Vec<u8>`, or the memory itself.
#[derive(Debug)]
pub struct Region<B> {
    /// Its sizes.
    pub layout: RegionLayout,
    /// Address in the kernel.
    pub base: u64,
    /// Its bytes, at least `layout.size` of them.
    pub bytes: B,
}

/// Where a section or table lies in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The allocation.
    pub region: RegionKind,
    /// Offset in it, in bytes.
    pub offset: u64,
}

/// A module's memory while it is being linked: every allocation with its bytes.
#[derive(Debug)]
pub struct Image<B> {
    /// Byte order.
    pub endian: Endian,
    /// The allocations, in the order in which the kernel makes them.
    pub regions: Vec<Region<B>>,
    /// The per-cpu template after its relocations, on kernels that apply them (from 6.16); else empty, and the
    /// section's contents in the file are the template.
    pub percpu: Vec<u8>,
}

/// [`move_module`] failed.
#[derive(Debug)]
pub struct MoveError<B> {
    /// Why.
    pub error: LinkError,
    /// What was allocated until then, for the caller to give back.
    pub image: Image<B>,
}

/// `move_module()`: allocates the module's memory and copies the sections into it. Their `addr` becomes final.
///
/// `alloc` gets the part and its size in bytes and gives its address and its bytes, all zero; it is asked in the
/// kernel's order and not for empty parts. `None`, fewer bytes than asked for, and sizes beyond any module range
/// are ENOMEM.
pub fn move_module<B: DerefMut<Target = [u8]>>(
    info: &mut LoadInfo<'_>,
    layouts: &[RegionLayout],
    mut alloc: impl FnMut(RegionKind, u64) -> Option<(u64, B)>,
) -> Result<Image<B>, MoveError<B>> {
    let mut image = Image { endian: info.elf.endian, regions: Vec::new(), percpu: Vec::new() };
    match allocate(info, layouts, &mut alloc, &mut image).and_then(|()| copy_sections(info, &mut image)) {
        Ok(()) => Ok(image),
        Err(error) => Err(MoveError { error, image }),
    }
}

fn allocate<B: DerefMut<Target = [u8]>>(
    info: &LoadInfo<'_>,
    layouts: &[RegionLayout],
    alloc: &mut impl FnMut(RegionKind, u64) -> Option<(u64, B)>,
    image: &mut Image<B>,
) -> Result<(), LinkError> {
    for layout in layouts {
        let mut layout = *layout;
        match layout.kind {
            // vmalloc() of nothing fails.
            RegionKind::Core if layout.size == 0 => return Err(LinkError::NoMemory),
            RegionKind::Core | RegionKind::Init => {}
            _ => layout.size = layout.size.next_multiple_of(info.page_size.max(1)),
        }
        if layout.size == 0 {
            continue;
        }
        if layout.size > info.arch.module_space() {
            return Err(LinkError::NoMemory);
        }
        let (base, bytes) = alloc(layout.kind, layout.size).ok_or(LinkError::NoMemory)?;
        let enough = bytes.len() as u64 >= layout.size;
        image.regions.push(Region { layout, base, bytes });
        if !enough {
            return Err(LinkError::NoMemory);
        }
    }
    Ok(())
}

fn copy_sections<B: DerefMut<Target = [u8]>>(
    info: &mut LoadInfo<'_>,
    image: &mut Image<B>,
) -> Result<(), LinkError> {
    let mask = info.address_mask();
    // Sections do not share memory unless sizes wrapped, so that all of them fit in what was allocated.
    let mut room: u64 = image.regions.iter().map(|region| region.layout.size).sum();
    for index in 0..info.sections.len() {
        if !info.sections.get(index).is_some_and(SectionHeader::is_alloc) {
            continue;
        }
        let Some(Some(at)) = info.placement.get(index).copied() else { continue };
        // A part of size 0 has no memory; only sections of size 0 (or wrapped ones) lie in it.
        let base = image.region(at.region).map_or(0, |region| region.base);
        if info.has_bits(index) {
            let contents = info.contents(index);
            if !contents.is_empty() {
                let outside = LinkError::SectionOutsideImage { section: index };
                let Some(left) = room.checked_sub(contents.len() as u64) else { return Err(outside) };
                room = left;
                image.placed_mut(at, contents.len()).ok_or(outside)?.copy_from_slice(contents);
            }
        }
        if let Some(section) = info.sections.get_mut(index) {
            section.addr = base.wrapping_add(at.offset) & mask;
        }
    }
    Ok(())
}

impl<B: DerefMut<Target = [u8]>> Image<B> {
    /// The allocation of a kind.
    pub fn region(&self, kind: RegionKind) -> Option<&Region<B>> {
        self.regions.iter().find(|region| region.layout.kind == kind)
    }

    /// The allocation of a kind, to write to.
    pub fn region_mut(&mut self, kind: RegionKind) -> Option<&mut Region<B>> {
        self.regions.iter_mut().find(|region| region.layout.kind == kind)
    }

    /// `size` bytes of a placement; `None` unless all of them are part of its allocation.
    pub fn placed(&self, at: Placement, size: usize) -> Option<&[u8]> {
        let region = self.region(at.region)?;
        let start = usize::try_from(at.offset).ok()?;
        region.bytes.get(..usize::try_from(region.layout.size).ok()?)?.get(start..start.checked_add(size)?)
    }

    /// `size` bytes of a placement, to write to; `None` unless all of them are part of its allocation.
    pub fn placed_mut(&mut self, at: Placement, size: usize) -> Option<&mut [u8]> {
        let region = self.region_mut(at.region)?;
        let start = usize::try_from(at.offset).ok()?;
        let limit = usize::try_from(region.layout.size).ok()?;
        region.bytes.get_mut(..limit)?.get_mut(start..start.checked_add(size)?)
    }

    /// The kernel address of a placement.
    pub fn address(&self, at: Placement) -> Option<u64> {
        Some(self.region(at.region)?.base.wrapping_add(at.offset))
    }

    /// The allocation that holds `address` and the offset in it, if it is part of the module.
    pub fn locate(&self, address: u64) -> Option<Placement> {
        self.regions.iter().find_map(|region| {
            let offset = address.wrapping_sub(region.base);
            (offset < region.layout.size).then_some(Placement { region: region.layout.kind, offset })
        })
    }

    /// `size` bytes at a kernel address; `None` unless all of them are part of one allocation.
    pub fn slice(&self, address: u64, size: usize) -> Option<&[u8]> {
        let at = self.locate(address)?;
        let start = usize::try_from(at.offset).ok()?;
        self.region(at.region)?.bytes.get(start..start.checked_add(size)?)
    }

    /// `size` bytes at a kernel address, to write to; `None` unless all of them are part of one allocation.
    pub fn slice_mut(&mut self, address: u64, size: usize) -> Option<&mut [u8]> {
        let at = self.locate(address)?;
        let start = usize::try_from(at.offset).ok()?;
        self.region_mut(at.region)?.bytes.get_mut(start..start.checked_add(size)?)
    }

    /// The `u32` at a kernel address of the module.
    pub fn read_u32(&self, address: u64) -> Option<u32> {
        Some(self.endian.u32(self.slice(address, 4)?))
    }

    /// The `u64` at a kernel address of the module.
    pub fn read_u64(&self, address: u64) -> Option<u64> {
        Some(self.endian.u64(self.slice(address, 8)?))
    }

    /// Writes a `u32` at a kernel address of the module; `None` if it is not part of it.
    pub fn write_u32(&mut self, address: u64, value: u32) -> Option<()> {
        let bytes = self.endian.u32_bytes(value);
        self.slice_mut(address, 4)?.copy_from_slice(&bytes);
        Some(())
    }

    /// Writes a `u64` at a kernel address of the module; `None` if it is not part of it.
    pub fn write_u64(&mut self, address: u64, value: u64) -> Option<()> {
        let bytes = self.endian.u64_bytes(value);
        self.slice_mut(address, 8)?.copy_from_slice(&bytes);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use lkm_module::Errno;
    use lkm_module::elf::consts::*;

    use super::*;
    use crate::Arch;
    use crate::LinkRules;
    use crate::test_support::*;

    #[test]
    fn the_kernel_asks_in_its_order_and_gets_what_was_allocated_back() {
        let mut object = module(Arch::X86_64);
        object.section(".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 16, &[0xc3; 3]);
        object.section(".rodata", SHT_PROGBITS, SHF_ALLOC, 16, b"read only");
        let file = object.finish();
        let rules = rules_6_12();
        use RegionKind::{Data, InitData, RoData, Text};
        let expected = [(Text, 4096), (Data, 4096), (RoData, 4096), (InitData, 4096)];
        // Each allocation fails in turn, or none.
        for fails in 0..=expected.len() {
            let (mut info, layouts) = lay_out(&file, Arch::X86_64, &rules).unwrap();
            let mut asked = Vec::new();
            let result = move_module(&mut info, &layouts, |kind, size| {
                asked.push((kind, size));
                (asked.len() <= fails).then(|| (0x10_0000 * asked.len() as u64, vec![0; size as usize]))
            });
            let (image, error) = match result {
                Ok(image) => (image, None),
                Err(failure) => (failure.image, Some(failure.error)),
            };
            assert_eq!(asked, expected[..asked.len()]);
            assert_eq!(image.regions.len(), fails);
            assert_eq!(error.map(|error| error.errno()), (fails < expected.len()).then_some(Errno::ENOMEM));
            if fails == expected.len() {
                let rodata = info.find_sec(b".rodata");
                assert_eq!(info.section_addr(rodata), 0x30_0000);
                assert_eq!(image.slice(0x30_0000, 10), Some(&b"read only\0"[..]));
                assert_eq!(image.read_u32(0x10_0000), Some(0x00c3_c3c3));
                assert_eq!(image.slice(0x10_0000, 4097), None);
            }
        }
    }

    #[test]
    fn too_large_modules_are_never_asked_for() {
        let mut object = module(Arch::X86_64);
        object.nobits(".bss", SHF_ALLOC | SHF_WRITE, 64, 1 << 30);
        let file = object.finish();
        for rules in [rules_6_1(Arch::X86_64), rules_6_12()] {
            let (mut info, layouts) = lay_out(&file, Arch::X86_64, &rules).unwrap();
            let result = move_module(&mut info, &layouts, |_, size| {
                assert!(size < 1 << 20);
                Some((0x1000, vec![0u8; size as usize]))
            });
            assert_eq!(result.err().unwrap().error, LinkError::NoMemory);
        }
    }

    #[test]
    fn sections_that_wrap_around_are_not_copied_out_of_bounds() {
        // struct module and .bss end just below 4 GiB; .data2 starts there, and .data3 follows near 0.
        let mut object = module(Arch::X86_64);
        object.nobits(".bss", SHF_ALLOC | SHF_WRITE, 1, (1 << 32) - 0x380 - 32);
        let data = object.section(".data2", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, 1, &[1; 64]);
        object.section(".data3", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, 1, &[1; 0x1000]);
        let file = object.finish();
        let rules = LinkRules { kallsyms: false, strict_rwx: false, ..rules_6_1(Arch::X86_64) };
        let (mut info, layouts) = lay_out(&file, Arch::X86_64, &rules).unwrap();
        assert_eq!(layouts[0].size, 0x1020);
        let result = move_module(&mut info, &layouts, |_, size| Some((0x1000, vec![0u8; size as usize])));
        let error = result.err().unwrap().error;
        assert_eq!(error.errno(), Errno::ENOMEM);
        assert_eq!(error, LinkError::SectionOutsideImage { section: data });
    }

    #[test]
    fn a_short_allocation_is_no_allocation() {
        let file = module(Arch::X86_64).finish();
        let (mut info, layouts) = lay_out(&file, Arch::X86_64, &rules_6_1(Arch::X86_64)).unwrap();
        let failure = move_module(&mut info, &layouts, |_, size| Some((0, vec![0u8; size as usize - 1])));
        let failure = failure.err().unwrap();
        assert_eq!((failure.error, failure.image.regions.len()), (LinkError::NoMemory, 1));
    }
}
