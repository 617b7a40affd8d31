//! What the patching rules are called and how they tell what they did.

use core::fmt;

use lkm_module::Errno;
use lkm_module::Level;

macro_rules! rules {
    ($($name:ident $bit:literal $text:literal $doc:literal,)*) => {
        /// A rule by which the kernel changes a module's bytes after relocation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Rule {
            $(#[doc = $doc] $name = $bit,)*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &[Rule] = &[$(Rule::$name,)*];

            /// Short name for reports: the table it works on, and what it does where one table has two rules.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Rule::$name => $text,)*
                }
            }

            /// The switch of this rule alone.
            pub const fn set(self) -> PatchRules {
                match self {
                    $(Rule::$name => PatchRules::$name,)*
                }
            }
        }

        bitflags::bitflags! {
            /// Which rules are applied.
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
            #[allow(non_upper_case_globals)]
            pub struct PatchRules: u32 {
                $(#[doc = $doc] const $name = 1 << $bit;)*
            }
        }
    };
}

rules! {
    ExTable 0 "__ex_table" "The exception table is sorted (`sort_extable`).",
    Paravirt 1 ".parainstructions" "Calls through `pv_ops` become direct calls or NOPs (`apply_paravirt`, up to 6.7).",
    Retpolines 2 ".retpoline_sites" "Branches to `__x86_indirect_thunk_*` become indirect branches (`apply_retpolines`).",
    Returns 3 ".return_sites" "Jumps to `__x86_return_thunk` become returns or jumps to the thunk in use (`apply_returns`).",
    Alternatives 4 ".altinstructions" "Instructions are replaced by what the CPU can do (`apply_alternatives`).",
    IbtSeal 5 ".ibt_endbr_seal" "ENDBR of functions that no one calls indirectly is overwritten (`apply_ibt_endbr` and `apply_seal_endbr`).",
    SmpLocks 6 ".smp_locks" "LOCK prefixes become DS prefixes on a single CPU (`alternatives_smp_module_add`).",
    Orc 7 ".orc_unwind" "The ORC unwind tables are sorted together (`unwind_module_init`).",
    PvTable 8 ".pv_table" "ARM: the distance from virtual to physical addresses goes into immediates (`fixup_pv_table`).",
    AltSmp 9 ".alt.smp.init" "ARM: instructions for one CPU, on hardware without SMP (`fixup_smp`).",
    FtraceSort 10 "__mcount_loc sort" "The table of call sites is sorted (`ftrace_process_locs`).",
    FtraceNops 11 "__mcount_loc" "Calls of the profiling hook become NOPs (`ftrace_make_nop`).",
    TraceEventFuncs 12 "trace_event_functions" "Missing printers of trace events are filled in (`register_trace_event`).",
    TraceEventModule 13 "trace_event_call.module" "Trace events point to their module (`__register_event`).",
    TracePrintFmt 14 "trace print_fmt" "Names of enums in the formats of trace events become numbers (`trace_event_eval_update`).",
    JumpTable 15 "__jump_table" "The jump table is sorted and its init bits are set (`jump_label_add_module`).",
    StaticKeyEntries 16 "static_key.entries" "The module's own static keys point to their entries.",
    JumpSites 17 "__jump_table sites" "Branches of foreign static keys that are not in their initial state are patched.",
    StaticCallTable 18 ".static_call_sites" "Trampolines become keys, the table is sorted and its init bits are set (`static_call_add_module`).",
    StaticCallSites 19 ".static_call_sites sites" "Calls through trampolines become direct calls (`arch_static_call_transform`).",
    SrcuInit 20 "___srcu_struct_ptrs" "Locks and delayed work of the module's `srcu_struct`s are initialised (`init_srcu_struct`, up to 6.2).",
    TraceEventLists 21 "trace_event_call lists" "Trace events are chained to each other (`__register_event`, `register_trace_event`).",
}

/// A kind of place that holds run-time state after patching: heap pointers, lists, numbers that are given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MaskRule {
    /// `struct trace_event_call`: the number given to it, its place in the hash, and neighbours in lists that are not
    /// the module's.
    TraceEventCall,
    /// `struct trace_event_class`: the list of fields, which are on the heap.
    TraceEventClass,
    /// `static_call_key.mods` of the module's own keys.
    StaticCallKeyMods,
    /// `srcu_struct`: its per-cpu allocation, and the time of its initialisation.
    SrcuStruct,
}

