//! Relocatable objects made by code, for tests (feature `testing`).
//!
//! ```
//! use lkm_module::elf::{Class, Elf, Endian, consts};
//! use lkm_module::testing::ObjectBuilder;
//!
//! let mut object = ObjectBuilder::new(Class::Elf64, Endian::Little, consts::EM_X86_64);
//! let text = object.section(".text", consts::SHT_PROGBITS, consts::SHF_ALLOC | consts::SHF_EXECINSTR, 16, &[0xc3]);
//! let init = object.global("init_module", text, 0);
//! object.modinfo(&[("name", "hello"), ("license", "GPL")]);
//! object.this_module("hello", 0x380, Some((0x138, init)), None);
//! let file = object.finish();
//! assert_eq!(Elf::parse(&file).unwrap().section_data(text), Some(&[0xc3][..]));
//! ```
//!
//! The functions panic when they are asked for nonsense: tests are their only callers.

use alloc::format;
use alloc::string::String;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use crate::elf::Class;
use crate::elf::Endian;
use crate::elf::Header;
use crate::elf::RawReloc;
use crate::elf::RawSymbol;
use crate::elf::SectionHeader;
use crate::elf::consts::*;

mod samples;
mod tables;
pub mod walk;

pub use samples::samples;
pub use tables::NewExport;
pub use tables::NewParam;

#[derive(Clone, Debug)]
struct Section {
    name: String,
    header: SectionHeader,
    data: Vec<u8>,
    relocs: Vec<RawReloc>,
}

/// Builds one relocatable object. Section and symbol numbers are those of the finished file.
///
/// Symbols stay in the order in which they were added. ELF wants local ones first (`sh_info`), and linkers would
/// complain; module loaders do not look.
#[derive(Clone, Debug)]
pub struct ObjectBuilder {
    class: Class,
    endian: Endian,
    /// `e_machine`
    pub machine: u16,
    /// `e_flags`
    pub flags: u32,
    /// `e_entry`
    pub entry: u64,
    /// Relocations are written as `SHT_RELA` (else `SHT_REL`). [`ObjectBuilder::new`] sets what the machine uses.
    pub rela: bool,
    sections: Vec<Section>,
    symbols: Vec<(String, RawSymbol)>,
}

impl ObjectBuilder {
    /// An object with the null section and the null symbol only.
    pub fn new(class: Class, endian: Endian, machine: u16) -> ObjectBuilder {
        let rela = !(matches!(machine, EM_386 | EM_ARM) || machine == EM_MIPS && class == Class::Elf32);
        ObjectBuilder {
            class,
            endian,
            machine,
            // What the tool chains write: EABI 5 on ARM, ABI v2 on little-endian ppc64.
            flags: match machine {
                EM_ARM => 0x0500_0000,
                EM_PPC64 if endian == Endian::Little => 2,
                _ => 0,
            },
            entry: 0,
            rela,
            sections: vec![Section {
                name: String::new(),
                header: SectionHeader::default(),
                data: Vec::new(),
                relocs: Vec::new(),
            }],
            symbols: vec![(String::new(), RawSymbol::default())],
        }
    }

    /// Word size of the object.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Byte order of the object.
    pub fn endian(&self) -> Endian {
        self.endian
    }

    /// Bytes of a pointer-sized number.
    pub fn word(&self, value: u64) -> Vec<u8> {
        match self.class {
            Class::Elf32 => self.endian.u32_bytes(value as u32).to_vec(),
            Class::Elf64 => self.endian.u64_bytes(value).to_vec(),
        }
    }

    /// Adds a section with contents; gives its number.
    pub fn section(&mut self, name: &str, kind: u32, flags: u64, align: u64, data: &[u8]) -> usize {
        self.sections.push(Section {
            name: name.to_string(),
            header: SectionHeader {
                kind,
                flags,
                addralign: align,
                size: data.len() as u64,
                ..SectionHeader::default()
            },
            data: data.to_vec(),
            relocs: Vec::new(),
        });
        self.sections.len() - 1
    }

    /// Adds a `SHT_NOBITS` section of `size` bytes; gives its number.
    pub fn nobits(&mut self, name: &str, flags: u64, align: u64, size: u64) -> usize {
        let index = self.section(name, SHT_NOBITS, flags, align, &[]);
        self.sections[index].header.size = size;
        index
    }

