//! `load_module()`: the road of a file into the kernel, stage by stage.
//!
//! The order is the kernel's. What the stages do is in `stages.rs`, and for those that are a subject of their own in
//! `modinfo.rs`, `versions.rs`, `symbols.rs`, `patches.rs`, `formation.rs`, `params.rs`, `sysfs.rs` and `init.rs`.

use alloc::vec::Vec;

use crate::Event;
use crate::Host;
use crate::Kernel;
use crate::LoadError;
use crate::ModuleId;
use crate::Reason;
use crate::Stage;
use crate::Taints;
use crate::btf;
use crate::event::ImageView;
use crate::event::Numbers;
use crate::formation;
use crate::init;
use crate::patches;
use crate::stages;
use crate::this_module;
use crate::versions::VersionTable;

/// Runs a stage: tells the host of its start and its end, and gives its failure the stage's name.
pub(crate) fn stage<H: Host, T>(
    host: &mut H,
    stage: Stage,
    run: impl FnOnce(&mut H, &mut Numbers) -> Result<T, Reason>,
) -> Result<T, LoadError> {
    if !host.go_on(stage) {
        return Err(LoadError::new(stage, Reason::Stopped));
    }
    host.event(&Event::Begin { stage });
    let mut numbers = Numbers::default();
    let result = run(host, &mut numbers).map_err(|reason| LoadError::new(stage, reason));
    let errno = result.as_ref().map(|_| ()).map_err(LoadError::errno);
    host.event(&Event::End { stage, result: errno, numbers: &numbers.0 });
    result
}

/// What a failed load has to give back before the module is in the list; after that its own record knows.
struct Taken {
    bases: Vec<u64>,
    id: Option<ModuleId>,
}

/// `load_module()`
pub(crate) fn load_module<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    data: &[u8],
    args: Option<&[u8]>,
    flags: u32,
) -> Result<ModuleId, LoadError> {
    let mut taken = Taken { bases: Vec::new(), id: None };
    let formed = form_module(kernel, host, data, args, flags, &mut taken);
    let id = match formed {
        Ok(id) => id,
        Err(error) => {
            host.event(&Event::Begin { stage: Stage::Unwind });
            match taken.id {
                Some(id) => init::unwind(kernel, host, id),
                None => taken.bases.iter().rev().for_each(|&base| host.module_free(base)),
            }
            host.event(&Event::End { stage: Stage::Unwind, result: Ok(()), numbers: &[] });
            return Err(error);
        }
    };
    let result =
        stage(host, Stage::DoInitModule, |host, numbers| init::do_init_module(kernel, host, id, numbers));
    if let Err(LoadError { reason: Reason::Stopped, .. }) = result {
        init::unwind(kernel, host, id);
    }
    result.map(|()| id)
}

