//! The kernel's `elf_validity_check`, each generation's in its own order.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::Class;
use super::Elf;
use super::Endian;
use super::Header;
use super::SectionHeader;
use super::SymbolTable;
use super::consts::*;
use super::header::section_header;
use super::is_string_at;
use crate::Errno;
use crate::Level;
use crate::Text;
use crate::modinfo::Modinfo;

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

/// The architecture's own test of the header: `elf_check_arch`, and `module_elf_check_arch` where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArchCheck {
    /// x86_64
    X86_64,
    /// 32-bit x86: `EM_386` or 6 (`EM_486`).
    I386,
    /// 32-bit ARM; the fields are what the CPU and the kernel support (`elf_hwcap`).
    Arm {
        /// `HWCAP_THUMB`: Thumb entry points.
        thumb: bool,
        /// `HWCAP_VFP`: files before the EABI that use VFP registers.
        vfp: bool,
        /// `HWCAP_26BIT`: files for 26-bit program counters.
        apcs26: bool,
    },
    /// arm64
    Aarch64,
    /// RISC-V, of the kernel's word size.
    RiscV,
    /// s390, old and new machine number, of the kernel's word size.
    S390,
    /// 32-bit PowerPC
    Ppc,
    /// 64-bit PowerPC; from 6.12 on the ABI version in `e_flags` is tested too.
    Ppc64 {
        /// The kernel is built for version 2 of the ELF ABI.
        abi_v2: bool,
    },
    /// MIPS: o32 for 32-bit kernels, ELF64 for 64-bit ones.
    Mips,
    /// LoongArch
    LoongArch,
}

const EM_486: u16 = 6;
const EM_S390_OLD: u16 = 0xa390;
const EF_ARM_EABI_MASK: u32 = 0xff00_0000;
const EF_ARM_APCS_26: u32 = 0x08;
const EF_ARM_SOFT_FLOAT: u32 = 0x200;
const EF_ARM_VFP_FLOAT: u32 = 0x400;
const EF_MIPS_ABI2: u32 = 0x20;
const EF_MIPS_ABI: u32 = 0xf000;
const EF_MIPS_ABI_O32: u32 = 0x1000;

impl ArchCheck {
    /// `elf_check_arch`: whether a kernel of that word size takes the header for its own.
    pub fn elf_check_arch(self, header: &Header, class: Class) -> bool {
        let machine = header.machine;
        let flags = header.flags;
        let own_class = header.ident[4] == if class == Class::Elf32 { 1 } else { 2 };
        match self {
            ArchCheck::X86_64 => machine == EM_X86_64,
            ArchCheck::I386 => matches!(machine, EM_386 | EM_486),
            ArchCheck::Arm { thumb, vfp, apcs26 } => {
                let entry = if header.entry & 1 != 0 { thumb } else { header.entry & 3 == 0 };
                let float = flags & (EF_ARM_VFP_FLOAT | EF_ARM_SOFT_FLOAT);
                let abi = flags & EF_ARM_EABI_MASK != 0
                    || (apcs26 || flags & EF_ARM_APCS_26 == 0) && (vfp || float != EF_ARM_VFP_FLOAT);
                machine == EM_ARM && entry && abi
            }
            ArchCheck::Aarch64 => machine == EM_AARCH64,
            ArchCheck::RiscV => machine == EM_RISCV && own_class,
            ArchCheck::S390 => matches!(machine, EM_S390 | EM_S390_OLD) && own_class,
            ArchCheck::Ppc => machine == EM_PPC,
            ArchCheck::Ppc64 { .. } => machine == EM_PPC64,
            ArchCheck::Mips => {
                let o32 = flags & EF_MIPS_ABI2 == 0 && matches!(flags & EF_MIPS_ABI, 0 | EF_MIPS_ABI_O32);
                machine == EM_MIPS && own_class && (class == Class::Elf64 || o32)
            }
            ArchCheck::LoongArch => machine == EM_LOONGARCH,
        }
    }

