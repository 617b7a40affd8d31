//! The loader's working notes on a module file: `struct load_info`.

use alloc::vec::Vec;

use lkm_module::elf::Class;
use lkm_module::elf::Elf;
use lkm_module::elf::Elf32;
use lkm_module::elf::Elf64;
use lkm_module::elf::ElfClass;
use lkm_module::elf::RawSymbol;
use lkm_module::elf::SectionHeader;
use lkm_module::elf::consts::SHT_NOBITS;
use lkm_module::elf::consts::SHT_SYMTAB;

use crate::Arch;
use crate::LinkError;
use crate::arch::arm;
use crate::image::Placement;
use crate::rules::LinkRules;
use crate::strings::string_at;

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
    /// Name for messages before `struct module` is in place (`info->name`): modinfo's `name`, else `module_name`.
    pub name: &'data [u8],
    /// Name in `struct module` (`mod->name`), which the kernel knows the module by.
    pub module_name: &'data [u8],
    /// Address of the temporary copy of the file, which symbols of sections without module memory point into.
    pub copy_base: u64,
    /// The kernel has `CONFIG_LIVEPATCH` and modinfo has `livepatch`: all symbols are kept.
    pub livepatch: bool,
    /// Places of the symbol tables, after `layout_symtab`.
    pub symtab: Option<SymtabLayout>,
    /// Bytes in a page.
    pub(crate) page_size: u64,
    /// Section names, in the order of `sections`.
    names: Vec<&'data [u8]>,
    pub(crate) arm: arm::PltPlan,
}

impl<'data> LoadInfo<'data> {
    /// ARM: sections `.plt` and `.init.plt`, once `module_frob_arch_sections` has found them; 0 without.
    pub fn plt_sections(&self) -> [usize; 2] {
        self.arm.sections
    }

    /// `setup_load_info()`: finds the sections that the loader knows by name.
    ///
    /// `copy_base` is the address of the temporary copy of the file. `use_versions` is false when the caller asked to
    /// ignore module versions (flag 1 of `finit_module`): then there is no `__versions`.
    pub fn setup(
        elf: Elf<'data>,
        arch: Arch,
        copy_base: u64,
        rules: &LinkRules,
        use_versions: bool,
    ) -> Result<LoadInfo<'data>, LinkError> {
        let table = elf.section_data(usize::from(elf.header.shstrndx)).unwrap_or(&[]);
        let names = elf.sections.iter().map(|section| string_at(table, section.name as usize)).collect();
        let sections = elf.sections.clone();
        let count = sections.len();
        let mut info = LoadInfo {
            elf,
            arch,
            sections,
            placement: Vec::new(),
            index: SectionIndexes::default(),
            name: &[],
            module_name: &[],
            copy_base,
            livepatch: false,
            symtab: None,
            page_size: rules.page_size,
            names,
            arm: arm::PltPlan::default(),
        };
        info.placement.resize(count, None);

