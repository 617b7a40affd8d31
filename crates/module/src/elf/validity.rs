//! The kernel's `elf_validity_check`, each generation's in its own order.

use alloc::vec::Vec;

use super::Class;
use super::Elf;
use super::Endian;
use super::Header;
use super::SectionHeader;
use super::SymbolTable;
use super::consts::*;
use super::header::section_header;
use super::is_string_at;
use crate::modinfo::Modinfo;

mod arch;
mod fault;

pub use arch::ArchCheck;
pub use fault::ElfFault;
pub use fault::ElfRefusal;

/// Which set of checks a kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ElfGeneration {
    /// 4.x: the header in one silent test, later only whether sections end inside the file.
    V4,
    /// As in 6.1 (the texts came with 5.13 and 5.18).
    V6_1,
    /// As in 6.12: `.modinfo`, `.gnu.linkonce.this_module` and the symbol table are checked too.
    V6_12,
    /// From 6.14: also extended versions and the symbol string table.
    V6_14,
}

/// What one kernel checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ElfRules {
    /// The set of checks and their order.
    pub generation: ElfGeneration,
    /// The architecture's test.
    pub arch: ArchCheck,
    /// The kernel's word size, which every file is read with.
    pub class: Class,
    /// The kernel's byte order, which every file is read with.
    pub endian: Endian,
    /// Bytes of the kernel's `struct module`, compared from 6.12 (6.4) on; `None` leaves that test out.
    pub this_module_size: Option<u64>,
    /// Debian's additional tests of the types of the two string tables (6.12 on).
    pub debian: bool,
    /// The load ignores symbol versions (`MODULE_INIT_IGNORE_MODVERSIONS`), which spares the extended versions
    /// their test (6.14 on).
    pub ignore_modversions: bool,
}

impl ElfRules {
    /// Rules of a vanilla kernel that is not told the size of its `struct module`.
    pub const fn new(generation: ElfGeneration, arch: ArchCheck, class: Class, endian: Endian) -> ElfRules {
        ElfRules {
            generation,
            arch,
            class,
            endian,
            this_module_size: None,
            debian: false,
            ignore_modversions: false,
        }
    }
}

/// Reads a file as a kernel does and applies its checks in its order; the first that fails ends it.
///
/// As in kernels, the file's own class and byte order are not looked at except by some [`ArchCheck`]s. Where a kernel
/// of before would read memory behind the file, the file is refused, or what lies outside is taken as absent.
pub fn elf_validity_check<'data>(data: &'data [u8], rules: &ElfRules) -> Result<Elf<'data>, ElfRefusal> {
    let mut logged = rules.generation != ElfGeneration::V4;
    let checked = header_checks(data, rules).and_then(|elf| {
        match rules.generation {
            ElfGeneration::V4 => {
                // Said by rewrite_section_headers, which runs next.
                logged = true;
                truncation_check(&elf, rules)?;
            }
            ElfGeneration::V6_1 => checks_6_1(&elf)?,
            ElfGeneration::V6_12 | ElfGeneration::V6_14 => checks_6_12(&elf, rules)?,
        }
        Ok(elf)
    });
    checked.map_err(|fault| ElfRefusal { fault, logged })
}

fn header_checks<'data>(data: &'data [u8], rules: &ElfRules) -> Result<Elf<'data>, ElfFault> {
    let length = data.len() as u64;
    let class = rules.class;
    let header = Header::read(data, class, rules.endian).ok_or(ElfFault::HeaderLength { length })?;
    if header.ident[..4] != *b"\x7fELF" {
        return Err(ElfFault::Magic);
    }
    if header.kind != ET_REL {
        return Err(ElfFault::Type(header.kind));
    }
    if !rules.arch.elf_check_arch(&header, class) {
        return Err(ElfFault::Arch(header.machine));
    }
    if rules.generation >= ElfGeneration::V6_12 && !rules.arch.module_elf_check_arch(&header) {
        return Err(ElfFault::ModuleArch(header.machine));
    }
    let entry = class.section_header_size();
    if usize::from(header.shentsize) != entry {
        return Err(ElfFault::SectionHeaderSize);
    }
    let table = usize::try_from(header.shoff).ok().and_then(|start| data.get(start..));
    let table = table.filter(|rest| !rest.is_empty()).ok_or(ElfFault::SectionHeaderOverflow)?;
    let table = table.get(..usize::from(header.shnum) * entry).ok_or(ElfFault::SectionHeaderOverflow)?;
    let sections = table.chunks_exact(entry).map(|raw| section_header(raw, class, rules.endian)).collect();
    Ok(Elf { data, class, endian: rules.endian, header, sections })
}

