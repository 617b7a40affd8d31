//! Changes of the bytes after relocation, made by the linker's rules and told to the host.

use alloc::string::String;
use core::fmt::Write;

use lkm_link::Image;
use lkm_link::LoadInfo;
use lkm_link::Symbols;
use lkm_link::add_kallsyms;
use lkm_link::kallsyms::Kallsyms as Tables;
use lkm_link::post::Coming;
use lkm_link::post::Post;
use lkm_link::post::PostError;
use lkm_module::Errno;
use lkm_module::Level;
use lkm_module::Text;

use crate::Event;
use crate::Host;
use crate::Kallsyms;
use crate::Kernel;
use crate::ModuleId;
use crate::Reason;
use crate::Stage;
use crate::Taints;
use crate::event::Numbers;
use crate::event::PatchLog;
use crate::formation;
use crate::stages::refuse;
use crate::this_module;

/// Runs a group of changes and tells the host what was changed.
fn apply<H: Host>(
    kernel: &Kernel,
    host: &mut H,
    info: &LoadInfo<'_>,
    image: &mut Image<H::Memory>,
    stage: Stage,
    run: impl FnOnce(&mut Post<'_, '_, H::Memory>) -> Result<(), PostError>,
) -> Result<usize, Reason> {
    let mut log = PatchLog { wanted: host.wants_patches(), ..PatchLog::default() };
    let facts = host.facts();
    let profile = &kernel.profile.patch;
    let result = run(&mut Post { image, info, profile, facts, observer: &mut log });
    let (patches, masks, warnings) = (&log.patches, &log.masks, &log.warnings);
    host.event(&Event::Patches { stage, patches, masks, warnings });
    result.map(|()| log.count).map_err(|error| {
        log_failure(kernel, host, &error);
        Reason::Post(error)
    })
}

fn log_failure<H: Host>(kernel: &Kernel, host: &mut H, error: &PostError) {
    let mut line = String::new();
    let site = |address: u64, out: &mut dyn Write| match kernel.module_address_lookup(address) {
        Some(place) => write!(out, "{}", Text(&place.symbol)),
        None => write!(out, "{address:#x}"),
    };
    if let Ok(Some(level)) = error.log(site, &mut line) {
        host.log(level, format_args!("{line}"));
    }
}

/// `ftrace_module_init()`
pub(crate) fn ftrace_module_init<H: Host>(
    kernel: &Kernel,
    host: &mut H,
    info: &LoadInfo<'_>,
    image: &mut Image<H::Memory>,
    numbers: &mut Numbers,
) -> Result<(), Reason> {
    let count = apply(kernel, host, info, image, Stage::FtraceModuleInit, |post| {
        post.ftrace_module_init();
        Ok(())
    })?;
    numbers.count("changes", count);
    Ok(())
}

/// `post_relocation()`: exception table, per-cpu template, kallsyms, architecture.
pub(crate) fn post_relocation<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    id: ModuleId,
    info: &LoadInfo<'_>,
    symbols: &Symbols,
    image: &mut Image<H::Memory>,
    numbers: &mut Numbers,
) -> Result<(), Reason> {
    let stage = Stage::PostRelocation;
    let sorted = apply(kernel, host, info, image, stage, |post| {
        post.sort_extable();
        Ok(())
    })?;
    if let Some((cookie, _)) = kernel.module(id).and_then(|module| module.percpu) {
        let template =
            if image.percpu.is_empty() { info.contents(info.index.pcpu) } else { image.percpu.as_slice() };
        host.percpu_copy(cookie, template);
    }
    let mut tables: Option<Tables> = None;
    if kernel.profile.link.kallsyms {
        tables = add_kallsyms(info, &kernel.profile.link, symbols, image)
            .map_err(|error| refuse(host, info.module_name, error))?;
        let core = kernel.core_symbols(info);
        let kept = Kallsyms::new(info, symbols, kernel.profile.link.thumb2, core);
        numbers.count("kallsyms", kept.len());
        if let Some(module) = kernel.module_mut(id) {
            module.kallsyms = kept;
        }
    }
    let finalized = apply(kernel, host, info, image, stage, |post| post.module_finalize())?;
    numbers.count("changes", sorted + finalized);
    formation::read_struct_module(kernel, id, info, image);
    if let Some(module) = kernel.module(id).filter(|module| module.struct_known) {
        this_module::write_image(image, info, &kernel.profile, module, tables.as_ref());
    }
    Ok(())
}

/// `prepare_coming_module()`: what the notifiers of the state COMING change.
pub(crate) fn prepare_coming_module<H: Host>(
    kernel: &Kernel,
    host: &mut H,
    id: ModuleId,
    info: &LoadInfo<'_>,
    image: &mut Image<H::Memory>,
    numbers: &mut Numbers,
) -> Result<(), Reason> {
    let Some(module) = kernel.module(id) else { return Ok(()) };
    if kernel.profile.link.livepatch && module.name == b"vmlinux" {
        host.log(Level::Err, format_args!("vmlinux.ko: invalid module name"));
        return Err(Reason::Sysfs { errno: Errno::EINVAL });
    }
    // Trace events of other modules are not registered.
    let harmless =
        Taints::OOT_MODULE | Taints::CRAP | Taints::UNSIGNED_MODULE | Taints::TEST | Taints::LIVEPATCH;
    let trace_events = harmless.contains(module.taints);
    let coming = Coming { this_module: module.this_module, trace_events };
    let count =
        apply(kernel, host, info, image, Stage::PrepareComingModule, |post| post.prepare_coming(coming))?;
    numbers.count("changes", count);
    Ok(())
}
