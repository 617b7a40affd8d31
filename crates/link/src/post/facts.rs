//! What patching asks the running kernel.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

/// A function of the `pv_ops` table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PvOp {
    /// It does nothing: the call is patched out.
    Nop,
    /// Calls go to this address.
    Call(u64),
}

/// What becomes of branches to the retpoline thunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Retpolines {
    /// They stay (`X86_FEATURE_RETPOLINE` without the LFENCE form).
    #[default]
    Keep,
    /// They become plain indirect branches.
    Indirect {
        /// After an LFENCE (`X86_FEATURE_RETPOLINE_LFENCE`).
        lfence: bool,
        /// Those in the lower half of a cache line go to a thunk instead (`X86_FEATURE_INDIRECT_THUNK_ITS`).
        its: bool,
    },
}

/// What becomes of jumps to the return thunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReturnThunk {
    /// A plain return (without `X86_FEATURE_RETHUNK`).
    #[default]
    Ret,
    /// A jump to the thunk in use.
    Thunk(u64),
    /// A jump to the ITS thunk for returns in the lower half of a cache line, a plain return for the others.
    ItsThunk(u64),
}

impl ReturnThunk {
    /// Where a return at `site` jumps to; `None` for a plain return.
    pub const fn target(self, site: u64) -> Option<u64> {
        match self {
            ReturnThunk::Thunk(target) => Some(target),
            ReturnThunk::ItsThunk(target) if site & 0x20 == 0 => Some(target),
            ReturnThunk::Ret | ReturnThunk::ItsThunk(_) => None,
        }
    }

    /// The thunk, wherever the return stands (for conditional returns).
    pub const fn any(self) -> Option<u64> {
        match self {
            ReturnThunk::Ret => None,
            ReturnThunk::Thunk(target) | ReturnThunk::ItsThunk(target) => Some(target),
        }
    }
}

/// State of a static key that does not belong to the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaticKey {
    /// It is on now (`enabled` > 0).
    pub enabled: bool,
    /// It was declared as true (bit 0 of its type).
    pub initially: bool,
}

/// What a static call calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaticCallTarget {
    /// Nothing (`func` is NULL).
    Null,
    /// This function.
    Func(u64),
    /// `__static_call_return0`.
    Return0,
}

/// What a static call site's key field refers to, if it is not in the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trampoline {
    /// No kernel code: it is the key itself.
    NotText,
    /// A trampoline; its key is at this address.
    Key(u64),
    /// Kernel code, but no trampoline of an exported static call.
    Unknown,
}

/// What the running kernel knows and the bytes of a module depend on.
///
/// A comparison with a live kernel answers from that kernel; [`PlainFacts`] answers from data.
pub trait KernelFacts {
    /// Address of a kernel symbol: `__x86_return_thunk`, `__x86_indirect_thunk_array` (or `__x86_indirect_thunk_rax`
    /// and so on), `__fentry__`, `__gnu_mcount_nc`, `trace_nop_print`, `__static_call_return`,
    /// `__static_call_return0`, `process_srcu`, `delayed_work_timer_fn`, `ftrace_events`,
    /// `ftrace_event_list`.
    fn symbol(&self, name: &str) -> Option<u64>;

    /// x86: the boot CPU has feature or bug `number` (word times 32 plus bit, as in `cpufeatures.h`).
    fn cpu_has(&self, number: u16) -> bool;

    /// x86: function `number` of `pv_ops`. `None`: unknown, the call stays.
    fn pv_op(&self, number: u8) -> Option<PvOp>;

    /// x86: address of `pv_ops`' slot whose function is called through it (from 6.8 on, where the calls are
    /// alternatives): what stands in that slot.
    fn pv_slot(&self, address: u64) -> Option<PvOp>;

    /// x86: what becomes of retpolines.
    fn retpolines(&self) -> Retpolines;

    /// x86: address of the `index`th page that the kernel allocated for this module's thunks of indirect branches on
    /// ITS CPUs.
    fn its_page(&self, index: usize) -> Option<u64> {
        let _ = index;
        None
    }

    /// x86: what becomes of returns.
    fn return_thunk(&self) -> ReturnThunk;

    /// x86: the kernel patched itself for a single CPU.
    fn up_patched(&self) -> bool;

