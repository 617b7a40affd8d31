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

/// Whether symbols of each section are kept after init (`is_core_symbol()`).
pub(crate) fn core_symbol_sections(info: &LoadInfo<'_>, rules: &LinkRules) -> Vec<bool> {
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
mod tests {
    use lkm_module::Errno;
    use lkm_module::elf::consts::*;
    use lkm_module::testing::ObjectBuilder;

    use super::*;
    use crate::Arch;
    use crate::test_support::*;

    const AX: u64 = SHF_ALLOC | SHF_EXECINSTR;
    const A: u64 = SHF_ALLOC;
    const WA: u64 = SHF_ALLOC | SHF_WRITE;

    /// Sections of every kind, in an order that is not that of the layout.
    fn object(arch: Arch) -> ObjectBuilder {
        let mut object = ObjectBuilder::new(arch.class(), lkm_module::elf::Endian::Little, arch.machine());
        object.section(".data", SHT_PROGBITS, WA, 32, &[1; 0x30]);
        object.section(".text", SHT_PROGBITS, AX, 16, &[2; 0x123]);
        object.section(".init.text", SHT_PROGBITS, AX, 16, &[3; 0x21]);
        object.section(".rodata", SHT_PROGBITS, A, 8, &[4; 0x11]);
        object.section(".exit.text", SHT_PROGBITS, AX, 1, &[5; 5]);
        object.section(".data..ro_after_init", SHT_PROGBITS, WA, 8, &[6; 8]);
        object.section("__jump_table", SHT_PROGBITS, WA, 8, &[7; 16]);
        object.nobits(".bss", WA, 64, 0x2000);
        object.section(".init.data", SHT_PROGBITS, WA, 4, &[8; 4]);
        object.section(".init.rodata", SHT_PROGBITS, A, 4, &[9; 4]);
        object.section(".data..percpu", SHT_PROGBITS, WA, 64, &[10; 0x40]);
        object.section(".comment", SHT_PROGBITS, 0, 1, &[11; 9]);
        object.section(".alt.smp.init", SHT_PROGBITS, A, 4, &[12; 8]);
        object.modinfo(&[("name", "hello")]);
        object.this_module("hello", 0x80, None, None);
        object
    }

    fn places(info: &LoadInfo<'_>, names: &[&str]) -> Vec<(RegionKind, u64)> {
        let find = |name: &&str| info.placement[info.find_any_sec(name.as_bytes())].unwrap();
        names.iter().map(find).map(|at| (at.region, at.offset)).collect()
    }

    fn sizes(regions: &[RegionLayout]) -> Vec<(u64, u64, u64, u64)> {
        regions.iter().map(|r| (r.size, r.text_size, r.ro_size, r.ro_after_init_size)).collect()
    }

    #[test]
    fn core_and_init_with_page_rounding() {
        let file = object(Arch::X86_64).finish();
        let rules = LinkRules { kallsyms: false, ..rules_6_1(Arch::X86_64) };
        let (info, regions) = lay_out(&file, Arch::X86_64, &rules).unwrap();
        let order = [
            ".text",
            ".exit.text",
            ".rodata",
            ".alt.smp.init",
            ".data..ro_after_init",
            "__jump_table",
            ".data",
            ".bss",
            ".gnu.linkonce.this_module",
        ];
        assert_eq!(
            places(&info, &order).iter().map(|at| at.1).collect::<Vec<_>>(),
            [0, 0x123, 0x1000, 0x1014, 0x2000, 0x2008, 0x3000, 0x3040, 0x5040]
        );
        let order = [".init.text", ".init.rodata", ".init.data"];
        assert_eq!(
            places(&info, &order),
            [(RegionKind::Init, 0), (RegionKind::Init, 0x1000), (RegionKind::Init, 0x2000)]
        );
        assert_eq!(sizes(&regions), [(0x6000, 0x1000, 0x2000, 0x3000), (0x3000, 0x1000, 0x2000, 0x2000)]);
        for name in [".data..percpu", ".comment", ".modinfo"] {
            assert_eq!(info.placement[info.find_any_sec(name.as_bytes())], None, "{name}");
        }
    }

    #[test]
    fn old_kernels_round_nothing_and_know_no_ro_after_init() {
        let file = object(Arch::Arm).finish();
        let rules = LinkRules { kallsyms: false, ..rules_4_0_arm() };
        let (info, regions) = lay_out(&file, Arch::Arm, &rules).unwrap();
        let order = [
            ".text",
            ".exit.text",
            ".rodata",
            ".alt.smp.init",
            ".data",
            ".data..ro_after_init",
            "__jump_table",
            ".bss",
            ".gnu.linkonce.this_module",
        ];
        assert_eq!(
            places(&info, &order).iter().map(|at| at.1).collect::<Vec<_>>(),
            [0, 0x123, 0x128, 0x13c, 0x160, 0x190, 0x198, 0x1c0, 0x21c0]
        );
        assert_eq!(sizes(&regions), [(0x2240, 0x128, 0x144, 0x144), (0x2c, 0x21, 0x28, 0x28)]);
    }

    #[test]
    fn seven_types_each_from_zero() {
        use RegionKind::*;
        let file = object(Arch::X86_64).finish();
        let rules = LinkRules { kallsyms: false, ..rules_6_12() };
        let (info, regions) = lay_out(&file, Arch::X86_64, &rules).unwrap();
        let order = [
            ".text",
            ".exit.text",
            ".rodata",
            ".data..ro_after_init",
            "__jump_table",
            ".data",
            ".bss",
            ".gnu.linkonce.this_module",
            ".init.text",
            ".init.data",
            ".init.rodata",
        ];
        let expected = [
            (Text, 0),
            (Text, 0x123),
            (RoData, 0),
            (RoAfterInit, 0),
            (RoAfterInit, 8),
            (Data, 0),
            (Data, 0x40),
            (Data, 0x2040),
            (InitText, 0),
            (InitData, 0),
            (InitRoData, 0),
        ];
        assert_eq!(places(&info, &order), expected);
        let sizes: Vec<_> = regions.iter().map(|region| (region.kind, region.size)).collect();
        assert_eq!(
            sizes,
            [
                (Text, 0x128),
                (Data, 0x20c0),
                (RoData, 0x1c),
                (RoAfterInit, 0x18),
                (InitText, 0x21),
                (InitData, 4),
                (InitRoData, 4)
            ]
        );
    }

    #[test]
    fn init_sections_are_never_read_only_after_init() {
        let mut object = object(Arch::X86_64);
        let section = object.section(".init.ro", SHT_PROGBITS, WA | SHF_RO_AFTER_INIT, 1, &[1]);
        let file = object.finish();
        let (info, _) = lay_out(&file, Arch::X86_64, &rules_6_12()).unwrap();
        assert_eq!(info.placement[section].unwrap().region, RegionKind::InitData);
    }

    #[test]
    fn symbol_tables_behind_the_sections() {
        let mut object = object(Arch::X86_64);
        let [data, text, init] = [".data", ".text", ".init.text"].map(|name| object.find(name).unwrap());
        let percpu = object.find(".data..percpu").unwrap();
        let comment = object.find(".comment").unwrap();
        object.local("a_function", text, 0);
        object.global("an_object", data, 0);
        object.global("an_init", init, 0);
        object.local("a_percpu", percpu, 0);
        object.local("a_comment", comment, 0);
        object.undefined("printk");
        object.section_symbol(text);
        let file = object.finish();
        let rules = rules_6_1(Arch::X86_64);
        let (info, regions) = lay_out(&file, Arch::X86_64, &rules).unwrap();
        let tables = info.symtab.unwrap();
        // The null symbol, a_function, an_object, a_percpu; names with NULs: 1 + 11 + 10 + 9.
        assert_eq!((tables.core_symbols, tables.core_strtab_size), (4, 31));
        // The sections of both parts end at page boundaries.
        assert_eq!(tables.core_symtab.offset, 0x6000);
        assert_eq!(tables.core_strtab.offset, 0x6000 + 4 * 24);
        assert_eq!(tables.core_typetab.unwrap().offset, 0x6000 + 4 * 24 + 31);
        assert_eq!(places(&info, &[".symtab"]), [(RegionKind::Init, 0x3000)]);
        let strtab = 0x3000 + 8 * 24;
        let strings = 1 + 11 + 10 + 8 + 9 + 10 + 7;
        assert_eq!(places(&info, &[".strtab"]), [(RegionKind::Init, strtab)]);
        let kallsyms = (strtab + strings).next_multiple_of(8);
        assert_eq!(tables.mod_kallsyms.offset, kallsyms);
        assert_eq!(tables.init_typetab.unwrap().offset, kallsyms + 32);
        assert_eq!(sizes(&regions)[0].0, 0x7000);
        assert_eq!(sizes(&regions)[1].0, 0x4000);

        // Without CONFIG_KALLSYMS_ALL only code is kept.
        let rules = LinkRules { kallsyms_all: false, ..rules };
        let (info, _) = lay_out(&file, Arch::X86_64, &rules).unwrap();
        assert_eq!(info.symtab.unwrap().core_strtab_size, 1 + 11);
        // The seven-type model puts them behind the data.
        let (info, regions) = lay_out(&file, Arch::X86_64, &rules_6_12()).unwrap();
        let tables = info.symtab.unwrap();
        assert_eq!((tables.core_symtab.region, tables.core_symtab.offset), (RegionKind::Data, 0x20c0));
        assert_eq!(regions[1].size, 0x20c0 + 4 * 24 + 31 + 4);
        assert_eq!(places(&info, &[".symtab"]), [(RegionKind::InitData, 8)]);
    }

    #[test]
    fn without_unload_exit_code_is_freed_after_init() {
        let file = object(Arch::X86_64).finish();
        let rules = LinkRules { unload: false, ..rules_6_1(Arch::X86_64) };
        let (info, _) = lay_out(&file, Arch::X86_64, &rules).unwrap();
        assert_eq!(places(&info, &[".exit.text"]), [(RegionKind::Init, 0x21)]);
    }

    #[test]
    fn livepatch_modules_keep_all_symbols() {
        let mut object =
            ObjectBuilder::new(lkm_module::elf::Class::Elf64, lkm_module::elf::Endian::Little, EM_X86_64);
        object.modinfo(&[("name", "hello"), ("livepatch", "Y")]);
        object.this_module("hello", 0x80, None, None);
        object.undefined("printk");
        let file = object.finish();
        let kept =
            |rules: &LinkRules| lay_out(&file, Arch::X86_64, rules).unwrap().0.symtab.unwrap().core_symbols;
        let rules = rules_6_1(Arch::X86_64);
        assert_eq!(kept(&rules), 2);
        assert_eq!(kept(&LinkRules { livepatch: false, ..rules }), 1);
    }

    #[test]
    fn writable_code_is_refused_in_memory_or_not() {
        let mut object = object(Arch::X86_64);
        let index = object.section(".odd", SHT_PROGBITS, SHF_WRITE | SHF_EXECINSTR, 1, &[]);
        let file = object.finish();
        let rules = rules_6_1(Arch::X86_64);
        let error = lay_out(&file, Arch::X86_64, &rules).err().unwrap();
        assert_eq!(error.errno(), Errno::ENOEXEC);
        let line = alloc::format!("<3>hello: section .odd (index {index}) has invalid WRITE|EXEC flags");
        assert_eq!(lines(&error), [line]);
        for rules in [
            LinkRules { refuse_wx: false, ..rules.clone() },
            LinkRules { strict_rwx: false, ..rules.clone() },
        ] {
            assert!(lay_out(&file, Arch::X86_64, &rules).is_ok());
        }
    }

    #[test]
    fn alignments_follow_the_formula_of_the_kernel() {
        assert_eq!(align_up(5, 0), 5);
        assert_eq!(align_up(5, 1), 5);
        assert_eq!(align_up(5, 8), 8);
        // No power of two: (5 + 2) & !2
        assert_eq!(align_up(5, 3), 5);
        assert_eq!(align_up(6, 3), 8);
        // Cut to 32 bits, the mask is all ones.
        assert_eq!(align_up(5, 1 << 32), 0);
        assert_eq!(align_up(u32::MAX, 4096), 0);
    }

    #[test]
    fn sizes_wrap_as_unsigned_int() {
        let mut object = object(Arch::X86_64);
        let bss = object.nobits(".huge", WA, 1, u64::MAX);
        let file = object.finish();
        let rules = LinkRules { kallsyms: false, ..rules_6_1(Arch::X86_64) };
        let (info, regions) = lay_out(&file, Arch::X86_64, &rules).unwrap();
        // One byte less than without it: the kernel loads such modules.
        assert_eq!(info.placement[bss].unwrap().offset, 0x50c0);
        assert_eq!(sizes(&regions)[0].0, 0x6000);
        link(&file, Arch::X86_64, &rules, 0xffff_ffff_c000_0000, &mut Exports::default(), &mut ()).unwrap();
    }
}
