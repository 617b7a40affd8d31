//! The linker's stages on a module, at the addresses that the kernel gave it.

use std::collections::HashMap;

use lkm_link::Arch;
use lkm_link::Image;
use lkm_link::LinkRules;
use lkm_link::LoadInfo;
use lkm_link::RegionKind;
use lkm_link::Resolve;
use lkm_link::SymbolError;
use lkm_link::Symbols;
use lkm_link::image::RegionLayout;
use lkm_link::post::Coming;
use lkm_link::post::KernelFacts;
use lkm_link::post::MaskRule;
use lkm_link::post::PatchObserver;
use lkm_link::post::PatchProfile;
use lkm_link::post::Post;
use lkm_link::post::PostWarning;
use lkm_link::post::Rule;
use lkm_link::relocate::RelocEvent;
use lkm_link::relocate::RelocObserver;
use lkm_link::rules::ArmPlt;
use lkm_link::rules::MemoryModel;
use lkm_link::rules::SortVersion;
use lkm_link::rules::X86Place;
use lkm_module::Errno;
use lkm_module::elf::Elf;

use super::Result;
use super::memory::KernelMemory;
use super::store::ModuleCapture;
use super::store::Part;

/// How Debian's 6.1 kernels link.
pub(crate) fn rules(arch: Arch, kernel: &KernelMemory) -> Result<LinkRules> {
    let x86 = arch == Arch::X86_64;
    let address = |name| kernel.symbol(name).ok_or_else(|| format!("the kernel has no symbol {name}"));
    let fixed = if x86 { Vec::new() } else { vec![address("ftrace_caller")?, address("__gnu_mcount_nc")?] };
    Ok(LinkRules {
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
        arm_plt: (!x86).then_some(ArmPlt { fixed, align: 64 }),
        thumb2: false,
        arm_group_relocs: true,
        arm_prel31_range: true,
        extended_modversions: false,
        missing_symbol_errno: true,
        check_shndx: true,
    })
}

/// How Debian's 6.1 kernels patch.
pub(crate) fn patch_profile(arch: Arch) -> PatchProfile {
    match arch {
        Arch::X86_64 => PatchProfile::x86_64_6_1(),
        Arch::Arm => PatchProfile::arm_6_1(),
    }
}

/// A module with its symbols' values and its relocations applied.
pub(crate) struct Linked<'data> {
    pub(crate) info: LoadInfo<'data>,
    pub(crate) symbols: Symbols,
    pub(crate) image: Image<Vec<u8>>,
    pub(crate) relocations: usize,
    /// Places of some relocations.
    pub(crate) places: Vec<u64>,
}

/// Differences in how memory is divided, as text.
pub(crate) fn compare_layout(kind: RegionKind, ours: &RegionLayout, theirs: Part) -> Option<String> {
    let ours = (ours.size, ours.text_size, ours.ro_size, ours.ro_after_init_size);
    // init_layout.ro_after_init_size stays what text and constants take.
    let theirs = (theirs.size, theirs.text_size, theirs.ro_size, theirs.ro_after_init_size);
    (ours != theirs).then(|| format!("{kind:?}: sizes {ours:x?}, the kernel has {theirs:x?}"))
}

/// Exports by name that a module may import, and what it could not find.
struct Imports<'a> {
    exports: &'a HashMap<Vec<u8>, u64>,
    missing: Vec<String>,
}

impl Resolve for Imports<'_> {
    fn resolve(&mut self, _: u32, name: &[u8]) -> std::result::Result<Option<u64>, Errno> {
        Ok(self.exports.get(name).copied())
    }

    fn refused(&mut self, error: &SymbolError<'_>) {
        self.missing.push(error.to_string());
    }
}

/// Remembers the places of a few relocations.
#[derive(Default)]
struct Places {
    count: usize,
    places: Vec<u64>,
}

impl RelocObserver for Places {
    const ENABLED: bool = true;

    fn relocated(&mut self, event: &RelocEvent<'_>) {
        self.count += 1;
        if self.count.is_power_of_two() && event.before != event.after {
            self.places.push(event.place);
        }
    }
}

