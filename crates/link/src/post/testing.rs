//! A module of a few sections in memory, for the tests of the rules.

use alloc::vec::Vec;

use lkm_module::elf::Class;
use lkm_module::elf::Elf;
use lkm_module::elf::Endian;
use lkm_module::elf::consts::SHF_ALLOC;
use lkm_module::elf::consts::SHF_WRITE;
use lkm_module::elf::consts::SHT_PROGBITS;
use lkm_module::testing::ObjectBuilder;

use super::Coming;
use super::KernelFacts;
use super::MaskRule;
use super::PatchObserver;
use super::PatchProfile;
use super::Post;
use super::PostError;
use super::PostWarning;
use super::Rule;
use crate::Arch;
use crate::Image;
use crate::LoadInfo;
use crate::Region;
use crate::RegionKind;
use crate::image::RegionLayout;
use crate::rules::LinkRules;
use crate::rules::MemoryModel;
use crate::rules::SortVersion;
use crate::rules::X86Place;

/// Records all that is reported.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) patches: Vec<(Rule, u64, Vec<u8>, Vec<u8>)>,
    pub(super) masks: Vec<(MaskRule, u64, usize)>,
    pub(super) warnings: Vec<PostWarning>,
}

impl PatchObserver for Record {
    fn patched(&mut self, rule: Rule, address: u64, before: &[u8], after: &[u8]) {
        assert_eq!(before.len(), after.len());
        self.patches.push((rule, address, before.to_vec(), after.to_vec()));
    }

    fn masked(&mut self, rule: MaskRule, address: u64, len: usize) {
        self.masks.push((rule, address, len));
    }

    fn warning(&mut self, warning: PostWarning) {
        self.warnings.push(warning);
    }
}

/// Sections at chosen addresses: 64 KiB of core and 4 KiB of init memory.
pub(super) struct Bed {
    pub(super) arch: Arch,
    pub(super) image: Image<Vec<u8>>,
    sections: Vec<(&'static str, u64, u64)>,
    pub(super) record: Record,
}

impl Bed {
    pub(super) const X86_CORE: u64 = 0xffff_ffff_c000_0000;
    pub(super) const X86_INIT: u64 = 0xffff_ffff_c010_0000;
    pub(super) const ARM_CORE: u64 = 0xbf00_0000;
    pub(super) const ARM_INIT: u64 = 0xbf10_0000;

    pub(super) fn new(arch: Arch) -> Bed {
        let (core, init) = match arch {
            Arch::X86_64 => (Bed::X86_CORE, Bed::X86_INIT),
            Arch::Arm => (Bed::ARM_CORE, Bed::ARM_INIT),
        };
        let region = |kind, base, size: u64| Region {
            layout: RegionLayout { kind, size, text_size: 0, ro_size: 0, ro_after_init_size: 0 },
            base,
            bytes: alloc::vec![0; size as usize],
        };
        let regions = [region(RegionKind::Core, core, 0x10000), region(RegionKind::Init, init, 0x1000)];
        Bed {
            arch,
            image: Image { endian: Endian::Little, regions: regions.into(), percpu: Vec::new() },
            sections: Vec::new(),
            record: Record::default(),
        }
    }

    /// Writes bytes at an address.
    pub(super) fn put(&mut self, address: u64, bytes: &[u8]) {
        self.image.slice_mut(address, bytes.len()).unwrap().copy_from_slice(bytes);
    }

    pub(super) fn get(&self, address: u64, len: usize) -> &[u8] {
        self.image.slice(address, len).unwrap()
    }

    /// A section of these bytes at an address.
    pub(super) fn section(&mut self, name: &'static str, address: u64, bytes: &[u8]) {
        if self.image.slice(address, bytes.len()).is_some() {
            self.put(address, bytes);
        }
        self.raw_section(name, address, bytes.len() as u64);
    }

    /// A section that may lie anywhere.
    pub(super) fn raw_section(&mut self, name: &'static str, address: u64, size: u64) {
        self.sections.push((name, address, size));
    }

    /// Calls `stage` with the module.
    pub(super) fn run<T>(
        &mut self,
        profile: &PatchProfile,
        facts: &dyn KernelFacts,
        stage: impl FnOnce(&mut Post<'_, '_, Vec<u8>>) -> T,
    ) -> T {
        let class = self.arch.class();
        let mut object = ObjectBuilder::new(class, Endian::Little, self.arch.machine());
        for (name, _, _) in &self.sections {
            object.section(name, SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, 8, &[0]);
        }
        object.modinfo(&[("name", "bed")]);
        object.this_module("bed", if class == Class::Elf64 { 0x380 } else { 0x180 }, None, None);
        let file = object.finish();
        let elf = Elf::parse(&file).unwrap();
        let mut info = LoadInfo::setup(elf, self.arch, 0, &rules(), true).unwrap();
        for (header, (_, address, size)) in info.sections.iter_mut().skip(1).zip(&self.sections) {
            (header.addr, header.size) = (*address, *size);
        }
        stage(&mut Post { image: &mut self.image, info: &info, profile, facts, observer: &mut self.record })
    }

    /// All stages.
    pub(super) fn run_all(
        &mut self,
        profile: &PatchProfile,
        facts: &dyn KernelFacts,
    ) -> Result<(), PostError> {
        self.run(profile, facts, |post| {
            post.sort_extable();
            post.module_finalize()?;
            post.ftrace_module_init();
            post.prepare_coming(Coming { this_module: 0x1234_5670, trace_events: true })
        })
    }
}

/// Words as little-endian bytes.
pub(super) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Long words as little-endian bytes.
pub(super) fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_le_bytes()).collect()
}

/// The distance from `from` to `to`, 32 bits.
pub(super) fn rel(from: u64, to: u64) -> u32 {
    to.wrapping_sub(from) as u32
}

/// Any rules: nothing here is laid out or relocated.
fn rules() -> LinkRules {
    LinkRules {
        memory: MemoryModel::CoreInit,
        page_size: 4096,
        strict_rwx: true,
        refuse_wx: true,
        ro_after_init: true,
        ro_after_init_sections: &[],
        kallsyms: true,
        kallsyms_all: true,
        typetab: true,
        mod_kallsyms: true,
        unload: true,
        smp: true,
        livepatch: true,
        sort: SortVersion::BottomUp,
        relocate_percpu: false,
        x86_place: X86Place::ZeroThenRange,
        arm_plt: None,
        thumb2: false,
        arm_group_relocs: true,
        arm_prel31_range: true,
        extended_modversions: false,
        missing_symbol_errno: true,
        check_shndx: true,
    }
}