/// Where a section ends, as the kernel computes it: the sum wraps at its word size. The flag tells of a wrap.
fn section_end(section: &SectionHeader, class: Class) -> (u64, bool) {
    match class {
        Class::Elf32 => {
            let (end, wrapped) = (section.offset as u32).overflowing_add(section.size as u32);
            (u64::from(end), wrapped)
        }
        Class::Elf64 => section.offset.overflowing_add(section.size),
    }
}

/// `validate_section_offset`
fn is_inside(section: &SectionHeader, elf: &Elf<'_>) -> bool {
    let (end, wrapped) = section_end(section, elf.class);
    !wrapped && end <= elf.data.len() as u64
}

fn truncation_check(elf: &Elf<'_>, rules: &ElfRules) -> Result<(), ElfFault> {
    let length = elf.data.len() as u64;
    // A wrapped sum passes, as in those kernels.
    let beyond =
        |section: &SectionHeader| section.kind != SHT_NOBITS && section_end(section, rules.class).0 > length;
    if elf.sections.iter().skip(1).any(beyond) { Err(ElfFault::Truncated { length }) } else { Ok(()) }
}

/// The section header of the name table.
fn name_table<'elf>(elf: &'elf Elf<'_>) -> Result<&'elf SectionHeader, ElfFault> {
    let Header { shstrndx: index, shnum: count, .. } = elf.header;
    match elf.sections.get(usize::from(index)) {
        Some(section) if index != SHN_UNDEF => Ok(section),
        _ => Err(ElfFault::NameIndex { index, count }),
    }
}

fn name_table_contents(elf: &Elf<'_>, table: &SectionHeader) -> Result<(), ElfFault> {
    if table.size == 0 {
        return Err(ElfFault::NameTableEmpty);
    }
    // A NOBITS table may lie outside the file in 6.12; there the kernel reads what follows the file.
    match elf.file_bytes(table).and_then(|bytes| bytes.last()) {
        Some(0) => Ok(()),
        _ => Err(ElfFault::NameTableUnterminated),
    }
}

fn section_0(elf: &Elf<'_>) -> Result<(), ElfFault> {
    // 6.12 looks at section 0 before it knows that there is one; what follows the file counts as zero.
    let first = elf.sections.first().copied().unwrap_or_else(|| {
        let mut raw = [0; 64];
        let rest = usize::try_from(elf.header.shoff).ok().and_then(|start| elf.data.get(start..));
        raw.iter_mut().zip(rest.unwrap_or(&[])).for_each(|(to, from)| *to = *from);
        section_header(&raw, elf.class, elf.endian)
    });
    if first.kind != SHT_NULL || first.size != 0 || first.addr != 0 {
        return Err(ElfFault::Section0 { kind: first.kind });
    }
    Ok(())
}

fn symtab_link(section: &SectionHeader, elf: &Elf<'_>) -> Result<(), ElfFault> {
    if section.link == u32::from(SHN_UNDEF) || section.link >= u32::from(elf.header.shnum) {
        return Err(ElfFault::SymtabLink { link: section.link, count: elf.header.shnum });
    }
    Ok(())
}

fn checks_6_1(elf: &Elf<'_>) -> Result<(), ElfFault> {
    let names = name_table(elf)?;
    if !is_inside(names, elf) {
        return Err(ElfFault::NameTableBounds { kind: names.kind });
    }
    name_table_contents(elf, names)?;
    section_0(elf)?;
    for (number, section) in (0..).zip(&elf.sections).skip(1) {
        let kind = section.kind;
        if matches!(kind, SHT_NULL | SHT_NOBITS) {
            continue;
        }
        if kind == SHT_SYMTAB {
            symtab_link(section, elf)?;
        }
        if !is_inside(section, elf) {
            return Err(ElfFault::SectionBounds { section: number, kind });
        }
        if section.is_alloc() && u64::from(section.name) >= names.size {
            return Err(ElfFault::SectionName { section: number, kind });
        }
    }
    Ok(())
}

