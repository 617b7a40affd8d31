//! What a module needs from others: its undefined symbols, with the CRCs it was built against.

use alloc::vec::Vec;

use crate::elf::SymbolTable;
use crate::versions::Versions;

/// A symbol that another module or the kernel has to provide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Import<'data> {
    /// Its name.
    pub name: &'data [u8],
    /// Index in the symbol table.
    pub symbol: u32,
    /// The module loads without it too.
    pub weak: bool,
    /// The CRC that the module was built against, where it says so.
    pub crc: Option<u64>,
}

/// The undefined symbols in table order, the null symbol left out.
pub fn imports<'data>(symbols: &SymbolTable<'data>, versions: &Versions<'data>) -> Vec<Import<'data>> {
    // A stable sort, so that of entries with the same name the first is found, as by the kernel's search.
    let mut known: Vec<_> = versions.iter().collect();
    known.sort_by_key(|version| version.name);
    let undefined = symbols.iter().skip(1).filter(|symbol| symbol.is_undefined());
    undefined
        .map(|symbol| {
            let at = known.partition_point(|version| version.name < symbol.name);
            let version = known.get(at).filter(|version| version.name == symbol.name);
            Import {
                name: symbol.name,
                symbol: symbol.index,
                weak: symbol.is_weak(),
                crc: version.map(|version| version.crc),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::Class;
    use crate::elf::Elf;
    use crate::elf::Endian;
    use crate::elf::consts::*;
    use crate::testing::ObjectBuilder;

    #[test]
    fn undefined_symbols_with_their_versions() {
        let mut object = ObjectBuilder::new(Class::Elf32, Endian::Big, EM_PPC);
        let text = object.section(".text", SHT_PROGBITS, SHF_ALLOC, 4, &[0; 4]);
        object.versions(&[("module_layout", 1), ("kfree", 2), ("_printk", 3), ("kfree", 4)]);
        object.global("init_module", text, 0);
        object.undefined("kfree");
        object.absolute("absolute", 1);
        object.weak("maybe");
        let file = object.finish();
        let elf = Elf::parse(&file).unwrap();
        let read = imports(&SymbolTable::of(&elf).unwrap(), &Versions::of(&elf));
        assert_eq!(
            read,
            [
                Import { name: b"kfree", symbol: 2, weak: false, crc: Some(2) },
                Import { name: b"maybe", symbol: 4, weak: true, crc: None },
            ]
        );
    }
}
