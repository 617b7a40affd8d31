//! 32-bit ARM: `SHT_REL`, ARM and Thumb-2 instructions, PLTs for branches that reach too far.

use core::ops::DerefMut;

use lkm_module::elf::Elf32;
use lkm_module::elf::ElfClass;
use lkm_module::elf::Endian;
use lkm_module::elf::RawReloc;
use lkm_module::elf::consts::STT_FUNC;

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
use crate::symbols::Symbols;

mod field;
mod plt;

use field::Field;
pub(crate) use plt::PltPlan;
pub(crate) use plt::module_frob_arch_sections;

/// `module_init_section()`: init code's unwind tables belong to the init part too.
pub fn module_init_section(name: &[u8]) -> bool {
    [&b".init"[..], b".ARM.extab.init", b".ARM.exidx.init"].iter().any(|prefix| name.starts_with(prefix))
}

/// `module_exit_section()`
pub fn module_exit_section(name: &[u8]) -> bool {
    [&b".exit"[..], b".ARM.extab.exit", b".ARM.exidx.exit"].iter().any(|prefix| name.starts_with(prefix))
}

/// What the kernel's linker does for one relocation type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Howto {
    name: &'static str,
    field: Field,
    /// The place is subtracted.
    pc_relative: bool,
    /// The upper half of the value is written.
    high: bool,
    known: Known,
}

/// Which kernels know a relocation type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Always,
    /// [`LinkRules::thumb2`]
    Thumb2,
    /// [`LinkRules::arm_group_relocs`]
    Group,
}

const NONE: u32 = 0;
const ABS32: u32 = 2;
const CALL: u32 = 28;
const JUMP24: u32 = 29;
const PREL31: u32 = 42;
const MOVW_ABS: u32 = 43;
const MOVT_ABS: u32 = 44;

/// A type that every kernel knows.
const fn known(kind: u32) -> Howto {
    match howto(kind) {
        Some(howto) if matches!(howto.known, Known::Always) => howto,
        _ => panic!("not every kernel knows this type"),
    }
}

const fn howto(kind: u32) -> Option<Howto> {
    const fn row(name: &'static str, field: Field, pc_relative: bool) -> Howto {
        Howto { name, field, pc_relative, high: false, known: Known::Always }
    }
    const fn high(howto: Howto) -> Howto {
        Howto { high: true, ..howto }
    }
    const fn thumb2(howto: Howto) -> Howto {
        Howto { known: Known::Thumb2, ..howto }
    }
    const fn group(howto: Howto) -> Howto {
        Howto { known: Known::Group, ..howto }
    }
    Some(match kind {
        1 => row("R_ARM_PC24", Field::Branch, true),
        ABS32 => row("R_ARM_ABS32", Field::Word, false),
        3 => row("R_ARM_REL32", Field::Word, true),
        10 => thumb2(row("R_ARM_THM_CALL", Field::ThumbBranch, true)),
        CALL => row("R_ARM_CALL", Field::Branch, true),
        JUMP24 => row("R_ARM_JUMP24", Field::Branch, true),
        30 => thumb2(row("R_ARM_THM_JUMP24", Field::ThumbBranch, true)),
        38 => row("R_ARM_TARGET1", Field::Word, false),
        40 => row("R_ARM_V4BX", Field::V4Bx, false),
        PREL31 => row("R_ARM_PREL31", Field::Prel31, true),
        MOVW_ABS => row("R_ARM_MOVW_ABS_NC", Field::Move, false),
        MOVT_ABS => high(row("R_ARM_MOVT_ABS", Field::Move, false)),
        45 => row("R_ARM_MOVW_PREL_NC", Field::Move, true),
        46 => high(row("R_ARM_MOVT_PREL", Field::Move, true)),
        47 => thumb2(row("R_ARM_THM_MOVW_ABS_NC", Field::ThumbMove, false)),
        48 => thumb2(high(row("R_ARM_THM_MOVT_ABS", Field::ThumbMove, false))),
        49 => thumb2(row("R_ARM_THM_MOVW_PREL_NC", Field::ThumbMove, true)),
        50 => thumb2(high(row("R_ARM_THM_MOVT_PREL", Field::ThumbMove, true))),
        57 => group(row("R_ARM_ALU_PC_G0_NC", Field::Alu(0), true)),
        59 => group(row("R_ARM_ALU_PC_G1_NC", Field::Alu(1), true)),
        63 => group(row("R_ARM_LDR_PC_G2", Field::Load(2), true)),
        _ => return None,
    })
}

