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
        let slot = plt::get_module_plt(self.info, self.rules, image, in_init, self.stats, to)
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
mod tests;