/// Everything up to the init function.
fn form_module<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    data: &[u8],
    args: Option<&[u8]>,
    flags: u32,
    taken: &mut Taken,
) -> Result<ModuleId, LoadError> {
    let (data, sig_ok) =
        stage(host, Stage::ModuleSigCheck, |host, _| kernel.module_sig_check(host, data, flags))?;
    let elf = stage(host, Stage::ElfValidityCheck, |host, numbers| {
        stages::elf_validity_check(kernel, host, data, flags, numbers)
    })?;
    let mut info = stage(host, Stage::SetupLoadInfo, |host, numbers| {
        stages::setup_load_info(kernel, host, elf, flags, numbers)
    })?;
    stage(host, Stage::Blacklisted, |host, _| stages::blacklisted(kernel, host, &info))?;
    stage(host, Stage::RewriteSectionHeaders, |_, _| {
        info.rewrite_section_headers();
        Ok(())
    })?;
    let mut taints = Taints::empty();
    let versions = VersionTable::new(&info);
    stage(host, Stage::CheckModstructVersion, |host, _| {
        stages::check_modstruct_version(kernel, host, &info, &versions, &mut taints)
    })?;
    stage(host, Stage::CheckModinfo, |host, _| kernel.check_modinfo(host, &info, flags, &mut taints))?;
    if kernel.profile.rules.early_mod_check {
        stage(host, Stage::EarlyModCheck, |host, _| {
            stages::module_patient_check_exists(kernel, host, info.module_name)
        })?;
    }

    let layouts = stages::layout_and_allocate(kernel, host, &mut info)?;
    let mut image = stage(host, Stage::MoveModule, |host, numbers| {
        stages::move_module(host, &mut info, &layouts, &mut taken.bases, numbers)
    })?;
    host.event(&Event::Moved { info: &info, image: &ImageView::new(&image) });

    let id = stage(host, Stage::AddUnformedModule, |host, _| {
        stages::add_unformed_module(kernel, host, &info, &image, taints)
    })?;
    taken.id = Some(id);
    stage(host, Stage::ModuleAugmentKernelTaints, |host, _| {
        kernel.module_augment_kernel_taints(host, id, &info, sig_ok);
        Ok(())
    })?;
    stage(host, Stage::PercpuModalloc, |host, numbers| {
        stages::percpu_modalloc(kernel, host, id, &info, numbers)
    })?;
    stage(host, Stage::ModuleUnloadInit, |_, _| {
        kernel.module_unload_init(id);
        Ok(())
    })?;
    stage(host, Stage::FindModuleSections, |host, numbers| {
        stages::find_module_sections(kernel, host, id, &info, numbers)
    })?;
    stage(host, Stage::CheckExportSymbolVersions, |host, _| {
        kernel.check_export_symbol_versions(host, id, &info)
    })?;
    stage(host, Stage::SetupModinfo, |_, _| {
        kernel.setup_modinfo(id, &info);
        Ok(())
    })?;

    let symbols = stage(host, Stage::SimplifySymbols, |host, numbers| {
        stages::simplify_symbols(kernel, host, id, &info, versions, numbers)
    })?;
    // The table in the image has the values from here on, for whoever looks at it before `add_kallsyms`.
    lkm_link::write_symtab(&info, &symbols, &mut image);
    stage(host, Stage::ApplyRelocations, |host, numbers| {
        stages::apply_relocations(kernel, host, id, &info, &symbols, &mut image, numbers)
    })?;
    host.event(&Event::Relocated { info: &info, image: &ImageView::new(&image) });
    stage(host, Stage::PostRelocation, |host, numbers| {
        patches::post_relocation(kernel, host, id, &info, &symbols, &mut image, numbers)
    })?;
    stage(host, Stage::StrndupUser, |host, numbers| stages::strndup_user(kernel, host, id, args, numbers))?;
    stage(host, Stage::FtraceModuleInit, |host, numbers| {
        patches::ftrace_module_init(kernel, host, &info, &mut image, numbers)
    })?;
    stage(host, Stage::CompleteFormation, |host, numbers| {
        formation::complete_formation(kernel, host, id, numbers)
    })?;
    stage(host, Stage::PrepareComingModule, |host, numbers| {
        patches::prepare_coming_module(kernel, host, id, &info, &mut image, numbers)?;
        btf::btf_module_notify(kernel, host, &info)
    })?;
    host.event(&Event::Patched { info: &info, image: &ImageView::new(&image) });
    formation::hand_over(kernel, host, id, image)
        .map_err(|reason| LoadError::new(Stage::CompleteFormation, reason))?;

    stage(host, Stage::ParseArgs, |host, numbers| {
        stages::parse_args(kernel, host, id, args.unwrap_or(&[]), numbers)
    })?;
    stage(host, Stage::ModSysfsSetup, |host, _| kernel.mod_sysfs_setup(host, id))?;
    if let Some(module) = kernel.module(id) {
        this_module::update(host, &kernel.profile, module);
    }
    Ok(id)
}
