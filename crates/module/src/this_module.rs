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
