//! `load_module()`: the road of a file into the kernel, stage by stage.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use lkm_link::Image;
use lkm_link::LinkError;
use lkm_link::LoadInfo;
use lkm_link::RelocObserver;
use lkm_link::Symbols;
use lkm_link::add_kallsyms;
use lkm_link::apply_relocations;
use lkm_link::image::RegionLayout;
use lkm_link::kallsyms::Kallsyms as Tables;
use lkm_link::layout_sections;
use lkm_link::layout_symtab;
use lkm_link::module_enforce_rwx_sections;
use lkm_link::module_frob_arch_sections;
use lkm_link::move_module;
use lkm_link::post::Coming;
use lkm_link::post::Post;
use lkm_link::post::PostError;
use lkm_link::relocate::RelocEvent;
use lkm_link::simplify_symbols;
use lkm_module::Errno;
use lkm_module::Level;
use lkm_module::Text;
use lkm_module::elf::Elf;
use lkm_module::elf::consts::SHT_NOTE;
use lkm_module::elf::elf_validity_check;

use crate::Event;
use crate::Host;
use crate::Kernel;
use crate::LoadError;
use crate::Module;
use crate::ModuleId;
use crate::ModuleMemory;
use crate::ModuleSection;
use crate::Reason;
use crate::Stage;
use crate::State;
use crate::Taints;
use crate::event::ImageView;
use crate::event::Numbers;
use crate::event::PatchLog;
use crate::formation;
use crate::init;
use crate::kallsyms::Kallsyms;
use crate::module::MODULE_REF_BASE;
use crate::params;
use crate::profile::Blacklist;
use crate::profile::SameName;
use crate::profile::TaintTiming;
use crate::symbols::Resolver;
use crate::taint::Lockdep;
use crate::this_module;
use crate::unload;
use crate::versions::VersionTable;

/// Flag of `finit_module()`: do as if the module recorded no symbol versions.
pub const IGNORE_MODVERSIONS: u32 = 1;
/// Flag of `finit_module()`: do as if the module had no vermagic.
pub const IGNORE_VERMAGIC: u32 = 2;
/// Flag of `finit_module()`: the file is compressed.
pub const COMPRESSED_FILE: u32 = 4;

/// Longest parameter text that `kmalloc` gives room for.
const KMALLOC_MAX: usize = 4 << 20;

/// How often a module of the same name is waited for, should the host's wait return without any change.
const WAITS: usize = 64;

/// What `finit_module()` finds out about its descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// It is a descriptor of an open file.
    pub open: bool,
    /// It is open for reading.
    pub readable: bool,
    /// A regular file.
    pub regular: bool,
    /// A directory.
    pub directory: bool,
    /// Somebody has it open for writing.
    pub open_for_writing: bool,
    /// Its size in bytes.
    pub size: u64,
}

impl FileFacts {
    /// A regular file of a size, open for reading and for nothing else.
    pub const fn regular(size: u64) -> FileFacts {
        FileFacts {
            open: true,
            readable: true,
            regular: true,
            directory: false,
            open_for_writing: false,
            size,
        }
    }
}

/// `init_module(image, len, args)`. `None` for the parameter text: it cannot be read.
pub fn init_module<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    image: &[u8],
    args: Option<&[u8]>,
) -> Result<ModuleId, LoadError> {
    stage(host, Stage::Entry, |_, numbers| {
        may_init_module(kernel)?;
        numbers.bytes("file", image.len() as u64);
        if image.len() < kernel.profile.arch.class().header_size() { Err(Reason::TooShort) } else { Ok(()) }
    })?;
    load_module(kernel, host, image, args, 0)
}

/// `finit_module(fd, args, flags)`: `facts` is what the descriptor is, `data` the contents of the file.
pub fn finit_module<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    facts: &FileFacts,
    data: &[u8],
    args: Option<&[u8]>,
    flags: u32,
) -> Result<ModuleId, LoadError> {
    let data = stage(host, Stage::Entry, |host, numbers| {
        may_init_module(kernel)?;
        let rules = &kernel.profile.rules;
        let known = if rules.compressed_flag { 7 } else { 3 };
        if flags & !known != 0 {
            return Err(Reason::BadFlags(flags & !known));
        }
        kernel_read_file(facts, rules.kernel_read_file)?;
        numbers.bytes("file", facts.size);
        if flags & COMPRESSED_FILE != 0 {
            module_decompress(kernel, host, data)
        } else {
            Ok(Cow::Borrowed(data))
        }
    })?;
    load_module(kernel, host, &data, args, flags)
}

