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

/// Longest string that [`string_at`] gives, in bytes.
pub const MAX_STRING: usize = 0x1_0000;

/// The bytes from `offset` up to a NUL or the end of the table; empty if the offset lies outside.
///
/// A string ends after [`MAX_STRING`] bytes at the latest: a file may have very many that share a long end, and
/// reading them all would take the square of its size.
pub fn string_at(table: &[u8], offset: u32) -> &[u8] {
    let rest = table.get(offset as usize..).unwrap_or(&[]);
    let rest = rest.get(..MAX_STRING).unwrap_or(rest);
    // CStr's search is the only one of core that looks at more than a byte at a time.
    CStr::from_bytes_until_nul(rest).map_or(rest, CStr::to_bytes)
}

/// Whether the string at `offset` of a table is exactly `string`. A string that ends with the table instead of a NUL
/// counts.
pub fn is_string_at(table: &[u8], offset: u32, string: &[u8]) -> bool {
    let rest = table.get(offset as usize..).unwrap_or(&[]);
    rest.starts_with(string) && rest.get(string.len()).is_none_or(|&byte| byte == 0)
}

/// Decodes a section header; zeros if `raw` is too short for one.
#[inline]
pub(super) fn section_header(raw: &[u8], class: Class, endian: Endian) -> SectionHeader {
    // Every load starts here, so this is written to compile to plain moves: little-endian reads at constant offsets
    // of an array, and the byte swaps apart from them.
    let little = match class {
        Class::Elf32 => raw.first_chunk().map(section_header_32),
        Class::Elf64 => raw.first_chunk().map(section_header_64),
    };
    let header = little.unwrap_or_default();
    match endian {
        Endian::Little => header,
        Endian::Big => swapped(&header, class),
    }
}

fn section_header_32(raw: &[u8; 40]) -> SectionHeader {
    let word = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
    let wide = |at| u64::from(word(at));
    SectionHeader {
        name: word(0),
        kind: word(4),
        flags: wide(8),
        addr: wide(12),
        offset: wide(16),
        size: wide(20),
        link: word(24),
        info: word(28),
        addralign: wide(32),
        entsize: wide(36),
    }
}

fn section_header_64(raw: &[u8; 64]) -> SectionHeader {
    let word = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
    let wide = |at| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    SectionHeader {
        name: word(0),
        kind: word(4),
        flags: wide(8),
        addr: wide(16),
        offset: wide(24),
        size: wide(32),
        link: word(40),
        info: word(44),
        addralign: wide(48),
        entsize: wide(56),
    }
}

fn swapped(header: &SectionHeader, class: Class) -> SectionHeader {
    let wide = |value: u64| match class {
        Class::Elf32 => u64::from((value as u32).swap_bytes()),
        Class::Elf64 => value.swap_bytes(),
    };
    SectionHeader {
        name: header.name.swap_bytes(),
        kind: header.kind.swap_bytes(),
        flags: wide(header.flags),
        addr: wide(header.addr),
        offset: wide(header.offset),
        size: wide(header.size),
        link: header.link.swap_bytes(),
        info: header.info.swap_bytes(),
        addralign: wide(header.addralign),
        entsize: wide(header.entsize),
    }
}

#[cfg(test)]
mod tests {
    use super::super::consts::*;
    use super::*;
    use crate::testing::ObjectBuilder;
    use crate::testing::edit_header;
    use crate::testing::edit_section;

    fn object() -> ObjectBuilder {
        let mut object = ObjectBuilder::new(Class::Elf64, Endian::Little, EM_X86_64);
        object.section(".note", SHT_PROGBITS, 0, 1, b"first");
        object.section(".note", SHT_PROGBITS, SHF_ALLOC, 1, b"second");
        object.section(".note", SHT_PROGBITS, SHF_ALLOC, 1, b"third");
        object.nobits(".bss", SHF_ALLOC, 1, 100);
        object
    }

    #[test]
    fn each_error_has_its_cause() {
        let good = object().finish();
        let error = |file: &[u8]| Elf::parse(file).unwrap_err();
        assert_eq!(error(b""), ElfError::Truncated);
        assert_eq!(error(b"#!/bin/sh\necho hello"), ElfError::Magic);
        assert_eq!(error(&good[..63]), ElfError::Truncated);
        assert_eq!(error(&good[..good.len() - 1]), ElfError::SectionHeaders);
        for (at, value) in [(4, 0), (4, 3), (5, 0), (5, 3)] {
            let mut file = good.clone();
            file[at] = value;
            assert_eq!(error(&file), ElfError::Ident);
        }
        let mut file = good.clone();
        edit_header(&mut file, |header| header.shentsize = 40);
        assert_eq!(error(&file), ElfError::SectionHeaderSize);
        edit_header(&mut file, |header| header.shnum = 0);
        assert_eq!(Elf::parse(&file).unwrap().sections, []);
        let mut file = good;
        edit_header(&mut file, |header| header.shoff = u64::MAX);
        assert_eq!(error(&file), ElfError::SectionHeaders);
    }

    #[test]
    fn sections_are_found_as_the_kernel_finds_them() {
        let mut file = object().finish();
        let elf = Elf::parse(&file).unwrap();
        assert_eq!((elf.find_any_sec(b".note"), elf.find_sec(b".note")), (Some(1), Some(2)));
        assert_eq!((elf.find_any_sec(b".not"), elf.find_any_sec(b"note")), (None, None));
        assert_eq!(elf.find_any_sec(b""), None, "the null section is never found");
        assert_eq!(elf.section_data(2), Some(&b"second"[..]));
        assert_eq!(elf.section_data(99), None);
        let bss = elf.sections[4];
        assert_eq!((elf.contents(&bss), elf.file_bytes(&bss).map(<[u8]>::len)), (Some(&[][..]), Some(100)));

        // Wherever it is, a name table is used as the bytes that it is; outside the file all names are empty.
        let names = usize::from(elf.header.shstrndx);
        edit_section(&mut file, names, |section| section.kind = SHT_NOBITS);
        assert_eq!(Elf::parse(&file).unwrap().find_sec(b".bss"), Some(4));
        edit_section(&mut file, names, |section| section.size = u64::MAX);
        let elf = Elf::parse(&file).unwrap();
        assert_eq!((elf.find_sec(b".bss"), elf.section_name(&elf.sections[4])), (None, &b""[..]));
        edit_section(&mut file, 1, |section| (section.offset, section.size) = (u64::MAX, 1));
        assert_eq!(Elf::parse(&file).unwrap().section_data(1), None);
    }

    #[test]
    fn strings_end_at_nul_or_with_the_table() {
        let table = b"\0one\0two";
        assert_eq!(string_at(table, 0), b"");
        assert_eq!(string_at(table, 1), b"one");
        assert_eq!(string_at(table, 6), b"wo");
        assert_eq!(string_at(table, 8), b"");
        assert_eq!(string_at(table, u32::MAX), b"");
        assert_eq!(string_at(&[b'x'; MAX_STRING + 1], 0).len(), MAX_STRING);
        assert!(is_string_at(table, 1, b"one") && is_string_at(table, 5, b"two"));
        assert!(
            !is_string_at(table, 1, b"on")
                && !is_string_at(table, 5, b"two\0")
                && !is_string_at(table, 9, b"x")
        );
    }
}
