use alloc::vec::Vec;

use super::Class;
use super::Elf;
use super::Elf32;
use super::Elf64;
use super::ElfClass;
use super::Endian;
use super::RawReloc;
use super::SectionHeader;
use super::SymbolTable;
use super::consts::EM_MIPS;
use super::consts::SHN_LORESERVE;
use super::consts::SHN_UNDEF;
use super::consts::SHT_REL;
use super::consts::SHT_RELA;
use super::string_at;

/// What a field of a section will point at once it is relocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'data> {
    /// Offset of the field in its section, in bytes.
    pub place: u64,
    /// Relocation type, numbered by the architecture.
    pub kind: u32,
    /// Index of the symbol in the symbol table.
    pub symbol: u32,
    /// Name of that symbol; empty for a section symbol.
    pub name: &'data [u8],
    /// Its `st_shndx`, special indexes included.
    pub shndx: u16,
    /// Symbol value plus addend: offset in the section `shndx`, when that is an ordinary one.
    pub offset: u64,
}

impl<'data> Target<'data> {
    /// The section that it points into; `None` if the symbol is undefined or special.
    pub fn section(&self) -> Option<usize> {
        (self.shndx != SHN_UNDEF && self.shndx < SHN_LORESERVE).then_some(usize::from(self.shndx))
    }

    /// The file's bytes from the target on; `None` if it does not point into contents of a section.
    pub fn bytes(&self, elf: &Elf<'data>) -> Option<&'data [u8]> {
        elf.section_data(self.section()?)?.get(usize::try_from(self.offset).ok()?..)
    }

    /// The NUL-terminated string at the target.
    pub fn string(&self, elf: &Elf<'data>) -> Option<&'data [u8]> {
        self.bytes(elf).map(|bytes| string_at(bytes, 0))
    }
}

/// The relocated fields of one section of an object that is not linked yet, by offset.
///
/// Made for the tables that the loader reads after relocation (exports, parameters, `struct module`), whose fields
/// are plain pointers or distances: the addend of `SHT_REL` is taken as the number of `field` bytes at the place.
#[derive(Clone, Debug, Default)]
pub struct TargetMap<'data> {
    targets: Vec<Target<'data>>,
}

impl<'data> TargetMap<'data> {
    /// Collects the relocations of the section `index`, whose fields have `field` bytes (4 or 8). Relocations by
    /// symbols that do not exist are left out.
    pub fn of(
        elf: &Elf<'data>,
        symbols: &SymbolTable<'data>,
        index: usize,
        field: usize,
    ) -> TargetMap<'data> {
        let applied = |section: &&SectionHeader| is_reloc(section) && section.info as usize == index;
        let sections = elf.sections.iter().filter(applied);
        TargetMap::gather(elf, symbols, index, field, sections, &mut (elf.data.len() as u64))
    }

    /// As [`TargetMap::of`], from given relocation sections. Sections that do not overlap have less bytes than the
    /// file, so `budget` (bytes of records still to be read) keeps overlapping ones from multiplying the work.
    pub(crate) fn gather<'elf>(
        elf: &'elf Elf<'data>,
        symbols: &SymbolTable<'data>,
        index: usize,
        field: usize,
        sections: impl Iterator<Item = &'elf SectionHeader>,
        budget: &mut u64,
    ) -> TargetMap<'data>
    where
        'data: 'elf,
    {
        let contents = elf.section_data(index).unwrap_or(&[]);
        let mut targets = Vec::new();
        for section in sections {
            let Some(records) = elf.contents(section) else { continue };
            let Some(rest) = budget.checked_sub(records.len() as u64) else { break };
            *budget = rest;
            let explicit = section.kind == SHT_RELA;
            for_each(elf, records, explicit, |mut reloc| {
                if !explicit {
                    reloc.addend = addend_at(contents, reloc.offset, field, elf.endian);
                }
                let Some(symbol) = symbols.get(reloc.symbol) else { return };
                let offset = symbol.raw.value.wrapping_add_signed(reloc.addend);
                let offset = if elf.class == Class::Elf32 { u64::from(offset as u32) } else { offset };
                targets.push(Target {
                    place: reloc.offset,
                    kind: reloc.kind,
                    symbol: reloc.symbol,
                    name: symbol.name,
                    shndx: symbol.raw.shndx,
                    offset,
                });
            });
        }
        targets.sort_by_key(|target| target.place);
        TargetMap { targets }
    }

    /// The target of the field at `offset`.
    pub fn at(&self, offset: u64) -> Option<&Target<'data>> {
        let index = self.targets.partition_point(|target| target.place < offset);
        self.targets.get(index).filter(|target| target.place == offset)
    }

    /// All targets by rising offset of their fields.
    pub fn iter(&self) -> impl Iterator<Item = &Target<'data>> {
        self.targets.iter()
    }

    /// The section has no relocations.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }
}

