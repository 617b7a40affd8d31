//! Where sections and symbol tables go in module memory.

use alloc::vec::Vec;

use lkm_module::elf::Class;
use lkm_module::elf::Elf32;
use lkm_module::elf::Elf64;
use lkm_module::elf::ElfClass;
use lkm_module::elf::Endian;
use lkm_module::elf::RawSymbol;
use lkm_module::elf::consts::SHF_ALLOC;
use lkm_module::elf::consts::SHF_EXECINSTR;
use lkm_module::elf::consts::SHF_RO_AFTER_INIT;
use lkm_module::elf::consts::SHF_WRITE;

use crate::LinkError;
use crate::image::Placement;
use crate::image::RegionKind;
use crate::image::RegionLayout;
use crate::info::LoadInfo;
use crate::info::SymtabLayout;
use crate::rules::LinkRules;
use crate::rules::MemoryModel;
use crate::strings::StringTable;

/// One row of the kernel's `masks`: sections are placed row by row, each by the first row that it matches.
struct Row {
    required: u64,
    excluded: u64,
    /// `ARCH_SHF_SMALL` is required (else it is excluded).
    small: bool,
    /// The row exists only with [`LinkRules::ro_after_init`].
    ro_after_init: bool,
    /// From 6.4: the allocation for core sections and that for init sections.
    types: [Option<RegionKind>; 2],
    /// Up to 6.3: the mark that the end of this row sets.
    ends: Option<Mark>,
}

#[derive(Clone, Copy)]
enum Mark {
    Text,
    ReadOnly,
    ReadOnlyAfterInit,
    All,
}

const ROWS: [Row; 5] = [
    Row {
        required: SHF_EXECINSTR | SHF_ALLOC,
        excluded: 0,
        small: false,
        ro_after_init: false,
        types: [Some(RegionKind::Text), Some(RegionKind::InitText)],
        ends: Some(Mark::Text),
    },
    Row {
        required: SHF_ALLOC,
        excluded: SHF_WRITE,
        small: false,
        ro_after_init: false,
        types: [Some(RegionKind::RoData), Some(RegionKind::InitRoData)],
        ends: Some(Mark::ReadOnly),
    },
    Row {
        required: SHF_RO_AFTER_INIT | SHF_ALLOC,
        excluded: 0,
        small: false,
        ro_after_init: true,
        // There is no such init type: the section falls through to the next row.
        types: [Some(RegionKind::RoAfterInit), None],
        ends: Some(Mark::ReadOnlyAfterInit),
    },
    Row {
        required: SHF_WRITE | SHF_ALLOC,
        excluded: 0,
        small: false,
        ro_after_init: false,
        types: [Some(RegionKind::Data), Some(RegionKind::InitData)],
        ends: None,
    },
    Row {
        required: SHF_ALLOC,
        excluded: 0,
        small: true,
        ro_after_init: false,
        types: [Some(RegionKind::Data), Some(RegionKind::InitData)],
        ends: Some(Mark::All),
    },
];

/// `module_enforce_rwx_sections()`: refuses sections, in memory or not, that are both writable and executable.
pub fn module_enforce_rwx_sections(info: &LoadInfo<'_>, rules: &LinkRules) -> Result<(), LinkError> {
    const BOTH: u64 = SHF_WRITE | SHF_EXECINSTR;
    if !(rules.strict_rwx && rules.refuse_wx) {
        return Ok(());
    }
    match info.sections.iter().position(|section| section.flags & BOTH == BOTH) {
        Some(index) => Err(LinkError::WriteExec { section: info.section_name(index).to_vec(), index }),
        None => Ok(()),
    }
}

/// The running sizes of the allocations. The kernel counts in `unsigned int`, which wraps.
struct Sizes {
    regions: Vec<RegionLayout>,
    /// Page size, where parts end at page boundaries.
    page: Option<u32>,
}

impl Sizes {
    fn region(&mut self, kind: RegionKind) -> Option<&mut RegionLayout> {
        self.regions.iter_mut().find(|region| region.kind == kind)
    }

