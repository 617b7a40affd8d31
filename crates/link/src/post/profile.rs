//! What differs between kernels in how they patch modules, as data.

use super::PatchRules;
use crate::rules::SortVersion;

/// Form of the entries of `__ex_table`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExtableForm {
    /// Two addresses: 32-bit ARM.
    Absolute,
    /// Two relative numbers and one that is data: x86 from 5.16 on.
    RelativeData,
    /// Three relative numbers, the last that of the handler: x86 from 4.6 on.
    RelativeHandler,
}

/// Form of `.altinstructions` and of its replacements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlternativesForm {
    /// As in 6.1: 12-byte entries, bit 15 of the feature inverts, calls and 5-byte jumps are re-based.
    Packed12,
    /// As in 6.12: 14-byte entries with flags of their own, replacements fully relocated, calls through `pv_ops`.
    Packed14,
}

/// Which ORC entries come first among those of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OrcForm {
    /// Up to 6.3: stack pointer register undefined and not the end of a stack.
    EndBit,
    /// From 6.4 on: type undefined.
    Type,
}

/// Offsets in the kernel's structures, in bytes, for one architecture and configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct StructOffsets {
    pub static_key_entries: u64,
    pub static_call_key_mods: u64,
    pub event_call_list: u64,
    pub event_call_class: u64,
    pub event_call_node: u64,
    /// `event.list`, up to 6.1.
    pub event_call_numbered: Option<u64>,
    pub event_call_type: u64,
    pub event_call_funcs: u64,
    pub event_call_print_fmt: u64,
    pub event_call_module: u64,
    pub event_class_system: u64,
    pub event_class_fields: u64,
    pub event_class_raw_init: u64,
    pub srcu_sda: u64,
    pub srcu_init: Option<SrcuInit>,
}

/// Offsets in `struct srcu_struct` of what `init_srcu_struct` makes other than zero. From 6.3 on the declaration does
/// that, and only the per-cpu pointer is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SrcuInit {
    /// List heads: those of three mutexes' waiters and of the work. They point to themselves.
    pub list_heads: [u64; 4],
    /// `srcu_last_gp_end`, the time of the initialisation.
    pub last_gp_end: u64,
    /// `work.work.data`
    pub work_data: u64,
    /// `work.work.func`
    pub work_func: u64,
    /// `work.timer.function`
    pub timer_function: u64,
    /// `work.timer.flags`
    pub timer_flags: u64,
}

impl StructOffsets {
    /// Linux 6.1 for x86_64, as Debian configures it.
    pub const X86_64_6_1: StructOffsets = StructOffsets {
        static_key_entries: 8,
        static_call_key_mods: 8,
        event_call_list: 0,
        event_call_class: 16,
        event_call_node: 32,
        event_call_numbered: Some(48),
        event_call_type: 64,
        event_call_funcs: 72,
        event_call_print_fmt: 80,
        event_call_module: 96,
        event_class_system: 0,
        event_class_fields: 48,
        event_class_raw_init: 64,
        srcu_sda: 192,
        srcu_init: Some(SrcuInit {
            list_heads: [64, 104, 232, 312],
            last_gp_end: 160,
            work_data: 304,
            work_func: 328,
            timer_function: 360,
            timer_flags: 368,
        }),
    };

    /// Linux 6.12 for x86_64, as Debian configures it.
    pub const X86_64_6_12: StructOffsets = StructOffsets {
        event_call_numbered: None,
        event_call_type: 48,
        event_call_funcs: 56,
        event_call_print_fmt: 64,
        event_call_module: 72,
        srcu_sda: 8,
        srcu_init: None,
        ..StructOffsets::X86_64_6_1
    };

    /// Linux 6.1 for 32-bit ARM, as Debian configures it.
    pub const ARM_6_1: StructOffsets = StructOffsets {
        static_key_entries: 4,
        static_call_key_mods: 4,
        event_call_list: 0,
        event_call_class: 8,
        event_call_node: 16,
        event_call_numbered: Some(24),
        event_call_type: 32,
        event_call_funcs: 36,
        event_call_print_fmt: 40,
        event_call_module: 48,
        event_class_system: 0,
        event_class_fields: 24,
        event_class_raw_init: 32,
        srcu_sda: 96,
        srcu_init: Some(SrcuInit {
            list_heads: [28, 52, 120, 160],
            last_gp_end: 80,
            work_data: 156,
            work_func: 168,
            timer_function: 184,
            timer_flags: 188,
        }),
    };
}

/// How one kernel patches modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchProfile {
    /// Which rules are applied at all.
    pub rules: PatchRules,
    /// Which `sort()`.
    pub sort: SortVersion,
    /// Form of `__ex_table`.
    pub extable: ExtableForm,
    /// Entries of `__jump_table` are relative (x86, 16 bytes on 64 bits); else three absolute words.
    pub jump_table_relative: bool,
    /// Entries of `__tracepoints_ptrs` and the like are relative; else pointers.
    pub prel32: bool,
    /// The jump table is sorted by code within a key (from 5.3), not by key alone.
    pub jump_sort_code: bool,
    /// Entries of the jump table tell whether their code is in init memory (from 4.20).
    pub jump_init_bit: bool,
    /// x86: form of the alternatives.
    pub alternatives: AlternativesForm,
    /// x86: longest single NOP, in bytes: 8, or 11 from about 6.4 on.
    pub nop_max: usize,
    /// x86: form of ORC entries.
    pub orc: OrcForm,
    /// x86: `.smp_locks` apply to all code of the core, not to `.text` alone (6.12).
    pub locks_in_all_text: bool,
    /// ARM: profiling calls become `pop {lr}` (up to 5.17), not `add sp, sp, #4`.
    pub ftrace_pop: bool,
    /// ARM: `CONFIG_THUMB2_KERNEL`.
    pub thumb2: bool,
    /// ARM: `CONFIG_ARM_LPAE`.
    pub lpae: bool,
    /// ARM: `CONFIG_SMP_ON_UP`.
    pub smp_on_up: bool,
    /// Offsets in structures.
    pub offsets: StructOffsets,
}