fn may_init_module(kernel: &Kernel) -> Result<(), Reason> {
    if !kernel.capabilities.sys_module || kernel.options.modules_disabled {
        return Err(Reason::NotPermitted);
    }
    Ok(())
}

/// `kernel_read_file_from_fd()`, or before 4.6 `copy_module_from_fd()`.
fn kernel_read_file(facts: &FileFacts, modern: bool) -> Result<(), Reason> {
    if modern {
        if !facts.open || !facts.readable {
            return Err(Reason::NotReadable);
        }
        if !facts.regular {
            return Err(Reason::NotRegular);
        }
        if facts.open_for_writing {
            return Err(Reason::OpenForWriting);
        }
    } else if !facts.open {
        return Err(Reason::NotOpen);
    } else if facts.directory {
        return Err(Reason::IsDirectory);
    }
    match facts.size {
        0 => Err(Reason::EmptyFile),
        0x8000_0000.. => Err(Reason::FileTooLarge),
        _ if !facts.readable => Err(Reason::NotReadable),
        _ => Ok(()),
    }
}

fn module_decompress<H: Host>(
    kernel: &Kernel,
    host: &mut H,
    data: &[u8],
) -> Result<Cow<'static, [u8]>, Reason> {
    use crate::profile::Decompress;
    let Some(format) = kernel.profile.config.decompress else {
        return Err(Reason::Compressed { errno: Errno::EOPNOTSUPP });
    };
    let (magic, text): (&[u8], &str) = match format {
        Decompress::Gzip => (b"\x1f\x8b\x08", "not a gzip compressed module"),
        Decompress::Xz => (b"\xfd7zXZ\0", "not an xz compressed module"),
        Decompress::Zstd => (b"\x28\xb5\x2f\xfd", "not a zstd compressed module"),
    };
    if !data.starts_with(magic) {
        host.log(Level::Err, format_args!("{text}"));
        return Err(Reason::Compressed { errno: Errno::EINVAL });
    }
    host.decompress(format, data).map(Cow::Owned).map_err(|errno| Reason::Compressed { errno })
}

