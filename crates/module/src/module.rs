//! A module file as its users see it.

use alloc::vec::Vec;
use core::fmt;

use crate::Text;
use crate::elf::Elf;
use crate::elf::ElfError;
use crate::elf::SectionHeader;
use crate::elf::Symbol;
use crate::elf::SymbolTable;
use crate::exports::Export;
use crate::exports::ExportError;
use crate::exports::exports;
use crate::imports::Import;
use crate::imports::imports;
use crate::modinfo::Modinfo;
use crate::note::build_id;
use crate::params::BadParameter;
use crate::params::KernelParams;
use crate::params::Parameter;
use crate::params::kernel_params;
use crate::params::parameters;
use crate::signature::AppendedSignature;
use crate::signature::SignatureError;
use crate::signature::appended_signature;
use crate::this_module::ThisModule;
use crate::versions::Versions;

/// A module file: everything that it says, read when it is asked for.
///
/// It is as tolerant as `modinfo`: what is absent is `None` or empty. Only a damaged part is an error, that of the
/// function which reads the part. What a kernel would refuse is the matter of
/// [`elf_validity_check`](crate::elf::elf_validity_check) and of the stages behind it.
#[derive(Clone, Debug)]
pub struct Module<'data> {
    elf: Elf<'data>,
    modinfo: Modinfo<'data>,
    symbols: Option<SymbolTable<'data>>,
}

