//! What the loader writes into the module's own `struct module`.

use core::ops::DerefMut;

use lkm_link::Image;
use lkm_link::LoadInfo;
use lkm_link::RegionKind;
use lkm_link::kallsyms::Kallsyms as Tables;
use lkm_link::rules::MemoryModel;
use lkm_module::elf::Class;
use lkm_module::elf::SymbolTable;
use lkm_module::this_module::ThisModule;

use crate::Host;
use crate::Kernel;
use crate::Module;
use crate::Profile;
use crate::memory::Words;
use crate::profile::Field;

/// Where the functions of a module are told, and whether its `struct module` is the one of the profile.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Entry {
    /// Offset of the pointer to the init function.
    pub(crate) init: Option<u64>,
    /// Offset of the pointer to the exit function.
    pub(crate) exit: Option<u64>,
    /// The fields lie where the profile says.
    pub(crate) known: bool,
}

/// Finds the pointers by their relocations, else by the profile's offsets.
pub(crate) fn entry(info: &LoadInfo<'_>, profile: &Profile) -> Entry {
    let symbols = SymbolTable::of(&info.elf);
    let module = ThisModule::of(&info.elf, symbols.as_ref());
    let place = |target: Option<lkm_module::elf::Target<'_>>| target.map(|target| target.place);
    let (init, exit) = module.map_or((None, None), |module| (place(module.init), place(module.exit)));
    let layout = &profile.module_struct;
    let agrees = |found: Option<u64>, field| {
        found.is_none() || layout.offset(field).is_none() || found == layout.offset(field)
    };
    let size = info.sections.get(info.index.this_module).map_or(0, |section| section.size);
    let known = layout.size.is_none_or(|wanted| size >= wanted)
        && agrees(init, Field::Init)
        && agrees(exit, Field::Exit);
    let fallback = |field| layout.offset(field).filter(|_| known);
    Entry {
        init: init.or_else(|| fallback(Field::Init)),
        exit: exit.or_else(|| fallback(Field::Exit)),
        known,
    }
}

/// Writes fields at their places.
struct Writer<'a> {
    profile: &'a Profile,
    words: Words,
    base: u64,
    put: &'a mut dyn FnMut(u64, &[u8]),
}

impl Writer<'_> {
    fn at(&self, field: Field) -> Option<u64> {
        self.profile.module_struct.offset(field).map(|offset| self.base.wrapping_add(offset))
    }

    fn raw_pointer(&mut self, address: u64, value: u64) {
        match self.words.class {
            Class::Elf32 => (self.put)(address, &self.words.endian.u32_bytes(value as u32)),
            Class::Elf64 => (self.put)(address, &self.words.endian.u64_bytes(value)),
        }
    }

    fn raw_u32(&mut self, address: u64, value: u64) {
        (self.put)(address, &self.words.endian.u32_bytes(value as u32));
    }

    fn pointer(&mut self, field: Field, value: u64) {
        if let Some(at) = self.at(field) {
            self.raw_pointer(at, value);
        }
    }

    fn u32(&mut self, field: Field, value: u64) {
        if let Some(at) = self.at(field) {
            self.raw_u32(at, value);
        }
    }

    fn byte(&mut self, field: Field, value: u8) {
        if let Some(at) = self.at(field) {
            (self.put)(at, &[value]);
        }
    }

    /// An empty list: both pointers at itself.
    fn list(&mut self, field: Field) {
        if let Some(at) = self.at(field) {
            self.raw_pointer(at, at);
            self.raw_pointer(at.wrapping_add(self.words.size()), at);
        }
    }
}

/// A table that `find_module_sections` looks for: section, bytes of an entry (0 for a pointer), fields.
const TABLES: &[(&str, u64, Field, Field)] = &[
    (".noinstr.text", 1, Field::NoinstrTextStart, Field::NoinstrTextSize),
    ("___srcu_struct_ptrs", 0, Field::SrcuStructPtrs, Field::NumSrcuStructs),
    ("__bpf_raw_tp_map", 32, Field::BpfRawEvents, Field::NumBpfRawEvents),
    ("_ftrace_events", 0, Field::TraceEvents, Field::NumTraceEvents),
    ("_ftrace_eval_map", 0, Field::TraceEvals, Field::NumTraceEvals),
    ("__trace_printk_fmt", 0, Field::TraceBprintkFmtStart, Field::NumTraceBprintkFmt),
    ("__mcount_loc", 0, Field::FtraceCallsites, Field::NumFtraceCallsites),
    (".kprobes.text", 1, Field::KprobesTextStart, Field::KprobesTextSize),
    ("_kprobe_blacklist", 0, Field::KprobeBlacklist, Field::NumKprobeBlacklist),
    (".static_call_sites", 8, Field::StaticCallSites, Field::NumStaticCallSites),
    (".printk_index", 0, Field::PrintkIndexStart, Field::PrintkIndexSize),
    ("_error_injection_whitelist", 16, Field::EiFuncs, Field::NumEiFuncs),
];

