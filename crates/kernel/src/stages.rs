//! The single stages of `load_module()` that have no file of their own.

use alloc::vec::Vec;

use lkm_link::Image;
use lkm_link::LinkError;
use lkm_link::LoadInfo;
use lkm_link::RelocObserver;
use lkm_link::Symbols;
use lkm_link::image::RegionLayout;
use lkm_link::layout_sections;
use lkm_link::layout_symtab;
use lkm_link::module_enforce_rwx_sections;
use lkm_link::module_frob_arch_sections;
use lkm_link::relocate::RelocEvent;
use lkm_module::Level;
use lkm_module::Text;
use lkm_module::elf::Elf;
use lkm_module::elf::consts::SHT_NOTE;
use lkm_module::modinfo::Modinfo;

use crate::Host;
use crate::IGNORE_MODVERSIONS;
use crate::Kernel;
use crate::LoadError;
use crate::Module;
use crate::ModuleId;
use crate::ModuleMemory;
use crate::ModuleSection;
use crate::Reason;
use crate::RegionKind;
use crate::Stage;
use crate::State;
use crate::Taints;
use crate::event::Numbers;
use crate::load::stage;
use crate::param;
use crate::params;
use crate::profile::Blacklist;
use crate::profile::SameName;
use crate::symbols::Resolver;
use crate::versions::VersionTable;

/// Longest name of a file (`NAME_MAX`), as which sections are shown.
const NAME_MAX: usize = 255;

/// Longest parameter text that `kmalloc` gives room for.
const KMALLOC_MAX: usize = 4 << 20;

/// How often a module of the same name is waited for, should the host's wait return without any change.
const WAITS: usize = 64;

pub(crate) fn elf_validity_check<'data, H: Host>(
    kernel: &Kernel,
    host: &mut H,
    data: &'data [u8],
    flags: u32,
    numbers: &mut Numbers,
) -> Result<Elf<'data>, Reason> {
    let mut rules = kernel.profile.elf;
    rules.ignore_modversions = flags & IGNORE_MODVERSIONS != 0;
    let elf = lkm_module::elf::elf_validity_check(data, &rules).map_err(|refusal| {
        if let Some((level, line)) = refusal.log() {
            host.log(level, format_args!("{line}"));
        }
        Reason::Elf(refusal)
    })?;
    numbers.bytes("module", data.len() as u64);
    numbers.count("sections", elf.sections.len());
    Ok(elf)
}

/// Logs what the linker refuses.
pub(crate) fn refuse<H: Host>(host: &mut H, name: &[u8], error: LinkError) -> Reason {
    error.log(name, &mut |level, line| host.log(level, line));
    Reason::Link(error)
}

pub(crate) fn setup_load_info<'data, H: Host>(
    kernel: &Kernel,
    host: &mut H,
    elf: Elf<'data>,
    flags: u32,
    numbers: &mut Numbers,
) -> Result<LoadInfo<'data>, Reason> {
    let copy = host.copy_address(elf.data.len() as u64);
    let use_versions = flags & IGNORE_MODVERSIONS == 0;
    let info = LoadInfo::setup(elf, kernel.profile.arch, copy, &kernel.profile.link, use_versions)
        .map_err(|error| refuse(host, b"", error))?;
    numbers.count("symbols", info.symbol_count());
    numbers.address("temporary copy", copy);
    Ok(info)
}

/// `blacklisted()`: names are compared exactly.
pub(crate) fn blacklisted<H: Host>(kernel: &Kernel, host: &mut H, info: &LoadInfo<'_>) -> Result<(), Reason> {
    let rule = kernel.profile.rules.blacklist;
    let listed = kernel.options.module_blacklist.iter().any(|name| name.as_bytes() == info.name);
    if rule == Blacklist::None || !listed {
        return Ok(());
    }
    if rule == Blacklist::Message {
        host.log(Level::Err, format_args!("Module {} is blacklisted", Text(info.name)));
    }
    Err(Reason::Blacklisted)
}

pub(crate) fn check_modstruct_version<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    info: &LoadInfo<'_>,
    versions: &VersionTable<'_>,
    taints: &mut Taints,
) -> Result<(), Reason> {
    let crc = host.kernel_export(b"module_layout").and_then(|export| export.crc);
    if kernel.check_version(host, info, taints, versions, b"module_layout", crc) {
        Ok(())
    } else {
        Err(Reason::ModuleLayout)
    }
}

/// `module_patient_check_exists()`: waits for a module of the same name that is still on its way.
pub(crate) fn module_patient_check_exists<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    name: &[u8],
) -> Result<(), Reason> {
    let rule = kernel.profile.rules.same_name;
    let mut waited = false;
    for _ in 0..WAITS {
        let Some(old) = kernel.find_module_all(name) else {
            // The newer kernels do not try again after they have waited.
            return if waited && rule == SameName::Busy { Err(Reason::Busy) } else { Ok(()) };
        };
        match (old.state, rule) {
            (State::Live, _) | (State::Going, SameName::RetryGoingExists) => return Err(Reason::Exists),
            (State::Going, SameName::Busy) => return Err(Reason::Busy),
            _ => {}
        }
        if !host.wait(kernel, name) {
            return Err(Reason::Interrupted);
        }
        waited = true;
    }
    Err(Reason::Busy)
}