impl PatchProfile {
    /// Entries of `__ex_table` are relative (12 bytes); else two pointers.
    pub const fn extable_relative(&self) -> bool {
        !matches!(self.extable, ExtableForm::Absolute)
    }

    /// Linux 6.1 for x86_64 as Debian configures it.
    pub const fn x86_64_6_1() -> PatchProfile {
        PatchProfile {
            // Debian's 6.1 is built without X86_KERNEL_IBT.
            rules: PatchRules::all()
                .difference(PatchRules::IbtSeal)
                .difference(PatchRules::PvTable)
                .difference(PatchRules::AltSmp),
            sort: SortVersion::BottomUp,
            extable: ExtableForm::RelativeData,
            jump_table_relative: true,
            prel32: true,
            jump_sort_code: true,
            jump_init_bit: true,
            alternatives: AlternativesForm::Packed12,
            nop_max: 8,
            orc: OrcForm::EndBit,
            locks_in_all_text: false,
            ftrace_pop: false,
            thumb2: false,
            lpae: false,
            smp_on_up: false,
            offsets: StructOffsets::X86_64_6_1,
        }
    }

    /// Linux 6.12 for x86_64 as Debian configures it. FineIBT and call depth tracking (`.cfi_sites`, `.call_sites`) are taken as off.
    pub const fn x86_64_6_12() -> PatchProfile {
        let base = PatchProfile::x86_64_6_1();
        PatchProfile {
            rules: base.rules.union(PatchRules::IbtSeal).difference(PatchRules::Paravirt),
            sort: SortVersion::BottomUpPairs,
            alternatives: AlternativesForm::Packed14,
            nop_max: 11,
            orc: OrcForm::Type,
            locks_in_all_text: true,
            offsets: StructOffsets::X86_64_6_12,
            ..base
        }
    }

    /// Linux 6.1 for 32-bit ARM as Debian's armmp is configured: A32, no LPAE.
    pub const fn arm_6_1() -> PatchProfile {
        PatchProfile {
            rules: PatchRules::ExTable
                .union(PatchRules::PvTable)
                .union(PatchRules::AltSmp)
                .union(PatchRules::FtraceSort)
                .union(PatchRules::FtraceNops)
                .union(PatchRules::TraceEventFuncs)
                .union(PatchRules::TraceEventModule)
                .union(PatchRules::TraceEventLists)
                .union(PatchRules::TracePrintFmt)
                .union(PatchRules::JumpTable)
                .union(PatchRules::StaticKeyEntries)
                .union(PatchRules::JumpSites)
                .union(PatchRules::SrcuInit),
            sort: SortVersion::BottomUp,
            extable: ExtableForm::Absolute,
            jump_table_relative: false,
            prel32: false,
            jump_sort_code: true,
            jump_init_bit: true,
            alternatives: AlternativesForm::Packed12,
            nop_max: 8,
            orc: OrcForm::EndBit,
            locks_in_all_text: false,
            ftrace_pop: false,
            thumb2: false,
            lpae: false,
            smp_on_up: true,
            offsets: StructOffsets::ARM_6_1,
        }
    }

    /// Linux 4.x for 32-bit ARM. Trace events are left alone: their structures differ.
    pub const fn arm_4() -> PatchProfile {
        PatchProfile {
            rules: PatchRules::ExTable
                .union(PatchRules::PvTable)
                .union(PatchRules::AltSmp)
                .union(PatchRules::FtraceSort)
                .union(PatchRules::FtraceNops)
                .union(PatchRules::JumpTable)
                .union(PatchRules::StaticKeyEntries)
                .union(PatchRules::JumpSites),
            sort: SortVersion::Textbook,
            jump_sort_code: false,
            jump_init_bit: false,
            ftrace_pop: true,
            ..PatchProfile::arm_6_1()
        }
    }

    /// Linux 4.9 for x86_64. Trace events, alternatives and calls through `pv_ops` are left alone: their structures
    /// differ.
    pub const fn x86_64_4_9() -> PatchProfile {
        PatchProfile {
            rules: PatchRules::ExTable
                .union(PatchRules::SmpLocks)
                .union(PatchRules::FtraceSort)
                .union(PatchRules::FtraceNops)
                .union(PatchRules::JumpTable)
                .union(PatchRules::StaticKeyEntries)
                .union(PatchRules::JumpSites),
            sort: SortVersion::Textbook,
            extable: ExtableForm::RelativeHandler,
            jump_table_relative: false,
            prel32: false,
            jump_sort_code: false,
            jump_init_bit: false,
            ..PatchProfile::x86_64_6_1()
        }
    }
}
