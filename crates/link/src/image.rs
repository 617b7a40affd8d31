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
                image
                    .placed_mut(at, contents.len())
                    .ok_or(LinkError::SectionOutsideImage { section: index })?
                    .copy_from_slice(contents);
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
