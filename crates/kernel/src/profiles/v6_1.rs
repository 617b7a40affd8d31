//! Linux 6.1: Debian 12's kernels and their vanilla variants.

use alloc::borrow::Cow;

use lkm_link::Arch;
use lkm_link::post::PatchProfile;
use lkm_link::rules::LinkRules;
use lkm_module::elf::ElfGeneration;
use lkm_module::elf::ElfRules;
use lkm_module::exports::KsymtabForm;

use super::ARM_MODULES;
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

/// linux-image-6.1.0-56-cloud-amd64
pub(super) fn debian_amd64() -> Profile {
    Profile {
        name: "debian-6.1-amd64",
        about: "Debian 12, 6.1.0-56-cloud-amd64",
        arch: Arch::X86_64,
        version: (6, 1),
        release: Cow::Borrowed("6.1.0-56-cloud-amd64"),
        vermagic: Cow::Borrowed(b"6.1.0-56-cloud-amd64 SMP preempt mod_unload modversions "),
        elf: ElfRules { debian: true, ..super::elf(Arch::X86_64, ElfGeneration::V6_1) },
        link: LinkRules::debian_6_1(Arch::X86_64),
        patch: PatchProfile::x86_64_6_1(),
        config: Config { retpoline: true, btf: Btf::MayDiffer, ..debian_config() },
        rules: debian_rules(),
        module_struct: structs::DEBIAN_6_1_AMD64,
        module_area: X86_64_MODULES,
    }
}

/// linux-image-6.1.0-50-armmp
pub(super) fn debian_armmp() -> Profile {
    Profile {
        name: "debian-6.1-armmp",
        about: "Debian 12, 6.1.0-50-armmp",
        arch: Arch::Arm,
        version: (6, 1),
        release: Cow::Borrowed("6.1.0-50-armmp"),
        vermagic: Cow::Borrowed(b"6.1.0-50-armmp SMP mod_unload modversions ARMv7 p2v8 "),
        elf: ElfRules { debian: true, ..super::elf(Arch::Arm, ElfGeneration::V6_1) },
        // The fixed PLT slots are the embedding kernel's to fill in (`ftrace_caller`, `__gnu_mcount_nc`).
        link: LinkRules::debian_6_1(Arch::Arm),
        patch: PatchProfile::arm_6_1(),
        config: debian_config(),
        rules: Rules { ksymtab: KsymtabForm { relative: false, namespace: true }, ..debian_rules() },
        module_struct: structs::DEBIAN_6_1_ARMMP,
        module_area: ARM_MODULES,
    }
}

/// 6.1 without a distribution's patches, `x86_64_defconfig`.
pub(super) fn vanilla_x86_64() -> Profile {
    Profile {
        name: "linux-6.1-x86_64",
        about: "Linux 6.1 for x86_64 without patches",
        release: Cow::Borrowed("6.1.0"),
        vermagic: Cow::Borrowed(b"6.1.0 SMP preempt mod_unload "),
        elf: super::elf(Arch::X86_64, ElfGeneration::V6_1),
        link: LinkRules {
            kallsyms_all: false,
            livepatch: false,
            check_shndx: false,
            ..LinkRules::debian_6_1(Arch::X86_64)
        },
        config: Config { retpoline: true, ..vanilla_config() },
        rules: vanilla_rules(),
        module_struct: structs::UNKNOWN_64,
        ..debian_amd64()
    }
}

/// 6.1 without a distribution's patches, `multi_v7_defconfig`.
pub(super) fn vanilla_arm() -> Profile {
    Profile {
        name: "linux-6.1-arm",
        about: "Linux 6.1 for ARMv7 without patches",
        release: Cow::Borrowed("6.1.0"),
        vermagic: Cow::Borrowed(b"6.1.0 SMP mod_unload ARMv7 p2v8 "),
        elf: super::elf(Arch::Arm, ElfGeneration::V6_1),
        link: LinkRules { check_shndx: false, ..LinkRules::debian_6_1(Arch::Arm) },
        config: vanilla_config(),
        rules: Rules { ksymtab: KsymtabForm { relative: false, namespace: true }, ..vanilla_rules() },
        module_struct: structs::UNKNOWN_32,
        ..debian_armmp()
    }
}

fn debian_config() -> Config {
    Config { modversions: true, module_sig: true, force_load: true, dynamic_debug: true, ..vanilla_config() }
}

fn vanilla_config() -> Config {
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

fn debian_rules() -> Rules {
    Rules { missing_crc: MissingCrc::Refuse, long_name: LongName::Refuse, ..vanilla_rules() }
}

fn vanilla_rules() -> Rules {
    Rules {
        taint_timing: TaintTiming::CheckModinfo,
        taint_order: TaintOrder::Bits,
        missing_crc: MissingCrc::AcceptOnce,
        inherit_taint: true,
        blacklist: Blacklist::Message,
        early_mod_check: false,
        same_name: SameName::Busy,
        long_name: LongName::Truncate,
        kernel_read_file: true,
        compressed_flag: true,
        idempotent: false,
        protect_may_fail: false,
        ksymtab: KsymtabForm { relative: true, namespace: true },
        gpl_future: false,
        kcrctab_entry: 4,
        kernel_param_mod: true,
        dyndbg_anywhere: false,
        async_probe: true,
        test_taint: true,
        sections_mode: 0o400,
        duplicate_section_fatal: false,
        oot_message: true,
        signature_rules: SignatureRules::New,
    }
}