    /// `module_elf_check_arch`, which kernels have from 6.12 on.
    pub fn module_elf_check_arch(self, header: &Header) -> bool {
        match self {
            ArchCheck::Ppc64 { abi_v2: true } => header.flags & 3 == 2,
            ArchCheck::Ppc64 { abi_v2: false } => header.flags & 3 < 2,
            _ => true,
        }
    }
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

/// What is wrong with a file, with the numbers that the kernel prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ElfFault {
    /// Shorter than an ELF header.
    HeaderLength {
        /// Bytes in the file.
        length: u64,
    },
    /// Does not start with the ELF magic number.
    Magic,
    /// Not a relocatable object.
    Type(u16),
    /// For another machine, or for one of its variants that the kernel does not support.
    Arch(u16),
    /// For another variant of the ABI.
    ModuleArch(u16),
    /// `e_shentsize` is not the size of a section header.
    SectionHeaderSize,
    /// The section headers do not end inside the file.
    SectionHeaderOverflow,
    /// 4.x: a section does not end inside the file.
    Truncated {
        /// Bytes in the file.
        length: u64,
    },
    /// `e_shstrndx` is not a section.
    NameIndex {
        /// `e_shstrndx`
        index: u16,
        /// `e_shnum`
        count: u16,
    },
    /// The section name table does not end inside the file.
    NameTableBounds {
        /// Its `sh_type`.
        kind: u32,
    },
    /// The section name table is no string table.
    NameTableType {
        /// Its `sh_type`.
        kind: u32,
    },
    /// The section name table has no bytes.
    NameTableEmpty,
    /// The section name table does not end with a NUL.
    NameTableUnterminated,
    /// Section 0 is not the null section.
    Section0 {
        /// Its `sh_type`.
        kind: u32,
    },
    /// A symbol table has no string table.
    SymtabLink {
        /// Its `sh_link`.
        link: u32,
        /// `e_shnum`
        count: u16,
    },
    /// A section does not end inside the file.
    SectionBounds {
        /// Its number.
        section: u32,
        /// Its `sh_type`.
        kind: u32,
    },
    /// The name of a section starts outside the name table.
    SectionName {
        /// Its number.
        section: u32,
        /// Its `sh_type`.
        kind: u32,
    },
    /// Several `.modinfo` sections.
    SeveralModinfo,
    /// No or several `.gnu.linkonce.this_module` sections.
    ThisModuleCount {
        /// The module's name by its modinfo.
        name: Option<Vec<u8>>,
    },
    /// `.gnu.linkonce.this_module` has no contents.
    ThisModuleNobits {
        /// The module's name by its modinfo.
        name: Option<Vec<u8>>,
    },
    /// `.gnu.linkonce.this_module` is not `SHF_ALLOC`.
    ThisModuleNotAlloc {
        /// The module's name by its modinfo.
        name: Option<Vec<u8>>,
    },
    /// `.gnu.linkonce.this_module` has not the size of the kernel's `struct module`.
    ThisModuleSize {
        /// The module's name by its modinfo.
        name: Option<Vec<u8>>,
        /// Size of the section, in bytes.
        size: u64,
        /// Size of the kernel's structure, in bytes.
        expected: u64,
    },
    /// No or several symbol tables.
    SymtabCount {
        /// The module's name by its modinfo.
        name: Option<Vec<u8>>,
    },
    /// The symbol string table is no string table.
    StringTableType {
        /// Its `sh_type`.
        kind: u32,
    },
    /// One of the two sections of extended versions is missing (or there are several of one).
    ExtendedVersions,
    /// Fewer names than CRCs in the extended versions.
    ExtendedVersionNames,
    /// The symbol string table has no bytes.
    StringTableEmpty,
    /// The symbol string table does not start with a NUL.
    StringTableStart,
    /// The symbol string table does not end with a NUL (or outside the file).
    StringTableUnterminated,
    /// The name of a symbol starts outside the symbol string table.
    SymbolName,
}

