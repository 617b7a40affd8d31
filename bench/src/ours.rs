//! lkm: from the file to relocated bytes, with every check.

use std::hint::black_box;
use std::sync::LazyLock;

use lkm_link::Arch;
use lkm_link::LinkError;
use lkm_link::LinkRules;
use lkm_link::LoadInfo;
use lkm_link::Resolve;
use lkm_link::SymbolError;
use lkm_module::Errno;
use lkm_module::elf::Elf;
use lkm_module::elf::Endian;

use crate::memory::Pages;
use crate::tree::Exports;

/// Where modules are put.
pub fn base(arch: Arch) -> u64 {
    match arch {
        Arch::X86_64 => 0xffff_ffff_c000_0000,
        Arch::Arm => 0xbf00_0000,
    }
}

/// Where symbols are said to be: in the kernel's text.
pub fn exports_base(arch: Arch) -> u64 {
    match arch {
        Arch::X86_64 => 0xffff_ffff_8100_0000,
        Arch::Arm => 0xc030_0000,
    }
}

/// Where the copy of the file is said to be, while the module is loaded.
fn copy(arch: Arch) -> u64 {
    match arch {
        Arch::X86_64 => 0xffff_c900_0000_0000,
        Arch::Arm => 0xe080_0000,
    }
}

/// Where the module's data per cpu is said to be.
const PERCPU: u64 = 0x34000;
const PAGE: u64 = 4096;

/// Rules of Debian's 6.1.
static RULES: LazyLock<[LinkRules; 2]> =
    LazyLock::new(|| [Arch::X86_64, Arch::Arm].map(LinkRules::debian_6_1));

struct Imports<'a>(&'a Exports);

impl Resolve for Imports<'_> {
    fn resolve(&mut self, _index: u32, name: &[u8]) -> Result<Option<u64>, Errno> {
        Ok(self.0.get(name).copied())
    }

    fn refused(&mut self, _error: &SymbolError<'_>) {}
}

/// Links a module for [`base`].
pub fn link(file: &[u8], arch: Arch, exports: &Exports) -> Result<(), String> {
    let elf = Elf::parse_as(file, arch.class(), Endian::Little).map_err(|error| error.to_string())?;
    link_elf(elf, arch, exports).map_err(|error| error.to_string())
}

fn link_elf(elf: Elf<'_>, arch: Arch, exports: &Exports) -> Result<(), LinkError> {
    let rules = &RULES[usize::from(arch == Arch::Arm)];
    let mut info = LoadInfo::setup(elf, arch, copy(arch), rules, true)?;
    info.rewrite_section_headers();
    lkm_link::module_frob_arch_sections(&mut info, rules)?;
    lkm_link::module_enforce_rwx_sections(&info, rules)?;
    let mut layouts = lkm_link::layout_sections(&mut info, rules);
    lkm_link::layout_symtab(&mut info, rules, &mut layouts);
    let mut next = base(arch);
    let mut image = lkm_link::move_module(&mut info, &layouts, |_, size| {
        // What the kernel would not find room for is not asked of the system either.
        let length = usize::try_from(size).ok().filter(|_| size < 1 << 30)?;
        let base = next;
        next += size.next_multiple_of(PAGE) + PAGE;
        Some((base, Pages::new(length, false)?))
    })
    .map_err(|failure| failure.error)?;
    let symbols = lkm_link::simplify_symbols(&info, rules, Some(PERCPU), &mut Imports(exports))?;
    lkm_link::write_symtab(&info, &symbols, &mut image);
    lkm_link::apply_relocations(&info, rules, &symbols, &mut image, &mut ())?;
    black_box(&image);
    Ok(())
}