    /// ARM: the hardware is SMP.
    fn is_smp(&self) -> bool;

    /// ARM: `PHYS_OFFSET - PAGE_OFFSET` in bytes. `None`: unknown, the immediates stay.
    fn pv_offset(&self) -> Option<i64>;

    /// State of the kernel's or another module's static key at `address`. `None`: unknown, taken as initial.
    fn static_key(&self, address: u64) -> Option<StaticKey>;

    /// Target of the static call whose key (not the module's) is at `address`. `None`: unknown, the site stays.
    fn static_call(&self, key: u64) -> Option<StaticCallTarget>;

    /// What stands at `address`, to which a static call site refers as its key.
    fn static_call_trampoline(&self, address: u64) -> Trampoline;
}

/// Facts from plain data. [`PlainFacts::default`] is a kernel on one CPU without optional features, with retpolines
/// kept and plain returns, that knows no symbol; static keys are in their initial state.
#[derive(Clone, Debug, Default)]
pub struct PlainFacts {
    /// Kernel symbols by name.
    pub symbols: BTreeMap<String, u64>,
    /// CPU features and bugs by number.
    pub features: BTreeSet<u16>,
    /// Functions of `pv_ops` by number.
    pub pv_ops: BTreeMap<u8, PvOp>,
    /// Address of `pv_ops`; 0 if not known.
    pub pv_ops_address: u64,
    /// What becomes of retpolines.
    pub retpolines: Retpolines,
    /// Pages for ITS thunks.
    pub its_pages: Vec<u64>,
    /// What becomes of returns.
    pub return_thunk: ReturnThunk,
    /// The kernel patched itself for a single CPU.
    pub up_patched: bool,
    /// The hardware has SMP.
    pub smp: bool,
    /// ARM's `PHYS_OFFSET - PAGE_OFFSET`, in bytes.
    pub pv_offset: Option<i64>,
    /// States of static keys by address.
    pub static_keys: BTreeMap<u64, StaticKey>,
    /// Targets of static calls by address of their key.
    pub static_calls: BTreeMap<u64, StaticCallTarget>,
    /// Addresses of keys by address of their trampoline.
    pub trampolines: BTreeMap<u64, u64>,
    /// The kernel's code, start and end; where a static call site refers to it, a trampoline must stand.
    pub text: core::ops::Range<u64>,
}

impl PlainFacts {
    /// Adds a kernel symbol.
    pub fn with_symbol(mut self, name: &str, address: u64) -> PlainFacts {
        self.symbols.insert(name.to_owned(), address);
        self
    }
}

impl KernelFacts for PlainFacts {
    fn symbol(&self, name: &str) -> Option<u64> {
        self.symbols.get(name).copied()
    }

    fn cpu_has(&self, number: u16) -> bool {
        self.features.contains(&number)
    }

    fn pv_op(&self, number: u8) -> Option<PvOp> {
        self.pv_ops.get(&number).copied()
    }

    fn pv_slot(&self, address: u64) -> Option<PvOp> {
        let offset = address.checked_sub(self.pv_ops_address)?;
        if self.pv_ops_address == 0 || offset % 8 != 0 {
            return None;
        }
        self.pv_op(u8::try_from(offset / 8).ok()?)
    }

    fn retpolines(&self) -> Retpolines {
        self.retpolines
    }

    fn its_page(&self, index: usize) -> Option<u64> {
        self.its_pages.get(index).copied()
    }

    fn return_thunk(&self) -> ReturnThunk {
        self.return_thunk
    }

    fn up_patched(&self) -> bool {
        self.up_patched
    }

    fn is_smp(&self) -> bool {
        self.smp
    }

    fn pv_offset(&self) -> Option<i64> {
        self.pv_offset
    }

    fn static_key(&self, address: u64) -> Option<StaticKey> {
        self.static_keys.get(&address).copied()
    }

    fn static_call(&self, key: u64) -> Option<StaticCallTarget> {
        self.static_calls.get(&key).copied()
    }

    fn static_call_trampoline(&self, address: u64) -> Trampoline {
        match self.trampolines.get(&address) {
            Some(key) => Trampoline::Key(*key),
            None if self.text.contains(&address) => Trampoline::Unknown,
            None => Trampoline::NotText,
        }
    }
}