    /// Contents of a section, to be changed or extended.
    pub fn data(&mut self, section: usize) -> &mut Vec<u8> {
        &mut self.sections[section].data
    }

    /// Number of the first section of that name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.sections.iter().skip(1).position(|section| section.name == name).map(|found| found + 1)
    }

    /// Adds a symbol record; `name` of `symbol` is filled in by [`ObjectBuilder::finish`]. Gives its number.
    pub fn symbol(&mut self, name: &str, symbol: RawSymbol) -> u32 {
        self.symbols.push((name.to_string(), symbol));
        self.symbols.len() as u32 - 1
    }

    fn plain_symbol(&mut self, name: &str, bind: u8, kind: u8, shndx: u16, value: u64) -> u32 {
        self.symbol(name, RawSymbol { info: bind << 4 | kind, shndx, value, ..RawSymbol::default() })
    }

    /// Adds a local symbol.
    pub fn local(&mut self, name: &str, section: usize, value: u64) -> u32 {
        self.plain_symbol(name, STB_LOCAL, STT_NOTYPE, section as u16, value)
    }

    /// Adds the symbol of a section.
    pub fn section_symbol(&mut self, section: usize) -> u32 {
        self.plain_symbol("", STB_LOCAL, STT_SECTION, section as u16, 0)
    }

    /// Adds a global symbol; a function when its section is executable, else an object.
    pub fn global(&mut self, name: &str, section: usize, value: u64) -> u32 {
        let code = self.sections[section].header.flags & SHF_EXECINSTR != 0;
        let kind = if code { STT_FUNC } else { STT_OBJECT };
        self.plain_symbol(name, STB_GLOBAL, kind, section as u16, value)
    }

    /// Adds an undefined symbol.
    pub fn undefined(&mut self, name: &str) -> u32 {
        self.plain_symbol(name, STB_GLOBAL, STT_NOTYPE, SHN_UNDEF, 0)
    }

    /// Adds an undefined weak symbol.
    pub fn weak(&mut self, name: &str) -> u32 {
        self.plain_symbol(name, STB_WEAK, STT_NOTYPE, SHN_UNDEF, 0)
    }

    /// Adds an absolute symbol.
    pub fn absolute(&mut self, name: &str, value: u64) -> u32 {
        self.plain_symbol(name, STB_GLOBAL, STT_NOTYPE, SHN_ABS, value)
    }

    /// Adds a relocation to a section. In an object with `SHT_REL` the addend is what lies at the place, and
    /// `addend` is not looked at.
    pub fn reloc(&mut self, section: usize, offset: u64, symbol: u32, kind: u32, addend: i64) {
        self.sections[section].relocs.push(RawReloc { offset, symbol, kind, addend });
    }

    /// Adds a relocation that makes a pointer to `symbol + addend` (the machine's `R_*_64` or `R_*_32`); with
    /// `SHT_REL` the addend is put in its place.
    pub fn pointer(&mut self, section: usize, offset: u64, symbol: u32, addend: i64) {
        let kind = match (self.machine, self.class) {
            (EM_X86_64 | EM_386, _) => 1,
            (EM_ARM, _) | (EM_RISCV | EM_LOONGARCH, Class::Elf64) => 2,
            (EM_PPC, _) | (EM_RISCV | EM_LOONGARCH, Class::Elf32) => 1,
            (EM_AARCH64, _) => 257,
            (EM_PPC64, _) => 38,
            (EM_S390, Class::Elf64) => 22,
            (EM_S390, Class::Elf32) => 4,
            (EM_MIPS, Class::Elf64) => 18,
            (EM_MIPS, Class::Elf32) => 2,
            (other, _) => panic!("no pointer relocation known for machine {other}"),
        };
        self.place_addend(section, offset, self.word(addend as u64));
        self.reloc(section, offset, symbol, kind, addend);
    }

    /// Adds a relocation that makes the 32-bit distance from the place to `symbol + addend` (x86 and arm64, whose
    /// export tables are made of them).
    pub fn prel32(&mut self, section: usize, offset: u64, symbol: u32, addend: i64) {
        let kind = match self.machine {
            EM_X86_64 | EM_386 => 2,
            EM_AARCH64 => 261,
            EM_ARM => 3,
            other => panic!("no place-relative relocation known for machine {other}"),
        };
        self.place_addend(section, offset, self.endian.u32_bytes(addend as u32).to_vec());
        self.reloc(section, offset, symbol, kind, addend);
    }

    fn place_addend(&mut self, section: usize, offset: u64, bytes: Vec<u8>) {
        if !self.rela {
            let offset = offset as usize;
            self.sections[section].data[offset..offset + bytes.len()].copy_from_slice(&bytes);
        }
    }

    /// Adds `.modinfo` with these tags in this order.
    pub fn modinfo(&mut self, tags: &[(&str, &str)]) -> usize {
        let data: Vec<u8> =
            tags.iter().flat_map(|(tag, value)| format!("{tag}={value}\0").into_bytes()).collect();
        self.section(".modinfo", SHT_PROGBITS, SHF_ALLOC, 1, &data)
    }

    /// Adds `.gnu.linkonce.this_module` of `size` bytes with the name in its field and, if given, pointers to the
    /// init and exit symbols at their (offset, symbol).
    pub fn this_module(
        &mut self,
        name: &str,
        size: usize,
        init: Option<(u64, u32)>,
        exit: Option<(u64, u32)>,
    ) -> usize {
        let mut data = vec![0; size];
        let at = 3 * self.class.pointer_size();
        data[at..at + name.len()].copy_from_slice(name.as_bytes());
        let flags = SHF_ALLOC | SHF_WRITE;
        let section = self.section(".gnu.linkonce.this_module", SHT_PROGBITS, flags, 64, &data);
        for (offset, symbol) in init.into_iter().chain(exit) {
            self.pointer(section, offset, symbol, 0);
        }
        section
    }

    /// Adds `__versions` with these names and CRCs.
    pub fn versions(&mut self, entries: &[(&str, u32)]) -> usize {
        let mut data = Vec::new();
        for (name, crc) in entries {
            let end = data.len() + 64;
            data.extend(self.word(u64::from(*crc)));
            data.extend(name.bytes());
            assert!(data.len() < end, "the name {name} is too long for a version record");
            data.resize(end, 0);
        }
        self.section("__versions", SHT_PROGBITS, SHF_ALLOC, 8, &data)
    }

    /// The file: header, contents of the sections, relocation sections, `.symtab`, `.strtab`, `.shstrtab`, section
    /// headers. `e_shstrndx` is the last section; `.symtab` is the third from the end.
    pub fn finish(&self) -> Vec<u8> {
        let mut sections = self.sections.clone();
        let first_extra = sections.len();
        let symtab = first_extra + sections.iter().filter(|section| !section.relocs.is_empty()).count();

        for index in 1..first_extra {
            if self.sections[index].relocs.is_empty() {
                continue;
            }
            let target = &self.sections[index];
            let mut data = Vec::new();
            for reloc in &target.relocs {
                self.encode_reloc(reloc, &mut data);
            }
            let kind = if self.rela { SHT_RELA } else { SHT_REL };
            let name = format!("{}{}", if self.rela { ".rela" } else { ".rel" }, target.name);
            let word = self.class.pointer_size() as u64;
            sections.push(extra(&name, kind, 0x40, word, data));
            let header = &mut sections.last_mut().expect("just pushed").header;
            header.link = symtab as u32;
            header.info = index as u32;
            header.entsize = if self.rela { 3 * word } else { 2 * word };
        }

        let mut strings = vec![0];
        let mut table = Vec::new();
        for (name, symbol) in &self.symbols {
            let name = intern(&mut strings, name);
            encode_symbol(&RawSymbol { name, ..*symbol }, self.class, self.endian, &mut table);
        }
        sections.push(extra(".symtab", SHT_SYMTAB, 0, self.class.pointer_size() as u64, table));
        let locals = self.symbols.iter().take_while(|(_, symbol)| symbol.bind() == STB_LOCAL).count();
        let header = &mut sections[symtab].header;
        header.link = symtab as u32 + 1;
        header.info = locals as u32;
        header.entsize = self.class.symbol_size() as u64;
        sections.push(extra(".strtab", SHT_STRTAB, 0, 1, strings));
        sections.push(extra(".shstrtab", SHT_STRTAB, 0, 1, Vec::new()));

        let mut names = vec![0];
        for section in &mut sections {
            section.header.name = intern(&mut names, &section.name);
        }
        sections.last_mut().expect("the name table was pushed").data = names;

        let mut file = vec![0; self.class.header_size()];
        for section in sections.iter_mut().skip(1) {
            let align = section.header.addralign.max(1) as usize;
            file.resize(file.len().next_multiple_of(align), 0);
            section.header.offset = file.len() as u64;
            if section.header.kind != SHT_NOBITS {
                section.header.size = section.data.len() as u64;
                file.extend_from_slice(&section.data);
            }
        }
        file.resize(file.len().next_multiple_of(8), 0);
        let header = self.header(file.len(), sections.len());
        for section in &sections {
            encode_section(&section.header, self.class, self.endian, &mut file);
        }
        let encoded = encode_header(&header, self.class, self.endian);
        file[..encoded.len()].copy_from_slice(&encoded);
        file
    }

    fn header(&self, shoff: usize, shnum: usize) -> Header {
        let mut ident = [0; 16];
        ident[..4].copy_from_slice(b"\x7fELF");
        ident[4] = if self.class == Class::Elf32 { 1 } else { 2 };
        ident[5] = if self.endian == Endian::Little { 1 } else { 2 };
        ident[6] = 1;
        Header {
            ident,
            kind: ET_REL,
            machine: self.machine,
            version: 1,
            entry: self.entry,
            shoff: shoff as u64,
            flags: self.flags,
            ehsize: self.class.header_size() as u16,
            shentsize: self.class.section_header_size() as u16,
            shnum: shnum as u16,
            shstrndx: shnum as u16 - 1,
            ..Header::default()
        }
    }

    fn encode_reloc(&self, reloc: &RawReloc, out: &mut Vec<u8>) {
        out.extend(self.word(reloc.offset));
        out.extend(self.word(match self.class {
            Class::Elf32 => u64::from(reloc.symbol << 8 | reloc.kind),
            Class::Elf64 if self.machine == EM_MIPS && self.endian == Endian::Little => {
                u64::from(reloc.kind) << 56 | u64::from(reloc.symbol)
            }
            Class::Elf64 => u64::from(reloc.symbol) << 32 | u64::from(reloc.kind),
        }));
        if self.rela {
            out.extend(self.word(reloc.addend as u64));
        }
    }
}

