//! The kernels that are known, one file a generation.

mod structs;
mod v4;
mod v6_1;
mod v6_12;

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use lkm_link::Arch;
use lkm_module::elf::ArchCheck;
use lkm_module::elf::ElfGeneration;
use lkm_module::elf::ElfRules;
use lkm_module::elf::Endian;

use crate::Profile;

/// All of them; the first that fits a module equally well wins.
pub(crate) fn all() -> Vec<Profile> {
    vec![
        v6_1::debian_amd64(),
        v6_1::debian_armmp(),
        v6_1::vanilla_x86_64(),
        v6_1::vanilla_arm(),
        v6_12::debian_amd64(),
        v6_12::vanilla_x86_64(),
        v6_12::vanilla_arm(),
        v4::v4_0_arm(),
        v4::v4_9_arm(),
        v4::v4_9_x86_64(),
        v4::v4_4_arm_plts(),
        v4::v4_9_arm_plts(),
    ]
}

/// Module addresses of x86_64: behind the kernel image.
const X86_64_MODULES: Range<u64> = 0xffff_ffff_c000_0000..0xffff_ffff_fe00_0000;

/// Module addresses of ARM with the usual 3 GiB split and high memory: the 16 MiB before the kernel, less 2 MiB.
const ARM_MODULES: Range<u64> = 0xbf00_0000..0xbfe0_0000;

/// The same with a 2 GiB split, as vexpress boards have it.
const ARM_MODULES_2G: Range<u64> = 0x7f00_0000..0x7fe0_0000;

/// Validity rules of an architecture's kernels; every ARMv7 has Thumb and VFP.
const fn elf(arch: Arch, generation: ElfGeneration) -> ElfRules {
    let check = match arch {
        Arch::X86_64 => ArchCheck::X86_64,
        Arch::Arm => ArchCheck::Arm { thumb: true, vfp: true, apcs26: false },
    };
    ElfRules::new(generation, check, arch.class(), Endian::Little)
}
