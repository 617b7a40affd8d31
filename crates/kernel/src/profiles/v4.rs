//! Linux 4.0, as on the vexpress board of the published walk-throughs, and 4.9.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use lkm_link::Arch;
use lkm_link::post::PatchProfile;
use lkm_link::rules::ArmPlt;
use lkm_link::rules::LinkRules;
use lkm_link::rules::MemoryModel;
use lkm_link::rules::PltForm;
use lkm_link::rules::SortVersion;
use lkm_link::rules::X86Place;
use lkm_module::elf::ElfGeneration;
use lkm_module::exports::KsymtabForm;

use super::ARM_MODULES_2G;
use super::X86_64_MODULES;
use super::structs;
use crate::profile::Blacklist;
use crate::profile::Btf;
use crate::profile::Config;
use crate::profile::LongName;
use crate::profile::MissingCrc;
use crate::profile::Profile;
use crate::profile::Rules;
use crate::profile::SameName;
use crate::profile::SignatureRules;
use crate::profile::TaintTiming;
use crate::taint::TaintOrder;

/// The walk-through's: `vexpress_defconfig`.
pub(super) fn v4_0_arm() -> Profile {
    Profile {
        name: "linux-4.0-arm",
        about: "Linux 4.0 on a vexpress board (vexpress_defconfig)",
        arch: Arch::Arm,
        version: (4, 0),
        release: Cow::Borrowed("4.0.0"),
        vermagic: Cow::Borrowed(b"4.0.0 SMP mod_unload ARMv7 p2v8 "),
        elf: super::elf(Arch::Arm, ElfGeneration::V4),
        link: LinkRules { ro_after_init: false, mod_kallsyms: false, ..link() },
        patch: PatchProfile::arm_4(),
        config: config(),
        rules: Rules {
            missing_crc: MissingCrc::Refuse,
            blacklist: Blacklist::None,
            same_name: SameName::RetryGoingExists,
            kernel_read_file: false,
            kernel_param_mod: false,
            async_probe: false,
            oot_message: false,
            kcrctab_entry: 4,
            ..rules()
        },
        module_struct: structs::UNKNOWN_32,
        module_area: ARM_MODULES_2G,
    }
}

/// The same board, with module PLTs (`CONFIG_ARM_MODULE_PLTS`), which a vermagic does not tell.
pub(super) fn v4_4_arm_plts() -> Profile {
    let older = v4_0_arm();
    Profile {
        name: "linux-4.4-arm-plts",
        about: "Linux 4.4 on a vexpress board, with module PLTs",
        version: (4, 4),
        release: Cow::Borrowed("4.4.0"),
        vermagic: Cow::Borrowed(b"4.4.0 SMP mod_unload ARMv7 p2v8 "),
        link: LinkRules { arm_plt: plts(PltForm::CoreAndInit), ..older.link },
        rules: Rules { kernel_param_mod: true, async_probe: true, ..older.rules },
        ..v4_0_arm()
    }
}

/// 4.9 likewise.
pub(super) fn v4_9_arm_plts() -> Profile {
    Profile {
        name: "linux-4.9-arm-plts",
        about: "Linux 4.9 on a vexpress board, with module PLTs",
        link: LinkRules { arm_plt: plts(PltForm::Single), ..link() },
        ..v4_9_arm()
    }
}

fn plts(form: PltForm) -> Option<ArmPlt> {
    // ftrace has no fixed slots yet.
    Some(ArmPlt { form, fixed: Vec::new(), align: 64 })
}

/// `vexpress_defconfig`
pub(super) fn v4_9_arm() -> Profile {
    Profile {
        name: "linux-4.9-arm",
        about: "Linux 4.9 on a vexpress board (vexpress_defconfig)",
        arch: Arch::Arm,
        version: (4, 9),
        release: Cow::Borrowed("4.9.0"),
        vermagic: Cow::Borrowed(b"4.9.0 SMP mod_unload ARMv7 p2v8 "),
        elf: super::elf(Arch::Arm, ElfGeneration::V4),
        link: link(),
        patch: PatchProfile::arm_4(),
        config: config(),
        rules: Rules { kcrctab_entry: 4, ..rules() },
        module_struct: structs::UNKNOWN_32,
        module_area: ARM_MODULES_2G,
    }
}

/// `x86_64_defconfig`
pub(super) fn v4_9_x86_64() -> Profile {
    Profile {
        name: "linux-4.9-x86_64",
        about: "Linux 4.9 for x86_64 (x86_64_defconfig)",
        arch: Arch::X86_64,
        version: (4, 9),
        release: Cow::Borrowed("4.9.0"),
        vermagic: Cow::Borrowed(b"4.9.0 SMP mod_unload "),
        elf: super::elf(Arch::X86_64, ElfGeneration::V4),
        link: link(),
        patch: PatchProfile::x86_64_4_9(),
        config: config(),
        rules: Rules { kcrctab_entry: 8, ..rules() },
        module_struct: structs::UNKNOWN_64,
        module_area: X86_64_MODULES,
    }
}

fn link() -> LinkRules {
    LinkRules {
        memory: MemoryModel::CoreInit,
        page_size: 4096,
        strict_rwx: false,
        refuse_wx: false,
        ro_after_init: true,
        ro_after_init_sections: &[".data..ro_after_init"],
        kallsyms: true,
        kallsyms_all: false,
        typetab: false,
        mod_kallsyms: true,
        unload: true,
        smp: true,
        livepatch: false,
        sort: SortVersion::Textbook,
        relocate_percpu: false,
        x86_place: X86Place::Unchecked,
        arm_plt: None,
        thumb2: false,
        arm_group_relocs: false,
        arm_prel31_range: false,
        extended_modversions: false,
        missing_symbol_errno: false,
        check_shndx: false,
    }
}

fn config() -> Config {
    Config {
        modversions: false,
        module_sig: false,
        module_sig_force: false,
        force_load: false,
        force_unload: true,
        constructors: false,
        retpoline: false,
        decompress: None,
        allow_missing_namespace_imports: false,
        dynamic_debug: false,
        unused_symbols: false,
        btf: Btf::Ignored,
    }
}

/// The rules of 4.9.
fn rules() -> Rules {
    Rules {
        taint_timing: TaintTiming::CheckModinfo,
        taint_order: TaintOrder::Old,
        missing_crc: MissingCrc::AcceptOnce,
        inherit_taint: false,
        blacklist: Blacklist::Silent,
        early_mod_check: false,
        same_name: SameName::Retry,
        long_name: LongName::Truncate,
        kernel_read_file: true,
        compressed_flag: false,
        idempotent: false,
        protect_may_fail: false,
        ksymtab: KsymtabForm { relative: false, namespace: false },
        gpl_future: true,
        kcrctab_entry: 8,
        kernel_param_mod: true,
        dyndbg_anywhere: true,
        async_probe: true,
        test_taint: false,
        sections_mode: 0o444,
        duplicate_section_fatal: false,
        oot_message: true,
        signature_rules: SignatureRules::Old,
    }
}
