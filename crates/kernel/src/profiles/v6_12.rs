//! Linux 6.12: Debian's kernel and the vanilla variants.

use alloc::borrow::Cow;

use lkm_link::post::PatchProfile;
use lkm_link::rules::LinkRules;
use lkm_link::rules::MemoryModel;
use lkm_link::rules::SortVersion;
use lkm_link::rules::X86Place;
use lkm_module::elf::ElfGeneration;
use lkm_module::elf::ElfRules;

use super::structs;
use super::v6_1;
use crate::profile::Btf;
use crate::profile::Config;
use crate::profile::Decompress;
use crate::profile::Profile;
use crate::profile::Rules;
use crate::profile::TaintTiming;

/// linux-image-6.12.117+deb12-cloud-amd64
pub(super) fn debian_amd64() -> Profile {
    let older = v6_1::debian_amd64();
    Profile {
        name: "debian-6.12-amd64",
        about: "Debian, 6.12.117+deb12-cloud-amd64",
        version: (6, 12),
        release: Cow::Borrowed("6.12.117+deb12-cloud-amd64"),
        vermagic: Cow::Borrowed(b"6.12.117+deb12-cloud-amd64 SMP preempt mod_unload modversions "),
        elf: ElfRules { this_module_size: Some(0x500), ..elf(older.elf) },
        link: link(older.link),
        patch: PatchProfile::x86_64_6_12(),
        config: Config { decompress: Some(Decompress::Xz), btf: Btf::MayDifferOnce, ..older.config },
        rules: rules(older.rules),
        module_struct: structs::DEBIAN_6_12_AMD64,
        ..v6_1::debian_amd64()
    }
}

/// 6.12 without a distribution's patches, `x86_64_defconfig`.
pub(super) fn vanilla_x86_64() -> Profile {
    let older = v6_1::vanilla_x86_64();
    Profile {
        name: "linux-6.12-x86_64",
        about: "Linux 6.12 for x86_64 without patches",
        version: (6, 12),
        release: Cow::Borrowed("6.12.0"),
        vermagic: Cow::Borrowed(b"6.12.0 SMP preempt mod_unload "),
        elf: elf(older.elf),
        link: link(older.link),
        patch: PatchProfile::x86_64_6_12(),
        rules: rules(older.rules),
        ..v6_1::vanilla_x86_64()
    }
}

/// 6.12 without a distribution's patches, `multi_v7_defconfig`.
pub(super) fn vanilla_arm() -> Profile {
    let older = v6_1::vanilla_arm();
    Profile {
        name: "linux-6.12-arm",
        about: "Linux 6.12 for ARMv7 without patches",
        version: (6, 12),
        release: Cow::Borrowed("6.12.0"),
        vermagic: Cow::Borrowed(b"6.12.0 SMP mod_unload ARMv7 p2v8 "),
        elf: elf(older.elf),
        link: link(older.link),
        patch: PatchProfile { sort: SortVersion::BottomUpPairs, ..older.patch },
        rules: rules(older.rules),
        ..v6_1::vanilla_arm()
    }
}

fn elf(older: ElfRules) -> ElfRules {
    ElfRules { generation: ElfGeneration::V6_12, ..older }
}

fn link(older: LinkRules) -> LinkRules {
    LinkRules {
        memory: MemoryModel::SevenTypes,
        sort: SortVersion::BottomUpPairs,
        x86_place: X86Place::RangeThenZero,
        ..older
    }
}

fn rules(older: Rules) -> Rules {
    Rules {
        taint_timing: TaintTiming::AfterInsertion,
        early_mod_check: true,
        idempotent: true,
        protect_may_fail: true,
        duplicate_section_fatal: true,
        ..older
    }
}
