//! One file an architecture: relocation types, PLT sizing and emission, what is special in its layout.

use lkm_module::elf::Class;
use lkm_module::elf::consts;

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
}