    /// `module_get_offset()`: makes room for `size` bytes.
    fn place(&mut self, kind: RegionKind, size: u64, align: u64) -> Option<Placement> {
        let region = self.region(kind)?;
        let offset = align_up(region.size as u32, align);
        region.size = u64::from(offset.wrapping_add(size as u32));
        Some(Placement { region: kind, offset: u64::from(offset) })
    }

    /// `strict_align()` of the running size.
    fn round(&mut self, kind: RegionKind) -> u64 {
        let page = self.page;
        let Some(region) = self.region(kind) else { return 0 };
        if let Some(page) = page {
            region.size = u64::from(align_up(region.size as u32, u64::from(page)));
        }
        region.size
    }
}

/// `ALIGN()` on `unsigned int`; the alignment is one of a file and need not be a power of two.
fn align_up(size: u32, align: u64) -> u32 {
    let mask = (align.max(1) as u32).wrapping_sub(1);
    size.wrapping_add(mask) & !mask
}

/// `layout_sections()`, and before it the two marks that `layout_and_allocate()` sets: the per-cpu template gets no
/// module memory, and sections that are written by init only are marked.
///
/// The result has an entry for each part that the memory model knows, empty ones too, in the order of allocation.
/// Sizes of the seven-type model are rounded to pages by [`move_module`](crate::image::move_module).
pub fn layout_sections(info: &mut LoadInfo<'_>, rules: &LinkRules) -> Vec<RegionLayout> {
    if info.index.pcpu != 0 {
        info.clear_alloc(info.index.pcpu);
    }
    if rules.ro_after_init {
        for name in rules.ro_after_init_sections {
            let index = info.find_sec(name.as_bytes());
            if let Some(section) = info.sections.get_mut(index).filter(|_| index != 0) {
                section.flags |= SHF_RO_AFTER_INIT;
            }
        }
    }

    let kinds: &[RegionKind] = match rules.memory {
        MemoryModel::CoreInit => &[RegionKind::Core, RegionKind::Init],
        MemoryModel::SevenTypes => &[
            RegionKind::Text,
            RegionKind::Data,
            RegionKind::RoData,
            RegionKind::RoAfterInit,
            RegionKind::InitText,
            RegionKind::InitData,
            RegionKind::InitRoData,
        ],
    };
    let empty =
        |&kind: &RegionKind| RegionLayout { kind, size: 0, text_size: 0, ro_size: 0, ro_after_init_size: 0 };
    let mut sizes = Sizes { regions: kinds.iter().map(empty).collect(), page: page_rounding(rules) };

    // Row by row, each section is taken by the first row that it matches: the sections of each row as a list, by the
    // number of its first section and that of the next one of each section.
    const NONE: usize = usize::MAX;
    let mut first = [NONE; 2 * ROWS.len()];
    let mut next: Vec<usize> = alloc::vec![NONE; info.sections.len()];
    for (index, next) in next.iter_mut().enumerate().rev() {
        if let Some(row) = row_of(info, rules, index)
            && let Some(first) = first.get_mut(row)
        {
            *next = core::mem::replace(first, index);
        }
    }
    info.placement.clear();
    info.placement.resize(info.sections.len(), None);
    for is_init in [false, true] {
        for (number, row) in ROWS.iter().enumerate() {
            if row.ro_after_init && !rules.ro_after_init {
                continue;
            }
            let Some(kind) = row.target(rules.memory, is_init) else { continue };
            let mut member = first.get(row_number(number, is_init)).copied().unwrap_or(NONE);
            while let (Some(section), Some(placement), Some(next)) =
                (info.sections.get(member), info.placement.get_mut(member), next.get(member))
            {
                *placement = sizes.place(kind, section.size, section.addralign);
                member = *next;
            }
            if rules.memory == MemoryModel::CoreInit {
                end_row(&mut sizes, kind, row.ends, rules);
            }
        }
    }
    sizes.regions
}