fn extra(name: &str, kind: u32, flags: u64, align: u64, data: Vec<u8>) -> Section {
    let header = SectionHeader { kind, flags, addralign: align, ..SectionHeader::default() };
    Section { name: name.to_string(), header, data, relocs: Vec::new() }
}

fn intern(table: &mut Vec<u8>, name: &str) -> u32 {
    if name.is_empty() {
        return 0;
    }
    let offset = table.len() as u32;
    table.extend(name.bytes());
    table.push(0);
    offset
}

struct Encoder<'a> {
    class: Class,
    endian: Endian,
    out: &'a mut Vec<u8>,
}

impl Encoder<'_> {
    fn half(&mut self, value: u16) {
        self.out.extend(self.endian.u16_bytes(value));
    }

    fn int(&mut self, value: u32) {
        self.out.extend(self.endian.u32_bytes(value));
    }

    fn word(&mut self, value: u64) {
        match self.class {
            Class::Elf32 => self.int(value as u32),
            Class::Elf64 => self.out.extend(self.endian.u64_bytes(value)),
        }
    }
}

fn encode_header(header: &Header, class: Class, endian: Endian) -> Vec<u8> {
    let mut out = header.ident.to_vec();
    let mut e = Encoder { class, endian, out: &mut out };
    e.half(header.kind);
    e.half(header.machine);
    e.int(header.version);
    e.word(header.entry);
    e.word(header.phoff);
    e.word(header.shoff);
    e.int(header.flags);
    for half in
        [header.ehsize, header.phentsize, header.phnum, header.shentsize, header.shnum, header.shstrndx]
    {
        e.half(half);
    }
    out
}