/// The kernel's refusal of a file: always `ENOEXEC`, with a log line from 5.13 on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElfRefusal {
    /// What is wrong.
    pub fault: ElfFault,
    /// This kernel says so in its log.
    pub logged: bool,
}

impl ElfRefusal {
    /// `ENOEXEC`
    pub const fn errno(&self) -> Errno {
        Errno::ENOEXEC
    }

    /// The line that the kernel logs, without newline; `None` if it is silent.
    pub fn log(&self) -> Option<(Level, String)> {
        let level = if let ElfFault::SymtabCount { .. } = self.fault { Level::Warning } else { Level::Err };
        self.logged.then(|| (level, kernel_text(&self.fault)))
    }
}

fn kernel_text(fault: &ElfFault) -> String {
    let named = |name: &Option<Vec<u8>>, rest: &str| {
        let name = name.as_deref().unwrap_or(MISSING_NAME);
        format!("module {}: .gnu.linkonce.this_module {rest}", Text(name))
    };
    match fault {
        ElfFault::HeaderLength { length } => format!("Invalid ELF header len {length}"),
        ElfFault::Magic => "Invalid ELF header magic: != \u{7f}ELF".into(),
        ElfFault::Type(kind) => format!("Invalid ELF header type: {kind} != {ET_REL}"),
        ElfFault::Arch(machine) => format!("Invalid architecture in ELF header: {machine}"),
        ElfFault::ModuleArch(machine) => format!("Invalid module architecture in ELF header: {machine}"),
        ElfFault::SectionHeaderSize => "Invalid ELF section header size".into(),
        ElfFault::SectionHeaderOverflow => "Invalid ELF section header overflow".into(),
        ElfFault::Truncated { length } => format!("Module len {length} truncated"),
        ElfFault::NameIndex { index, count } => {
            format!("Invalid ELF section name index: {index} || e_shstrndx ({index}) >= e_shnum ({count})")
        }
        ElfFault::NameTableBounds { kind } => format!("Invalid ELF section hdr(type {kind})"),
        ElfFault::NameTableType { kind } => format!("Invalid ELF section name table type: {kind}"),
        ElfFault::NameTableEmpty => "empty section name table".into(),
        ElfFault::NameTableUnterminated => {
            "ELF Spec violation: section name table isn't null terminated".into()
        }
        ElfFault::Section0 { kind } => {
            // The kernel prints the type, and below the link, as signed numbers.
            let kind = *kind as i32;
            format!("ELF Spec violation: section 0 type({kind})!=SH_NULL or non-zero len or addr")
        }
        ElfFault::SymtabLink { link, count } => {
            let link = *link as i32;
            format!("Invalid ELF sh_link!=SHN_UNDEF({link}) or (sh_link({link}) >= hdr->e_shnum({count})")
        }
        ElfFault::SectionBounds { section, kind } => {
            format!("Invalid ELF section in module (section {section} type {kind})")
        }
        ElfFault::SectionName { section, kind } => {
            format!("Invalid ELF section name in module (section {section} type {kind})")
        }
        ElfFault::SeveralModinfo => "Only one .modinfo section must exist.".into(),
        ElfFault::ThisModuleCount { name } => {
            let name = name.as_deref().unwrap_or(MISSING_NAME);
            format!("module {}: Exactly one .gnu.linkonce.this_module section must exist.", Text(name))
        }
        ElfFault::ThisModuleNobits { name } => named(name, "section must have a size set"),
        ElfFault::ThisModuleNotAlloc { name } => named(name, "must occupy memory during process execution"),
        ElfFault::ThisModuleSize { name, .. } => {
            named(name, "section size must match the kernel's built struct module size at run time")
        }
        ElfFault::SymtabCount { name } => {
            format!("{}: module has no symbols (stripped?)", Text(name.as_deref().unwrap_or(MISSING_NAME)))
        }
        ElfFault::StringTableType { kind } => format!("Invalid ELF symbol string table type: {kind}"),
        ElfFault::ExtendedVersions => "extended version crc+name presence does not match".into(),
        ElfFault::ExtendedVersionNames => "more extended version crcs than names".into(),
        ElfFault::StringTableEmpty => "empty symbol string table".into(),
        ElfFault::StringTableStart => "symbol string table missing leading NUL".into(),
        ElfFault::StringTableUnterminated => "symbol string table isn't NUL terminated".into(),
        ElfFault::SymbolName => "symbol name out of bounds in string table".into(),
    }
}