/// `layout_and_allocate()` up to the allocation.
pub(crate) fn layout_and_allocate<H: Host>(
    kernel: &Kernel,
    host: &mut H,
    info: &mut LoadInfo<'_>,
) -> Result<Vec<RegionLayout>, LoadError> {
    let rules = &kernel.profile.link;
    stage(host, Stage::ModuleFrobArchSections, |host, _| {
        module_frob_arch_sections(info, rules).map_err(|error| refuse(host, info.module_name, error))
    })?;
    stage(host, Stage::ModuleEnforceRwxSections, |host, _| {
        module_enforce_rwx_sections(info, rules).map_err(|error| refuse(host, info.module_name, error))
    })?;
    let mut layouts = stage(host, Stage::LayoutSections, |_, _| Ok(layout_sections(info, rules)))?;
    stage(host, Stage::LayoutSymtab, |_, numbers| {
        layout_symtab(info, rules, &mut layouts);
        for layout in layouts.iter().filter(|layout| layout.size > 0) {
            numbers.bytes(region_name(layout.kind), layout.size);
        }
        Ok(())
    })?;
    Ok(layouts)
}

const fn region_name(kind: RegionKind) -> &'static str {
    match kind {
        RegionKind::Core => "core",
        RegionKind::Init => "init",
        RegionKind::Text => "text",
        RegionKind::Data => "data",
        RegionKind::RoData => "rodata",
        RegionKind::RoAfterInit => "ro_after_init",
        RegionKind::InitText => "init text",
        RegionKind::InitData => "init data",
        RegionKind::InitRoData => "init rodata",
    }
}

pub(crate) fn move_module<H: Host>(
    host: &mut H,
    info: &mut LoadInfo<'_>,
    layouts: &[RegionLayout],
    bases: &mut Vec<u64>,
    numbers: &mut Numbers,
) -> Result<Image<H::Memory>, Reason> {
    let alloc = |kind, size| {
        let (base, bytes) = host.module_alloc(kind, size)?;
        bases.push(base);
        Some((base, bytes))
    };
    let name = info.module_name;
    let image =
        lkm_link::move_module(info, layouts, alloc).map_err(|error| refuse(host, name, error.error))?;
    for region in &image.regions {
        numbers.address(region_name(region.layout.kind), region.base);
    }
    Ok(image)
}

/// `add_unformed_module()`: into the list, where only the loader sees it.
pub(crate) fn add_unformed_module<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    info: &LoadInfo<'_>,
    image: &Image<H::Memory>,
    taints: Taints,
) -> Result<ModuleId, Reason> {
    module_patient_check_exists(kernel, host, info.module_name)?;
    let id = kernel.new_id();
    let mut module = Module::new(id, info.module_name);
    module.taints = taints;
    module.memory = image
        .regions
        .iter()
        .map(|region| ModuleMemory { layout: region.layout, base: region.base })
        .collect();
    module.this_module = info.section_addr(info.index.this_module);
    kernel.modules.insert(0, module);
    Ok(id)
}

/// `percpu_modalloc()`
pub(crate) fn percpu_modalloc<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    id: ModuleId,
    info: &LoadInfo<'_>,
    numbers: &mut Numbers,
) -> Result<(), Reason> {
    let index = info.index.pcpu;
    let Some(section) = info.sections.get(index).filter(|section| index != 0 && section.size > 0) else {
        return Ok(());
    };
    let name = Text(info.module_name);
    let page = kernel.profile.link.page_size;
    let mut align = section.addralign.max(1);
    if align > page {
        host.log(Level::Warning, format_args!("{name}: per-cpu alignment {align} > {page}"));
        align = page;
    }
    let Some(cookie) = host.percpu_alloc(section.size, align) else {
        host.log(
            Level::Warning,
            format_args!("{name}: Could not allocate {} bytes percpu data", section.size),
        );
        return Err(Reason::NoPercpu);
    };
    numbers.bytes("per-cpu", section.size);
    numbers.address("cookie", cookie);
    if let Some(module) = kernel.module_mut(id) {
        module.percpu = Some((cookie, section.size));
    }
    Ok(())
}