        info.index.modinfo = info.find_sec(b".modinfo");
        let name = info.modinfo(b"name");
        let owned = || name.map(<[u8]>::to_vec);
        info.index.sym = info
            .sections
            .iter()
            .skip(1)
            .position(|section| section.kind == SHT_SYMTAB)
            .map_or(0, |at| at + 1);
        let Some(symtab) = info.sections.get(info.index.sym).filter(|_| info.index.sym != 0) else {
            return Err(LinkError::NoSymbols { name: owned() });
        };
        info.index.str = symtab.link as usize;
        info.index.this_module = info.find_sec(b".gnu.linkonce.this_module");
        if info.index.this_module == 0 {
            return Err(LinkError::NoModule { name: owned() });
        }
        info.module_name = info.name_in_struct_module();
        info.name = name.unwrap_or(info.module_name);
        if use_versions {
            info.index.vers = info.find_sec(b"__versions");
        }
        if rules.extended_modversions && use_versions {
            info.index.vers_ext_crc = info.find_sec(b"__version_ext_crcs");
            info.index.vers_ext_name = info.find_sec(b"__version_ext_names");
        }
        if rules.smp {
            info.index.pcpu = info.find_sec(b".data..percpu");
        }
        info.livepatch = rules.livepatch && info.modinfo(b"livepatch").is_some();
        Ok(info)
    }

    /// `rewrite_section_headers()`: sections get their address in the temporary copy, and those that only the loader
    /// reads get no module memory.
    pub fn rewrite_section_headers(&mut self) {
        let mask = self.address_mask();
        for section in self.sections.iter_mut().skip(1) {
            section.addr = self.copy_base.wrapping_add(section.offset) & mask;
        }
        if let Some(null) = self.sections.first_mut() {
            null.addr = 0;
        }
        let index = self.index;
        let mut drop = [index.vers, index.modinfo, index.vers_ext_crc, index.vers_ext_name];
        drop.sort_unstable();
        for section in drop.into_iter().filter(|section| *section != 0) {
            self.clear_alloc(section);
        }
    }

    pub(crate) fn clear_alloc(&mut self, section: usize) {
        if let Some(section) = self.sections.get_mut(section) {
            section.flags &= !lkm_module::elf::consts::SHF_ALLOC;
        }
    }

    /// `find_sec()`: index of the first section from 1 on that is allocated and has exactly this name; 0 if none.
    pub fn find_sec(&self, name: &[u8]) -> usize {
        self.find_where(name, SectionHeader::is_alloc)
    }

    /// `find_any_sec()`: as [`LoadInfo::find_sec`], allocated or not.
    pub fn find_any_sec(&self, name: &[u8]) -> usize {
        self.find_where(name, |_| true)
    }

    fn find_where(&self, name: &[u8], wanted: impl Fn(&SectionHeader) -> bool) -> usize {
        let pairs = self.names.iter().zip(&self.sections);
        let mut pairs = pairs.enumerate().skip(1);
        pairs.find(|(_, (of, section))| **of == name && wanted(section)).map_or(0, |(index, _)| index)
    }

    /// Name of a section; empty if the index is too high.
    pub fn section_name(&self, index: usize) -> &'data [u8] {
        self.names.get(index).copied().unwrap_or(&[])
    }

    /// Contents of a section in the file; empty for `SHT_NOBITS`, a too high index and what lies outside the file.
    /// Section 0 is what the kernel uses for "there is none": it is empty too.
    pub fn contents(&self, index: usize) -> &'data [u8] {
        match self.elf.sections.get(index) {
            Some(section) if index != 0 => self.elf.contents(section).unwrap_or(&[]),
            _ => &[],
        }
    }

    /// Address of a section at this stage (in the temporary copy, then in module memory); 0 for section 0.
    pub fn section_addr(&self, index: usize) -> u64 {
        self.sections.get(index).map_or(0, |section| section.addr)
    }

    /// `section_objs()`: address of an allocated table and how many objects of `size` bytes it has. A remainder is
    /// not counted. (0, 0) if there is none.
    pub fn section_objs(&self, name: &[u8], size: u64) -> (u64, u64) {
        self.objects(self.find_sec(name), size)
    }

    /// `any_section_objs()`: as [`LoadInfo::section_objs`], allocated or not.
    pub fn any_section_objs(&self, name: &[u8], size: u64) -> (u64, u64) {
        self.objects(self.find_any_sec(name), size)
    }

    fn objects(&self, index: usize, size: u64) -> (u64, u64) {
        match self.sections.get(index) {
            Some(section) if index != 0 => (section.addr, section.size.checked_div(size).unwrap_or(0)),
            _ => (0, 0),
        }
    }

    /// `get_modinfo()`: the first value of a modinfo tag.
    pub fn modinfo(&self, tag: &[u8]) -> Option<&'data [u8]> {
        let mut rest = self.contents(self.index.modinfo);
        while !rest.is_empty() {
            let entry = string_at(rest, 0);
            if let Some(value) = entry.strip_prefix(tag).and_then(|value| value.strip_prefix(b"=")) {
                return Some(value);
            }
            rest = rest.get(entry.len() + 1..).unwrap_or(&[]);
        }
        None
    }

    fn name_in_struct_module(&self) -> &'data [u8] {
        // After an enum and a list head; MODULE_NAME_LEN is 64 less a long.
        let word = self.elf.class.pointer_size();
        let bytes = self.contents(self.index.this_module).get(3 * word..).unwrap_or(&[]);
        string_at(bytes.get(..64 - word).unwrap_or(bytes), 0)
    }

    /// Addresses wrap at the word size of the kernel.
    pub(crate) fn address_mask(&self) -> u64 {
        match self.elf.class {
            Class::Elf32 => u64::from(u32::MAX),
            Class::Elf64 => u64::MAX,
        }
    }

    /// Bytes of the string table of the symbols.
    pub fn strtab(&self) -> &'data [u8] {
        self.contents(self.index.str)
    }

    /// Number of symbols, with the null symbol.
    pub fn symbol_count(&self) -> usize {
        self.contents(self.index.sym).len() / self.elf.class.symbol_size()
    }

    /// A symbol as it stands in the file.
    pub fn symbol(&self, index: u32) -> Option<RawSymbol> {
        let table = self.contents(self.index.sym);
        let endian = self.elf.endian;
        match self.elf.class {
            Class::Elf32 => Some(Elf32::symbol(Elf32::symbols(table).get(index as usize)?, endian)),
            Class::Elf64 => Some(Elf64::symbol(Elf64::symbols(table).get(index as usize)?, endian)),
        }
    }

    /// Name of a symbol; empty if there is none.
    pub fn symbol_name(&self, index: u32) -> &'data [u8] {
        self.symbol(index).map_or(&[], |symbol| string_at(self.strtab(), symbol.name as usize))
    }

    /// Whether a section has bytes in the file that are copied into module memory.
    pub(crate) fn has_bits(&self, index: usize) -> bool {
        self.sections.get(index).is_some_and(|section| section.kind != SHT_NOBITS)
    }
}

