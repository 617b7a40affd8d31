//! What differs between kernel versions and configurations, as data.

use crate::Arch;

/// How a kernel divides a module's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemoryModel {
    /// Up to 6.3: one core and one init allocation.
    CoreInit,
    /// From 6.4: seven allocations by type (`enum mod_mem_type`).
    SevenTypes,
}

/// Which of the kernel's versions of `sort()` decides the order of equal keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SortVersion {
    /// Up to 5.1: the textbook heapsort.
    Textbook,
    /// 5.2 to 6.8 or so (6.1 is one): the bottom-up heapsort.
    BottomUp,
    /// As in 6.12: bottom-up, extracting two elements a round.
    BottomUpPairs,
}

/// Rules of layout and linking of one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkRules {
    /// How memory is divided.
    pub memory: MemoryModel,
    /// Bytes in a page.
    pub page_size: u64,
    /// `CONFIG_STRICT_MODULE_RWX` (or `DEBUG_SET_MODULE_RONX` before 4.11): parts end at page boundaries.
    pub strict_rwx: bool,
    /// Sections that are both writable and executable are refused (from 5.8, with `strict_rwx`).
    pub refuse_wx: bool,
    /// There is a mask row for `.data..ro_after_init` (from 4.9 on).
    pub ro_after_init: bool,
    /// Sections that get `SHF_RO_AFTER_INIT` by name, where `ro_after_init` is set: `.data..ro_after_init`, and
    /// `__jump_table` (from 4.20).
    pub ro_after_init_sections: &'static [&'static str],
    /// `CONFIG_KALLSYMS`: symbol tables are kept in memory.
    pub kallsyms: bool,
    /// `CONFIG_KALLSYMS_ALL`: data symbols too.
    pub kallsyms_all: bool,
    /// Symbol letters stand in a table of their own (from 5.2); before, `st_info` of the kept copy is overwritten.
    pub typetab: bool,
    /// `struct mod_kallsyms` stands behind the tables of the init part (from 4.5).
    pub mod_kallsyms: bool,
    /// `CONFIG_MODULE_UNLOAD`: without it the `.exit` sections are init.
    pub unload: bool,
    /// `CONFIG_SMP`: `.data..percpu` is a template, not an ordinary section.
    pub smp: bool,
    /// `CONFIG_LIVEPATCH`.
    pub livepatch: bool,
    /// Which `sort()`.
    pub sort: SortVersion,
    /// Relocations against `.data..percpu` are applied (from 6.16).
    pub relocate_percpu: bool,
    /// x86: the place must be zero before (from 4.15), and whether the range is tested first (6.12).
    pub x86_place: X86Place,
    /// ARM: `CONFIG_ARM_MODULE_PLTS` and what the first slots of each PLT are fixed to.
    pub arm_plt: Option<ArmPlt>,
    /// ARM: `CONFIG_THUMB2_KERNEL`.
    pub thumb2: bool,
    /// ARM: the group relocations (`R_ARM_ALU_PC_G0_NC` and its kin) are known (from 5.18).
    pub arm_group_relocs: bool,
    /// ARM: `R_ARM_PREL31` is tested for its range (6.1; older kernels cut the value off).
    pub arm_prel31_range: bool,
    /// `CONFIG_EXTENDED_MODVERSIONS`: `__version_ext_crcs` and `__version_ext_names` are known (from 6.14).
    pub extended_modversions: bool,
    /// The log line of a symbol that nothing exports names the error, `(err -2)`; 4.x print `(err 0)`.
    pub missing_symbol_errno: bool,
    /// A section index beyond the table is refused in `simplify_symbols` (Debian's 6.1, 6.12); else read anyway.
    pub check_shndx: bool,
}

/// x86_64: the test of the bytes at the place before a relocation is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum X86Place {
    /// Up to 4.14: no test.
    Unchecked,
    /// 4.15 to about 6.2 (6.1 is one): zero tested, value written, then the range tested.
    ZeroThenRange,
    /// As in 6.12: range tested, then zero, then the value written.
    RangeThenZero,
}

/// ARM: in which sections the slots of module PLTs lie, and how they are counted and found again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PltForm {
    /// 4.2 to 4.8: `.core.plt` and `.init.plt`. Every branch counts, even to a near symbol, unless an earlier one has the same
    /// symbol and addend; relocations keep their order; all slots are searched.
    CoreAndInit,
    /// 4.9 to 4.11: `.plt` for both parts. Branches of code to undefined symbols count, sorted; the last slot is looked at.
    Single,
    /// From 4.12: `.plt` and `.init.plt`. Branches of code to other sections count, sorted; the last slot is looked at.
    Split,
}

impl PltForm {
    /// Names of the sections, of the core and of the init part.
    pub const fn sections(self) -> [&'static str; 2] {
        match self {
            PltForm::CoreAndInit => [".core.plt", ".init.plt"],
            PltForm::Single => [".plt", ".plt"],
            PltForm::Split => [".plt", ".init.plt"],
        }
    }
}

/// ARM: module PLTs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArmPlt {
    /// Sections and how slots are counted.
    pub form: PltForm,
    /// Addresses that the first slots hold (ftrace's, with `CONFIG_DYNAMIC_FTRACE`): `FTRACE_ADDR`, `MCOUNT_ADDR`.
    pub fixed: alloc::vec::Vec<u64>,
    /// Bytes in a cache line (`L1_CACHE_BYTES`): 64.
    pub align: u64,
}

impl LinkRules {
    /// Debian's 6.1: `cloud-amd64` and `armmp`, the kernels that this linker is compared with byte for byte.
    ///
    /// The fixed slots of ARM's PLTs hold 0: their values are addresses in the running kernel.
    pub fn debian_6_1(arch: Arch) -> LinkRules {
        let x86 = arch == Arch::X86_64;
        LinkRules {
            memory: MemoryModel::CoreInit,
            page_size: 4096,
            strict_rwx: true,
            refuse_wx: true,
            ro_after_init: true,
            ro_after_init_sections: &[".data..ro_after_init", "__jump_table"],
            kallsyms: true,
            kallsyms_all: x86,
            typetab: true,
            mod_kallsyms: true,
            unload: true,
            smp: true,
            livepatch: x86,
            sort: SortVersion::BottomUp,
            relocate_percpu: false,
            x86_place: X86Place::ZeroThenRange,
            arm_plt: (!x86).then(|| ArmPlt { form: PltForm::Split, fixed: alloc::vec![0, 0], align: 64 }),
            thumb2: false,
            arm_group_relocs: true,
            arm_prel31_range: true,
            extended_modversions: false,
            missing_symbol_errno: true,
            check_shndx: true,
        }
    }
}