/// Runs a stage: tells the host of its start and its end, and gives its failure the stage's name.
fn stage<H: Host, T>(
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
fn load_module<H: Host>(
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
    // The host may stop here; then the module goes as after any other failure.
    if !host.go_on(Stage::DoInitModule) {
        init::unwind(kernel, host, id);
        return Err(LoadError::new(Stage::DoInitModule, Reason::Stopped));
    }
    run_init(kernel, host, id)?;
    Ok(id)
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
    let elf =
        stage(host, Stage::ElfValidityCheck, |host, numbers| validity(kernel, host, data, flags, numbers))?;
    let mut info = stage(host, Stage::SetupLoadInfo, |host, numbers| {
        setup_load_info(kernel, host, elf, flags, numbers)
    })?;
    let mut taints = Taints::empty();
    stage(host, Stage::Blacklisted, |host, _| blacklisted(kernel, host, &info))?;
    stage(host, Stage::RewriteSectionHeaders, |_, _| {
        info.rewrite_section_headers();
        Ok(())
    })?;
    let versions = VersionTable::new(&info);
    stage(host, Stage::CheckModstructVersion, |host, _| {
        check_modstruct_version(kernel, host, &info, &versions, &mut taints)
    })?;
    stage(host, Stage::CheckModinfo, |host, _| kernel.check_modinfo(host, &info, flags, &mut taints))?;
    if kernel.profile.rules.early_mod_check {
        stage(host, Stage::EarlyModCheck, |host, _| {
            module_patient_check_exists(kernel, host, info.module_name)
        })?;
    }

    let layouts = layout_and_allocate(kernel, host, &mut info)?;
    let (mut image, percpu_index) = stage(host, Stage::MoveModule, |host, numbers| {
        let pcpu = info.index.pcpu;
        let image = allocate_and_move(host, &mut info, &layouts, taken, numbers)?;
        Ok((image, pcpu))
    })?;
    host.event(&Event::Moved { info: &info, image: &ImageView::new(&image) });

    let id = stage(host, Stage::AddUnformedModule, |host, _| {
        add_unformed_module(kernel, host, &info, &image, taints)
    })?;
    taken.id = Some(id);
    stage(host, Stage::ModuleAugmentKernelTaints, |host, _| {
        kernel.module_augment_kernel_taints(host, id, &info, sig_ok);
        Ok(())
    })?;
    stage(host, Stage::PercpuModalloc, |host, numbers| {
        percpu_modalloc(kernel, host, id, &info, percpu_index, numbers)
    })?;
    stage(host, Stage::ModuleUnloadInit, |_, _| {
        // The base, and one reference that is held while init runs.
        if let Some(module) = kernel.module_mut(id) {
            module.refcnt = MODULE_REF_BASE + 1;
        }
        Ok(())
    })?;
    stage(host, Stage::FindModuleSections, |_, numbers| find_module_sections(kernel, id, &info, numbers))?;
    stage(host, Stage::CheckExportSymbolVersions, |host, _| {
        kernel.check_export_symbol_versions(host, id, &info)
    })?;
    stage(host, Stage::SetupModinfo, |_, _| {
        if let Some(module) = kernel.module_mut(id) {
            module.version = info.modinfo(b"version").map(<[u8]>::to_vec);
            module.srcversion = info.modinfo(b"srcversion").map(<[u8]>::to_vec);
        }
        Ok(())
    })?;

    let symbols = stage(host, Stage::SimplifySymbols, |host, numbers| {
        resolve_all(kernel, host, id, &info, versions, numbers)
    })?;
    stage(host, Stage::ApplyRelocations, |host, numbers| {
        relocate(kernel, host, &info, &symbols, &mut image, numbers)
    })?;
    host.event(&Event::Relocated { info: &info, image: &ImageView::new(&image) });
    stage(host, Stage::PostRelocation, |host, numbers| {
        post_relocation(kernel, host, id, &info, &symbols, &mut image, numbers)
    })?;
    stage(host, Stage::StrndupUser, |host, numbers| strndup_user(kernel, host, id, args, numbers))?;
    patch(kernel, host, &info, &mut image, Stage::FtraceModuleInit, |post| {
        post.ftrace_module_init();
        Ok(())
    })?;
    stage(host, Stage::CompleteFormation, |host, numbers| {
        complete_formation(kernel, host, id, &info, &image, numbers)
    })?;
    prepare_coming_module(kernel, host, id, &info, &mut image)?;
    host.event(&Event::Patched { info: &info, image: &ImageView::new(&image) });
    hand_over(kernel, host, id, image);

    stage(host, Stage::ParseArgs, |host, numbers| {
        let table = kernel.module(id).map_or((0, 0), |module| module.kp);
        let params = params::read_params(kernel, host, table);
        numbers.count("parameters", params.len());
        if let Some(module) = kernel.module_mut(id) {
            module.params = params;
        }
        let given = params::parse_args(kernel, host, id, args.unwrap_or(&[]));
        numbers.count("given", given.map_err(|errno| Reason::Params { errno })?);
        Ok(())
    })?;
    stage(host, Stage::ModSysfsSetup, |host, _| kernel.mod_sysfs_setup(host, id))?;
    if let Some(module) = kernel.module(id) {
        this_module::update(host, &kernel.profile, module);
    }
    Ok(id)
}

fn run_init<H: Host>(kernel: &mut Kernel, host: &mut H, id: ModuleId) -> Result<(), LoadError> {
    let stage = Stage::DoInitModule;
    host.event(&Event::Begin { stage });
    let mut numbers = Numbers::default();
    let result = init::do_init_module(kernel, host, id, &mut numbers);
    let result = result.map_err(|reason| LoadError::new(stage, reason));
    let errno = result.as_ref().map(|_| ()).map_err(LoadError::errno);
    host.event(&Event::End { stage, result: errno, numbers: &numbers.0 });
    result
}

fn validity<'data, H: Host>(
    kernel: &Kernel,
    host: &mut H,
    data: &'data [u8],
    flags: u32,
    numbers: &mut Numbers,
) -> Result<Elf<'data>, Reason> {
    let mut rules = kernel.profile.elf;
    rules.ignore_modversions = flags & IGNORE_MODVERSIONS != 0;
    let elf = elf_validity_check(data, &rules).map_err(|refusal| {
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
fn refuse<H: Host>(host: &mut H, name: &[u8], error: LinkError) -> Reason {
    error.log(name, &mut |level, line| host.log(level, line));
    Reason::Link(error)
}

fn setup_load_info<'data, H: Host>(
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
fn blacklisted<H: Host>(kernel: &Kernel, host: &mut H, info: &LoadInfo<'_>) -> Result<(), Reason> {
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

fn check_modstruct_version<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    info: &LoadInfo<'_>,
    versions: &VersionTable<'_>,
    taints: &mut Taints,
) -> Result<(), Reason> {
    let crc = host.kernel_export(b"module_layout").and_then(|export| export.crc);
    if kernel.check_version(host, info.name, taints, versions, b"module_layout", crc) {
        Ok(())
    } else {
        Err(Reason::ModuleLayout)
    }
}

/// `module_patient_check_exists()`: waits for a module of the same name that is still on its way.
fn module_patient_check_exists<H: Host>(
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
fn layout_and_allocate<H: Host>(
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

const fn region_name(kind: crate::RegionKind) -> &'static str {
    use crate::RegionKind;
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

fn allocate_and_move<H: Host>(
    host: &mut H,
    info: &mut LoadInfo<'_>,
    layouts: &[RegionLayout],
    taken: &mut Taken,
    numbers: &mut Numbers,
) -> Result<Image<H::Memory>, Reason> {
    let alloc = |kind, size| {
        let (base, bytes) = host.module_alloc(kind, size)?;
        taken.bases.push(base);
        Some((base, bytes))
    };
    let name = info.module_name;
    let image = move_module(info, layouts, alloc).map_err(|error| refuse(host, name, error.error))?;
    for region in &image.regions {
        numbers.address(region_name(region.layout.kind), region.base);
    }
    Ok(image)
}

/// `add_unformed_module()`: into the list, where only the loader sees it.
fn add_unformed_module<H: Host>(
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
fn percpu_modalloc<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    id: ModuleId,
    info: &LoadInfo<'_>,
    index: usize,
    numbers: &mut Numbers,
) -> Result<(), Reason> {
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
fn find_module_sections(
    kernel: &mut Kernel,
    id: ModuleId,
    info: &LoadInfo<'_>,
    numbers: &mut Numbers,
) -> Result<(), Reason> {
    let param = kernel.profile.param_layout().size as u64;
    let extable = if kernel.profile.patch.extable_relative {
        12
    } else {
        2 * kernel.profile.arch.class().pointer_size()
    };
    let constructors = kernel.profile.config.constructors;
    let Some(module) = kernel.module_mut(id) else { return Ok(()) };
    module.kp = info.section_objs(b"__param", param);
    module.extable = info.section_objs(b"__ex_table", extable as u64);
    numbers.count("parameters", module.kp.1 as usize);
    if constructors && info.find_sec(b".ctors") != 0 && info.find_sec(b".init_array") != 0 {
        return Err(Reason::TwoConstructorTables);
    }
    let allocated = info.sections.iter().enumerate().filter(|(_, section)| section.is_alloc());
    module.sections = allocated
        .map(|(index, section)| ModuleSection {
            name: info.section_name(index).to_vec(),
            address: section.addr,
            size: section.size,
            note: section.kind == SHT_NOTE,
        })
        .collect();
    Ok(())
}

fn resolve_all<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    id: ModuleId,
    info: &LoadInfo<'_>,
    versions: VersionTable<'_>,
    numbers: &mut Numbers,
) -> Result<Symbols, Reason> {
    let rules = kernel.profile.link.clone();
    let percpu = kernel.module(id).and_then(|module| module.percpu).map(|(cookie, _)| cookie);
    let modinfo = lkm_module::modinfo::Modinfo::new(info.contents(info.index.modinfo));
    let mut import_ns: Vec<_> = modinfo.get_all(b"import_ns").collect();
    import_ns.sort_unstable();
    let name = info.module_name.to_vec();
    let mut resolver =
        Resolver { kernel, host, id, name, info, versions, import_ns, last: None, missing: Vec::new() };
    match simplify_symbols(info, &rules, percpu, &mut resolver) {
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

fn relocate<H: Host>(
    kernel: &Kernel,
    host: &mut H,
    info: &LoadInfo<'_>,
    symbols: &Symbols,
    image: &mut Image<H::Memory>,
    numbers: &mut Numbers,
) -> Result<(), Reason> {
    let rules = &kernel.profile.link;
    let stats = if host.wants_relocations() {
        apply_relocations(info, rules, symbols, image, &mut Through(host))
    } else {
        apply_relocations(info, rules, symbols, image, &mut ())
    };
    let stats = stats.map_err(|error| refuse(host, info.module_name, error))?;
    numbers.count("sections", stats.sections);
    numbers.count("relocations", stats.relocations);
    let slots: usize = stats.plt_slots.iter().sum();
    if slots > 0 {
        numbers.count("PLT slots", slots);
    }
    if stats.overflows > 0 {
        numbers.count("cut off", stats.overflows);
    }
    Ok(())
}

/// Runs a group of later changes as a stage of its own.
fn patch<H: Host>(
    kernel: &Kernel,
    host: &mut H,
    info: &LoadInfo<'_>,
    image: &mut Image<H::Memory>,
    at: Stage,
    run: impl FnOnce(&mut Post<'_, '_, H::Memory>) -> Result<(), PostError>,
) -> Result<(), LoadError> {
    stage(host, at, |host, numbers| apply_patches(kernel, host, info, image, at, numbers, run))
}

fn apply_patches<H: Host>(
    kernel: &Kernel,
    host: &mut H,
    info: &LoadInfo<'_>,
    image: &mut Image<H::Memory>,
    stage: Stage,
    numbers: &mut Numbers,
    run: impl FnOnce(&mut Post<'_, '_, H::Memory>) -> Result<(), PostError>,
) -> Result<(), Reason> {
    let mut log = PatchLog { wanted: host.wants_patches(), ..PatchLog::default() };
    let facts = host.facts();
    let profile = &kernel.profile.patch;
    let result = run(&mut Post { image, info, profile, facts, observer: &mut log });
    numbers.count("changes", log.count);
    if !log.warnings.is_empty() {
        numbers.count("left alone", log.warnings.len());
    }
    host.event(&Event::Patches { stage, patches: &log.patches, masks: &log.masks, warnings: &log.warnings });
    result.map_err(|error| {
        let mut line = alloc::string::String::new();
        let site = |address: u64, out: &mut dyn core::fmt::Write| match kernel.module_address_lookup(address)
        {
            Some(place) => write!(out, "{}", Text(&place.symbol)),
            None => write!(out, "{address:#x}"),
        };
        if let Ok(Some(level)) = error.log(site, &mut line) {
            host.log(level, format_args!("{line}"));
        }
        Reason::Post(error)
    })
}

/// `post_relocation()`: exception table, per-cpu template, kallsyms, architecture.
fn post_relocation<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    id: ModuleId,
    info: &LoadInfo<'_>,
    symbols: &Symbols,
    image: &mut Image<H::Memory>,
    numbers: &mut Numbers,
) -> Result<(), Reason> {
    let at = Stage::PostRelocation;
    let mut tables: Option<Tables> = None;
    apply_patches(kernel, host, info, image, at, numbers, |post| {
        post.sort_extable();
        Ok(())
    })?;
    if let Some((cookie, _)) = kernel.module(id).and_then(|module| module.percpu) {
        let template =
            if image.percpu.is_empty() { info.contents(info.index.pcpu) } else { image.percpu.as_slice() };
        host.percpu_copy(cookie, template);
    }
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
    apply_patches(kernel, host, info, image, at, numbers, |post| post.module_finalize())?;

    let syms = formation::read_exports(image, info, kernel, "__ksymtab", "__kcrctab");
    let gpl_syms = formation::read_exports(image, info, kernel, "__ksymtab_gpl", "__kcrctab_gpl");
    numbers.count("exports", syms.len() + gpl_syms.len());
    let entry = this_module::entry(info, &kernel.profile);
    let words = crate::memory::Words::of(kernel.profile.arch);
    let Some(module) = kernel.module_mut(id) else { return Ok(()) };
    let pointer = |offset: Option<u64>| {
        let bytes = image.slice(module.this_module.wrapping_add(offset?), words.class.pointer_size())?;
        Some(words.class.pointer(words.endian, bytes)).filter(|&address| address != 0)
    };
    (module.init, module.exit) = (pointer(entry.init), pointer(entry.exit));
    module.struct_known = entry.known;
    (module.syms, module.gpl_syms) = (syms, gpl_syms);
    if let Some(module) = kernel.module(id).filter(|module| module.struct_known) {
        this_module::write_image(image, info, &kernel.profile, module, tables.as_ref());
    }
    Ok(())
}

/// `strndup_user()` of the parameter text.
fn strndup_user<H: Host>(
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

/// `complete_formation()`: from here on others see the module. Its permissions are set as soon as the notifiers have
/// made the last changes, in [`hand_over`].
fn complete_formation<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    id: ModuleId,
    info: &LoadInfo<'_>,
    image: &Image<H::Memory>,
    numbers: &mut Numbers,
) -> Result<(), Reason> {
    let _ = (info, image);
    formation::verify_exported_symbols(kernel, host, id)?;
    if let Some(module) = kernel.module_mut(id) {
        module.state = State::Coming;
    }
    if let Some(module) = kernel.module(id) {
        numbers.count("exports", module.syms.len() + module.gpl_syms.len());
        host.event(&Event::State { module });
    }
    Ok(())
}

/// `prepare_coming_module()`: what the notifiers of the state COMING change.
fn prepare_coming_module<H: Host>(
    kernel: &Kernel,
    host: &mut H,
    id: ModuleId,
    info: &LoadInfo<'_>,
    image: &mut Image<H::Memory>,
) -> Result<(), LoadError> {
    let at = Stage::PrepareComingModule;
    let harmless =
        Taints::OOT_MODULE | Taints::CRAP | Taints::UNSIGNED_MODULE | Taints::TEST | Taints::LIVEPATCH;
    let coming = kernel.module(id).map(|module| Coming {
        this_module: module.this_module,
        trace_events: harmless.contains(module.taints),
    });
    let klp_name =
        kernel.profile.link.livepatch && kernel.module(id).is_some_and(|module| module.name == b"vmlinux");
    if klp_name {
        host.log(Level::Err, format_args!("vmlinux.ko: invalid module name"));
        return Err(LoadError::new(at, Reason::Sysfs { errno: Errno::EINVAL }));
    }
    patch(kernel, host, info, image, at, |post| match coming {
        Some(coming) => post.prepare_coming(coming),
        None => Ok(()),
    })
}

/// The bytes are final: they go to the host, get their permissions and become code.
fn hand_over<H: Host>(kernel: &mut Kernel, host: &mut H, id: ModuleId, image: Image<H::Memory>) {
    for region in image.regions {
        host.module_commit(region);
    }
    let Some(module) = kernel.module(id) else { return };
    for memory in &module.memory {
        host.flush_icache(memory.base, memory.layout.size);
        formation::protect(kernel, host, memory, false);
    }
    this_module::update(host, &kernel.profile, module);
}

impl Kernel {
    /// The taints of origin, license and signature after the module is in the list.
    fn module_augment_kernel_taints<H: Host>(
        &mut self,
        host: &mut H,
        id: ModuleId,
        info: &LoadInfo<'_>,
        sig_ok: bool,
    ) {
        let Some(mut taints) = self.module_taints(id) else { return };
        let was_proprietary = self.taints.contains(Taints::PROPRIETARY_MODULE);
        if self.profile.rules.taint_timing == TaintTiming::AfterInsertion {
            self.taint_by_modinfo(host, info, &mut taints);
        }
        if self.profile.config.module_sig && !sig_ok {
            if self.once.first_unverified() {
                host.log(
                    Level::Notice,
                    format_args!(
                        "{}: module verification failed: signature and/or required key missing - tainting kernel",
                        Text(info.module_name)
                    ),
                );
            }
            self.add_taint_module(host, &mut taints, Taints::UNSIGNED_MODULE, Lockdep::StillOk);
        }
        self.taint_by_name(host, info.module_name, &mut taints, was_proprietary);
        if let Some(module) = self.module_mut(id) {
            module.sig_ok = sig_ok;
            module.taints = taints;
        }
    }
}

/// Removes a module by its identity, as [`unload::delete_module`] does by its name.
pub fn delete_module_by_id<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    id: ModuleId,
    flags: u32,
) -> Result<(), crate::UnloadError> {
    let name = kernel.module(id).map(|module| module.name.clone()).ok_or(crate::UnloadError::NotFound)?;
    unload::delete_module(kernel, host, Some(&name), flags)
}
