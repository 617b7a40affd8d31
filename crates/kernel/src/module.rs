//! The books on one module: what `struct module` knows.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use lkm_link::RegionKind;
use lkm_link::image::RegionLayout;

use crate::Kallsyms;
use crate::Param;
use crate::Taints;

/// Identifies a module in the books of a kernel; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModuleId(pub(crate) u64);

/// `enum module_state`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// In normal use.
    Live = 0,
    /// Complete, its init function has not returned yet.
    Coming = 1,
    /// On its way out.
    Going = 2,
    /// Still being set up; nobody sees it.
    Unformed = 3,
}

impl State {
    /// As `/sys/module/X/initstate` names it; an unformed module has no such file.
    pub const fn initstate(self) -> &'static str {
        match self {
            State::Live => "live",
            State::Coming => "coming",
            State::Going => "going",
            State::Unformed => "unformed",
        }
    }

    /// As `/proc/modules` names it.
    pub const fn proc_name(self) -> &'static str {
        match self {
            State::Live => "Live",
            State::Coming => "Loading",
            State::Going => "Unloading",
            State::Unformed => "Unformed",
        }
    }
}

/// One allocation of a loaded module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleMemory {
    /// Kind and sizes.
    pub layout: RegionLayout,
    /// Address.
    pub base: u64,
}

/// An allocated section of a loaded module, as `/sys/module/X/sections` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleSection {
    /// Its name.
    pub name: Vec<u8>,
    /// Its address.
    pub address: u64,
    /// Its size in bytes.
    pub size: u64,
    /// It is a note (`SHT_NOTE`).
    pub note: bool,
}

/// A symbol that a module exports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Its name.
    pub name: Vec<u8>,
    /// Its address.
    pub address: u64,
    /// Its CRC, if the module has a table of them.
    pub crc: Option<u32>,
    /// Its namespace; empty for none.
    pub namespace: Vec<u8>,
}

/// Tables of exports that kernels up to 5.11 know beside `__ksymtab` and `__ksymtab_gpl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OldTable {
    /// `__ksymtab_gpl_future`: for everybody, but other modules than GPL-compatible ones are warned.
    GplFuture,
    /// `__ksymtab_unused`: for everybody, with a warning.
    Unused,
    /// `__ksymtab_unused_gpl`: GPL-only, with a warning.
    UnusedGpl,
}

/// `MODULE_REF_BASE`: what a module's counter holds while nobody uses it.
pub const MODULE_REF_BASE: i32 = 1;

/// The books on one module.
#[derive(Clone, Debug)]
pub struct Module {
    /// Identity.
    pub id: ModuleId,
    /// Name, from `struct module` in the file.
    pub name: Vec<u8>,
    /// State.
    pub state: State,
    /// Taints of its own.
    pub taints: Taints,
    /// Counter of references with [`MODULE_REF_BASE`]; 0 while it goes.
    pub refcnt: i32,
    /// Its memory; without the init parts after init.
    pub memory: Vec<ModuleMemory>,
    /// Its allocated sections with contents.
    pub sections: Vec<ModuleSection>,
    /// Address of its `struct module` (`THIS_MODULE`).
    pub this_module: u64,
    /// Address of its init function, if it has one.
    pub init: Option<u64>,
    /// Address of its exit function, if it has one.
    pub exit: Option<u64>,
    /// Exports for everybody (`__ksymtab`), in table order.
    pub syms: Vec<Export>,
    /// GPL-only exports (`__ksymtab_gpl`), in table order.
    pub gpl_syms: Vec<Export>,
    /// Exports in the tables of old kernels, in the order in which these are searched.
    pub old_syms: Vec<(OldTable, Vec<Export>)>,
    /// It uses GPL-only symbols.
    pub using_gplonly_symbols: bool,
    /// Its signature was good.
    pub sig_ok: bool,
    /// Parameter `async_probe` was given.
    pub async_probe_requested: bool,
    /// Parameters, in table order; read when they are first needed.
    pub params: Vec<Param>,
    /// `__param`: address and number of records.
    pub kp: (u64, u64),
    /// `modinfo` version.
    pub version: Option<Vec<u8>>,
    /// `modinfo` srcversion.
    pub srcversion: Option<Vec<u8>>,
    /// Per-cpu memory: cookie and size in bytes.
    pub percpu: Option<(u64, u64)>,
    /// ARM: PLT slots in use in the core and in the init part.
    pub(crate) plt_slots: [usize; 2],
    /// Copy of the parameter text in general memory.
    pub args: Option<u64>,
    /// Texts of `charp` parameters in general memory.
    pub(crate) charps: BTreeSet<u64>,
    /// Modules that it uses, in the order of first use (`target_list`).
    pub uses: Vec<ModuleId>,
    /// Modules that use it, latest first (`source_list`).
    pub users: Vec<ModuleId>,
    /// Its symbols.
    pub kallsyms: Kallsyms,
    /// Constructors: address of the table of pointers and how many; none on kernels that do not call them.
    pub ctors: (u64, u64),
    /// Exception table: address and number of entries.
    pub extable: (u64, u64),
    /// Its `struct module` has its fields where the profile says.
    pub(crate) struct_known: bool,
    /// `/sys/module/NAME` exists.
    pub(crate) in_sysfs: bool,
}

