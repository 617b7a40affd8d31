use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::Errno;
use crate::Level;
use crate::Text;
use crate::elf::consts::ET_REL;

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
