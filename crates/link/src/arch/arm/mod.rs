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

#[inline(always)]
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
        2 => row("R_ARM_ABS32", Field::Word, false),
        3 => row("R_ARM_REL32", Field::Word, true),
        10 => thumb2(row("R_ARM_THM_CALL", Field::ThumbBranch, true)),
        28 => row("R_ARM_CALL", Field::Branch, true),
        29 => row("R_ARM_JUMP24", Field::Branch, true),
        30 => thumb2(row("R_ARM_THM_JUMP24", Field::ThumbBranch, true)),
        38 => row("R_ARM_TARGET1", Field::Word, false),
        40 => row("R_ARM_V4BX", Field::V4Bx, false),
        42 => row("R_ARM_PREL31", Field::Prel31, true),
        43 => row("R_ARM_MOVW_ABS_NC", Field::Move, false),
        44 => high(row("R_ARM_MOVT_ABS", Field::Move, false)),
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

impl<O: RelocObserver> Linker<'_, '_, O> {
    #[inline(always)]
    fn apply<B: DerefMut<Target = [u8]>>(
        &mut self,
        records: impl Iterator<Item = RawReloc>,
        image: &mut Image<B>,
    ) -> Result<(), LinkError> {
        let RelocSection { section, target: target_index, .. } = self.relocs;
        let endian = image.endian;
        let values = self.symbols.values.as_slice();
        let target_size = self.info.sections.get(target_index).map_or(0, |target| target.size as u32);
        let in_init = self
            .info
            .placement
            .get(target_index)
            .is_some_and(|placement| placement.is_some_and(|at| at.region.is_init()));
        let mut destination = target(self.info, image, target_index);
        let mut count = 0;

        for (index, rel) in records.enumerate() {
            let fail = |cause| LinkError::Reloc(RelocError { section, index, kind: rel.kind, cause });
            let info = self.info;
            let name = || info.symbol_name(rel.symbol).to_vec();
            let offset = rel.offset as u32;
            let Some(&value) = values.get(rel.symbol as usize) else {
                // The kernel lets the index one behind the table pass.
                let behind = rel.symbol as usize == values.len();
                let cause = RelocCause::SymbolOutside { symbol: rel.symbol };
                return Err(fail(if behind { cause } else { RelocCause::ArmSymbolIndex }));
            };
            if offset > target_size.wrapping_sub(4) {
                return Err(fail(RelocCause::ArmOutOfBounds { symbol: name(), offset, size: target_size }));
            }
            count += 1;
            if rel.kind == NONE {
                continue;
            }
            let known = howto(rel.kind).filter(|howto| match howto.known {
                Known::Always => true,
                Known::Thumb2 => self.rules.thumb2,
                Known::Group => self.rules.arm_group_relocs,
            });
            let Some(howto) = known else { return Err(fail(RelocCause::UnknownArm)) };
            let place = (destination.address as u32).wrapping_add(offset);
            let bytes = destination.bytes.get_mut(offset as usize..).and_then(<[u8]>::first_chunk_mut::<4>);
            let Some(bytes) = bytes else {
                return Err(fail(RelocCause::PlaceOutside { offset: rel.offset }));
            };
            let before = *bytes;

            let symbol = value as u32;
            let refused = match howto.field {
                Field::Branch => symbol & 3 != 0,
                Field::ThumbBranch => symbol & 1 == 0 && self.is_function(rel.symbol),
                _ => false,
            };
            if refused {
                let from_thumb = howto.field == Field::ThumbBranch;
                return Err(fail(RelocCause::ArmInterworking { symbol: name(), from_thumb }));
            }

            let addend = howto.field.addend(&before, endian);
            let origin = if howto.pc_relative { place } else { 0 };
            let mut result = addend.wrapping_add(symbol.wrapping_sub(origin) as i32);
            if !howto.field.reaches(result) {
                let pipeline = match howto.field {
                    Field::Branch => Some(8),
                    Field::ThumbBranch => Some(4),
                    _ => None,
                };
                if let (Some(pipeline), Some(_)) = (pipeline, &self.rules.arm_plt) {
                    let origin = place.wrapping_add(pipeline);
                    let to = origin.wrapping_add_signed(result);
                    let used = &mut self.stats.plt_slots;
                    let slot = plt::get_module_plt(self.info, self.rules, image, in_init, used, to)
                        .ok_or_else(|| fail(RelocCause::PltFull))?;
                    result = slot.wrapping_sub(origin) as i32;
                    destination = target(self.info, image, target_index);
                }
                let tested = howto.field != Field::Prel31 || self.rules.arm_prel31_range;
                if tested && !howto.field.reaches(result) {
                    let cause = RelocCause::ArmOutOfRange { symbol: name(), place, target: symbol };
                    return Err(fail(cause));
                }
            }
            let shown = if howto.high { result >> 16 } else { result };
            let Ok(after) = howto.field.insert(&before, shown, endian) else {
                let cause = RelocCause::ArmOutOfRange { symbol: name(), place, target: symbol };
                return Err(fail(cause));
            };
            if let Some(bytes) =
                destination.bytes.get_mut(offset as usize..).and_then(<[u8]>::first_chunk_mut::<4>)
            {
                *bytes = after;
            }
            if O::ENABLED {
                self.observer.relocated(&RelocEvent {
                    section,
                    index,
                    kind: rel.kind,
                    symbol: rel.symbol,
                    place: u64::from(place),
                    value,
                    addend: i64::from(addend),
                    before: &before,
                    after: &after,
                });
            }
        }
        self.stats.relocations += count;
        Ok(())
    }

    fn is_function(&self, symbol: u32) -> bool {
        self.info.symbol(symbol).is_some_and(|symbol| symbol.kind() == STT_FUNC)
    }
}
