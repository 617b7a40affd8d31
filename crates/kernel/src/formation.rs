//! From linked bytes to a module that may run: exports, permissions, the state COMING.

use alloc::vec::Vec;
use core::ops::DerefMut;

use lkm_link::Image;
use lkm_link::LoadInfo;
use lkm_link::RegionKind;
use lkm_module::Errno;
use lkm_module::Level;
use lkm_module::Text;
use lkm_module::exports::KsymtabForm;

use crate::Event;
use crate::Export;
use crate::Host;
use crate::Kernel;
use crate::ModuleId;
use crate::ModuleMemory;
use crate::Permissions;
use crate::Reason;
use crate::State;
use crate::event::Numbers;
use crate::memory::Words;
use crate::this_module;

/// Longest name of a symbol (`KSYM_NAME_LEN`).
const KSYM_NAME_LEN: usize = 512;

/// A string of the module; empty if it is not in its memory.
fn string<B: DerefMut<Target = [u8]>>(image: &Image<B>, address: u64) -> Vec<u8> {
    let Some(at) = image.locate(address) else { return Vec::new() };
    let Some(region) = image.region(at.region) else { return Vec::new() };
    let start = usize::try_from(at.offset).unwrap_or(usize::MAX);
    let rest = region.bytes.get(start..).unwrap_or(&[]);
    rest.iter().copied().take(KSYM_NAME_LEN).take_while(|&byte| byte != 0).collect()
}

/// Reads a table of exports from relocated memory, with its CRCs.
fn read_exports<B: DerefMut<Target = [u8]>>(
    image: &Image<B>,
    info: &LoadInfo<'_>,
    kernel: &Kernel,
    table: &str,
    crcs: &str,
) -> Vec<Export> {
    let rules = &kernel.profile.rules;
    let words = Words::of(kernel.profile.arch);
    let form: KsymtabForm = rules.ksymtab;
    let field = form.field_size(words.class) as u64;
    let entry = form.entry_size(words.class) as u64;
    let crc_entry = u64::from(rules.kcrctab_entry);
    let (base, count) = info.section_objs(table.as_bytes(), entry);
    let crc_section = info.find_sec(crcs.as_bytes());
    let crc_base = info.section_addr(crc_section);

    // 32-bit addresses wrap.
    let mask = if words.size() == 4 { u64::from(u32::MAX) } else { u64::MAX };
    let pointer = |at: u64| -> Option<u64> {
        if form.relative {
            let offset = image.read_u32(at)? as i32;
            return Some(at.wrapping_add(offset as i64 as u64) & mask);
        }
        let bytes = image.slice(at, words.class.pointer_size())?;
        Some(words.class.pointer(image.endian, bytes))
    };
    // Honest names do not overlap, so that they are not longer than the module.
    let mut budget: usize = image.regions.iter().map(|region| region.bytes.len()).sum();
    let mut exports = Vec::new();
    for index in 0..count {
        let at = base.wrapping_add(index.wrapping_mul(entry));
        let (Some(address), Some(name)) = (pointer(at), pointer(at.wrapping_add(field))) else { break };
        let namespace = match form.namespace {
            false => Vec::new(),
            // A relative field of 0 means none.
            true => match pointer(at.wrapping_add(2 * field)) {
                Some(to) if to != at.wrapping_add(2 * field) => string(image, to),
                _ => Vec::new(),
            },
        };
        let crc_at = crc_base.wrapping_add(index.wrapping_mul(crc_entry));
        let crc = if crc_section != 0 { image.read_u32(crc_at) } else { None };
        let name = string(image, name);
        let Some(left) = budget.checked_sub(name.len() + namespace.len()) else { break };
        budget = left;
        exports.push(Export { name, address, crc, namespace });
    }
    exports
}

/// Takes into the books what the relocated memory says: exports, and the functions in `struct module`.
pub(crate) fn read_struct_module<B: DerefMut<Target = [u8]>>(
    kernel: &mut Kernel,
    id: ModuleId,
    info: &LoadInfo<'_>,
    image: &Image<B>,
) {
    let syms = read_exports(image, info, kernel, "__ksymtab", "__kcrctab");
    let gpl_syms = read_exports(image, info, kernel, "__ksymtab_gpl", "__kcrctab_gpl");
    let old_syms = kernel
        .profile
        .old_tables()
        .map(|(table, syms, crcs)| (table, read_exports(image, info, kernel, syms, crcs)))
        .collect();
    let entry = this_module::entry(info, &kernel.profile);
    let words = Words::of(kernel.profile.arch);
    let Some(module) = kernel.module_mut(id) else { return };
    let pointer = |offset: Option<u64>| {
        let bytes = image.slice(module.this_module.wrapping_add(offset?), words.class.pointer_size())?;
        Some(words.class.pointer(words.endian, bytes)).filter(|&address| address != 0)
    };
    (module.init, module.exit) = (pointer(entry.init), pointer(entry.exit));
    module.struct_known = entry.known;
    (module.syms, module.gpl_syms, module.old_syms) = (syms, gpl_syms, old_syms);
}