fn checks_6_12(elf: &Elf<'_>, rules: &ElfRules) -> Result<(), ElfFault> {
    section_0(elf)?;
    for (number, section) in (0..).zip(&elf.sections).skip(1) {
        if !matches!(section.kind, SHT_NULL | SHT_NOBITS) && !is_inside(section, elf) {
            return Err(ElfFault::SectionBounds { section: number, kind: section.kind });
        }
    }
    let names = name_table(elf)?;
    if rules.debian && names.kind != SHT_STRTAB {
        return Err(ElfFault::NameTableType { kind: names.kind });
    }
    name_table_contents(elf, names)?;
    for (number, section) in (0..).zip(&elf.sections) {
        if section.kind != SHT_NULL && u64::from(section.name) >= names.size {
            return Err(ElfFault::SectionName { section: number, kind: section.kind });
        }
    }

    let wanted = known_sections(elf);
    let modinfo = match wanted.modinfo {
        Found::Several => return Err(ElfFault::SeveralModinfo),
        Found::One(section) => Modinfo::new(elf.contents(section).unwrap_or(&[])),
        Found::None => Modinfo::new(&[]),
    };
    let name = || modinfo.get(b"name").map(Vec::from);
    let Found::One(this_module) = wanted.this_module else {
        return Err(ElfFault::ThisModuleCount { name: name() });
    };
    if this_module.kind == SHT_NOBITS {
        return Err(ElfFault::ThisModuleNobits { name: name() });
    }
    if !this_module.is_alloc() {
        return Err(ElfFault::ThisModuleNotAlloc { name: name() });
    }
    if let Some(expected) = rules.this_module_size.filter(|&size| size != this_module.size) {
        return Err(ElfFault::ThisModuleSize { name: name(), size: this_module.size, expected });
    }
    let Found::One(symtab) = wanted.symtab else {
        return Err(ElfFault::SymtabCount { name: name() });
    };
    symtab_link(symtab, elf)?;
    let strings = elf.sections.get(symtab.link as usize);
    if let Some(strings) = strings.filter(|strings| rules.debian && strings.kind != SHT_STRTAB) {
        return Err(ElfFault::StringTableType { kind: strings.kind });
    }
    if rules.generation >= ElfGeneration::V6_14 {
        if !rules.ignore_modversions {
            extended_versions(elf, &wanted)?;
        }
        string_table(elf, strings)?;
    }
    Ok(())
}

/// How many sections of a kind there are.
#[derive(Clone, Copy)]
enum Found<'elf> {
    None,
    One(&'elf SectionHeader),
    Several,
}

impl<'elf> Found<'elf> {
    fn add(&mut self, section: &'elf SectionHeader) {
        *self = if let Found::None = self { Found::One(section) } else { Found::Several };
    }
}

struct Known<'elf> {
    modinfo: Found<'elf>,
    this_module: Found<'elf>,
    symtab: Found<'elf>,
    ext_crcs: Found<'elf>,
    ext_names: Found<'elf>,
}

fn known_sections<'elf>(elf: &'elf Elf<'_>) -> Known<'elf> {
    let none = Found::None;
    let mut known = Known { modinfo: none, this_module: none, symtab: none, ext_crcs: none, ext_names: none };
    let names = elf.section_names();
    for section in elf.sections.iter().skip(1) {
        let is = |name| is_string_at(names, section.name, name);
        if section.kind == SHT_SYMTAB {
            known.symtab.add(section);
        }
        if is(b".modinfo") {
            known.modinfo.add(section);
        } else if is(b".gnu.linkonce.this_module") {
            known.this_module.add(section);
        } else if is(b"__version_ext_crcs") {
            known.ext_crcs.add(section);
        } else if is(b"__version_ext_names") {
            known.ext_names.add(section);
        }
    }
    known
}

fn extended_versions(elf: &Elf<'_>, known: &Known<'_>) -> Result<(), ElfFault> {
    let (crcs, names) = match (known.ext_crcs, known.ext_names) {
        (Found::None, Found::None) => return Ok(()),
        (Found::One(crcs), Found::One(names)) => (crcs, names),
        _ => return Err(ElfFault::ExtendedVersions),
    };
    let crcs = elf.contents(crcs).unwrap_or(&[]).len() / 4;
    let names = elf.contents(names).unwrap_or(&[]);
    if names.iter().filter(|&&byte| byte == 0).count() < crcs {
        return Err(ElfFault::ExtendedVersionNames);
    }
    Ok(())
}

fn string_table(elf: &Elf<'_>, strings: Option<&SectionHeader>) -> Result<(), ElfFault> {
    let strings = strings.copied().unwrap_or_default();
    if strings.size == 0 {
        return Err(ElfFault::StringTableEmpty);
    }
    let bytes = elf.file_bytes(&strings).unwrap_or(&[]);
    if bytes.first().is_some_and(|&byte| byte != 0) {
        return Err(ElfFault::StringTableStart);
    }
    if bytes.last() != Some(&0) {
        return Err(ElfFault::StringTableUnterminated);
    }
    let symbols = SymbolTable::of(elf);
    let count = symbols.map_or(0, |table| table.len() as u32);
    let outside = |index| {
        let raw = symbols.and_then(|table| table.raw(index));
        raw.is_some_and(|symbol| u64::from(symbol.name) >= strings.size)
    };
    if (0..count).any(outside) { Err(ElfFault::SymbolName) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
