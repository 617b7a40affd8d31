use super::Class;
use super::Elf;
use super::Elf32;
use super::Elf64;
use super::ElfClass;
use super::Endian;
use super::RawSymbol;
use super::consts::SHN_UNDEF;
use super::consts::SHT_SYMTAB;
use super::consts::STB_WEAK;
use super::string_at;

/// The symbol table that the loader uses, the first `SHT_SYMTAB`, with its strings.
#[derive(Clone, Copy, Debug)]
pub struct SymbolTable<'data> {
    class: Class,
    endian: Endian,
    records: &'data [u8],
    strings: &'data [u8],
    section: usize,
}

/// A symbol with its name and its place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'data> {
    /// Index in the symbol table; 0 is the null symbol.
    pub index: u32,
    /// Name; empty for section symbols.
    pub name: &'data [u8],
    /// The record.
    pub raw: RawSymbol,
}

impl Symbol<'_> {
    /// It has to be resolved by another module or the kernel.
    pub fn is_undefined(&self) -> bool {
        self.raw.shndx == SHN_UNDEF
    }

    /// It may stay unresolved (`STB_WEAK`).
    pub fn is_weak(&self) -> bool {
        self.raw.bind() == STB_WEAK
    }
}

impl<'data> SymbolTable<'data> {
    /// The first symbol table of a file; `None` if there is none or its records lie outside the file. Strings that
    /// lie outside the file make all names empty.
    pub fn of(elf: &Elf<'data>) -> Option<SymbolTable<'data>> {
        let section = elf.sections.iter().skip(1).position(|section| section.kind == SHT_SYMTAB)? + 1;
        let header = elf.sections.get(section)?;
        let records = elf.file_bytes(header)?;
        let strings = elf.sections.get(header.link as usize);
        let strings = strings.and_then(|strings| elf.file_bytes(strings)).unwrap_or(&[]);
        Some(SymbolTable { class: elf.class, endian: elf.endian, records, strings, section })
    }

    /// Section index of the table.
    pub fn section(&self) -> usize {
        self.section
    }

    /// Number of records, the null symbol included.
    pub fn len(&self) -> usize {
        self.records.len() / self.class.symbol_size()
    }

    /// There is not even a null symbol.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The record of a symbol.
    pub fn raw(&self, index: u32) -> Option<RawSymbol> {
        let index = index as usize;
        match self.class {
            Class::Elf32 => Some(Elf32::symbol(Elf32::symbols(self.records).get(index)?, self.endian)),
            Class::Elf64 => Some(Elf64::symbol(Elf64::symbols(self.records).get(index)?, self.endian)),
        }
    }

    /// A symbol with its name.
    pub fn get(&self, index: u32) -> Option<Symbol<'data>> {
        let raw = self.raw(index)?;
        Some(Symbol { index, name: string_at(self.strings, raw.name), raw })
    }

    /// All symbols in table order, the null symbol first.
    pub fn iter(&self) -> impl Iterator<Item = Symbol<'data>> + use<'data> {
        let table = *self;
        (0..table.len() as u32).map_while(move |index| table.get(index))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::super::consts::*;
    use super::*;
    use crate::testing::ObjectBuilder;
    use crate::testing::edit_section;

    #[test]
    fn records_and_names() {
        for (class, endian) in [(Class::Elf32, Endian::Big), (Class::Elf64, Endian::Little)] {
            let mut object = ObjectBuilder::new(class, endian, EM_MIPS);
            let data = object.section(".data", SHT_PROGBITS, SHF_ALLOC, 4, &[0; 8]);
            let info = STB_GLOBAL << 4 | STT_OBJECT;
            let raw = RawSymbol { info, other: 2, shndx: data as u16, value: 4, size: 3, name: 0 };
            object.symbol("variable", raw);
            object.weak("maybe");
            let mut file = object.finish();
            let symtab = file.len() - 3 * class.section_header_size();
            let elf = Elf::parse(&file).unwrap();
            let table = SymbolTable::of(&elf).unwrap();
            assert_eq!((table.len(), table.is_empty(), table.section()), (3, false, 2));
            let symbols: Vec<_> = table.iter().collect();
            assert_eq!(symbols[1], Symbol { index: 1, name: b"variable", raw: RawSymbol { name: 1, ..raw } });
            assert!(symbols[2].is_undefined() && symbols[2].is_weak() && !symbols[1].is_weak());
            assert_eq!(table.get(3), None);

            // The string table is used whatever its type; without one names are empty.
            edit_section(&mut file, 3, |section| section.kind = SHT_NOBITS);
            let elf = Elf::parse(&file).unwrap();
            assert_eq!(SymbolTable::of(&elf).unwrap().get(1).unwrap().name, b"variable");
            edit_section(&mut file, 3, |section| section.offset = u64::from(u32::MAX));
            let elf = Elf::parse(&file).unwrap();
            assert_eq!(SymbolTable::of(&elf).unwrap().get(1).unwrap().name, b"");
            file.truncate(symtab);
            assert!(Elf::parse(&file).is_err());
        }
    }
}