/// `verify_exported_symbols()`: nothing else may export the same names.
fn verify_exported_symbols<H: Host>(kernel: &Kernel, host: &mut H, id: ModuleId) -> Result<(), Reason> {
    let Some(module) = kernel.module(id) else { return Ok(()) };
    for export in module.exports() {
        let Some(found) = kernel.find_symbol(host, &export.name, true) else { continue };
        let owner = found.owner.and_then(|owner| kernel.module(owner));
        let owner = owner.map_or(&b"kernel"[..], |owner| &owner.name);
        host.log(
            Level::Err,
            format_args!(
                "{}: exports duplicate symbol {} (owned by {})",
                Text(&module.name),
                Text(&export.name),
                Text(owner)
            ),
        );
        return Err(Reason::DuplicateExport { symbol: export.name.clone(), owner: owner.to_vec() });
    }
    Ok(())
}

/// `module_check_misalignment()`: parts with permissions of their own must begin and end at pages.
fn is_misaligned(kernel: &Kernel, id: ModuleId) -> bool {
    let link = &kernel.profile.link;
    if !link.strict_rwx || kernel.profile.has_memory_types() {
        return false;
    }
    let page = link.page_size.max(1);
    let aligned = |memory: &ModuleMemory| {
        let layout = &memory.layout;
        [memory.base, layout.text_size, layout.ro_size, layout.ro_after_init_size]
            .iter()
            .all(|edge| edge.is_multiple_of(page))
    };
    kernel.module(id).is_some_and(|module| !module.memory.iter().all(aligned))
}

/// `complete_formation()`: from here on others see the module. Its permissions are set as soon as the notifiers have
/// made the last changes, in [`hand_over`].
pub(crate) fn complete_formation<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    id: ModuleId,
    numbers: &mut Numbers,
) -> Result<(), Reason> {
    verify_exported_symbols(kernel, host, id)?;
    if is_misaligned(kernel, id) {
        return Err(Reason::Misaligned);
    }
    if let Some(module) = kernel.module_mut(id) {
        module.state = State::Coming;
    }
    if let Some(module) = kernel.module(id) {
        numbers.count("exports", module.exports().count());
        host.event(&Event::State { module });
    }
    Ok(())
}

/// The bytes are final: they go to the host, get their permissions and become code.
pub(crate) fn hand_over<H: Host>(
    kernel: &Kernel,
    host: &mut H,
    id: ModuleId,
    image: Image<H::Memory>,
) -> Result<(), Reason> {
    for region in image.regions {
        host.module_commit(region);
    }
    let Some(module) = kernel.module(id) else { return Ok(()) };
    for memory in &module.memory {
        host.flush_icache(memory.base, memory.layout.size);
        let protected = protect(kernel, host, memory, false);
        if kernel.profile.rules.protect_may_fail {
            protected.map_err(|errno| Reason::Protect { errno })?;
        }
    }
    this_module::update(host, &kernel.profile, module);
    if let Some(index) = kernel.modules.iter().position(|module| module.id == id) {
        this_module::chain(host, kernel, index);
    }
    Ok(())
}

/// `module_enable_ro()`, `module_enable_nx()`, `module_enable_x()`: what each part may be used for.
pub(crate) fn protect<H: Host>(
    kernel: &Kernel,
    host: &mut H,
    memory: &ModuleMemory,
    after_init: bool,
) -> Result<(), Errno> {
    let layout = &memory.layout;
    let late = if after_init { Permissions::Read } else { Permissions::ReadWrite };
    let parts: [(u64, Permissions); 4] = match layout.kind {
        _ if !kernel.profile.link.strict_rwx => [
            (layout.size, Permissions::ReadWriteExecute),
            (layout.size, Permissions::ReadWriteExecute),
            (layout.size, Permissions::ReadWriteExecute),
            (layout.size, Permissions::ReadWriteExecute),
        ],
        RegionKind::Core | RegionKind::Init => [
            (layout.text_size, Permissions::ReadExecute),
            (layout.ro_size, Permissions::Read),
            (layout.ro_after_init_size, late),
            (layout.size, Permissions::ReadWrite),
        ],
        kind => {
            let permissions = match kind {
                RegionKind::Text | RegionKind::InitText => Permissions::ReadExecute,
                RegionKind::RoData | RegionKind::InitRoData => Permissions::Read,
                RegionKind::RoAfterInit => late,
                _ => Permissions::ReadWrite,
            };
            [(layout.size, permissions); 4]
        }
    };
    let page = kernel.profile.link.page_size.max(1);
    let mut start = 0;
    for (end, permissions) in parts {
        let end = end.min(layout.size);
        let size = end.saturating_sub(start).checked_next_multiple_of(page).unwrap_or(0);
        if size > 0 {
            host.try_protect(memory.base.wrapping_add(start), size, permissions)?;
            start = start.saturating_add(size);
        }
    }
    Ok(())
}