/// `find_module_sections()`: the books' part; the pointers go into `struct module` later.
pub(crate) fn find_module_sections<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    id: ModuleId,
    info: &LoadInfo<'_>,
    numbers: &mut Numbers,
) -> Result<(), Reason> {
    let param = kernel.profile.param_layout().size as u64;
    let extable = if kernel.profile.patch.extable_relative() {
        12
    } else {
        2 * kernel.profile.arch.class().pointer_size()
    };
    let constructors = kernel.profile.config.constructors;
    let pointer = kernel.profile.arch.class().pointer_size() as u64;
    let Some(module) = kernel.module_mut(id) else { return Ok(()) };
    module.kp = info.section_objs(b"__param", param);
    module.extable = info.section_objs(b"__ex_table", extable as u64);
    numbers.count("parameters", module.kp.1 as usize);
    let name = Text(info.module_name);
    if constructors && info.find_sec(b".ctors") != 0 && info.find_sec(b".init_array") != 0 {
        host.log(Level::Warning, format_args!("{name}: has both .ctors and .init_array."));
        return Err(Reason::TwoConstructorTables);
    }
    if constructors {
        let table: &[u8] = if info.find_sec(b".ctors") != 0 { b".ctors" } else { b".init_array" };
        module.ctors = info.section_objs(table, pointer);
    }
    if info.find_sec(b"__obsparm") != 0 {
        host.log(Level::Warning, format_args!("{name}: Ignoring obsolete parameters"));
    }
    let allocated = info.sections.iter().enumerate().filter(|(_, section)| section.is_alloc());
    module.sections = allocated
        .map(|(index, section)| ModuleSection {
            name: info.section_name(index).iter().copied().take(NAME_MAX).collect(),
            address: section.addr,
            size: section.size,
            note: section.kind == SHT_NOTE,
        })
        .collect();
    Ok(())
}

pub(crate) fn simplify_symbols<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    id: ModuleId,
    info: &LoadInfo<'_>,
    versions: VersionTable<'_>,
    numbers: &mut Numbers,
) -> Result<Symbols, Reason> {
    let rules = kernel.profile.link.clone();
    let percpu = kernel.module(id).and_then(|module| module.percpu).map(|(cookie, _)| cookie);
    let modinfo = Modinfo::new(info.contents(info.index.modinfo));
    let mut import_ns: Vec<_> = modinfo.get_all(b"import_ns").collect();
    import_ns.sort_unstable();
    let name = info.module_name.to_vec();
    let mut resolver =
        Resolver { kernel, host, id, name, info, versions, import_ns, last: None, missing: Vec::new() };
    match lkm_link::simplify_symbols(info, &rules, percpu, &mut resolver) {
        Ok(symbols) => {
            numbers.count("symbols", symbols.values.len());
            numbers.count("resolved", symbols.resolved);
            numbers.count("weak and absent", symbols.left_weak);
            Ok(symbols)
        }
        Err(error) => Err(Reason::Symbols { errno: error.errno(), missing: resolver.missing }),
    }
}

/// Passes each relocation on to the host.
struct Through<'a, H>(&'a mut H);

impl<H: Host> RelocObserver for Through<'_, H> {
    const ENABLED: bool = true;

    fn relocated(&mut self, event: &RelocEvent<'_>) {
        self.0.relocated(event);
    }
}

pub(crate) fn apply_relocations<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    id: ModuleId,
    info: &LoadInfo<'_>,
    symbols: &Symbols,
    image: &mut Image<H::Memory>,
    numbers: &mut Numbers,
) -> Result<(), Reason> {
    let rules = &kernel.profile.link;
    let stats = if host.wants_relocations() {
        lkm_link::apply_relocations(info, rules, symbols, image, &mut Through(host))
    } else {
        lkm_link::apply_relocations(info, rules, symbols, image, &mut ())
    };
    let stats = stats.map_err(|error| refuse(host, info.module_name, error))?;
    numbers.count("sections", stats.sections);
    numbers.count("relocations", stats.relocations);
    if let Some(module) = kernel.module_mut(id) {
        module.plt_slots = stats.plt_slots;
    }
    let slots: usize = stats.plt_slots.iter().sum();
    if slots > 0 {
        numbers.count("PLT slots", slots);
    }
    if stats.overflows > 0 {
        numbers.count("cut off", stats.overflows);
    }
    Ok(())
}

/// `strndup_user()` of the parameter text.
pub(crate) fn strndup_user<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    id: ModuleId,
    args: Option<&[u8]>,
    numbers: &mut Numbers,
) -> Result<(), Reason> {
    let args = args.ok_or(Reason::ArgsFault)?;
    let args = args.split(|&byte| byte == 0).next().unwrap_or(&[]);
    if args.len() >= KMALLOC_MAX {
        return Err(Reason::ArgsTooLong);
    }
    let copy = host.kmalloc(args.len() as u64 + 1).ok_or(Reason::NoMemory)?;
    if let Some(module) = kernel.module_mut(id) {
        module.args = Some(copy);
    }
    let end = copy.wrapping_add(args.len() as u64);
    host.write(copy, args).and_then(|()| host.write(end, &[0])).map_err(|_| Reason::NoMemory)?;
    numbers.bytes("parameter text", args.len() as u64);
    Ok(())
}

/// Reads the `__param` table and sets what the text says.
pub(crate) fn parse_args<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    id: ModuleId,
    args: &[u8],
    numbers: &mut Numbers,
) -> Result<(), Reason> {
    let table = kernel.module(id).map_or((0, 0), |module| module.kp);
    let params = param::read_params(kernel, host, table);
    numbers.count("parameters", params.len());
    if let Some(module) = kernel.module_mut(id) {
        module.params = params;
    }
    let given = params::parse_args(kernel, host, id, args);
    numbers.count("given", given.map_err(|errno| Reason::Params { errno })?);
    Ok(())
}
