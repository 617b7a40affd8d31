//! Module PLTs (`CONFIG_ARM_MODULE_PLTS`): slots that load the program counter, for branches that reach too far.
//!
//! A PLT section is made of sets: as many `ldr pc` instructions as words fit in a cache line, then as many literals.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::ops::DerefMut;

use lkm_module::elf::Elf32;
use lkm_module::elf::ElfClass;
use lkm_module::elf::RawReloc;
use lkm_module::elf::consts::SHF_ALLOC;
use lkm_module::elf::consts::SHF_EXECINSTR;
use lkm_module::elf::consts::SHN_UNDEF;
use lkm_module::elf::consts::SHT_NOBITS;
use lkm_module::elf::consts::SHT_REL;
use lkm_module::elf::consts::SHT_SYMTAB;

use super::is_branch;
use super::is_thumb_branch;
use crate::LinkError;
use crate::image::Image;
use crate::info::LoadInfo;
use crate::relocate::RelocStats;
use crate::relocate::target;
use crate::rules::LinkRules;
use crate::rules::PltForm;
use crate::sort::heapsort;

/// Bytes of one slot: an instruction and a literal.
const SLOT_SIZE: u64 = 8;

/// What `module_frob_arch_sections` found and sorted.
#[derive(Clone, Debug, Default)]
pub(crate) struct PltPlan {
    /// The PLT sections of the core and of the init part; 0 without PLTs.
    pub(crate) sections: [usize; 2],
    /// Relocation sections of code, in ascending order, with their records sorted.
    sorted: Vec<(usize, Vec<SortedReloc>)>,
}

impl PltPlan {
    /// The records of a relocation section in the order in which they are applied, if that is not the file's.
    pub(crate) fn sorted(&self, section: usize) -> Option<&[SortedReloc]> {
        let at = self.sorted.binary_search_by_key(&section, |(section, _)| *section).ok()?;
        self.sorted.get(at).map(|(_, records)| records.as_slice())
    }
}

/// A `SHT_REL` record packed so that the sort key, type and symbol, is its upper half; `r_offset` is the lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SortedReloc(u64);

impl SortedReloc {
    fn new(reloc: RawReloc) -> SortedReloc {
        let key = reloc.kind << 24 | reloc.symbol & 0x00ff_ffff;
        SortedReloc(u64::from(key) << 32 | reloc.offset & u64::from(u32::MAX))
    }

    pub(crate) fn unpack(self) -> RawReloc {
        RawReloc {
            offset: self.0 & u64::from(u32::MAX),
            symbol: (self.0 >> 32) as u32 & 0x00ff_ffff,
            kind: (self.0 >> 56) as u32,
            addend: 0,
        }
    }

