use alloc::vec::Vec;
use core::ffi::CStr;
use core::fmt;

use super::Class;
use super::Endian;
use super::SectionHeader;
use super::consts::SHT_NOBITS;

/// The ELF header with its numbers widened. Field meanings are those of `Elf64_Ehdr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Header {
    pub ident: [u8; 16],
    pub kind: u16,
    pub machine: u16,
    pub version: u32,
    pub entry: u64,
    pub phoff: u64,
    pub shoff: u64,
    pub flags: u32,
    pub ehsize: u16,
    pub phentsize: u16,
    pub phnum: u16,
    pub shentsize: u16,
    pub shnum: u16,
    pub shstrndx: u16,
}

impl Header {
    /// Decodes the header at the start of `data` as the given class and byte order, whatever `e_ident` says:
    /// kernels take their native form for granted. `None` if `data` is shorter than a header.
    pub fn read(data: &[u8], class: Class, endian: Endian) -> Option<Header> {
        let bytes = data.get(..class.header_size())?;
        let e = endian;
        let word = class.pointer_size();
        let after = 24 + 3 * word;
        let mut ident = [0; 16];
        ident.copy_from_slice(bytes.get(..16)?);
        Some(Header {
            ident,
            kind: e.u16(&bytes[16..]),
            machine: e.u16(&bytes[18..]),
            version: e.u32(&bytes[20..]),
            entry: class.pointer(e, &bytes[24..]),
            phoff: class.pointer(e, &bytes[24 + word..]),
            shoff: class.pointer(e, &bytes[24 + 2 * word..]),
            flags: e.u32(&bytes[after..]),
            ehsize: e.u16(&bytes[after + 4..]),
            phentsize: e.u16(&bytes[after + 6..]),
            phnum: e.u16(&bytes[after + 8..]),
            shentsize: e.u16(&bytes[after + 10..]),
            shnum: e.u16(&bytes[after + 12..]),
            shstrndx: e.u16(&bytes[after + 14..]),
        })
    }
}

/// Why bytes are no ELF file that could be read at all. What a *kernel* would object to, and in which order, is
/// the validity check's matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElfError {
    /// Shorter than an ELF header.
    Truncated,
    /// The first four bytes are not `7f 45 4c 46`.
    Magic,
    /// `EI_CLASS` is neither 1 nor 2, or `EI_DATA` is neither 1 nor 2.
    Ident,
    /// `e_shentsize` is not the size of a section header of that class.
    SectionHeaderSize,
    /// The section headers do not lie inside the file.
    SectionHeaders,
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ElfError::Truncated => "the file is shorter than an ELF header",
            ElfError::Magic => "the file does not start with the ELF magic number",
            ElfError::Ident => "the ELF class or byte order is not a known one",
            ElfError::SectionHeaderSize => "the size of the section headers is not that of its ELF class",
            ElfError::SectionHeaders => "the section headers lie outside the file (truncated?)",
        })
    }
}

impl core::error::Error for ElfError {}

/// A file read as ELF: header and section headers decoded, contents borrowed.
///
/// Only the section header table is known to lie inside the file; each access to contents is checked.
#[derive(Clone, Debug)]
pub struct Elf<'data> {
    /// The whole file.
    pub data: &'data [u8],
    /// Word size that it was read with.
    pub class: Class,
    /// Byte order that it was read with.
    pub endian: Endian,
    /// The ELF header.
    pub header: Header,
    /// The section headers; index 0 is the null section.
    pub sections: Vec<SectionHeader>,
}

impl<'data> Elf<'data> {
    /// Reads a file by the class and byte order that it states.
    pub fn parse(data: &'data [u8]) -> Result<Elf<'data>, ElfError> {
        let ident = data.get(..16).ok_or(ElfError::Truncated)?;
        if ident[..4] != *b"\x7fELF" {
            return Err(ElfError::Magic);
        }
        let class = match ident[4] {
            1 => Class::Elf32,
            2 => Class::Elf64,
            _ => return Err(ElfError::Ident),
        };
        let endian = match ident[5] {
            1 => Endian::Little,
            2 => Endian::Big,
            _ => return Err(ElfError::Ident),
        };
        Elf::parse_as(data, class, endian)
    }

    /// Reads a file as the given class and byte order, as a kernel of that kind does.
    pub fn parse_as(data: &'data [u8], class: Class, endian: Endian) -> Result<Elf<'data>, ElfError> {
        let header = Header::read(data, class, endian).ok_or(ElfError::Truncated)?;
        let entry = class.section_header_size();
        if usize::from(header.shentsize) != entry && header.shnum != 0 {
            return Err(ElfError::SectionHeaderSize);
        }
        let table = usize::try_from(header.shoff)
            .ok()
            .and_then(|start| data.get(start..))
            .and_then(|rest| rest.get(..usize::from(header.shnum) * entry))
            .ok_or(ElfError::SectionHeaders)?;
        let sections = table.chunks_exact(entry).map(|raw| section_header(raw, class, endian)).collect();
        Ok(Elf { data, class, endian, header, sections })
    }

    /// Contents of a section; `None` if the index is too high or the contents lie outside the file.
    /// `SHT_NOBITS` sections have empty contents.
    pub fn section_data(&self, index: usize) -> Option<&'data [u8]> {
        self.contents(self.sections.get(index)?)
    }

    /// Contents that a section header of this file describes; `None` if they lie outside the file.
    pub fn contents(&self, section: &SectionHeader) -> Option<&'data [u8]> {
        if section.kind == SHT_NOBITS {
            return Some(&[]);
        }
        self.file_bytes(section)
    }

