//! One file an architecture: relocation types, PLT sizing and emission, what is special in its layout.
//!
//! An architecture is added by its file, its [`Arch`] variant and an arm of each function below.

pub mod arm;
pub mod x86_64;

use core::ops::DerefMut;

use lkm_module::elf::Class;
use lkm_module::elf::consts;

use crate::LinkError;
use crate::image::Image;
use crate::info::LoadInfo;
use crate::relocate::RelocObserver;
use crate::relocate::RelocStats;
use crate::rules::LinkRules;
use crate::symbols::Symbols;

/// An architecture that Linux modules are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arch {
    /// 64-bit x86
    X86_64,
    /// 32-bit ARM (A32 and Thumb-2 kernels)
    Arm,
}

impl Arch {
    /// `e_machine` of its modules.
    pub const fn machine(self) -> u16 {
        match self {
            Arch::X86_64 => consts::EM_X86_64,
            Arch::Arm => consts::EM_ARM,
        }
    }

    /// ELF class of its kernel.
    pub const fn class(self) -> Class {
        match self {
            Arch::X86_64 => Class::Elf64,
            Arch::Arm => Class::Elf32,
        }
    }

    /// The architecture of an `e_machine` value, if the linker has it.
    pub const fn from_machine(machine: u16) -> Option<Arch> {
        match machine {
            consts::EM_X86_64 => Some(Arch::X86_64),
            consts::EM_ARM => Some(Arch::Arm),
            _ => None,
        }
    }

    /// Name as `uname -m` has it: `x86_64`, `armv7l`.
    pub const fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Arm => "armv7l",
        }
    }

    /// More bytes than the architecture's range for modules has; an allocation of that size cannot succeed.
    pub const fn module_space(self) -> u64 {
        match self {
            // 0xffffffffc0000000 to 0xfffffffffe000000
            Arch::X86_64 => 0x3e00_0000,
            // With PLTs the whole vmalloc space serves as the second choice.
            Arch::Arm => 0x3000_0000,
        }
    }

    /// `ARCH_SHF_SMALL`: the flag of sections that must lie together; 0 where there is none.
    pub const fn small_flag(self) -> u64 {
        match self {
            Arch::X86_64 | Arch::Arm => 0,
        }
    }

    /// `module_init_section()`: a section of that name goes to the part that is freed after init.
    pub fn module_init_section(self, name: &[u8]) -> bool {
        match self {
            Arch::X86_64 => name.starts_with(b".init"),
            Arch::Arm => arm::module_init_section(name),
        }
    }

    /// `module_exit_section()`: a section of that name is only used to unload.
    pub fn module_exit_section(self, name: &[u8]) -> bool {
        match self {
            Arch::X86_64 => name.starts_with(b".exit"),
            Arch::Arm => arm::module_exit_section(name),
        }
    }

    /// `module_init_layout_section()`: a section of that name is laid out in the part that is freed after init.
    pub(crate) fn module_init_layout_section(self, name: &[u8], rules: &LinkRules) -> bool {
        self.module_init_section(name) || !rules.unload && self.module_exit_section(name)
    }

    /// `ignore_undef_symbol()`: an undefined symbol of that name needs no definition.
    pub(crate) fn ignore_undef_symbol(self, name: &[u8]) -> bool {
        match self {
            // Compilers emit it for 32-bit position independent code; nothing refers to it.
            Arch::X86_64 => name == b"_GLOBAL_OFFSET_TABLE_",
            Arch::Arm => false,
        }
    }

    /// Name of a relocation type, such as `R_X86_64_PC32`, when the kernel's linker knows it.
    pub fn reloc_name(self, kind: u32) -> Option<&'static str> {
        match self {
            Arch::X86_64 => x86_64::reloc_name(kind),
            Arch::Arm => arm::reloc_name(kind),
        }
    }
}

/// `module_frob_arch_sections()`: sizes the sections that the architecture fills itself (PLTs).
pub fn module_frob_arch_sections(info: &mut LoadInfo<'_>, rules: &LinkRules) -> Result<(), LinkError> {
    match info.arch {
        Arch::X86_64 => Ok(()),
        Arch::Arm => arm::module_frob_arch_sections(info, rules),
    }
}

/// One relocation section and what it is applied to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RelocSection<'a> {
    /// Its index.
    pub(crate) section: usize,
    /// Index of the section that it changes.
    pub(crate) target: usize,
    /// Its records.
    pub(crate) records: &'a [u8],
}

/// `apply_relocate()`: a section of type `SHT_REL`.
pub(crate) fn apply_relocate<B: DerefMut<Target = [u8]>, O: RelocObserver>(
    info: &LoadInfo<'_>,
    rules: &LinkRules,
    symbols: &Symbols,
    relocs: RelocSection<'_>,
    image: &mut Image<B>,
    observer: &mut O,
    stats: &mut RelocStats,
) -> Result<(), LinkError> {
    match info.arch {
        Arch::X86_64 => Err(LinkError::RelocForm),
        Arch::Arm => arm::apply_relocate(info, rules, symbols, relocs, image, observer, stats),
    }
}

/// `apply_relocate_add()`: a section of type `SHT_RELA`.
pub(crate) fn apply_relocate_add<B: DerefMut<Target = [u8]>, O: RelocObserver>(
    info: &LoadInfo<'_>,
    rules: &LinkRules,
    symbols: &Symbols,
    relocs: RelocSection<'_>,
    image: &mut Image<B>,
    observer: &mut O,
    stats: &mut RelocStats,
) -> Result<(), LinkError> {
    match info.arch {
        Arch::X86_64 => x86_64::apply_relocate_add(info, rules, symbols, relocs, image, observer, stats),
        Arch::Arm => Err(LinkError::RelocForm),
    }
}