/// Writes what is known before the memory is handed over: layouts, tables, counts, kallsyms, state.
pub(crate) fn write_image<B: DerefMut<Target = [u8]>>(
    image: &mut Image<B>,
    info: &LoadInfo<'_>,
    profile: &Profile,
    module: &Module,
    tables: Option<&Tables>,
) {
    let mut put = |address: u64, bytes: &[u8]| {
        if let Some(place) = image.slice_mut(address, bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    let words = Words::of(profile.arch);
    let mut writer = Writer { profile, words, base: module.this_module, put: &mut put };
    layouts(&mut writer, module);
    find_module_sections(&mut writer, info);
    if let Some(tables) = tables {
        kallsyms(&mut writer, tables);
    }
    arch_plts(&mut writer, info, module);
    writer.list(Field::ParamLockWaitList);
    writer.list(Field::SourceList);
    writer.list(Field::TargetList);
    writer.byte(Field::UsingGplonlySymbols, u8::from(module.using_gplonly_symbols));
    writer.byte(Field::SigOk, u8::from(module.sig_ok));
    writer.byte(Field::Klp, u8::from(info.livepatch));
    if profile.link.livepatch {
        writer.byte(Field::KlpAlive, 1);
    }
    if let Some((cookie, size)) = module.percpu {
        writer.pointer(Field::Percpu, cookie);
        writer.u32(Field::PercpuSize, size);
    }
    live(&mut writer, module);
}

/// ARM: where the PLTs are. The headers are those of the temporary copy; the address of the slots is
/// noted with the first slot.
fn arch_plts(writer: &mut Writer<'_>, info: &LoadInfo<'_>, module: &Module) {
    let size = info.elf.class.section_header_size() as u64;
    let headers = info.copy_base.wrapping_add(info.elf.header.shoff);
    let fields = [Field::ArchCorePlt, Field::ArchInitPlt].into_iter();
    for ((field, section), slots) in fields.zip(info.plt_sections()).zip(module.plt_slots) {
        let (Some(at), true) = (writer.at(field), section != 0) else { continue };
        let word = writer.words.size();
        writer.raw_pointer(at, headers.wrapping_add(size.wrapping_mul(section as u64)));
        if slots > 0 {
            writer.raw_pointer(at.wrapping_add(word), info.section_addr(section));
            writer.raw_u32(at.wrapping_add(2 * word), slots as u64);
        }
    }
}

/// The fields that change while the module lives.
fn live(writer: &mut Writer<'_>, module: &Module) {
    writer.u32(Field::State, module.state as u64);
    writer.u32(Field::Refcnt, module.refcnt as u32 as u64);
    writer.pointer(Field::Taints, module.taints.bits());
    writer.byte(Field::AsyncProbeRequested, u8::from(module.async_probe_requested));
    writer.pointer(Field::Args, module.args.unwrap_or(0));
    writer.pointer(Field::MkobjMod, if module.in_sysfs { module.this_module } else { 0 });
}

fn layouts(writer: &mut Writer<'_>, module: &Module) {
    let size = u64::from(writer.profile.module_struct.layout_size);
    let word = writer.words.size();
    let (fields, kinds): (&[Field], &[RegionKind]) = match writer.profile.link.memory {
        MemoryModel::CoreInit => {
            (&[Field::CoreLayout, Field::InitLayout], &[RegionKind::Core, RegionKind::Init])
        }
        MemoryModel::SevenTypes => (
            &[Field::Mem],
            &[
                RegionKind::Text,
                RegionKind::Data,
                RegionKind::RoData,
                RegionKind::RoAfterInit,
                RegionKind::InitText,
                RegionKind::InitData,
                RegionKind::InitRoData,
            ],
        ),
    };
    for (index, kind) in kinds.iter().enumerate() {
        let at = match fields {
            [mem] => writer.at(*mem).map(|at| at.wrapping_add(index as u64 * size)),
            fields => fields.get(index).and_then(|field| writer.at(*field)),
        };
        let Some(at) = at else { continue };
        let memory = module.region(*kind);
        let layout = memory.map(|memory| memory.layout);
        writer.raw_pointer(at, memory.map_or(0, |memory| memory.base));
        writer.raw_u32(at.wrapping_add(word), layout.map_or(0, |layout| layout.size));
        let mut node = at.wrapping_add(word + 4);
        if fields.len() > 1 {
            let sizes = layout.map(|layout| [layout.text_size, layout.ro_size, layout.ro_after_init_size]);
            for size in sizes.unwrap_or([0; 3]) {
                writer.raw_u32(node, size);
                node = node.wrapping_add(4);
            }
        }
        // The tree node starts with a pointer to the module.
        let node = node.wrapping_sub(at).next_multiple_of(word).wrapping_add(at);
        writer.raw_pointer(node, module.this_module);
    }
}

fn find_module_sections(writer: &mut Writer<'_>, info: &LoadInfo<'_>) {
    let profile = writer.profile;
    let word = writer.words.size();
    let ksymtab = profile.rules.ksymtab.entry_size(profile.arch.class()) as u64;
    let prel = if profile.patch.prel32 { 4 } else { word };
    let jump = if profile.patch.jump_table_relative { 16 } else { 3 * word };
    let extable = if profile.patch.extable_relative() { 12 } else { 2 * word };
    let own = [
        ("__param", profile.param_layout().size as u64, Field::Kp, Field::NumKp),
        ("__ksymtab", ksymtab, Field::Syms, Field::NumSyms),
        ("__ksymtab_gpl", ksymtab, Field::GplSyms, Field::NumGplSyms),
        ("__tracepoints_ptrs", prel, Field::TracepointsPtrs, Field::NumTracepoints),
        ("__jump_table", jump, Field::JumpEntries, Field::NumJumpEntries),
        ("__ex_table", extable, Field::Extable, Field::NumExentries),
    ];
    for &(name, size, table, count) in own.iter().chain(TABLES) {
        let (address, number) = info.section_objs(name.as_bytes(), if size == 0 { word } else { size });
        writer.pointer(table, address);
        writer.u32(count, number);
    }
    writer.pointer(Field::Crcs, info.section_addr(info.find_sec(b"__kcrctab")));
    writer.pointer(Field::GplCrcs, info.section_addr(info.find_sec(b"__kcrctab_gpl")));
    let (btf, size) = info.any_section_objs(b".BTF", 1);
    writer.pointer(Field::BtfData, btf);
    writer.u32(Field::BtfDataSize, size);
    let (btf, size) = info.any_section_objs(b".BTF.base", 1);
    writer.pointer(Field::BtfBaseData, btf);
    writer.u32(Field::BtfBaseDataSize, size);
    let (bugs, count) = info.any_section_objs(b"__bug_table", 12);
    writer.pointer(Field::BugTable, bugs);
    writer.u32(Field::NumBugs, count);

    let (orc, orc_ip) = (info.find_sec(b".orc_unwind"), info.find_sec(b".orc_unwind_ip"));
    if orc != 0 && orc_ip != 0 {
        writer.u32(Field::NumOrcs, info.section_objs(b".orc_unwind_ip", 4).1);
        writer.pointer(Field::OrcUnwindIp, info.section_addr(orc_ip));
        writer.pointer(Field::OrcUnwind, info.section_addr(orc));
    }
}

fn kallsyms(writer: &mut Writer<'_>, tables: &Tables) {
    writer.pointer(Field::Kallsyms, tables.address);
    let Some(at) = writer.at(Field::CoreKallsyms) else { return };
    let word = writer.words.size();
    let core = tables.core;
    writer.raw_pointer(at, core.symtab);
    writer.raw_u32(at.wrapping_add(word), u64::from(core.num_symtab));
    writer.raw_pointer(at.wrapping_add(2 * word), core.strtab);
    if writer.profile.link.typetab {
        writer.raw_pointer(at.wrapping_add(3 * word), core.typetab);
    }
}

/// Brings the fields that change up to date in memory.
pub(crate) fn update<H: Host>(host: &mut H, profile: &Profile, module: &Module) {
    if !module.struct_known || module.this_module == 0 {
        return;
    }
    let mut put = |address: u64, bytes: &[u8]| {
        let _ = host.write(address, bytes);
    };
    let words = Words::of(profile.arch);
    live(&mut Writer { profile, words, base: module.this_module, put: &mut put }, module);
}

/// Init is over: its layout and symbols are forgotten.
pub(crate) fn update_after_init<H: Host>(host: &mut H, profile: &Profile, module: &Module) {
    if !module.struct_known || module.this_module == 0 {
        return;
    }
    let mut put = |address: u64, bytes: &[u8]| {
        let _ = host.write(address, bytes);
    };
    let words = Words::of(profile.arch);
    let mut writer = Writer { profile, words, base: module.this_module, put: &mut put };
    layouts(&mut writer, module);
    if profile.link.mod_kallsyms
        && let Some(core) = writer.at(Field::CoreKallsyms)
    {
        writer.pointer(Field::Kallsyms, core);
    }
    live(&mut writer, module);
}

/// Chains a module and its neighbours in the kernel's two lists of modules: of all, and of those whose `BUG()`s are known.
/// The address of a list's head is a fact of the running kernel; where it is not known, nothing is written.
pub(crate) fn chain<H: Host>(host: &mut H, kernel: &Kernel, near: usize) {
    let words = Words::of(kernel.profile.arch);
    for (field, head) in [(Field::List, "modules"), (Field::BugList, "module_bug_list")] {
        let Some(offset) = kernel.profile.module_struct.offset(field) else { continue };
        let head = host.facts().symbol(head);
        let place = |index: Option<usize>| match index.and_then(|index| kernel.modules.get(index)) {
            Some(module) => Some(module.this_module.wrapping_add(offset)),
            None => head,
        };
        for index in near.saturating_sub(1)..near.saturating_add(2) {
            let Some(module) = kernel.modules.get(index) else { break };
            if !module.struct_known || module.this_module == 0 {
                continue;
            }
            let at = module.this_module.wrapping_add(offset);
            let (next, previous) = (place(index.checked_add(1)), place(index.checked_sub(1)));
            for (at, to) in [(at, next), (at.wrapping_add(words.size()), previous)] {
                if let Some(to) = to {
                    let _ = words.write_pointer(host, at, to);
                }
            }
        }
    }
}