    fn key(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Counts the branches that may need a slot and gives the PLT sections room for all of them; from 4.9 on after sorting the
/// relocations of code by type and symbol.
pub(crate) fn module_frob_arch_sections(info: &mut LoadInfo<'_>, rules: &LinkRules) -> Result<(), LinkError> {
    let Some(plt) = &rules.arm_plt else { return Ok(()) };
    let last = |name: &str| {
        (1..info.sections.len()).rev().find(|&index| info.section_name(index) == name.as_bytes())
    };
    let [core, init] = plt.form.sections().map(last);
    let (Some(core), Some(init)) = (core, init) else {
        return Err(LinkError::NoPltSections(plt.form));
    };
    let mut slots = [plt.fixed.len() as u64; 2];
    let sorted = match plt.form {
        PltForm::CoreAndInit => {
            count_in_order(info, &mut slots)?;
            Vec::new()
        }
        PltForm::Single | PltForm::Split => sort_and_count(info, rules, plt.form, &mut slots)?,
    };
    if plt.form == PltForm::Single {
        slots = [slots[0] + slots[1]; 2];
    }
    for (index, slots) in [core, init].into_iter().zip(slots) {
        if let Some(section) = info.sections.get_mut(index) {
            section.kind = SHT_NOBITS;
            section.flags = SHF_EXECINSTR | SHF_ALLOC;
            section.addralign = plt.align;
            section.size = (slots * SLOT_SIZE).next_multiple_of((2 * plt.align).max(1));
        }
    }
    info.arm = PltPlan { sections: [core, init], sorted };
    Ok(())
}

/// Up to 4.8: every branch counts, unless an earlier one of its section has the same type, symbol and addend.
fn count_in_order(info: &LoadInfo<'_>, slots: &mut [u64; 2]) -> Result<(), LinkError> {
    let mut budget = info.elf.data.len();
    for (index, section) in info.sections.iter().enumerate().skip(1).filter(|row| row.1.kind == SHT_REL) {
        let contents = info.contents(index);
        budget = budget.checked_sub(contents.len()).ok_or(LinkError::RelocsOverlap { section: index })?;
        let code = info.contents(section.info as usize);
        let mut seen = BTreeSet::new();
        let records = Elf32::rels(contents).iter().map(|raw| Elf32::rel(raw, info.elf.endian));
        for reloc in records.filter(|reloc| is_branch(reloc.kind)) {
            let mask = if is_thumb_branch(reloc.kind) { THUMB_ADDEND } else { ARM_ADDEND };
            seen.insert((reloc.kind, reloc.symbol, instruction(reloc.offset, code).map(|insn| insn & mask)));
        }
        let name = info.section_name(index);
        let init = name.windows(b".init".len()).any(|part| part == b".init");
        slots[usize::from(init)] += seen.len() as u64;
    }
    Ok(())
}

/// From 4.9: the relocations of code in their new order, with their branches counted.
fn sort_and_count(
    info: &LoadInfo<'_>,
    rules: &LinkRules,
    form: PltForm,
    slots: &mut [u64; 2],
) -> Result<Vec<(usize, Vec<SortedReloc>)>, LinkError> {
    let symtab = info.sections.iter().rposition(|section| section.kind == SHT_SYMTAB);
    let symbols = Elf32::symbols(info.contents(symtab.ok_or(LinkError::NoPltSymbols)?));
    let endian = info.elf.endian;
    let mut sorted = Vec::new();
    let mut budget = info.elf.data.len();
    for (index, section) in info.sections.iter().enumerate().skip(1) {
        let target = section.info as usize;
        if section.kind != SHT_REL
            || info.sections.get(target).is_none_or(|target| target.flags & SHF_EXECINSTR == 0)
        {
            continue;
        }
        let contents = info.contents(index);
        budget = budget.checked_sub(contents.len()).ok_or(LinkError::RelocsOverlap { section: index })?;
        let mut records: Vec<SortedReloc> =
            Elf32::rels(contents).iter().map(|raw| SortedReloc::new(Elf32::rel(raw, endian))).collect();
        heapsort(rules.sort, &mut records, |a, b| a.key().cmp(&b.key()));

        let code = info.contents(target);
        let mut previous = None;
        let mut count = 0;
        for record in &records {
            let zero_addend = has_zero_addend(*record, code);
            let reloc = record.unpack();
            if is_branch(reloc.kind) {
                let symbol = symbols.get(reloc.symbol as usize).map(|raw| Elf32::symbol(raw, endian));
                let section = symbol.map(|symbol| symbol.shndx);
                let far = match form {
                    PltForm::Single => section == Some(SHN_UNDEF),
                    _ => section.map(usize::from) != Some(target),
                };
                let repeated = zero_addend && previous == Some((record.key(), true));
                if far && !repeated {
                    count += 1;
                }
            }
            previous = Some((record.key(), zero_addend));
        }
        let part = usize::from(info.arch.module_init_layout_section(info.section_name(target), rules));
        slots[part] += count;
        sorted.push((index, records));
    }
    Ok(sorted)
}

/// Bits of an instruction that hold the addend of a branch.
const ARM_ADDEND: u32 = 0x00ff_ffff;
/// The same in a Thumb instruction, its halves in memory order.
const THUMB_ADDEND: u32 = 0x2fff_07ff;

/// The instruction at a place, as it stands in the file.
fn instruction(offset: u64, code: &[u8]) -> Option<u32> {
    let rest = code.get(usize::try_from(offset).ok()?..)?;
    Some(u32::from_le_bytes(*rest.first_chunk()?))
}

/// A branch of no addend but the pipeline's: its bits are compared as they stand in the file.
fn has_zero_addend(record: SortedReloc, code: &[u8]) -> bool {
    let reloc = record.unpack();
    let place = instruction(reloc.offset, code);
    let Some(insn) = place.filter(|_| is_branch(reloc.kind)) else { return false };
    if is_thumb_branch(reloc.kind) {
        insn & 0x7ff == 0x7ff && insn >> 16 & 0x2fff == 0x2ffe
    } else {
        insn & 0x00ff_ffff == 0x00ff_fffe
    }
}

/// `get_module_plt()`: address of a slot that jumps to `to`, of the core's or the init part's PLT.
///
/// `stats` knows the slots in use. `None` if the section is full, or not there.
pub(crate) fn get_module_plt<B: DerefMut<Target = [u8]>>(
    info: &LoadInfo<'_>,
    rules: &LinkRules,
    image: &mut Image<B>,
    init: bool,
    stats: &mut RelocStats,
    to: u32,
) -> Option<u32> {
    let plt = rules.arm_plt.as_ref()?;
    let init = init && plt.form != PltForm::Single;
    let section = info.arm.sections[usize::from(init)];
    if section == 0 {
        return None;
    }
    let endian = image.endian;
    let used = &mut stats.plt_slots[usize::from(init)];
    let target = target(info, image, section);
    let mut table = Table { bytes: target.bytes, address: target.address as u32, line: plt.align as usize };
    if table.line < 4 {
        return None;
    }

    if *used == 0 && !plt.fixed.is_empty() {
        table.start_set(0, rules.thumb2)?;
        for (slot, address) in plt.fixed.iter().enumerate() {
            table.set_literal(slot, endian.u32_bytes(*address as u32))?;
        }
        *used = plt.fixed.len();
    }
    let literal = endian.u32_bytes(to);
    let last = match plt.form {
        PltForm::CoreAndInit => stats.plt_found.get(&(init, to)).copied(),
        PltForm::Single | PltForm::Split => used.checked_sub(1).filter(|last| *last >= plt.fixed.len()),
    };
    if let Some(slot) = (0..plt.fixed.len()).chain(last).find(|slot| table.literal(*slot) == Some(literal)) {
        return table.slot_address(slot);
    }
    let slot = *used;
    if slot.is_multiple_of(table.per_set()) {
        table.start_set(slot, rules.thumb2)?;
    }
    table.set_literal(slot, literal)?;
    *used += 1;
    if plt.form == PltForm::CoreAndInit {
        stats.plt_found.insert((init, to), slot);
    }
    table.slot_address(slot)
}

/// A PLT section.
struct Table<'a> {
    bytes: &'a mut [u8],
    address: u32,
    /// Bytes in a cache line.
    line: usize,
}

impl Table<'_> {
    fn per_set(&self) -> usize {
        self.line / 4
    }