/// Name of a relocation type that some kernel knows.
pub fn reloc_name(kind: u32) -> Option<&'static str> {
    if kind == NONE { Some("R_ARM_NONE") } else { howto(kind).map(|howto| howto.name) }
}

/// A branch, which may need a PLT slot.
const fn is_branch(kind: u32) -> bool {
    matches!(kind, 1 | 28 | 29) || is_thumb_branch(kind)
}

const fn is_thumb_branch(kind: u32) -> bool {
    matches!(kind, 10 | 30)
}

pub(crate) fn apply_relocate<B: DerefMut<Target = [u8]>, O: RelocObserver>(
    info: &LoadInfo<'_>,
    rules: &LinkRules,
    symbols: &Symbols,
    relocs: RelocSection<'_>,
    image: &mut Image<B>,
    observer: &mut O,
    stats: &mut RelocStats,
) -> Result<(), LinkError> {
    let mut linker = Linker { info, rules, symbols, relocs, observer, stats };
    if let Some(sorted) = info.arm.sorted(relocs.section) {
        return linker.apply(sorted.iter().map(|record| record.unpack()), image);
    }
    let records = Elf32::rels(relocs.records);
    match info.elf.endian {
        Endian::Little => linker.apply(records.iter().map(|raw| Elf32::rel(raw, Endian::Little)), image),
        Endian::Big => linker.apply(records.iter().map(|raw| Elf32::rel(raw, Endian::Big)), image),
    }
}

struct Linker<'a, 'data, O> {
    info: &'a LoadInfo<'data>,
    rules: &'a LinkRules,
    symbols: &'a Symbols,
    relocs: RelocSection<'a>,
    observer: &'a mut O,
    stats: &'a mut RelocStats,
}

/// What became of one relocation.
enum Outcome {
    Done,
    /// A branch with this value, which does not reach.
    Far(i32),
    /// Nothing was written; [`Linker::cause`] knows why.
    Refused,
}

impl<O: RelocObserver> Linker<'_, '_, O> {
    #[inline(always)]
    fn apply<B: DerefMut<Target = [u8]>>(
        &mut self,
        records: impl Iterator<Item = RawReloc>,
        image: &mut Image<B>,
    ) -> Result<(), LinkError> {
        let endian = image.endian;
        let last = self.target_size().wrapping_sub(4);
        let mut destination = target(self.info, image, self.relocs.target);
        let mut count = 0;
        for (index, rel) in records.enumerate() {
            let to = &mut destination;
            let outcome = if rel.offset as u32 > last {
                Outcome::Refused
            } else {
                // The forms that modules have, each a copy of the code that carries nothing of the others.
                match rel.kind {
                    CALL => self.apply_one(const { known(CALL) }, index, &rel, to, endian),
                    JUMP24 => self.apply_one(const { known(JUMP24) }, index, &rel, to, endian),
                    ABS32 => self.apply_one(const { known(ABS32) }, index, &rel, to, endian),
                    PREL31 => self.apply_one(const { known(PREL31) }, index, &rel, to, endian),
                    MOVW_ABS => self.apply_one(const { known(MOVW_ABS) }, index, &rel, to, endian),
                    MOVT_ABS => self.apply_one(const { known(MOVT_ABS) }, index, &rel, to, endian),
                    _ => self.apply_other(index, &rel, to, endian),
                }
            };
            count += 1;
            let cause = match outcome {
                Outcome::Done => continue,
                Outcome::Refused => self.cause(&rel, &mut destination),
                Outcome::Far(value) => match self.branch_by_plt(index, &rel, value, image) {
                    Ok(()) => {
                        destination = target(self.info, image, self.relocs.target);
                        continue;
                    }
                    Err(cause) => cause,
                },
            };
            let section = self.relocs.section;
            return Err(LinkError::Reloc(RelocError { section, index, kind: rel.kind, cause }));
        }
        self.stats.relocations += count;
        Ok(())
    }