impl MaskRule {
    /// Short name for reports.
    pub const fn name(self) -> &'static str {
        match self {
            MaskRule::TraceEventCall => "trace_event_call (type, hash node, ends of lists)",
            MaskRule::TraceEventClass => "trace_event_class.fields",
            MaskRule::StaticCallKeyMods => "static_call_key.mods",
            MaskRule::SrcuStruct => "srcu_struct (sda, srcu_last_gp_end)",
        }
    }
}

/// What is odd about an entry that a rule left alone or that stopped it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WarningKind {
    /// The table's size is no multiple of its entries, or two tables that belong together differ in length.
    TableSize,
    /// The entry refers to memory that is not the module's; the kernel would read or write there.
    OutsideModule,
    /// The bytes at the place are no instruction.
    Undecodable,
    /// Other code stands at the place than the table promises.
    UnexpectedCode,
    /// The kernel would stop here with an oops (`BUG`).
    KernelBug,
    /// What the kernel would write depends on something that the facts do not tell; the place keeps its bytes.
    UnknownFact,
    /// There is more work than any real module causes; the rest of the table was left alone.
    TooMuchWork,
}

impl WarningKind {
    /// The kind in a few words.
    pub const fn text(self) -> &'static str {
        match self {
            WarningKind::TableSize => "the table's size does not fit its entries",
            WarningKind::OutsideModule => "refers to memory outside the module",
            WarningKind::Undecodable => "no instruction at this place",
            WarningKind::UnexpectedCode => "other code than expected at this place",
            WarningKind::KernelBug => "the kernel would stop with an oops here",
            WarningKind::UnknownFact => "depends on an unknown fact of the running kernel",
            WarningKind::TooMuchWork => "more work than any real module causes",
        }
    }
}

/// An entry that a rule left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PostWarning {
    /// The rule.
    pub rule: Rule,
    /// Address of the place or of the table entry.
    pub address: u64,
    /// What is odd.
    pub kind: WarningKind,
}

impl fmt::Display for PostWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:#x}: {}", self.rule.name(), self.address, self.kind.text())
    }
}

/// Is told of every byte range that a rule writes. All functions have empty bodies by default, and `()` is an
/// observer that wants nothing.
pub trait PatchObserver {
    /// Whether [`PatchObserver::patched`] is to be called: it costs a copy of the bytes before.
    fn wants_patches(&self) -> bool {
        true
    }

    /// A rule wrote `after` at `address`; `before` (of the same length) stood there. Equal bytes are reported too.
    fn patched(&mut self, rule: Rule, address: u64, before: &[u8], after: &[u8]) {
        let _ = (rule, address, before, after);
    }

    /// In a running kernel, `len` bytes at `address` hold run-time state from here on.
    fn masked(&mut self, rule: MaskRule, address: u64, len: usize) {
        let _ = (rule, address, len);
    }

    /// An entry was left alone.
    fn warning(&mut self, warning: PostWarning) {
        let _ = warning;
    }
}

impl PatchObserver for () {
    fn wants_patches(&self) -> bool {
        false
    }
}

/// Why the kernel refuses a module while patching it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostError {
    /// ARM: the module has `.alt.smp.init`, the hardware has no SMP, and the kernel lacks `CONFIG_SMP_ON_UP`.
    SmpModuleOnUp,
    /// A static call refers to a trampoline whose key the kernel does not know.
    StaticCallFixup {
        /// Address of the call site.
        site: u64,
    },
}

impl PostError {
    /// What the system call returns: EINVAL for each.
    pub const fn errno(&self) -> Errno {
        match self {
            PostError::SmpModuleOnUp | PostError::StaticCallFixup { .. } => Errno::EINVAL,
        }
    }

    /// The kernel's log line, if it has one. `site` shows an address as `%ps` does: symbol name, or hexadecimal.
    pub fn log(
        &self,
        site: impl Fn(u64, &mut dyn fmt::Write) -> fmt::Result,
        out: &mut dyn fmt::Write,
    ) -> Result<Option<Level>, fmt::Error> {
        match self {
            PostError::SmpModuleOnUp => Ok(None),
            PostError::StaticCallFixup { site: address } => {
                out.write_str("Failed to fixup __raw_static_call() usage at: ")?;
                site(*address, out)?;
                Ok(Some(Level::Warning))
            }
        }
    }
}

impl fmt::Display for PostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PostError::SmpModuleOnUp => f.write_str(
                "the module is built for SMP, and the kernel cannot patch it for hardware with one CPU",
            ),
            PostError::StaticCallFixup { site } => {
                write!(f, "the static call at {site:#x} names a trampoline that belongs to no exported key")
            }
        }
    }
}

impl core::error::Error for PostError {}