fn encode_section(header: &SectionHeader, class: Class, endian: Endian, out: &mut Vec<u8>) {
    let mut e = Encoder { class, endian, out };
    e.int(header.name);
    e.int(header.kind);
    e.word(header.flags);
    e.word(header.addr);
    e.word(header.offset);
    e.word(header.size);
    e.int(header.link);
    e.int(header.info);
    e.word(header.addralign);
    e.word(header.entsize);
}

fn encode_symbol(symbol: &RawSymbol, class: Class, endian: Endian, out: &mut Vec<u8>) {
    let mut e = Encoder { class, endian, out };
    e.int(symbol.name);
    match class {
        Class::Elf32 => {
            e.int(symbol.value as u32);
            e.int(symbol.size as u32);
            e.out.extend([symbol.info, symbol.other]);
            e.half(symbol.shndx);
        }
        Class::Elf64 => {
            e.out.extend([symbol.info, symbol.other]);
            e.half(symbol.shndx);
            e.word(symbol.value);
            e.word(symbol.size);
        }
    }
}

/// Changes the ELF header of a finished file, for tests that damage it.
pub fn edit_header(file: &mut [u8], edit: impl FnOnce(&mut Header)) {
    let (class, endian) = form(file);
    let mut header = Header::read(file, class, endian).expect("a file of the builder");
    edit(&mut header);
    let bytes = encode_header(&header, class, endian);
    file[..bytes.len()].copy_from_slice(&bytes);
}