/// A damaged part of a module file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleError<'data> {
    /// The file is no ELF file.
    Elf(ElfError),
    /// A table of exports.
    Exports(ExportError<'data>),
    /// A description of a parameter.
    Parameter(BadParameter<'data>),
    /// The appended signature.
    Signature(SignatureError<'data>),
}

impl fmt::Display for ModuleError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModuleError::Elf(error) => error.fmt(f),
            ModuleError::Exports(error) => write!(f, "section {} {}", Text(error.section), error.fault),
            ModuleError::Parameter(bad) => {
                write!(f, "the modinfo string {}={} names no parameter: no ':'", bad.tag, Text(bad.value))
            }
            ModuleError::Signature(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ModuleError<'_> {}

impl<'data> Module<'data> {
    /// Reads header and section headers by the class and byte order that the file states.
    pub fn parse(data: &'data [u8]) -> Result<Module<'data>, ModuleError<'data>> {
        Elf::parse(data).map(Module::new).map_err(ModuleError::Elf)
    }

    /// The view of a file that was read already.
    pub fn new(elf: Elf<'data>) -> Module<'data> {
        let modinfo = Modinfo::of(&elf);
        let symbols = SymbolTable::of(&elf);
        Module { elf, modinfo, symbols }
    }

    /// The file as ELF.
    pub fn elf(&self) -> &Elf<'data> {
        &self.elf
    }

    /// The sections with their names, the null section first.
    pub fn sections(&self) -> impl Iterator<Item = (&'data [u8], &SectionHeader)> {
        self.elf.sections.iter().map(|section| (self.elf.section_name(section), section))
    }

    /// The symbol table, if there is one.
    pub fn symbol_table(&self) -> Option<SymbolTable<'data>> {
        self.symbols
    }

    /// The symbols in table order, the null symbol first.
    pub fn symbols(&self) -> impl Iterator<Item = Symbol<'data>> + use<'data> {
        self.symbols.into_iter().flat_map(|table| table.iter())
    }

    /// All that `.modinfo` says, in its order.
    pub fn modinfo(&self) -> Modinfo<'data> {
        self.modinfo
    }

    /// The module's name: modinfo's `name`, else the one in `struct module`.
    pub fn name(&self) -> Option<&'data [u8]> {
        let in_struct = || self.this_module().map(|this| this.name).filter(|name| !name.is_empty());
        self.modinfo.get(b"name").or_else(in_struct)
    }

    /// The kernel that it was built for: release, then options that change the binary interface.
    pub fn vermagic(&self) -> Option<&'data [u8]> {
        self.modinfo.get(b"vermagic")
    }

    /// The licence; the kernel looks at the first only.
    pub fn license(&self) -> Option<&'data [u8]> {
        self.modinfo.get(b"license")
    }

    /// The author's version.
    pub fn version(&self) -> Option<&'data [u8]> {
        self.modinfo.get(b"version")
    }

    /// Checksum of the sources.
    pub fn srcversion(&self) -> Option<&'data [u8]> {
        self.modinfo.get(b"srcversion")
    }

    /// The description.
    pub fn description(&self) -> Option<&'data [u8]> {
        self.modinfo.get(b"description")
    }

    /// The authors.
    pub fn authors(&self) -> impl Iterator<Item = &'data [u8]> + use<'data> {
        self.modinfo.get_all(b"author")
    }

    /// Names of the modules that it needs (`depends`).
    pub fn depends(&self) -> impl Iterator<Item = &'data [u8]> + use<'data> {
        let list = self.modinfo.get(b"depends").unwrap_or(&[]);
        list.split(|&byte| byte == b',').filter(|name| !name.is_empty())
    }

    /// Patterns of device names that it serves.
    pub fn aliases(&self) -> impl Iterator<Item = &'data [u8]> + use<'data> {
        self.modinfo.get_all(b"alias")
    }

    /// Firmware files that it may ask for.
    pub fn firmware(&self) -> impl Iterator<Item = &'data [u8]> + use<'data> {
        self.modinfo.get_all(b"firmware")
    }

    /// Modules to be loaded with it, if they exist: `pre: a b post: c` each.
    pub fn softdeps(&self) -> impl Iterator<Item = &'data [u8]> + use<'data> {
        self.modinfo.get_all(b"softdep")
    }

    /// Modules that it may make use of (`weakdep`), which initial ramdisks should hold too.
    pub fn weakdeps(&self) -> impl Iterator<Item = &'data [u8]> + use<'data> {
        self.modinfo.get_all(b"weakdep")
    }

    /// It was built with the kernel.
    pub fn is_intree(&self) -> bool {
        self.modinfo.get(b"intree").is_some()
    }

    /// Symbol namespaces that it imports.
    pub fn import_namespaces(&self) -> impl Iterator<Item = &'data [u8]> + use<'data> {
        self.modinfo.get_all(b"import_ns")
    }

    /// Parameters as modinfo describes them.
    pub fn parameters(&self) -> Result<Vec<Parameter<'data>>, ModuleError<'data>> {
        parameters(&self.modinfo).map_err(ModuleError::Parameter)
    }

    /// The `__param` table that the kernel parses arguments with.
    pub fn kernel_params(&self) -> Option<KernelParams<'data>> {
        kernel_params(&self.elf, &self.symbols?)
    }

    /// Versions of the symbols that it was built against.
    pub fn versions(&self) -> Versions<'data> {
        Versions::of(&self.elf)
    }

    /// What it exports.
    pub fn exports(&self) -> Result<Vec<Export<'data>>, ModuleError<'data>> {
        exports(&self.elf).map_err(ModuleError::Exports)
    }

    /// What it needs from the kernel or other modules.
    pub fn imports(&self) -> Vec<Import<'data>> {
        self.symbols.map_or_else(Vec::new, |symbols| imports(&symbols, &self.versions()))
    }

    /// Its `struct module`.
    pub fn this_module(&self) -> Option<ThisModule<'data>> {
        ThisModule::of(&self.elf, self.symbols.as_ref())
    }

    /// The build id that the linker put in.
    pub fn build_id(&self) -> Option<&'data [u8]> {
        build_id(&self.elf)
    }

    /// The appended signature; `None` if the module is unsigned.
    pub fn signature(&self) -> Result<Option<AppendedSignature<'data>>, ModuleError<'data>> {
        appended_signature(self.elf.data).map_err(ModuleError::Signature)
    }
}
