//! The functions and variables of the embedded kernel: tables of names with what they do.

use std::collections::HashMap;
use std::collections::HashSet;

use lkm_kernel::Callee;
use lkm_kernel::Kernel;
use lkm_link::Arch;
use lkm_module::Errno;

use crate::abi::Arguments;
use crate::abi::CallArguments;
use crate::heap::Site;
use crate::machine::Machine;
use crate::registry::Pair;
use crate::report::Stop;

mod arith;
pub(crate) mod data;
mod devices;
mod entry;
mod exports;
pub(crate) mod files;
mod numbers;
mod pairs;
mod print;
pub(crate) mod seq;
mod slab;
mod string;
mod sync;
mod time;
mod uaccess;

pub(crate) use data::DATA;
pub(crate) use data::Data;
pub(crate) use print::TEXT_MAX;

/// What a function returns, or that everything in the guest ends.
pub(crate) type Done = Result<u64, Stop>;

/// How a function is implemented.
#[derive(Clone, Copy)]
pub(crate) enum Handler {
    /// By code, with arguments and a return value.
    Call(fn(&mut Call<'_>) -> Done),
    /// By code that changes registers on its own: what compilers and hooks call, with conventions of their own.
    Raw(fn(&mut Machine) -> Result<(), Stop>),
    /// Registers something.
    Register(&'static Pair),
    /// Takes it back.
    Unregister(&'static Pair),
    /// Nothing but a value.
    Return(i64),
}

impl core::fmt::Debug for Handler {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Handler")
    }
}

/// A function of the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) handler: Handler,
}

/// A row of a table of functions.
const fn call(name: &'static str, handler: fn(&mut Call<'_>) -> Done) -> Function {
    Function { name, handler: Handler::Call(handler) }
}

const fn raw(name: &'static str, handler: fn(&mut Machine) -> Result<(), Stop>) -> Function {
    Function { name, handler: Handler::Raw(handler) }
}

const fn value(name: &'static str, value: i64) -> Function {
    Function { name, handler: Handler::Return(value) }
}

/// All functions, in no order.
pub(crate) fn functions() -> Vec<Function> {
    let tables: &[&[Function]] = &[
        entry::FUNCTIONS,
        print::FUNCTIONS,
        slab::FUNCTIONS,
        string::FUNCTIONS,
        numbers::FUNCTIONS,
        uaccess::FUNCTIONS,
        seq::FUNCTIONS,
        files::FUNCTIONS,
        devices::FUNCTIONS,
        sync::FUNCTIONS,
        time::FUNCTIONS,
        arith::FUNCTIONS,
    ];
    tables.iter().copied().flatten().copied().chain(pairs::functions()).collect()
}

/// Whether the kernel exports a symbol for GPL modules only.
pub(crate) fn gpl_only(name: &str) -> bool {
    exports::holds(exports::GPL_ONLY, name)
}

/// Whether it is a module that exports a symbol, and not the kernel image.
pub(crate) fn of_module(name: &str) -> bool {
    exports::holds(exports::OF_MODULES, name)
}

/// What the functions remember between calls.
#[derive(Debug)]
pub(crate) struct State {
    /// What the loader is calling.
    pub(crate) callee: Option<Callee>,
    /// The time that the variables show.
    pub(crate) jiffies: u64,
    /// Slab caches by their address.
    pub(crate) caches: HashMap<u64, slab::Cache>,
    /// Locks that are held.
    pub(crate) locks: HashSet<u64>,
    /// Work that is being done.
    pub(crate) working: HashSet<u64>,
    /// Modules that were asked for and are not there.
    pub(crate) requested: Vec<String>,
    /// State of the random numbers.
    pub(crate) random: u64,
    /// Open files by the address of their `struct file`.
    pub(crate) open: HashMap<u64, crate::file::Open>,
    /// Files.
    pub(crate) files: files::Files,
    /// Device numbers and devices.
    devices: devices::Devices,
    /// Open `seq_file`s by their address.
    pub(crate) seqs: HashMap<u64, seq::Seq>,
}

impl State {
    pub(crate) fn new() -> State {
        State {
            callee: None,
            jiffies: 0,
            caches: HashMap::new(),
            locks: HashSet::new(),
            working: HashSet::new(),
            requested: Vec::new(),
            random: 1,
            open: HashMap::new(),
            files: files::Files::default(),
            devices: devices::Devices::default(),
            seqs: HashMap::new(),
        }
    }
}

/// A call of a kernel function: the kernel around it and its arguments, to be taken in order.
pub(crate) struct Call<'a> {
    pub(crate) machine: &'a mut Machine,
    pub(crate) kernel: &'a mut Kernel,
    pub(crate) name: &'static str,
    pub(crate) arguments: CallArguments,
}

impl<'a> Call<'a> {
    pub(crate) fn new(machine: &'a mut Machine, kernel: &'a mut Kernel, name: &'static str) -> Call<'a> {
        let arguments = CallArguments::at_entry(machine.arch, machine.cpu.as_ref());
        Call { machine, kernel, name, arguments }
    }

    /// The next argument: a pointer, a `long`, a `size_t`.
    pub(crate) fn word(&mut self) -> u64 {
        self.arguments.word(self.machine.cpu.as_ref())
    }

    /// The next argument as `unsigned int`.
    pub(crate) fn u32(&mut self) -> u32 {
        self.word() as u32
    }

    /// The next argument as `int`.
    pub(crate) fn i32(&mut self) -> i32 {
        self.u32().cast_signed()
    }

    /// The next argument as `long`.
    pub(crate) fn long(&mut self) -> i64 {
        let value = self.word();
        if self.machine.arch == Arch::Arm {
            i64::from((value as u32).cast_signed())
        } else {
            value.cast_signed()
        }
    }

    /// The next 64-bit argument.
    pub(crate) fn u64(&mut self) -> u64 {
        self.arguments.double_word(self.machine.cpu.as_ref())
    }

    /// Who calls.
    pub(crate) fn site(&mut self) -> Site {
        let caller = self.machine.caller();
        self.machine.site(self.kernel, caller)
    }

    /// Calls a function of the module.
    pub(crate) fn call_guest(&mut self, function: u64, arguments: &[u64]) -> Done {
        self.machine.call_guest(self.kernel, function, arguments)
    }

    /// A negative error number.
    pub(crate) fn error(&self, errno: Errno) -> u64 {
        self.machine.error(errno)
    }
}

/// An `int` as a return value.
pub(crate) fn int(value: i32) -> u64 {
    i64::from(value).cast_unsigned()
}