impl Module {
    pub(crate) fn new(id: ModuleId, name: &[u8]) -> Module {
        Module {
            id,
            name: name.to_vec(),
            state: State::Unformed,
            taints: Taints::empty(),
            refcnt: 0,
            memory: Vec::new(),
            sections: Vec::new(),
            this_module: 0,
            init: None,
            exit: None,
            syms: Vec::new(),
            gpl_syms: Vec::new(),
            old_syms: Vec::new(),
            using_gplonly_symbols: false,
            sig_ok: false,
            async_probe_requested: false,
            params: Vec::new(),
            kp: (0, 0),
            version: None,
            srcversion: None,
            percpu: None,
            plt_slots: [0; 2],
            args: None,
            charps: BTreeSet::new(),
            uses: Vec::new(),
            users: Vec::new(),
            kallsyms: Kallsyms::default(),
            ctors: (0, 0),
            extable: (0, 0),
            struct_known: false,
            in_sysfs: false,
        }
    }

    /// All its exports, in the order in which its tables are searched.
    pub fn exports(&self) -> impl Iterator<Item = &Export> {
        self.syms.iter().chain(&self.gpl_syms).chain(self.old_syms.iter().flat_map(|(_, syms)| syms))
    }

    /// `module_refcount()`: references without the base; −1 while it goes.
    pub const fn refcount(&self) -> i32 {
        self.refcnt.wrapping_sub(MODULE_REF_BASE)
    }

    /// The allocation of a kind.
    pub fn region(&self, kind: RegionKind) -> Option<&ModuleMemory> {
        self.memory.iter().find(|memory| memory.layout.kind == kind)
    }

    /// `within_module()`: the address lies in its memory.
    pub fn contains(&self, address: u64) -> bool {
        self.memory.iter().any(|memory| address.wrapping_sub(memory.base) < memory.layout.size)
    }

    /// Bytes of its core memory, as `coresize` shows them.
    pub fn core_size(&self) -> u64 {
        self.memory
            .iter()
            .filter(|memory| !memory.layout.kind.is_init())
            .map(|memory| memory.layout.size)
            .sum()
    }

    /// Bytes of its init memory, as `initsize` shows them.
    pub fn init_size(&self) -> u64 {
        self.memory
            .iter()
            .filter(|memory| memory.layout.kind.is_init())
            .map(|memory| memory.layout.size)
            .sum()
    }

    /// Address that `/proc/modules` shows: of the core, or of the text from 6.4 on.
    pub fn core_address(&self) -> u64 {
        self.region(RegionKind::Core)
            .or_else(|| self.region(RegionKind::Text))
            .map_or(0, |memory| memory.base)
    }

    /// It has an init function but no exit function: it stays until it is forced out.
    pub const fn is_permanent(&self) -> bool {
        self.init.is_some() && self.exit.is_none()
    }
}
