//! 64-bit x86: `SHT_RELA`, five forms of values, no PLTs.

use core::ops::DerefMut;

use lkm_module::elf::Elf64;
use lkm_module::elf::ElfClass;
use lkm_module::elf::Endian;
use lkm_module::elf::RawReloc;

use super::RelocSection;
use crate::LinkError;
use crate::RelocCause;
use crate::RelocError;
use crate::image::Image;
use crate::info::LoadInfo;
use crate::relocate::RelocEvent;
use crate::relocate::RelocObserver;
use crate::relocate::RelocStats;
use crate::relocate::Target;
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
    let mut linker = Linker {
        section: relocs.section,
        rule: rules.x86_place,
        values: &symbols.values,
        target: target(info, image, relocs.target),
        observer,
        stats,
    };
    let records = Elf64::relas(relocs.records);
    for (index, raw) in records.iter().enumerate() {
        let rel = Elf64::rela(raw, Endian::Little);
        let done = match howto(rel.kind) {
            Some(howto) if howto.size == 4 => linker.apply::<4>(index, &rel, howto),
            Some(howto) => linker.apply::<8>(index, &rel, howto),
            None if rel.kind == NONE => Ok(()),
            None => Err(RelocCause::UnknownX86),
        };
        if let Err(cause) = done {
            return Err(linker.error(index, rel.kind, cause));
        }
    }
    stats.relocations += records.len();
    Ok(())
}

struct Linker<'a, O> {
    section: usize,
    rule: X86Place,
    values: &'a [u64],
    target: Target<'a>,
    observer: &'a mut O,
    stats: &'a mut RelocStats,
}

impl<O: RelocObserver> Linker<'_, O> {
    /// Applies one relocation whose place has `SIZE` bytes.
    #[inline(always)]
    fn apply<const SIZE: usize>(
        &mut self,
        index: usize,
        rel: &RawReloc,
        howto: Howto,
    ) -> Result<(), RelocCause> {
        let Some(&symbol) = self.values.get(rel.symbol as usize) else {
            return Err(RelocCause::SymbolOutside { symbol: rel.symbol });
        };
        let bytes = usize::try_from(rel.offset)
            .ok()
            .and_then(|offset| self.target.bytes.get_mut(offset..))
            .and_then(<[u8]>::first_chunk_mut::<SIZE>);
        let Some(bytes) = bytes else { return Err(RelocCause::PlaceOutside { offset: rel.offset }) };
        let place = self.target.address.wrapping_add(rel.offset);
        let absolute = symbol.wrapping_add_signed(rel.addend);
        let value = if howto.pc_relative { absolute.wrapping_sub(place) } else { absolute };
        let fits = match howto.range {
            Range::Any => true,
            Range::Unsigned => u64::from(value as u32) == value,
            Range::Signed => i64::from(value as i32) as u64 == value,
        };

        if self.rule == X86Place::RangeThenZero && !fits {
            return Err(RelocCause::Overflow { value });
        }
        if *bytes != [0; SIZE] && self.rule != X86Place::Unchecked {
            let skipping = self.rule == X86Place::ZeroThenRange;
            // Linux 6.1 prints 32-bit pc-relative and all other values before the place is subtracted.
            let value = if skipping { absolute } else { value };
            return Err(RelocCause::NonZeroPlace { place, value, skipping });
        }
        if !fits {
            return Err(RelocCause::Overflow { value });
        }
        if SIZE == 4 && howto.pc_relative && i64::from(value as i32) as u64 != value {
            self.stats.overflows += 1;
            self.stats.first_overflow.get_or_insert((self.section, index));
        }

        let before = *bytes;
        if let Some(low) = value.to_le_bytes().first_chunk::<SIZE>() {
            *bytes = *low;
        }
        if O::ENABLED {
            self.observer.relocated(&RelocEvent {
                section: self.section,
                index,
                kind: rel.kind,
                symbol: rel.symbol,
                place,
                value: symbol,
                addend: rel.addend,
                before: &before,
                after: bytes,
            });
        }
        Ok(())
    }

    #[cold]
    fn error(&self, index: usize, kind: u32, cause: RelocCause) -> LinkError {
        LinkError::Reloc(RelocError { section: self.section, index, kind, cause })
    }
}