impl Row {
    /// The allocation that sections of this row go to.
    fn target(&self, memory: MemoryModel, is_init: bool) -> Option<RegionKind> {
        match memory {
            MemoryModel::CoreInit if is_init => Some(RegionKind::Init),
            MemoryModel::CoreInit => Some(RegionKind::Core),
            MemoryModel::SevenTypes => self.types[usize::from(is_init)],
        }
    }
}

/// Rows of the core part come first, then those of the init part.
fn row_number(row: usize, is_init: bool) -> usize {
    row + if is_init { ROWS.len() } else { 0 }
}

/// [`row_number`] of the first row that a section matches, by the part that it belongs to; `None` if it gets no memory.
fn row_of(info: &LoadInfo<'_>, rules: &LinkRules, index: usize) -> Option<usize> {
    let section = info.sections.get(index).filter(|section| section.is_alloc())?;
    let is_init = info.arch.module_init_layout_section(info.section_name(index), rules);
    let small = info.arch.small_flag();
    let row = ROWS.iter().position(|row| {
        let (required, excluded) =
            if row.small { (row.required | small, 0) } else { (row.required, row.excluded | small) };
        section.flags & required == required
            && section.flags & excluded == 0
            && (rules.ro_after_init || !row.ro_after_init)
            && row.target(rules.memory, is_init).is_some()
    });
    row.map(|row| row_number(row, is_init))
}

/// Sets the mark that the end of a row of the core and init model has.
fn end_row(sizes: &mut Sizes, kind: RegionKind, ends: Option<Mark>, rules: &LinkRules) {
    let Some(mark) = ends else { return };
    // The init part has nothing that is read-only after init, and its mark is not rounded.
    if let (Mark::ReadOnlyAfterInit, RegionKind::Init) = (mark, kind) {
        if let Some(region) = sizes.region(kind) {
            region.ro_after_init_size = region.ro_size;
        }
        return;
    }
    let end = sizes.round(kind);
    let Some(region) = sizes.region(kind) else { return };
    match mark {
        Mark::Text => region.text_size = end,
        Mark::ReadOnly => {
            region.ro_size = end;
            if !rules.ro_after_init {
                region.ro_after_init_size = end;
            }
        }
        Mark::ReadOnlyAfterInit => region.ro_after_init_size = end,
        Mark::All => {}
    }
}

/// Page size for `strict_align()`, where there is such rounding while sections are laid out.
fn page_rounding(rules: &LinkRules) -> Option<u32> {
    let rounds = rules.strict_rwx && rules.memory == MemoryModel::CoreInit;
    u32::try_from(rules.page_size).ok().filter(|_| rounds)
}

/// Whether symbols of each section, by its index, are kept after init (`is_core_symbol()`): those of code of the core,
/// with `CONFIG_KALLSYMS_ALL` those of data and per-cpu variables too. Known after [`layout_sections`].
pub fn core_symbol_sections(info: &LoadInfo<'_>, rules: &LinkRules) -> Vec<bool> {
    let needed = if rules.kallsyms_all { SHF_ALLOC } else { SHF_ALLOC | SHF_EXECINSTR };
    let mut core: Vec<bool> = info
        .sections
        .iter()
        .zip(&info.placement)
        .map(|(section, placement)| {
            section.flags & needed == needed && placement.is_some_and(|at| !at.region.is_init())
        })
        .collect();
    if let Some(null) = core.first_mut() {
        *null = false;
    }
    if rules.kallsyms_all
        && info.index.pcpu != 0
        && let Some(percpu) = core.get_mut(info.index.pcpu)
    {
        *percpu = true;
    }
    core
}

/// `layout_symtab()`: puts the symbol tables at the end of the init part and reserves room for the kept copies at the
/// end of the core. Does nothing without `CONFIG_KALLSYMS`.
pub fn layout_symtab(info: &mut LoadInfo<'_>, rules: &LinkRules, regions: &mut Vec<RegionLayout>) {
    if !rules.kallsyms {
        return;
    }
    let (core, init) = match rules.memory {
        MemoryModel::CoreInit => (RegionKind::Core, RegionKind::Init),
        MemoryModel::SevenTypes => (RegionKind::Data, RegionKind::InitData),
    };
    let mut sizes = Sizes { regions: core::mem::take(regions), page: page_rounding(rules) };
    info.symtab = place_tables(info, rules, &mut sizes, core, init);
    *regions = sizes.regions;
}

