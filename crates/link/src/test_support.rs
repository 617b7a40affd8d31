//! What the tests of this crate share: rules of some kernels, and the road from an object to relocated memory.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use lkm_module::Errno;
use lkm_module::elf::Class;
use lkm_module::elf::Elf;
use lkm_module::elf::Endian;
use lkm_module::elf::consts::*;
use lkm_module::testing::ObjectBuilder;

use crate::Arch;
use crate::Image;
use crate::LinkError;
use crate::LinkRules;
use crate::LoadInfo;
use crate::RelocObserver;
use crate::RelocStats;
use crate::Resolve;
use crate::SymbolError;
use crate::Symbols;
use crate::image::RegionLayout;
use crate::rules::MemoryModel;
use crate::rules::SortVersion;
use crate::rules::X86Place;

/// Address of the temporary copy in the tests.
pub(crate) const COPY: u64 = 0x1000_0000;

/// Debian's 6.1: cloud-amd64, armmp.
pub(crate) fn rules_6_1(arch: Arch) -> LinkRules {
    let mut rules = LinkRules::debian_6_1(arch);
    if let Some(plt) = &mut rules.arm_plt {
        plt.fixed = vec![0xc010_0000, 0xc010_0010];
    }
    rules
}

/// Debian's 6.12 cloud-amd64.
pub(crate) fn rules_6_12() -> LinkRules {
    LinkRules {
        memory: MemoryModel::SevenTypes,
        sort: SortVersion::BottomUpPairs,
        x86_place: X86Place::RangeThenZero,
        ..rules_6_1(Arch::X86_64)
    }
}

/// Linux 4.0 for ARM as in the walk-throughs: no PLTs, no page rounding.
pub(crate) fn rules_4_0_arm() -> LinkRules {
    LinkRules {
        strict_rwx: false,
        refuse_wx: false,
        ro_after_init: false,
        ro_after_init_sections: &[],
        typetab: false,
        mod_kallsyms: false,
        sort: SortVersion::Textbook,
        arm_plt: None,
        arm_group_relocs: false,
        arm_prel31_range: false,
        missing_symbol_errno: false,
        check_shndx: false,
        ..rules_6_1(Arch::Arm)
    }
}

/// An object with what every module has; the caller adds sections, symbols and relocations.
pub(crate) fn module(arch: Arch) -> ObjectBuilder {
    let mut object = ObjectBuilder::new(arch.class(), Endian::Little, arch.machine());
    object.modinfo(&[("name", "hello"), ("license", "GPL")]);
    let size = if arch.class() == Class::Elf64 { 0x380 } else { 0x240 };
    object.this_module("hello", size, None, None);
    if arch == Arch::Arm {
        for name in [".plt", ".init.plt", ".core.plt"] {
            object.section(name, SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 1, &[0]);
        }
    }
    object
}

/// Exports for the tests, and what was refused.
#[derive(Default)]
pub(crate) struct Exports {
    pub(crate) exports: BTreeMap<&'static str, Result<u64, Errno>>,
    pub(crate) refused: Vec<String>,
    pub(crate) lines: Vec<String>,
}

impl Resolve for Exports {
    fn resolve(&mut self, _: u32, name: &[u8]) -> Result<Option<u64>, Errno> {
        core::str::from_utf8(name).ok().and_then(|name| self.exports.get(name)).copied().transpose()
    }

    fn refused(&mut self, error: &SymbolError<'_>) {
        self.refused.push(format!("{error}"));
        error.log(b"hello", &mut |level, line| self.lines.push(format!("<{}>{line}", level as u8)));
    }
}

/// A module after `apply_relocations`.
pub(crate) struct Linked<'data> {
    pub(crate) info: LoadInfo<'data>,
    pub(crate) layouts: Vec<RegionLayout>,
    pub(crate) image: Image<Vec<u8>>,
    pub(crate) symbols: Symbols,
    pub(crate) stats: RelocStats,
}

impl Linked<'_> {
    /// Bytes in memory from an offset in a section on.
    pub(crate) fn bytes(&self, section: usize, offset: u64, size: usize) -> &[u8] {
        self.image.slice(self.info.section_addr(section) + offset, size).unwrap()
    }

    pub(crate) fn word(&self, section: usize, offset: u64) -> u32 {
        u32::from_le_bytes(self.bytes(section, offset, 4).try_into().unwrap())
    }
}

/// All stages up to the symbol tables' layout.
pub(crate) fn lay_out<'data>(
    file: &'data [u8],
    arch: Arch,
    rules: &LinkRules,
) -> Result<(LoadInfo<'data>, Vec<RegionLayout>), LinkError> {
    let elf = Elf::parse(file).unwrap();
    let mut info = LoadInfo::setup(elf, arch, COPY, rules, true)?;
    info.rewrite_section_headers();
    crate::module_frob_arch_sections(&mut info, rules)?;
    crate::module_enforce_rwx_sections(&info, rules)?;
    let mut layouts = crate::layout_sections(&mut info, rules);
    crate::layout_symtab(&mut info, rules, &mut layouts);
    Ok((info, layouts))
}

/// All stages; the parts of the module start at `base`, each a page behind the one before.
pub(crate) fn link<'data>(
    file: &'data [u8],
    arch: Arch,
    rules: &LinkRules,
    base: u64,
    exports: &mut Exports,
    observer: &mut impl RelocObserver,
) -> Result<Linked<'data>, LinkError> {
    let (mut info, layouts) = lay_out(file, arch, rules)?;
    let mut next = base;
    let mut image = crate::move_module(&mut info, &layouts, |_, size| {
        let start = next;
        next += size.next_multiple_of(4096) + 4096;
        Some((start, vec![0; size as usize]))
    })
    .map_err(|failure| failure.error)?;
    let symbols = crate::simplify_symbols(&info, rules, Some(0x34000), exports)?;
    crate::write_symtab(&info, &symbols, &mut image);
    let stats = crate::apply_relocations(&info, rules, &symbols, &mut image, observer)?;
    Ok(Linked { info, layouts, image, symbols, stats })
}

/// The lines that an error logs, with their levels.
pub(crate) fn lines(error: &LinkError) -> Vec<String> {
    let mut lines = Vec::new();
    error.log(b"hello", &mut |level, line| lines.push(format!("<{}>{line}", level as u8)));
    lines
}
