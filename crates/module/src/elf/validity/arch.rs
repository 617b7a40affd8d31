use crate::elf::Class;
use crate::elf::Header;
use crate::elf::consts::*;

/// The architecture's own test of the header: `elf_check_arch`, and `module_elf_check_arch` where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArchCheck {
    /// x86_64
    X86_64,
    /// 32-bit x86: `EM_386` or 6 (`EM_486`).
    I386,
    /// 32-bit ARM; the fields are what the CPU and the kernel support (`elf_hwcap`).
    Arm {
        /// `HWCAP_THUMB`: Thumb entry points.
        thumb: bool,
        /// `HWCAP_VFP`: files before the EABI that use VFP registers.
        vfp: bool,
        /// `HWCAP_26BIT`: files for 26-bit program counters.
        apcs26: bool,
    },
    /// arm64
    Aarch64,
    /// RISC-V, of the kernel's word size.
    RiscV,
    /// s390, old and new machine number, of the kernel's word size.
    S390,
    /// 32-bit PowerPC
    Ppc,
    /// 64-bit PowerPC; from 6.12 on the ABI version in `e_flags` is tested too.
    Ppc64 {
        /// The kernel is built for version 2 of the ELF ABI.
        abi_v2: bool,
    },
    /// MIPS: o32 for 32-bit kernels, ELF64 for 64-bit ones.
    Mips,
    /// LoongArch
    LoongArch,
}

const EM_486: u16 = 6;
const EM_S390_OLD: u16 = 0xa390;
const EF_ARM_EABI_MASK: u32 = 0xff00_0000;
const EF_ARM_APCS_26: u32 = 0x08;
const EF_ARM_SOFT_FLOAT: u32 = 0x200;
const EF_ARM_VFP_FLOAT: u32 = 0x400;
const EF_MIPS_ABI2: u32 = 0x20;
const EF_MIPS_ABI: u32 = 0xf000;
const EF_MIPS_ABI_O32: u32 = 0x1000;

impl ArchCheck {
    /// `elf_check_arch`: whether a kernel of that word size takes the header for its own.
    pub fn elf_check_arch(self, header: &Header, class: Class) -> bool {
        let machine = header.machine;
        let flags = header.flags;
        let own_class = header.ident[4] == if class == Class::Elf32 { 1 } else { 2 };
        match self {
            ArchCheck::X86_64 => machine == EM_X86_64,
            ArchCheck::I386 => matches!(machine, EM_386 | EM_486),
            ArchCheck::Arm { thumb, vfp, apcs26 } => {
                let entry = if header.entry & 1 != 0 { thumb } else { header.entry & 3 == 0 };
                let float = flags & (EF_ARM_VFP_FLOAT | EF_ARM_SOFT_FLOAT);
                let abi = flags & EF_ARM_EABI_MASK != 0
                    || (apcs26 || flags & EF_ARM_APCS_26 == 0) && (vfp || float != EF_ARM_VFP_FLOAT);
                machine == EM_ARM && entry && abi
            }
            ArchCheck::Aarch64 => machine == EM_AARCH64,
            ArchCheck::RiscV => machine == EM_RISCV && own_class,
            ArchCheck::S390 => matches!(machine, EM_S390 | EM_S390_OLD) && own_class,
            ArchCheck::Ppc => machine == EM_PPC,
            ArchCheck::Ppc64 { .. } => machine == EM_PPC64,
            ArchCheck::Mips => {
                let o32 = flags & EF_MIPS_ABI2 == 0 && matches!(flags & EF_MIPS_ABI, 0 | EF_MIPS_ABI_O32);
                machine == EM_MIPS && own_class && (class == Class::Elf64 || o32)
            }
            ArchCheck::LoongArch => machine == EM_LOONGARCH,
        }
    }

    /// `module_elf_check_arch`, which kernels have from 6.12 on.
    pub fn module_elf_check_arch(self, header: &Header) -> bool {
        match self {
            ArchCheck::Ppc64 { abi_v2: true } => header.flags & 3 == 2,
            ArchCheck::Ppc64 { abi_v2: false } => header.flags & 3 < 2,
            _ => true,
        }
    }
}