/// Whether a section holds relocations.
pub(crate) fn is_reloc(section: &SectionHeader) -> bool {
    matches!(section.kind, SHT_REL | SHT_RELA)
}

fn addend_at(contents: &[u8], offset: u64, field: usize, endian: Endian) -> i64 {
    let bytes = usize::try_from(offset).ok().and_then(|offset| contents.get(offset..)).unwrap_or(&[]);
    if field == 8 { endian.u64(bytes) as i64 } else { i64::from(endian.u32(bytes) as i32) }
}

fn for_each(elf: &Elf<'_>, records: &[u8], explicit: bool, mut with: impl FnMut(RawReloc)) {
    let endian = elf.endian;
    // Little-endian MIPS64 stores r_info as five fields, the symbol first: not a little-endian number.
    let mips64el = elf.class == Class::Elf64 && endian == Endian::Little && elf.header.machine == EM_MIPS;
    let mut fixed = |mut reloc: RawReloc| {
        if mips64el {
            (reloc.symbol, reloc.kind) = (reloc.kind, reloc.symbol >> 24);
        }
        with(reloc);
    };
    match (elf.class, explicit) {
        (Class::Elf32, false) => Elf32::rels(records).iter().for_each(|raw| fixed(Elf32::rel(raw, endian))),
        (Class::Elf32, true) => Elf32::relas(records).iter().for_each(|raw| fixed(Elf32::rela(raw, endian))),
        (Class::Elf64, false) => Elf64::rels(records).iter().for_each(|raw| fixed(Elf64::rel(raw, endian))),
        (Class::Elf64, true) => Elf64::relas(records).iter().for_each(|raw| fixed(Elf64::rela(raw, endian))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::consts::*;
    use crate::testing::ObjectBuilder;

    #[test]
    fn addends_of_both_kinds() {
        for (class, machine) in [(Class::Elf32, EM_ARM), (Class::Elf64, EM_X86_64)] {
            let mut object = ObjectBuilder::new(class, Endian::Little, machine);
            let strings = object.section(".str", SHT_PROGBITS, SHF_ALLOC, 1, b"zero\0five\0");
            let symbol = object.local("strings", strings, 2);
            let table = object.section(".table", SHT_PROGBITS, SHF_ALLOC, 8, &[0; 24]);
            object.pointer(table, 16, symbol, 3);
            object.pointer(table, 0, symbol, -2);
            object.pointer(table, 8, symbol, -3);
            // By a symbol that does not exist.
            object.reloc(table, 4, 77, 1, 0);
            let file = object.finish();
            let elf = Elf::parse(&file).unwrap();
            let targets = TargetMap::of(&elf, &SymbolTable::of(&elf).unwrap(), table, class.pointer_size());
            let places: Vec<_> = targets.iter().map(|target| target.place).collect();
            assert_eq!(places, [0, 8, 16]);
            assert_eq!(targets.at(0).unwrap().string(&elf), Some(&b"zero"[..]));
            assert_eq!(targets.at(16).unwrap().string(&elf), Some(&b"five"[..]));
            let before = targets.at(8).unwrap();
            let all_ones = if class == Class::Elf32 { 0xffff_ffff } else { u64::MAX };
            assert_eq!((before.offset, before.string(&elf)), (all_ones, None));
            assert_eq!(targets.at(4), None);
        }
    }

    #[test]
    fn little_endian_mips64_has_its_own_order_of_fields() {
        let mut object = ObjectBuilder::new(Class::Elf64, Endian::Little, EM_MIPS);
        let table = object.section(".table", SHT_PROGBITS, SHF_ALLOC, 8, &[0; 16]);
        object.undefined("skipped");
        object.undefined("wanted");
        object.reloc(table, 8, 2, 18, 5);
        let file = object.finish();
        let elf = Elf::parse(&file).unwrap();
        // r_sym in four bytes, r_ssym, r_type3, r_type2, r_type.
        assert_eq!(elf.section_data(2).unwrap()[8..16], [2, 0, 0, 0, 0, 0, 0, 18]);
        let targets = TargetMap::of(&elf, &SymbolTable::of(&elf).unwrap(), table, 8);
        let target = targets.at(8).unwrap();
        assert_eq!((target.name, target.kind, target.section()), (&b"wanted"[..], 18, None));
    }
}