    /// The bytes of the file at a section header's offset and size, whatever its type: how kernels read the tables
    /// that they find by an index. `None` if they lie outside the file.
    pub fn file_bytes(&self, section: &SectionHeader) -> Option<&'data [u8]> {
        let start = usize::try_from(section.offset).ok()?;
        let size = usize::try_from(section.size).ok()?;
        self.data.get(start..start.checked_add(size)?)
    }

    /// The section name table; empty if there is none inside the file.
    pub fn section_names(&self) -> &'data [u8] {
        let table = self.sections.get(usize::from(self.header.shstrndx));
        table.and_then(|section| self.file_bytes(section)).unwrap_or(&[])
    }

    /// Name of a section: its bytes up to NUL in the section name table; empty if there is none.
    pub fn section_name(&self, section: &SectionHeader) -> &'data [u8] {
        string_at(self.section_names(), section.name)
    }

    /// The kernel's `find_sec`: the first section of that name with `SHF_ALLOC`; never the null section.
    pub fn find_sec(&self, name: &[u8]) -> Option<usize> {
        self.find(name, |section| section.is_alloc())
    }

    /// The kernel's `find_any_sec`: the first section of that name, whatever its flags; never the null section.
    pub fn find_any_sec(&self, name: &[u8]) -> Option<usize> {
        self.find(name, |_| true)
    }

    fn find(&self, name: &[u8], wanted: impl Fn(&SectionHeader) -> bool) -> Option<usize> {
        let names = self.section_names();
        let found = |section: &SectionHeader| wanted(section) && is_string_at(names, section.name, name);
        self.sections.iter().skip(1).position(found).map(|index| index + 1)
    }
}

/// The bytes from `offset` up to a NUL or the end of the table; empty if the offset lies outside.
pub fn string_at(table: &[u8], offset: u32) -> &[u8] {
    let rest = table.get(offset as usize..).unwrap_or(&[]);
    // CStr's search is the only one of core that looks at more than a byte at a time.
    CStr::from_bytes_until_nul(rest).map_or(rest, CStr::to_bytes)
}

/// Whether the string at `offset` of a table is exactly `string`. A string that ends with the table instead of a NUL
/// counts.
pub fn is_string_at(table: &[u8], offset: u32, string: &[u8]) -> bool {
    let rest = table.get(offset as usize..).unwrap_or(&[]);
    rest.starts_with(string) && rest.get(string.len()).is_none_or(|&byte| byte == 0)
}

pub(super) fn section_header(raw: &[u8], class: Class, e: Endian) -> SectionHeader {
    match class {
        Class::Elf32 => SectionHeader {
            name: e.u32(raw),
            kind: e.u32(&raw[4..]),
            flags: u64::from(e.u32(&raw[8..])),
            addr: u64::from(e.u32(&raw[12..])),
            offset: u64::from(e.u32(&raw[16..])),
            size: u64::from(e.u32(&raw[20..])),
            link: e.u32(&raw[24..]),
            info: e.u32(&raw[28..]),
            addralign: u64::from(e.u32(&raw[32..])),
            entsize: u64::from(e.u32(&raw[36..])),
        },
        Class::Elf64 => SectionHeader {
            name: e.u32(raw),
            kind: e.u32(&raw[4..]),
            flags: e.u64(&raw[8..]),
            addr: e.u64(&raw[16..]),
            offset: e.u64(&raw[24..]),
            size: e.u64(&raw[32..]),
            link: e.u32(&raw[40..]),
            info: e.u32(&raw[44..]),
            addralign: e.u64(&raw[48..]),
            entsize: e.u64(&raw[56..]),
        },
    }
}
