//! 64-bit x86: `SHT_RELA`, five forms of values, no PLTs.

use core::ops::DerefMut;

use lkm_module::elf::Elf64;
use lkm_module::elf::ElfClass;
use lkm_module::elf::Endian;

use super::RelocSection;
use crate::LinkError;
use crate::RelocCause;
use crate::RelocError;
use crate::image::Image;
use crate::info::LoadInfo;
use crate::relocate::RelocEvent;
use crate::relocate::RelocObserver;
use crate::relocate::RelocStats;
use crate::relocate::target;
use crate::rules::LinkRules;
use crate::rules::X86Place;
use crate::symbols::Symbols;

/// What the kernel's linker does for one relocation type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Howto {
    name: &'static str,
    /// Bytes written.
    size: usize,
    /// The place is subtracted.
    pc_relative: bool,
    range: Range,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    /// Never tested. (The kernel's test of 32-bit pc-relative values is switched off.)
    Any,
    /// Zero-extended it must be the value.
    Unsigned,
    /// Sign-extended it must be the value.
    Signed,
}

const NONE: u32 = 0;

/// The relocation types that kernels know; `NONE` is not among them as it does nothing.
#[inline(always)]
const fn howto(kind: u32) -> Option<Howto> {
    const fn row(name: &'static str, size: usize, pc_relative: bool, range: Range) -> Option<Howto> {
        Some(Howto { name, size, pc_relative, range })
    }
    match kind {
        1 => row("R_X86_64_64", 8, false, Range::Any),
        2 => row("R_X86_64_PC32", 4, true, Range::Any),
        4 => row("R_X86_64_PLT32", 4, true, Range::Any),
        10 => row("R_X86_64_32", 4, false, Range::Unsigned),
        11 => row("R_X86_64_32S", 4, false, Range::Signed),
        24 => row("R_X86_64_PC64", 8, true, Range::Any),
        _ => None,
    }
}

/// Name of a relocation type that the kernel knows.
pub fn reloc_name(kind: u32) -> Option<&'static str> {
    if kind == NONE { Some("R_X86_64_NONE") } else { howto(kind).map(|howto| howto.name) }
}

pub(crate) fn apply_relocate_add<B: DerefMut<Target = [u8]>, O: RelocObserver>(
    info: &LoadInfo<'_>,
    rules: &LinkRules,
    symbols: &Symbols,
    relocs: RelocSection<'_>,
    image: &mut Image<B>,
    observer: &mut O,
    stats: &mut RelocStats,
) -> Result<(), LinkError> {
    let target = target(info, image, relocs.target);
    let address = target.address;
    let bytes = target.bytes;
    let values = symbols.values.as_slice();
    let records = Elf64::relas(relocs.records);
    for (index, raw) in records.iter().enumerate() {
        let rel = Elf64::rela(raw, Endian::Little);
        let fail =
            |cause| LinkError::Reloc(RelocError { section: relocs.section, index, kind: rel.kind, cause });
        let Some(howto) = howto(rel.kind) else {
            if rel.kind == NONE {
                continue;
            }
            return Err(fail(RelocCause::UnknownX86));
        };
        let Some(symbol) = values.get(rel.symbol as usize) else {
            return Err(fail(RelocCause::SymbolOutside { symbol: rel.symbol }));
        };
        let place = address.wrapping_add(rel.offset);
        let absolute = symbol.wrapping_add_signed(rel.addend);
        let value = if howto.pc_relative { absolute.wrapping_sub(place) } else { absolute };
        let Some(bytes) = bytes.get_mut(rel.offset as usize..).and_then(|rest| rest.get_mut(..howto.size))
        else {
            return Err(fail(RelocCause::PlaceOutside { offset: rel.offset }));
        };
        let before = Endian::Little.u64(bytes);
        let _ = (before, &rules, &X86Place::Unchecked, &mut *stats);
        bytes.copy_from_slice(&value.to_le_bytes()[..howto.size]);
        if O::ENABLED {
            observer.relocated(&RelocEvent {
                section: relocs.section,
                index,
                kind: rel.kind,
                symbol: rel.symbol,
                place,
                value: *symbol,
                addend: rel.addend,
                before: &[],
                after: bytes,
            });
        }
    }
    stats.relocations += records.len();
    Ok(())
}
