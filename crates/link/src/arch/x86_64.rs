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
            // Forms by how common they are in modules; each has a copy of the code that carries nothing of the others.
            let done = if rel.kind.wrapping_sub(PC32) & !(PLT32 - PC32) == 0 {
                self.apply::<PC32, 4, ZERO>(index, &rel)
            } else if rel.kind == ABS64 {
                self.apply::<ABS64, 8, ZERO>(index, &rel)
            } else if rel.kind == ABS32S {
                self.apply::<ABS32S, 4, ZERO>(index, &rel)
            } else {
                self.apply_rare::<ZERO>(index, raw)
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

    #[inline(never)]
    fn apply_rare<const ZERO: bool>(&mut self, index: usize, raw: &Record) -> bool {
        let rel = &Elf64::rela(raw, Endian::Little);
        match rel.kind {
            NONE => true,
            ABS32 => self.apply::<ABS32, 4, ZERO>(index, rel),
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

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use lkm_module::Errno;
    use lkm_module::elf::consts::*;
    use lkm_module::testing::ObjectBuilder;

    use super::*;
    use crate::Arch;
    use crate::test_support::*;

    const BASE: u64 = 0xffff_ffff_c000_0000;

    /// A module with one relocation at offset 8 of `.data`, which holds `bytes` there, against an absolute symbol.
    fn object(kind: u32, symbol: u64, addend: i64, bytes: [u8; 8]) -> (Vec<u8>, usize) {
        let mut object = module(Arch::X86_64);
        let mut data = [0; 24];
        data[8..16].copy_from_slice(&bytes);
        let section = object.section(".data", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, 8, &data);
        let symbol = object.absolute("there", symbol);
        object.reloc(section, 8, symbol, kind, addend);
        (object.finish(), section)
    }

    /// The eight bytes at the place, and its address.
    fn applied(kind: u32, symbol: u64, addend: i64) -> Result<(u64, u64, RelocStats), LinkError> {
        let (file, section) = object(kind, symbol, addend, [0; 8]);
        let rules = rules_6_1(Arch::X86_64);
        let linked = link(&file, Arch::X86_64, &rules, BASE, &mut Exports::default(), &mut ())?;
        let place = linked.info.section_addr(section) + 8;
        let bytes = linked.bytes(section, 8, 8).try_into().unwrap();
        Ok((u64::from_le_bytes(bytes), place, linked.stats))
    }

    #[test]
    fn each_type_writes_its_value() {
        const S: u64 = 0xffff_ffff_8123_4560;
        let (_, place, stats) = applied(NONE, S, 5).unwrap();
        assert_eq!((stats.relocations, stats.sections), (1, 1));
        for (kind, symbol, addend, expected) in [
            (NONE, S, 5, 0),
            (ABS64, S, 5, S + 5),
            (PC64, S, -4, S.wrapping_sub(4).wrapping_sub(place)),
            (PC32, S, -4, (S - 4).wrapping_sub(place) & 0xffff_ffff),
            (PLT32, S, -4, (S - 4).wrapping_sub(place) & 0xffff_ffff),
            (ABS32, 0xffff_0000, 0xffff, 0xffff_ffff),
            (ABS32S, S, 0, 0x8123_4560),
        ] {
            let (value, at, stats) = applied(kind, symbol, addend).unwrap();
            assert_eq!((value, at), (expected, place), "type {kind}");
            assert_eq!(stats.overflows, 0);
        }
    }

    #[test]
    fn absolute_values_are_held_to_their_range() {
        for (kind, fits, does_not) in [
            (ABS32, 0xffff_ffff, 0x1_0000_0000),
            (ABS32, 0, u64::MAX),
            (ABS32S, 0x7fff_ffff, 0x8000_0000),
            (ABS32S, 0xffff_ffff_8000_0000, 0xffff_ffff_7fff_ffff),
        ] {
            assert!(applied(kind, fits, 0).is_ok());
            let error = applied(kind, does_not, 0).unwrap_err();
            assert_eq!(error.errno(), Errno::ENOEXEC);
            assert_eq!(
                lines(&error),
                [
                    alloc::format!("<3>module: overflow in relocation type {kind} val {does_not:x}"),
                    "<3>module: `hello' likely not compiled with -mcmodel=kernel".into(),
                ]
            );
        }
    }

    #[test]
    fn distances_that_are_cut_off_are_counted_and_let_through() {
        let (_, place, _) = applied(NONE, 0, 0).unwrap();
        for (distance, cut_off) in
            [(0x7fff_ffff, false), (0x8000_0000, true), (-0x8000_0000i64, false), (-0x8000_0001, true)]
        {
            let (value, _, stats) = applied(PLT32, place, distance).unwrap();
            assert_eq!(value, u64::from(distance as u32));
            assert_eq!(stats.overflows, usize::from(cut_off));
            assert_eq!(stats.first_overflow.is_some(), cut_off);
        }
    }

    #[test]
    fn the_place_must_be_zero_as_wide_as_it_is_written() {
        let run = |kind, bytes, rules: &LinkRules, symbol| {
            let (file, _) = object(kind, symbol, 0, bytes);
            link(&file, Arch::X86_64, rules, BASE, &mut Exports::default(), &mut ()).map(drop)
        };
        let rules = rules_6_1(Arch::X86_64);
        let low = [0, 0, 0, 1, 0, 0, 0, 0];
        let high = [0, 0, 0, 0, 1, 0, 0, 0];
        for kind in [PC32, PLT32, ABS32, ABS32S] {
            assert!(run(kind, low, &rules, 0).is_err());
            assert!(run(kind, high, &rules, 0).is_ok());
        }
        for kind in [ABS64, PC64] {
            assert!(run(kind, high, &rules, 0).is_err());
        }
        assert!(run(NONE, low, &rules, 0).is_ok());
        let old = LinkRules { x86_place: X86Place::Unchecked, ..rules.clone() };
        assert!(run(PC32, low, &old, 0).is_ok());
        assert!(run(ABS32, low, &old, u64::MAX).is_err());
    }

    #[test]
    fn the_generations_test_in_their_own_order() {
        // Neither zero nor in range: 6.1 names the bytes, 6.12 the value.
        let (file, section) = object(ABS32S, 0x8000_0000, 16, [9, 0, 0, 0, 0, 0, 0, 0]);
        let line = |rules: &LinkRules, file: &[u8]| {
            let done = link(file, Arch::X86_64, rules, BASE, &mut Exports::default(), &mut ());
            lines(&done.err().unwrap()).remove(0)
        };
        let place = |rules: &LinkRules| {
            let (file, _) = object(NONE, 0, 0, [0; 8]);
            let linked = link(&file, Arch::X86_64, rules, BASE, &mut Exports::default(), &mut ()).unwrap();
            linked.info.section_addr(section) + 8
        };
        let (old, new) = (rules_6_1(Arch::X86_64), rules_6_12());
        assert_eq!(
            line(&old, &file),
            alloc::format!(
                "<3>module: x86/modules: Skipping invalid relocation target, existing value is nonzero for \
                 type 11, loc {:016x}, val 80000010",
                place(&old)
            )
        );
        assert_eq!(line(&new, &file), "<3>module: overflow in relocation type 11 val 80000010");
        // 6.1 prints the value before the place is subtracted.
        let (file, _) = object(PC32, 0x1000, 16, [9, 0, 0, 0, 0, 0, 0, 0]);
        assert!(line(&old, &file).ends_with("val 1010"));
        let distance = 0x1010u64.wrapping_sub(place(&new));
        assert!(line(&new, &file).ends_with(&alloc::format!("val {distance:x}")));
        assert!(line(&new, &file).starts_with("<3>module: x86/modules: Invalid relocation target"));
    }

    #[test]
    fn what_no_kernel_can_apply_is_refused() {
        let refuse = |change: &dyn Fn(&mut ObjectBuilder, usize, u32)| {
            let mut object = module(Arch::X86_64);
            let section = object.section(".data", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, 8, &[0; 16]);
            let symbol = object.absolute("there", 1);
            change(&mut object, section, symbol);
            let file = object.finish();
            let rules = rules_6_1(Arch::X86_64);
            link(&file, Arch::X86_64, &rules, BASE, &mut Exports::default(), &mut ()).err().unwrap()
        };
        let error = refuse(&|object, section, symbol| object.reloc(section, 0, symbol, 9, 0));
        assert_eq!(lines(&error), ["<3>module: hello: Unknown rela relocation: 9"]);
        let error = refuse(&|object, section, symbol| object.reloc(section, 13, symbol, PC32, 0));
        assert!(matches!(
            error,
            LinkError::Reloc(RelocError { cause: RelocCause::PlaceOutside { offset: 13 }, .. })
        ));
        let error = refuse(&|object, section, symbol| object.reloc(section, u64::MAX, symbol, ABS64, 0));
        assert_eq!((error.errno(), lines(&error).len()), (Errno::ENOEXEC, 0));
        let error = refuse(&|object, section, _| object.reloc(section, 0, 2, PC32, 0));
        assert!(matches!(
            error,
            LinkError::Reloc(RelocError { cause: RelocCause::SymbolOutside { symbol: 2 }, .. })
        ));
        let error = refuse(&|object, section, symbol| {
            object.rela = false;
            object.reloc(section, 0, symbol, ABS64, 0);
        });
        assert_eq!(lines(&error), ["<3>module hello: REL relocation unsupported"]);
    }

    #[test]
    fn observers_see_each_relocation() {
        type Row = (usize, u32, u64, u64, i64, Vec<u8>, Vec<u8>);
        #[derive(Default)]
        struct Seen(Vec<Row>);
        impl RelocObserver for Seen {
            const ENABLED: bool = true;
            fn relocated(&mut self, event: &RelocEvent<'_>) {
                let RelocEvent { index, kind, place, value, addend, before, after, .. } = *event;
                self.0.push((index, kind, place, value, addend, before.to_vec(), after.to_vec()));
            }
        }
        let mut object = module(Arch::X86_64);
        let section = object.section(".data", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, 8, &[0; 16]);
        let symbol = object.absolute("there", 0x1_0000_0002);
        object.reloc(section, 8, symbol, ABS64, 1);
        object.reloc(section, 0, symbol, NONE, 0);
        object.reloc(section, 4, symbol, PC32, 0);
        let file = object.finish();
        let mut seen = Seen::default();
        let rules = rules_6_1(Arch::X86_64);
        let linked = link(&file, Arch::X86_64, &rules, BASE, &mut Exports::default(), &mut seen).unwrap();
        let at = linked.info.section_addr(section);
        let distance = 0x1_0000_0002u64.wrapping_sub(at + 4) as u32;
        assert_eq!(
            seen.0,
            [
                (0, ABS64, at + 8, 0x1_0000_0002, 1, [0; 8].into(), [3, 0, 0, 0, 1, 0, 0, 0].into()),
                (2, PC32, at + 4, 0x1_0000_0002, 0, [0; 4].into(), distance.to_le_bytes().into()),
            ]
        );
    }

    #[test]
    fn types_have_their_names() {
        assert_eq!(reloc_name(2), Some("R_X86_64_PC32"));
        assert_eq!(reloc_name(0), Some("R_X86_64_NONE"));
        assert_eq!(reloc_name(9), None);
    }
}