/// Changes a section header of a finished file, for tests that damage it.
pub fn edit_section(file: &mut [u8], index: usize, edit: impl FnOnce(&mut SectionHeader)) {
    let (class, endian) = form(file);
    let elf = crate::elf::Elf::parse_as(file, class, endian).expect("a file of the builder");
    let mut section = elf.sections[index];
    let at = elf.header.shoff as usize + index * class.section_header_size();
    edit(&mut section);
    let mut bytes = Vec::new();
    encode_section(&section, class, endian, &mut bytes);
    file[at..at + bytes.len()].copy_from_slice(&bytes);
}

fn form(file: &[u8]) -> (Class, Endian) {
    let class = if file[4] == 1 { Class::Elf32 } else { Class::Elf64 };
    let endian = if file[5] == 1 { Endian::Little } else { Endian::Big };
    (class, endian)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::Elf;

    #[test]
    fn what_is_built_is_read_back() {
        for class in [Class::Elf32, Class::Elf64] {
            for endian in [Endian::Little, Endian::Big] {
                let machine = if class == Class::Elf32 { EM_ARM } else { EM_S390 };
                let mut object = ObjectBuilder::new(class, endian, machine);
                let text =
                    object.section(".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 16, &[1, 2, 3, 4]);
                let bss = object.nobits(".bss", SHF_ALLOC | SHF_WRITE, 4, 0x1234);
                let init = object.global("init_module", text, 2);
                object.undefined("printk");
                let this = object.this_module("built", 0x200, Some((0x100, init)), None);
                let mut file = object.finish();

                let elf = Elf::parse(&file).unwrap();
                assert_eq!((elf.class, elf.endian, elf.header.machine), (class, endian, machine));
                assert_eq!(elf.section_name(&elf.sections[bss]), b".bss");
                assert_eq!(elf.sections[bss].size, 0x1234);
                assert_eq!(elf.section_data(text), Some(&[1, 2, 3, 4][..]));
                let reloc = &elf.sections[this + 1];
                let expected: &[u8] = if class == Class::Elf32 {
                    b".rel.gnu.linkonce.this_module"
                } else {
                    b".rela.gnu.linkonce.this_module"
                };
                assert_eq!(elf.section_name(reloc), expected);
                assert_eq!(reloc.info as usize, this);
                let symtab = &elf.sections[reloc.link as usize];
                assert_eq!(symtab.kind, SHT_SYMTAB);
                assert_eq!(symtab.size as usize, 3 * class.symbol_size());

                edit_section(&mut file, bss, |section| section.size = 7);
                edit_header(&mut file, |header| header.flags = 99);
                let elf = Elf::parse(&file).unwrap();
                assert_eq!((elf.sections[bss].size, elf.header.flags), (7, 99));
            }
        }
    }
}