fn place_tables(
    info: &mut LoadInfo<'_>,
    rules: &LinkRules,
    sizes: &mut Sizes,
    core: RegionKind,
    init: RegionKind,
) -> Option<SymtabLayout> {
    let class = info.elf.class;
    let (word, symbol_size) = (class.pointer_size() as u64, class.symbol_size() as u64);
    let symbols = info.symbol_count() as u64;
    let align = info.sections.get(info.index.sym)?.addralign;

    place_at_end(info, info.index.sym, sizes, init);
    let (core_symbols, core_strtab_size) = match (class, info.elf.endian) {
        (Class::Elf32, Endian::Little) => count_core_symbols::<Elf32, true>(info, rules),
        (Class::Elf32, Endian::Big) => count_core_symbols::<Elf32, false>(info, rules),
        (Class::Elf64, Endian::Little) => count_core_symbols::<Elf64, true>(info, rules),
        (Class::Elf64, Endian::Big) => count_core_symbols::<Elf64, false>(info, rules),
    };
    let kept = core_symbols as u64;
    let core_symtab = sizes.place(core, kept * symbol_size, align)?;
    let core_strtab = sizes.place(core, u64::from(core_strtab_size), 1)?;
    let core_typetab = if rules.typetab { Some(sizes.place(core, kept, 1)?) } else { None };
    sizes.round(core);

    place_at_end(info, info.index.str, sizes, init);
    let words = match (rules.mod_kallsyms, rules.typetab) {
        (false, _) => 0,
        (true, false) => 3,
        (true, true) => 4,
    };
    let mod_kallsyms = sizes.place(init, words * word, if words == 0 { 1 } else { word })?;
    let init_typetab = if rules.typetab { Some(sizes.place(init, symbols, 1)?) } else { None };
    sizes.round(init);
    Some(SymtabLayout {
        core_symbols,
        core_symtab,
        core_strtab,
        core_strtab_size: u64::from(core_strtab_size),
        core_typetab,
        mod_kallsyms,
        init_typetab,
    })
}

fn place_at_end(info: &mut LoadInfo<'_>, index: usize, sizes: &mut Sizes, kind: RegionKind) {
    let Some(section) = info.sections.get_mut(index) else { return };
    section.flags |= SHF_ALLOC;
    let at = sizes.place(kind, section.size, section.addralign);
    if let Some(placement) = info.placement.get_mut(index) {
        *placement = at;
    }
}

/// How many symbols are kept, and the bytes of their names with NULs (an `unsigned int` that wraps).
fn count_core_symbols<C: ElfClass, const LITTLE: bool>(
    info: &LoadInfo<'_>,
    rules: &LinkRules,
) -> (usize, u32) {
    let decode = |raw| C::symbol(raw, const { if LITTLE { Endian::Little } else { Endian::Big } });
    let kept = core_symbol_sections(info, rules);
    let mut names = StringTable::new(info.strtab());
    let (mut count, mut bytes) = (0, 0u32);
    let mut keep = |symbol: &RawSymbol| {
        count += 1;
        bytes = bytes.wrapping_add(names.get(symbol.name).len() as u32).wrapping_add(1);
    };
    let mut symbols = C::symbols(info.contents(info.index.sym)).iter().map(decode);
    if let Some(null) = symbols.next() {
        keep(&null);
    }
    if info.livepatch {
        symbols.for_each(|symbol| keep(&symbol));
    } else {
        for symbol in symbols {
            if symbol.name != 0 && kept.get(usize::from(symbol.shndx)).copied().unwrap_or(false) {
                keep(&symbol);
            }
        }
    }
    (count, bytes)
}

#[cfg(test)]
mod tests;