#[cfg(test)]
mod tests {
    use lkm_module::Errno;
    use lkm_module::elf::Endian;
    use lkm_module::elf::consts::*;
    use lkm_module::testing::ObjectBuilder;

    use super::*;
    use crate::test_support::*;

    fn set_up(file: &[u8], use_versions: bool, rules: &LinkRules) -> Result<LoadInfo<'static>, LinkError> {
        let file: &'static [u8] = alloc::vec::Vec::leak(file.to_vec());
        LoadInfo::setup(Elf::parse(file).unwrap(), Arch::X86_64, COPY, rules, use_versions)
    }

    #[test]
    fn what_every_module_must_have() {
        let rules = rules_6_1(Arch::X86_64);
        let mut object = ObjectBuilder::new(Class::Elf64, Endian::Little, EM_X86_64);
        object.modinfo(&[("license", "GPL"), ("name", "first"), ("name", "second")]);
        let file = object.finish();
        let error = set_up(&file, true, &rules).err().unwrap();
        assert_eq!(error.errno(), Errno::ENOEXEC);
        assert_eq!(lines(&error), ["<4>first: No module found in object"]);

        // Not allocated means not found.
        object.section(".gnu.linkonce.this_module", SHT_PROGBITS, SHF_WRITE, 64, &[0; 0x380]);
        assert!(set_up(&object.finish(), true, &rules).is_err());

        // The symbol table is the third section from the end.
        let mut file = file;
        let headers = Elf::parse(&file).unwrap().header;
        let at = headers.shoff as usize + 64 * (usize::from(headers.shnum) - 3) + 4;
        file[at] = 1;
        let error = set_up(&file, true, &rules).err().unwrap();
        assert_eq!(lines(&error), ["<4>first: module has no symbols (stripped?)"]);
        let mut nameless = ObjectBuilder::new(Class::Elf64, Endian::Little, EM_X86_64);
        nameless.section(".text", SHT_PROGBITS, SHF_ALLOC, 1, &[0]);
        let error = set_up(&nameless.finish(), true, &rules).err().unwrap();
        assert_eq!(lines(&error), ["<4>(missing .modinfo section or name field): No module found in object"]);
    }

    #[test]
    fn names_and_sections_are_found_as_the_kernel_finds_them() {
        let mut object = ObjectBuilder::new(Class::Elf64, Endian::Little, EM_X86_64);
        let plain = object.section(".rodata", SHT_PROGBITS, 0, 8, &[0; 20]);
        let alloc = object.section(".rodata", SHT_PROGBITS, SHF_ALLOC, 8, &[0; 20]);
        let versions = object.versions(&[("module_layout", 1)]);
        let info_section = object.modinfo(&[("names", "wrong"), ("name", "hello")]);
        object.this_module("other", 0x380, None, None);
        let file = object.finish();
        let rules = rules_6_1(Arch::X86_64);
        let mut info = set_up(&file, true, &rules).unwrap();
        assert_eq!((info.name, info.module_name), (&b"hello"[..], &b"other"[..]));
        assert_eq!((info.find_sec(b".rodata"), info.find_any_sec(b".rodata")), (alloc, plain));
        assert_eq!((info.find_sec(b".roda"), info.find_sec(b"")), (0, 0));
        assert_eq!(info.index.vers, versions);
        assert_eq!(set_up(&file, false, &rules).unwrap().index.vers, 0);
        info.rewrite_section_headers();
        assert_eq!(info.section_addr(alloc), COPY + info.elf.sections[alloc].offset);
        assert_eq!(info.section_objs(b".rodata", 8), (info.section_addr(alloc), 2));
        assert_eq!(info.section_objs(b".none", 8), (0, 0));
        for dropped in [versions, info_section] {
            assert!(!info.sections[dropped].is_alloc() && info.elf.sections[dropped].is_alloc());
        }

        // Without the tag the name is that of struct module.
        let mut object = ObjectBuilder::new(Class::Elf64, Endian::Little, EM_X86_64);
        object.this_module("other", 0x380, None, None);
        let info = set_up(&object.finish(), true, &rules).unwrap();
        assert_eq!(info.name, b"other");
        assert_eq!(info.modinfo(b"name"), None);
    }
}
