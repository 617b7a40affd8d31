//! The loader's working notes on a module file: `struct load_info`.

use alloc::vec::Vec;

use lkm_module::elf::Elf;
use lkm_module::elf::SectionHeader;

use crate::Arch;
use crate::image::Placement;

/// Indexes of the sections that the loader asks for by name; 0 where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SectionIndexes {
    /// The symbol table.
    pub sym: usize,
    /// Its string table.
    pub str: usize,
    /// `.gnu.linkonce.this_module`
    pub this_module: usize,
    /// `.modinfo`
    pub modinfo: usize,
    /// `__versions`
    pub vers: usize,
    /// `__version_ext_crcs`
    pub vers_ext_crc: usize,
    /// `__version_ext_names`
    pub vers_ext_name: usize,
    /// `.data..percpu`, on SMP kernels.
    pub pcpu: usize,
}

/// The tables that `layout_symtab` reserves behind the sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SymtabLayout {
    /// Symbols of the core (`num_symtab` of the kept table).
    pub core_symbols: usize,
    /// The kept symbol table.
    pub core_symtab: Placement,
    /// Its strings.
    pub core_strtab: Placement,
    /// Bytes of those strings.
    pub core_strtab_size: u64,
    /// Its letters, one byte a symbol, where the kernel keeps them apart.
    pub core_typetab: Option<Placement>,
    /// `struct mod_kallsyms` in the init part.
    pub mod_kallsyms: Placement,
    /// Letters of all symbols in the init part, where the kernel keeps them apart.
    pub init_typetab: Option<Placement>,
}

/// `struct load_info`: the file, a working copy of its section headers and what is known of its sections.
///
/// The kernel edits the temporary copy of the file in place; here the file stays untouched and the edits are in
/// `sections` (flags, sizes, alignment, addresses) and `placement` (which the kernel packs into `sh_entsize`).
#[derive(Clone, Debug)]
pub struct LoadInfo<'data> {
    /// The file.
    pub elf: Elf<'data>,
    /// Architecture of the kernel that loads it.
    pub arch: Arch,
    /// Working copy of the section headers. After `move_module`, `addr` of allocated sections is final; of the
    /// others it is the address in the temporary copy.
    pub sections: Vec<SectionHeader>,
    /// Where each section was placed; `None` for those that get no module memory.
    pub placement: Vec<Option<Placement>>,
    /// Sections known by name.
    pub index: SectionIndexes,
    /// Module name: modinfo's `name`, else that in `struct module`.
    pub name: &'data [u8],
    /// Address of the temporary copy of the file, which symbols of sections without module memory point into.
    pub copy_base: u64,
    /// Places of the symbol tables, after `layout_symtab`.
    pub symtab: Option<SymtabLayout>,
}