    /// Offset of a slot's instruction; its literal is a line further.
    fn offset(&self, slot: usize) -> usize {
        slot / self.per_set() * 2 * self.line + slot % self.per_set() * 4
    }

    fn slot_address(&self, slot: usize) -> Option<u32> {
        Some(self.address.wrapping_add(u32::try_from(self.offset(slot)).ok()?))
    }

    fn literal(&self, slot: usize) -> Option<[u8; 4]> {
        self.bytes.get(self.offset(slot) + self.line..)?.first_chunk().copied()
    }

    fn set_literal(&mut self, slot: usize, literal: [u8; 4]) -> Option<()> {
        let at = self.offset(slot) + self.line;
        *self.bytes.get_mut(at..)?.first_chunk_mut()? = literal;
        Some(())
    }

    /// Writes all instructions of the set that starts with `slot`: each loads the literal a line further.
    fn start_set(&mut self, slot: usize, thumb2: bool) -> Option<()> {
        let line = self.line as u32;
        let insn = if thumb2 {
            // ldr.w pc, [pc, #line - 4], its half words in memory order
            0xf8df | (0xf000 | line.wrapping_sub(4)) << 16
        } else {
            // ldr pc, [pc, #line - 8]
            0xe59f_f000 | line.wrapping_sub(8)
        };
        let at = self.offset(slot);
        let set = self.bytes.get_mut(at..)?.get_mut(..2 * self.line)?;
        for place in set.as_chunks_mut::<4>().0.iter_mut().take(self.line / 4) {
            *place = insn.to_le_bytes();
        }
        Some(())
    }
}