    #[inline(never)]
    fn apply_other(&mut self, index: usize, rel: &RawReloc, to: &mut Target<'_>, endian: Endian) -> Outcome {
        match self.howto(rel.kind) {
            Some(howto) => self.apply_one(howto, index, rel, to, endian),
            None if rel.kind == NONE && self.symbols.values.get(rel.symbol as usize).is_some() => {
                Outcome::Done
            }
            None => Outcome::Refused,
        }
    }

    #[inline(always)]
    fn apply_one(
        &mut self,
        howto: Howto,
        index: usize,
        rel: &RawReloc,
        to: &mut Target<'_>,
        endian: Endian,
    ) -> Outcome {
        let place = (to.address as u32).wrapping_add(rel.offset as u32);
        let Some(&value) = self.symbols.values.get(rel.symbol as usize) else { return Outcome::Refused };
        let Some(bytes) = to.place::<4>(rel.offset) else { return Outcome::Refused };
        if self.changes_instruction_set(howto.field, rel.symbol, value as u32) {
            return Outcome::Refused;
        }
        let before = *bytes;
        let addend = howto.field.addend(&before, endian);
        let origin = if howto.pc_relative { place } else { 0 };
        let result = addend.wrapping_add((value as u32).wrapping_sub(origin) as i32);
        if !howto.field.reaches(result) {
            match howto.field {
                Field::Branch | Field::ThumbBranch if self.rules.arm_plt.is_some() => {
                    return Outcome::Far(result);
                }
                Field::Prel31 if !self.rules.arm_prel31_range => {}
                _ => return Outcome::Refused,
            }
        }
        let shown = if howto.high { result >> 16 } else { result };
        let Ok(after) = howto.field.insert(&before, shown, endian) else { return Outcome::Refused };
        *bytes = after;
        if O::ENABLED {
            self.tell(index, rel, place, addend, &before, &after);
        }
        Outcome::Done
    }

    /// Leads a branch that does not reach through a slot of the PLT.
    #[inline(never)]
    fn branch_by_plt<B: DerefMut<Target = [u8]>>(
        &mut self,
        index: usize,
        rel: &RawReloc,
        value: i32,
        image: &mut Image<B>,
    ) -> Result<(), RelocCause> {
        let (field, pipeline) = match is_thumb_branch(rel.kind) {
            true => (Field::ThumbBranch, 4),
            false => (Field::Branch, 8),
        };
        let endian = image.endian;
        let place = (self.info.section_addr(self.relocs.target) as u32).wrapping_add(rel.offset as u32);
        let origin = place.wrapping_add(pipeline);
        let to = origin.wrapping_add_signed(value);
        let placement = self.info.placement.get(self.relocs.target).copied().flatten();
        let in_init = placement.is_some_and(|at| at.region.is_init());
        let used = &mut self.stats.plt_slots;
        let slot = plt::get_module_plt(self.info, self.rules, image, in_init, used, to)
            .ok_or(RelocCause::PltFull)?;
        let value = slot.wrapping_sub(origin) as i32;
        if !field.reaches(value) {
            return Err(self.out_of_range(rel, place));
        }
        let mut destination = target(self.info, image, self.relocs.target);
        let Some(bytes) = destination.place::<4>(rel.offset) else {
            return Err(RelocCause::PlaceOutside { offset: rel.offset });
        };
        let before = *bytes;
        // Branch fields hold any value that reaches.
        let Ok(after) = field.insert(&before, value, endian) else {
            return Err(self.out_of_range(rel, place));
        };
        *bytes = after;
        if O::ENABLED {
            self.tell(index, rel, place, field.addend(&before, endian), &before, &after);
        }
        Ok(())
    }

