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
const ABS64: u32 = 1;
const PC32: u32 = 2;
const PLT32: u32 = 4;
const ABS32: u32 = 10;
const ABS32S: u32 = 11;
const PC64: u32 = 24;

/// The relocation types that kernels know; `NONE` is not among them as it does nothing.
const fn howto(kind: u32) -> Option<Howto> {
    const fn row(name: &'static str, size: usize, pc_relative: bool, range: Range) -> Option<Howto> {
        Some(Howto { name, size, pc_relative, range })
    }
    match kind {
        ABS64 => row("R_X86_64_64", 8, false, Range::Any),
        PC32 => row("R_X86_64_PC32", 4, true, Range::Any),
        PLT32 => row("R_X86_64_PLT32", 4, true, Range::Any),
        ABS32 => row("R_X86_64_32", 4, false, Range::Unsigned),
        ABS32S => row("R_X86_64_32S", 4, false, Range::Signed),
        PC64 => row("R_X86_64_PC64", 8, true, Range::Any),
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
    let linker = Linker {
        section: relocs.section,
        rule: rules.x86_place,
        values: &symbols.values,
        target: target(info, image, relocs.target),
        observer,
        stats,
    };
    if rules.x86_place == X86Place::Unchecked {
        linker.run::<false>(relocs.records)
    } else {
        linker.run::<true>(relocs.records)
    }
}

type Record = <Elf64 as ElfClass>::Rela;

struct Linker<'a, O> {
    section: usize,
    rule: X86Place,
    values: &'a [u64],
    target: Target<'a>,
    observer: &'a mut O,
    stats: &'a mut RelocStats,
}

impl<O: RelocObserver> Linker<'_, O> {
    /// Applies all relocations of a section. `ZERO`: places are tested.
    fn run<const ZERO: bool>(mut self, records: &[u8]) -> Result<(), LinkError> {
        let records = Elf64::relas(records);
        let cut_off_before = self.stats.overflows;
        let mut rest = records.iter();
        while let Some(raw) = rest.next() {
            let rel = Elf64::rela(raw, Endian::Little);
            let index = if O::ENABLED { records.len() - rest.len() - 1 } else { 0 };
            // PC32 and PLT32, four fifths of all, have a copy of the code that carries nothing of the others.
            let done = if rel.kind.wrapping_sub(PC32) & !(PLT32 - PC32) == 0 {
                self.apply::<PC32, 4, ZERO>(index, &rel)
            } else {
                self.apply_other::<ZERO>(index, raw)
            };
            if !done {
                let index = records.len() - rest.len() - 1;
                return Err(LinkError::Reloc(self.error(index, raw)));
            }
        }
        if self.stats.overflows != cut_off_before {
            let first = records.iter().position(|raw| self.is_cut_off(&Elf64::rela(raw, Endian::Little)));
            self.stats.first_overflow =
                self.stats.first_overflow.or(first.map(|index| (self.section, index)));
        }
        self.stats.relocations += records.len();
        Ok(())
    }

    #[inline(always)]
    fn apply_other<const ZERO: bool>(&mut self, index: usize, raw: &Record) -> bool {
        let rel = &Elf64::rela(raw, Endian::Little);
        match rel.kind {
            NONE => true,
            ABS64 => self.apply::<ABS64, 8, ZERO>(index, rel),
            ABS32 => self.apply::<ABS32, 4, ZERO>(index, rel),
            ABS32S => self.apply::<ABS32S, 4, ZERO>(index, rel),
            PC64 => self.apply::<PC64, 8, ZERO>(index, rel),
            _ => false,
        }
    }

    /// Applies one relocation of type `KIND`, whose place has `SIZE` bytes. If it returns false, [`Linker::error`]
    /// knows why and nothing was written.
    #[inline(always)]
    fn apply<const KIND: u32, const SIZE: usize, const ZERO: bool>(
        &mut self,
        index: usize,
        rel: &RawReloc,
    ) -> bool {
        let howto = const {
            match howto(KIND) {
                Some(howto) if howto.size == SIZE => howto,
                _ => panic!("no such type, or not of that size"),
            }
        };
        let Some(&symbol) = self.values.get(rel.symbol as usize) else { return false };
        let place = self.target.address.wrapping_add(rel.offset);
        let Some(bytes) = self.target.place::<SIZE>(rel.offset) else { return false };
        let value = howto.value(symbol, rel.addend, place);
        if !howto.fits(value) || ZERO && *bytes != [0; SIZE] {
            return false;
        }
        let before = *bytes;
        if let Some(low) = value.to_le_bytes().first_chunk::<SIZE>() {
            *bytes = *low;
        }
        if SIZE == 4 && howto.range == Range::Any && !is_signed_32(value) {
            self.stats.overflows += 1;
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
        true
    }

    #[cold]
    #[inline(never)]
    fn error(&mut self, index: usize, raw: &Record) -> RelocError {
        let rel = Elf64::rela(raw, Endian::Little);
        RelocError { section: self.section, index, kind: rel.kind, cause: self.cause(&rel) }
    }

    /// Why a relocation is refused, by the tests in the order of the kernel.
    fn cause(&mut self, rel: &RawReloc) -> RelocCause {
        let Some(howto) = howto(rel.kind) else { return RelocCause::UnknownX86 };
        let Some(&symbol) = self.values.get(rel.symbol as usize) else {
            return RelocCause::SymbolOutside { symbol: rel.symbol };
        };
        let is_zero = match howto.size {
            4 => self.target.place::<4>(rel.offset).map(|bytes| *bytes == [0; 4]),
            _ => self.target.place::<8>(rel.offset).map(|bytes| *bytes == [0; 8]),
        };
        let Some(is_zero) = is_zero else { return RelocCause::PlaceOutside { offset: rel.offset } };
        let place = self.target.address.wrapping_add(rel.offset);
        let value = howto.value(symbol, rel.addend, place);
        // Linux 6.1 tests for zero before it subtracts the place, and prints what it has then.
        let skipping = self.rule == X86Place::ZeroThenRange;
        let shown = if skipping { symbol.wrapping_add_signed(rel.addend) } else { value };
        let non_zero = RelocCause::NonZeroPlace { place, value: shown, skipping };
        let overflow = RelocCause::Overflow { value };
        match self.rule {
            X86Place::RangeThenZero if !howto.fits(value) => overflow,
            X86Place::RangeThenZero => non_zero,
            X86Place::ZeroThenRange if !is_zero => non_zero,
            X86Place::ZeroThenRange | X86Place::Unchecked => overflow,
        }
    }

    /// Whether a pc-relative value was written without its upper half.
    #[cold]
    fn is_cut_off(&self, rel: &RawReloc) -> bool {
        let (Some(howto), Some(&symbol)) = (howto(rel.kind), self.values.get(rel.symbol as usize)) else {
            return false;
        };
        let place = self.target.address.wrapping_add(rel.offset);
        howto.size == 4 && howto.range == Range::Any && !is_signed_32(howto.value(symbol, rel.addend, place))
    }
}

impl Howto {
    #[inline(always)]
    fn value(&self, symbol: u64, addend: i64, place: u64) -> u64 {
        let absolute = symbol.wrapping_add_signed(addend);
        if self.pc_relative { absolute.wrapping_sub(place) } else { absolute }
    }

    #[inline(always)]
    fn fits(&self, value: u64) -> bool {
        match self.range {
            Range::Any => true,
            Range::Unsigned => u64::from(value as u32) == value,
            Range::Signed => is_signed_32(value),
        }
    }
}

#[inline(always)]
fn is_signed_32(value: u64) -> bool {
    i64::from(value as i32) as u64 == value
}