const MISSING_NAME: &[u8] = b"(missing .modinfo section or name field)";

impl fmt::Display for ElfFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ElfFault::HeaderLength { length } => {
                write!(f, "the file has {length} bytes, less than an ELF header")
            }
            ElfFault::Magic => f.write_str("the file does not start with the ELF magic number"),
            ElfFault::Type(kind) => write!(f, "the ELF type is {kind}, not that of a relocatable object (1)"),
            ElfFault::Arch(machine) => write!(f, "it is made for another architecture (e_machine {machine})"),
            ElfFault::ModuleArch(machine) => {
                write!(f, "it is made for another ABI of the architecture (e_machine {machine})")
            }
            ElfFault::SectionHeaderSize => f.write_str("the size of section headers is not the kernel's"),
            ElfFault::SectionHeaderOverflow => {
                f.write_str("the section headers end outside the file (truncated?)")
            }
            ElfFault::Truncated { length } => {
                write!(f, "a section ends beyond the {length} bytes of the file")
            }
            ElfFault::NameIndex { index, count } => {
                write!(f, "the section name table is section {index} of {count}")
            }
            ElfFault::NameTableBounds { .. } => f.write_str("the section name table lies outside the file"),
            ElfFault::NameTableType { kind } => write!(f, "the section name table has type {kind}, not 3"),
            ElfFault::NameTableEmpty => f.write_str("the section name table is empty"),
            ElfFault::NameTableUnterminated => f.write_str("the section name table does not end with a NUL"),
            ElfFault::Section0 { .. } => f.write_str("section 0 is not the null section"),
            ElfFault::SymtabLink { link, .. } => {
                write!(f, "the string table of the symbol table is section {link}, which does not exist")
            }
            ElfFault::SectionBounds { section, .. } => {
                write!(f, "section {section} lies outside the file (truncated?)")
            }
            ElfFault::SectionName { section, .. } => {
                write!(f, "the name of section {section} lies outside the section name table")
            }
            ElfFault::SeveralModinfo => f.write_str("there are several .modinfo sections"),
            ElfFault::ThisModuleCount { .. } => {
                f.write_str("there is not exactly one .gnu.linkonce.this_module section")
            }
            ElfFault::ThisModuleNobits { .. } => f.write_str(".gnu.linkonce.this_module has no contents"),
            ElfFault::ThisModuleNotAlloc { .. } => f.write_str(".gnu.linkonce.this_module is not SHF_ALLOC"),
            ElfFault::ThisModuleSize { size, expected, .. } => {
                write!(
                    f,
                    "its struct module has {size} bytes, the kernel's {expected}: another configuration"
                )
            }
            ElfFault::SymtabCount { .. } => f.write_str("there is not exactly one symbol table (stripped?)"),
            ElfFault::StringTableType { kind } => write!(f, "the symbol string table has type {kind}, not 3"),
            ElfFault::ExtendedVersions => {
                f.write_str("there is not one __version_ext_crcs to one __version_ext_names")
            }
            ElfFault::ExtendedVersionNames => {
                f.write_str("__version_ext_crcs has more entries than __version_ext_names")
            }
            ElfFault::StringTableEmpty => f.write_str("the symbol string table is empty"),
            ElfFault::StringTableStart => f.write_str("the symbol string table does not start with a NUL"),
            ElfFault::StringTableUnterminated => {
                f.write_str("the symbol string table does not end with a NUL")
            }
            ElfFault::SymbolName => f.write_str("the name of a symbol lies outside the symbol string table"),
        }
    }
}

impl fmt::Display for ElfRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)
    }
}

impl core::error::Error for ElfRefusal {}

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