    /// Why a relocation is refused, by the tests in the order of the kernel.
    #[cold]
    fn cause(&self, rel: &RawReloc, to: &mut Target<'_>) -> RelocCause {
        let values = &self.symbols.values;
        let name = || self.info.symbol_name(rel.symbol).to_vec();
        let Some(&value) = values.get(rel.symbol as usize) else {
            // The kernel lets the index one behind the table pass.
            let behind = rel.symbol as usize == values.len();
            let cause = RelocCause::SymbolOutside { symbol: rel.symbol };
            return if behind { cause } else { RelocCause::ArmSymbolIndex };
        };
        let (offset, size) = (rel.offset as u32, self.target_size());
        if offset > size.wrapping_sub(4) {
            return RelocCause::ArmOutOfBounds { symbol: name(), offset, size };
        }
        let Some(howto) = self.howto(rel.kind) else { return RelocCause::UnknownArm };
        let place = (to.address as u32).wrapping_add(offset);
        if to.place::<4>(rel.offset).is_none() {
            return RelocCause::PlaceOutside { offset: rel.offset };
        }
        if self.changes_instruction_set(howto.field, rel.symbol, value as u32) {
            let from_thumb = howto.field == Field::ThumbBranch;
            return RelocCause::ArmInterworking { symbol: name(), from_thumb };
        }
        self.out_of_range(rel, place)
    }

    fn out_of_range(&self, rel: &RawReloc, place: u32) -> RelocCause {
        let target = self.symbols.values.get(rel.symbol as usize).map_or(0, |value| *value as u32);
        RelocCause::ArmOutOfRange { symbol: self.info.symbol_name(rel.symbol).to_vec(), place, target }
    }

    fn tell(
        &mut self,
        index: usize,
        rel: &RawReloc,
        place: u32,
        addend: i32,
        before: &[u8; 4],
        after: &[u8; 4],
    ) {
        self.observer.relocated(&RelocEvent {
            section: self.relocs.section,
            index,
            kind: rel.kind,
            symbol: rel.symbol,
            place: u64::from(place),
            value: self.symbols.values.get(rel.symbol as usize).copied().unwrap_or(0),
            addend: i64::from(addend),
            before,
            after,
        });
    }

    /// What this kernel does for a type.
    fn howto(&self, kind: u32) -> Option<Howto> {
        howto(kind).filter(|howto| match howto.known {
            Known::Always => true,
            Known::Thumb2 => self.rules.thumb2,
            Known::Group => self.rules.arm_group_relocs,
        })
    }

    /// A direct branch from ARM to Thumb code or back. From Thumb it is known of functions only.
    #[inline(always)]
    fn changes_instruction_set(&self, field: Field, symbol: u32, value: u32) -> bool {
        match field {
            Field::Branch => value & 3 != 0,
            Field::ThumbBranch => {
                value & 1 == 0 && self.info.symbol(symbol).is_some_and(|symbol| symbol.kind() == STT_FUNC)
            }
            _ => false,
        }
    }