/// Links a module up to its relocations. Differences in layout go to `differences`.
pub(crate) fn link<'data>(
    file: &'data [u8],
    arch: Arch,
    rules: &LinkRules,
    exports: &HashMap<Vec<u8>, u64>,
    seen: &ModuleCapture,
    differences: &mut Vec<String>,
) -> Result<Linked<'data>> {
    let elf = Elf::parse(file).map_err(|error| format!("{error:?}"))?;
    let mut info = LoadInfo::setup(elf, arch, seen.copy, rules, true).map_err(|error| error.to_string())?;
    info.rewrite_section_headers();
    lkm_link::module_frob_arch_sections(&mut info, rules).map_err(|error| error.to_string())?;
    lkm_link::module_enforce_rwx_sections(&info, rules).map_err(|error| error.to_string())?;
    let mut regions = lkm_link::layout_sections(&mut info, rules);
    lkm_link::layout_symtab(&mut info, rules, &mut regions);
    for region in &regions {
        let theirs = if region.kind == RegionKind::Init { seen.init } else { seen.core };
        differences.extend(compare_layout(region.kind, region, theirs));
    }
    let image = lkm_link::move_module(&mut info, &regions, |kind, size| {
        let base = if kind == RegionKind::Init { seen.init.base } else { seen.core.base };
        Some((base, vec![0; usize::try_from(size).ok()?]))
    });
    let mut image = image.map_err(|error| error.error.to_string())?;
    let mut imports = Imports { exports, missing: Vec::new() };
    let percpu = (seen.percpu != 0).then_some(seen.percpu);
    let symbols = lkm_link::simplify_symbols(&info, rules, percpu, &mut imports)
        .map_err(|error| format!("{error}: {}", imports.missing.join(", ")))?;
    lkm_link::write_symtab(&info, &symbols, &mut image);
    let mut places = Places::default();
    let stats = lkm_link::apply_relocations(&info, rules, &symbols, &mut image, &mut places)
        .map_err(|error| error.to_string())?;
    Ok(Linked { info, symbols, image, relocations: stats.relocations, places: places.places })
}

/// What the later stages wrote, for the account.
#[derive(Debug, Default)]
pub(crate) struct Patches {
    /// Who wrote how many bytes where.
    pub(crate) written: Vec<(&'static str, u64, usize)>,
    /// Which places are run-time state, and why.
    pub(crate) masked: Vec<(&'static str, u64, usize)>,
    pub(crate) warnings: Vec<String>,
}

impl PatchObserver for Patches {
    fn patched(&mut self, rule: Rule, address: u64, _: &[u8], after: &[u8]) {
        self.written.push((rule.name(), address, after.len()));
    }

    fn masked(&mut self, rule: MaskRule, address: u64, len: usize) {
        self.masked.push((rule.name(), address, len));
    }

    fn warning(&mut self, warning: PostWarning) {
        self.warnings.push(warning.to_string());
    }
}

impl Linked<'_> {
    /// Everything from the relocations to the init function.
    pub(crate) fn finish(
        &mut self,
        rules: &LinkRules,
        profile: &PatchProfile,
        facts: &dyn KernelFacts,
        seen: &ModuleCapture,
    ) -> Result<Patches> {
        let mut patches = Patches::default();
        let mut post =
            Post { image: &mut self.image, info: &self.info, profile, facts, observer: &mut patches };
        post.sort_extable();
        let before: Vec<Vec<u8>> = post.image.regions.iter().map(|region| region.bytes.clone()).collect();
        lkm_link::add_kallsyms(&self.info, rules, &self.symbols, post.image)
            .map_err(|error| error.to_string())?;
        let tables = changes(&before, post.image);
        post.module_finalize().map_err(|error| error.to_string())?;
        post.ftrace_module_init();
        post.prepare_coming(Coming { this_module: seen.this_module, trace_events: true })
            .map_err(|error| error.to_string())?;
        patches.written.extend(tables.into_iter().map(|(address, size)| ("kallsyms", address, size)));
        Ok(patches)
    }
}

/// Runs of bytes that are not what they were.
fn changes(before: &[Vec<u8>], image: &Image<Vec<u8>>) -> Vec<(u64, usize)> {
    let mut changes = Vec::new();
    for (before, region) in before.iter().zip(&image.regions) {
        let mut start = None;
        for (index, (old, new)) in before.iter().zip(&region.bytes).enumerate() {
            match (old == new, start) {
                (false, None) => start = Some(index),
                (true, Some(first)) => {
                    changes.push((region.base + first as u64, index - first));
                    start = None;
                }
                _ => {}
            }
        }
        if let Some(first) = start {
            changes.push((region.base + first as u64, before.len() - first));
        }
    }
    changes
}
