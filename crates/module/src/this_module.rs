//! `.gnu.linkonce.this_module`: the `struct module` that the file brings along, nearly empty.

use crate::elf::Elf;
use crate::elf::SymbolTable;
use crate::elf::Target;
use crate::elf::TargetMap;
use crate::elf::string_at;

/// Name of the section.
pub const THIS_MODULE: &[u8] = b".gnu.linkonce.this_module";

/// The module's own `struct module`, as it lies in the file.
#[derive(Clone, Copy, Debug)]
pub struct ThisModule<'data> {
    /// Number of the section.
    pub section: usize,
    /// Bytes of the structure; a kernel of another configuration has another size.
    pub size: u64,
    /// The name field.
    pub name: &'data [u8],
    /// Pointer to the init function; its `place` is the offset of the field.
    pub init: Option<Target<'data>>,
    /// Pointer to the exit function; its `place` is the offset of the field.
    pub exit: Option<Target<'data>>,
}

/// Offset of `name` in `struct module`, behind state and list, in bytes: 12 or 24.
pub const fn name_offset(class: crate::elf::Class) -> usize {
    3 * class.pointer_size()
}

/// Longest module name with its NUL (`MODULE_NAME_LEN`), in bytes: 60 or 56.
pub const fn name_size(class: crate::elf::Class) -> usize {
    64 - class.pointer_size()
}

impl<'data> ThisModule<'data> {
    /// Finds the section (`SHF_ALLOC`) and reads it through its relocations; `None` if there is none inside the
    /// file. The init and exit fields are those that are relocated against `init_module` and `cleanup_module`.
    pub fn of(elf: &Elf<'data>, symbols: Option<&SymbolTable<'data>>) -> Option<ThisModule<'data>> {
        let section = elf.find_sec(THIS_MODULE)?;
        let contents = elf.section_data(section)?;
        let name = contents.get(name_offset(elf.class)..).unwrap_or(&[]);
        let name = name.get(..name_size(elf.class)).unwrap_or(name);
        let targets = symbols.map(|symbols| TargetMap::of(elf, symbols, section, elf.class.pointer_size()));
        let to = |symbol: &[u8]| {
            targets.as_ref().and_then(|targets| targets.iter().find(|target| target.name == symbol).copied())
        };
        Some(ThisModule {
            section,
            size: elf.sections.get(section)?.size,
            name: string_at(name, 0),
            init: to(b"init_module"),
            exit: to(b"cleanup_module"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::Class;
    use crate::elf::Endian;
    use crate::elf::consts::*;
    use crate::testing::ObjectBuilder;

    #[test]
    fn name_size_and_pointers() {
        for (class, machine) in [(Class::Elf64, EM_X86_64), (Class::Elf32, EM_ARM)] {
            let mut object = ObjectBuilder::new(class, Endian::Little, machine);
            let text = object.section(".init.text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 4, &[0; 8]);
            let init = object.global("init_module", text, 4);
            let exit = object.global("cleanup_module", text, 0);
            let long = "n".repeat(name_size(class));
            let section = object.this_module(&long, 0x240, Some((0xcc, init)), Some((0x230, exit)));
            let file = object.finish();
            let elf = Elf::parse(&file).unwrap();
            let this = ThisModule::of(&elf, SymbolTable::of(&elf).as_ref()).unwrap();
            assert_eq!((this.section, this.size), (section, 0x240));
            assert_eq!(this.name, long.as_bytes(), "a name without NUL ends with its field");
            let init = this.init.unwrap();
            assert_eq!((init.place, init.section(), init.offset), (0xcc, Some(text), 4));
            assert_eq!(this.exit.unwrap().place, 0x230);
            assert!(ThisModule::of(&elf, None).unwrap().init.is_none());
        }
    }

    #[test]
    fn absent_or_not_allocated() {
        let mut object = ObjectBuilder::new(Class::Elf64, Endian::Little, EM_X86_64);
        object.section(".gnu.linkonce.this_module", SHT_PROGBITS, SHF_WRITE, 4, &[0; 0x380]);
        let file = object.finish();
        assert!(ThisModule::of(&Elf::parse(&file).unwrap(), None).is_none());
    }
}