    fn target_size(&self) -> u32 {
        self.info.sections.get(self.relocs.target).map_or(0, |target| target.size as u32)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use lkm_module::Errno;
    use lkm_module::elf::consts::*;

    use super::*;
    use crate::Arch;
    use crate::Image;
    use crate::test_support::*;

    const BASE: u64 = 0xbf00_0000;
    const BL: u32 = 0xebff_fffe;
    const THUMB_BL: u32 = 0xfffe_f7ff;

    struct Applied {
        before: u32,
        after: u32,
        place: u32,
    }

    /// Links one relocation of a place in `.text`, which holds `insn`, against an absolute symbol.
    fn apply(rules: &LinkRules, kind: u32, insn: u32, value: u32) -> Result<Applied, LinkError> {
        let mut object = module(Arch::Arm);
        let text = object.section(".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 4, &insn.to_le_bytes());
        let symbol = object.absolute("there", value.into());
        object.reloc(text, 0, symbol, kind, 0);
        let file = object.finish();
        let linked = link(&file, Arch::Arm, rules, BASE, &mut Exports::default(), &mut ())?;
        let place = linked.info.section_addr(text) as u32;
        Ok(Applied { before: insn, after: linked.word(text, 0), place })
    }

    fn rules() -> LinkRules {
        rules_6_1(Arch::Arm)
    }

    fn thumb() -> LinkRules {
        LinkRules { thumb2: true, ..rules() }
    }

    fn without_plt() -> LinkRules {
        LinkRules { arm_plt: None, ..rules() }
    }

    #[test]
    fn data_and_moves_get_their_value() {
        const S: u32 = 0xc012_3456;
        for (kind, insn, expected) in [
            (0, 5, 5u32),
            (2, 5, S + 5),
            (38, 5, S + 5),
            // movw and movt with the addend 0xff: the halves of S + 0xff.
            (43, 0xe300_30ff, 0xe303_3555),
            (44, 0xe340_30ff, 0xe34c_3012),
            (40, 0xe12f_ff13, 0xe1a0_f003),
        ] {
            assert_eq!(apply(&rules(), kind, insn, S).unwrap().after, expected, "type {kind}");
        }
        for (kind, insn, shift) in [(45, 0xe300_3000, 0), (46, 0xe340_3000, 16)] {
            let done = apply(&rules(), kind, insn, S).unwrap();
            let half = S.wrapping_sub(done.place) >> shift;
            assert_eq!(done.after, insn | (half & 0xf000) << 4 | half & 0xfff);
        }
        let done = apply(&rules(), 3, 8, S).unwrap();
        assert_eq!(done.after, (S + 8).wrapping_sub(done.place));
        let done = apply(&rules(), 42, 0x8000_0000, done.place + 0x1000).unwrap();
        assert_eq!(done.after, 0x8000_1000);
    }

    #[test]
    fn thumb_moves_get_their_value_on_thumb_kernels_only() {
        const S: u32 = 0xc012_3457;
        // movw r3, #0 and movt r3, #0
        for (kind, insn, expected) in [(47, 0x0300_f240, 0x4357_f243), (48, 0x0300_f2c0, 0x0312_f2cc)] {
            assert_eq!(apply(&thumb(), kind, insn, S).unwrap().after, expected, "type {kind}");
            let error = apply(&rules(), kind, insn, S).err().unwrap();
            assert_eq!(lines(&error), [alloc::format!("<3>hello: unknown relocation: {kind}")]);
        }
        for (kind, insn, shift) in [(49, 0x0300_f240, 0), (50, 0x0300_f2c0, 16)] {
            let done = apply(&thumb(), kind, insn, S).unwrap();
            let half = (S.wrapping_sub(done.place) >> shift) as u16 as i16;
            assert_eq!(Field::ThumbMove.addend(&done.after.to_le_bytes(), Endian::Little), half.into());
        }
    }

    #[test]
    fn group_relocations_are_known_since_their_kernel() {
        let place = apply(&rules(), 0, 0, 0).unwrap().place;
        for (kind, insn, expected) in [
            (57, 0xe28f_0000u32, 0xe28f_0548),
            (59, 0xe280_0000, 0xe280_09d1),
            (63, 0xe590_0000, 0xe590_0123),
        ] {
            let value = if kind == 63 { 0x1234_4123 } else { 0x1234_5678 };
            let done = apply(&rules(), kind, insn, place.wrapping_add(value)).unwrap();
            assert_eq!(done.after, expected, "type {kind}");
            let old = LinkRules { arm_group_relocs: false, ..rules() };
            assert!(apply(&old, kind, insn, place).is_err());
        }
        assert!(apply(&rules(), 63, 0xe590_0000, place + 0x1234_5678).is_err());
    }

    #[test]
    fn branches_reach_32_megabytes() {
        for kind in [1, 28, 29] {
            let place = apply(&without_plt(), 0, BL, 0).unwrap().place;
            // The value is S - P - 8 for a bl without addend.
            for (distance, reaches) in
                [(0x0200_0004, true), (0x0200_0008, false), (-0x01ff_fff4, true), (-0x01ff_fff8, false)]
            {
                let to = place.wrapping_add_signed(distance);
                match apply(&without_plt(), kind, BL, to) {
                    Ok(done) => {
                        assert!(reaches, "{distance:#x}");
                        let offset = Field::Branch.addend(&done.after.to_le_bytes(), Endian::Little);
                        assert_eq!(offset + 8, distance);
                        assert_eq!(done.after & 0xff00_0000, done.before & 0xff00_0000);
                    }
                    Err(error) => {
                        assert!(!reaches, "{distance:#x}");
                        assert_eq!(error.errno(), Errno::ENOEXEC);
                        let expected = alloc::format!(
                            "<3>hello: section 6 reloc 0 sym 'there': relocation {kind} out of range \
                             ({place:#x} -> {to:#x})"
                        );
                        assert_eq!(lines(&error), [expected]);
                    }
                }
            }
        }
    }

    #[test]
    fn thumb_branches_reach_16_megabytes() {
        let rules = LinkRules { arm_plt: None, ..thumb() };
        for kind in [10, 30] {
            let place = apply(&rules, 0, THUMB_BL, 0).unwrap().place;
            for (distance, reaches) in
                [(0x0100_0002, true), (0x0100_0004, false), (-0x00ff_fffa, true), (-0x00ff_fffc, false)]
            {
                let done = apply(&rules, kind, THUMB_BL, place.wrapping_add_signed(distance));
                assert_eq!(done.is_ok(), reaches, "{distance:#x}");
                if let Ok(done) = done {
                    let offset = Field::ThumbBranch.addend(&done.after.to_le_bytes(), Endian::Little);
                    assert_eq!(offset + 4, distance);
                }
            }
        }
    }

    #[test]
    fn unwind_offsets_have_31_bits_and_old_kernels_cut_them_off() {
        let place = apply(&rules(), 0, 0, 0).unwrap().place;
        for (distance, reaches) in
            [(0x3fff_ffff, true), (0x4000_0000, false), (-0x4000_0000, true), (-0x4000_0001, false)]
        {
            let to = place.wrapping_add_signed(distance);
            assert_eq!(apply(&rules(), 42, 0, to).is_ok(), reaches);
            let old = LinkRules { arm_prel31_range: false, ..rules() };
            assert_eq!(apply(&old, 42, 0, to).unwrap().after, distance as u32 & 0x7fff_ffff);
        }
    }

    #[test]
    fn branches_do_not_change_the_instruction_set() {
        let error = apply(&rules(), 28, BL, 0xbf00_0001).err().unwrap();
        assert_eq!(
            lines(&error),
            ["<3>hello: section 6 reloc 0 sym 'there': unsupported interworking call (ARM -> Thumb)"]
        );
        // From Thumb it depends on the type of the symbol.
        for (info, refused) in [(STB_GLOBAL << 4 | STT_FUNC, true), (STB_GLOBAL << 4, false)] {
            let mut object = module(Arch::Arm);
            let bytes = THUMB_BL.to_le_bytes();
            let text = object.section(".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 4, &bytes);
            let mut symbol = lkm_module::elf::RawSymbol { info, shndx: text as u16, ..Default::default() };
            symbol.value = 0x100;
            let symbol = object.symbol("there", symbol);
            object.reloc(text, 0, symbol, 10, 0);
            let file = object.finish();
            let done = link(&file, Arch::Arm, &thumb(), BASE, &mut Exports::default(), &mut ());
            assert_eq!(done.is_err(), refused);
            if let Err(error) = done {
                assert_eq!(
                    lines(&error),
                    ["<3>hello: section 6 reloc 0 sym 'there': unsupported interworking call (Thumb -> ARM)"]
                );
            }
        }
    }

    #[test]
    fn indexes_and_offsets_are_tested_before_the_type() {
        let refuse = |offset, symbol: u32, kind| {
            let mut object = module(Arch::Arm);
            let data = object.section(".data", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, 4, &[0; 8]);
            object.absolute("there", 1);
            object.reloc(data, offset, symbol, kind, 0);
            let file = object.finish();
            let done = link(&file, Arch::Arm, &rules(), BASE, &mut Exports::default(), &mut ());
            lines(&done.err().unwrap())
        };
        assert_eq!(
            refuse(5, 1, 200),
            ["<3>hello: section 6 reloc 0 sym 'there': out of bounds relocation, offset 5 size 8"]
        );
        assert_eq!(
            refuse(0xffff_fffc, 1, 0),
            ["<3>hello: section 6 reloc 0 sym 'there': out of bounds relocation, offset -4 size 8"]
        );
        assert_eq!(refuse(5, 3, 2), ["<3>hello: section 6 reloc 0: bad relocation sym offset"]);
        assert_eq!(refuse(0, 1, 200), ["<3>hello: unknown relocation: 200"]);
        // The kernel reads one symbol too many here.
        assert_eq!(refuse(0, 2, 2).len(), 0);
    }

    /// A module whose `.text` and `.init.text` call absolute symbols far away, one call a word.
    fn far_calls(text: &[(u32, u32, u32)], init: &[(u32, u32, u32)]) -> (Vec<u8>, [usize; 2]) {
        let mut object = module(Arch::Arm);
        let mut sections = [0; 2];
        for (number, (name, calls)) in [(".text", text), (".init.text", init)].into_iter().enumerate() {
            let data: Vec<u8> = calls.iter().flat_map(|(_, insn, _)| insn.to_le_bytes()).collect();
            let section = object.section(name, SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 4, &data);
            sections[number] = section;
            for (at, (kind, _, to)) in calls.iter().enumerate() {
                let symbol = object.absolute("far", u64::from(*to));
                object.reloc(section, 4 * at as u64, symbol, *kind, 0);
            }
        }
        (object.finish(), sections)
    }

    fn target_of(image: &Image<Vec<u8>>, place: u32) -> u32 {
        let insn = image.read_u32(u64::from(place)).unwrap().to_le_bytes();
        place.wrapping_add(8).wrapping_add_signed(Field::Branch.addend(&insn, Endian::Little))
    }

    #[test]
    fn far_branches_go_through_slots_in_sorted_order() {
        // 20 calls of 20 symbols: with the two fixed slots they take 22, in two sets of 16.
        let calls: Vec<_> = (0..20).map(|at| (28, BL, 0xd000_0000 + 16 * at)).collect();
        let (file, [text, _]) = far_calls(&calls, &[(29, 0xeaff_fffe, 0xd000_0000)]);
        let linked = link(&file, Arch::Arm, &rules(), BASE, &mut Exports::default(), &mut ()).unwrap();
        let plt = linked.info.find_sec(b".plt");
        let init_plt = linked.info.find_sec(b".init.plt");
        assert_eq!(linked.info.sections[plt].size, 256);
        assert_eq!(linked.info.sections[init_plt].size, 128);
        assert_eq!(linked.stats.plt_slots, [22, 3]);

        let (text, plt_at) = (linked.info.section_addr(text) as u32, linked.info.section_addr(plt) as u32);
        for set in 0..2 {
            for slot in 0..16 {
                assert_eq!(linked.word(plt, set * 128 + 4 * slot), 0xe59f_f038);
            }
        }
        assert_eq!((linked.word(plt, 64), linked.word(plt, 68)), (0xc010_0000, 0xc010_0010));
        for (number, (_, _, to)) in calls.iter().enumerate() {
            let slot = number as u32 + 2;
            let offset = slot / 16 * 128 + slot % 16 * 4;
            assert_eq!(target_of(&linked.image, text + 4 * number as u32), plt_at + offset);
            assert_eq!(linked.word(plt, u64::from(offset) + 64), *to);
        }
        assert_eq!(linked.word(init_plt, 64 + 8), 0xd000_0000);
        // What the second set does not use is zero.
        assert_eq!(linked.word(plt, 128 + 64 + 4 * 6), 0);
    }

    #[test]
    fn equal_targets_share_a_slot_and_fixed_ones_their_own() {
        let calls = [(28, BL, 0xd000_0000), (28, BL, 0xc010_0010), (28, BL + 1, 0xd000_0000)];
        let (file, [text, _]) = far_calls(&calls, &[]);
        // Another branch to the symbol of the first call, out of order in the file.
        let rules = LinkRules {
            arm_plt: Some(crate::rules::ArmPlt { fixed: alloc::vec![0xd000_0000, 0xd000_0010], align: 64 }),
            ..rules()
        };
        let linked = link(&file, Arch::Arm, &rules, 0xbf00_0000, &mut Exports::default(), &mut ()).unwrap();
        let (text, plt) = (
            linked.info.section_addr(text) as u32,
            linked.info.section_addr(linked.info.find_sec(b".plt")) as u32,
        );
        assert_eq!(target_of(&linked.image, text), plt);
        // A near target needs no slot; an addend makes another target.
        assert_eq!(target_of(&linked.image, text + 4), 0xc010_0010);
        assert_eq!(target_of(&linked.image, text + 8), plt + 8);
        assert_eq!(linked.stats.plt_slots, [3, 0]);
    }

    #[test]
    fn repeated_calls_of_one_symbol_are_counted_once() {
        let count = |addends: &[u32]| {
            let mut object = module(Arch::Arm);
            let data: Vec<u8> = addends.iter().flat_map(|addend| (BL + addend).to_le_bytes()).collect();
            let text = object.section(".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 4, &data);
            let far = object.absolute("far", 0xd000_0000);
            let near = object.local("near", text, 0);
            for at in 0..addends.len() as u64 {
                object.reloc(text, 4 * at, far, 28, 0);
            }
            object.reloc(text, 0, near, 28, 0);
            let file = object.finish();
            let rules =
                LinkRules { arm_plt: Some(crate::rules::ArmPlt { fixed: Vec::new(), align: 8 }), ..rules() };
            let (info, _) = lay_out(&file, Arch::Arm, &rules).unwrap();
            // With lines of 8 bytes a set has two slots in 16 bytes.
            info.sections[info.find_sec(b".plt")].size / 8
        };
        assert_eq!(count(&[0, 0, 0]), 2);
        assert_eq!(count(&[0]), 2);
        assert_eq!(count(&[1, 1, 1]), 4);
        assert_eq!(count(&[]), 0);
    }

    #[test]
    fn thumb_slots_load_with_the_wide_instruction() {
        let mut object = module(Arch::Arm);
        let bytes = THUMB_BL.to_le_bytes();
        let text = object.section(".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 4, &bytes);
        let far = object.absolute("far", 0xd000_0001);
        object.reloc(text, 0, far, 10, 0);
        let file = object.finish();
        let linked = link(&file, Arch::Arm, &thumb(), BASE, &mut Exports::default(), &mut ()).unwrap();
        let plt = linked.info.find_sec(b".plt");
        // ldr.w pc, [pc, #60], as the assembler writes it
        assert_eq!(linked.word(plt, 0), 0xf03c_f8df);
        assert_eq!(linked.word(plt, 64 + 8), 0xd000_0001);
        let insn = linked.word(text, 0).to_le_bytes();
        let to = (linked.info.section_addr(text) as u32 + 4)
            .wrapping_add_signed(Field::ThumbBranch.addend(&insn, Endian::Little));
        assert_eq!(u64::from(to), linked.info.section_addr(plt) + 8);
    }

    #[test]
    fn modules_without_plt_sections_are_refused() {
        let object =
            lkm_module::testing::ObjectBuilder::new(lkm_module::elf::Class::Elf32, Endian::Little, EM_ARM);
        let mut object = object;
        object.this_module("hello", 0x240, None, None);
        let file = object.finish();
        let error = lay_out(&file, Arch::Arm, &rules()).err().unwrap();
        assert_eq!(lines(&error), ["<3>hello: module PLT section(s) missing"]);
        assert!(lay_out(&file, Arch::Arm, &without_plt()).is_ok());
    }

    #[test]
    fn names_of_init_sections() {
        for (name, init) in [
            (".init.text", true),
            (".ARM.exidx.init.text", true),
            (".ARM.extab.init.text", true),
            (".ARM.exidx", false),
            (".alt.smp.init", false),
            (".exit.text", false),
        ] {
            assert_eq!(module_init_section(name.as_bytes()), init, "{name}");
        }
    }
}
