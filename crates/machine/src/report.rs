//! What the machine found wrong, as data.

use core::fmt;

use crate::budget::Spent;
use crate::heap::HeapErrorKind;
use crate::heap::Origin;

/// Everything that runs in the guest is to end. The report is kept by the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stop;

/// Why a call into a module did not return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopKind {
    /// An oops; it is the last one of [`crate::Machine::oopses`].
    Oops,
    /// It called a kernel function that has no implementation here.
    UnknownFunction {
        /// Its name.
        name: String,
    },
    /// It used a variable of the kernel that does not exist here.
    UnknownVariable {
        /// Its name.
        name: String,
    },
    /// A budget is spent.
    Budget(Spent),
    /// It waits for an interrupt that will never come (`hlt`, `wfi`).
    Halt,
    /// Instructions that the emulator executes wrongly (AVX).
    Unsupported {
        /// Where they are.
        address: u64,
    },
    /// It waits for something that only another thread could do.
    Deadlock(String),
    /// The emulator failed.
    Emulator(&'static str),
}

impl fmt::Display for StopKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StopKind::Oops => f.write_str("oops"),
            StopKind::UnknownFunction { name } => {
                write!(f, "call of {name}, which the embedded kernel does not implement")
            }
            StopKind::UnknownVariable { name } => {
                write!(f, "use of {name}, a variable that the embedded kernel does not have")
            }
            StopKind::Budget(spent) => write!(f, "the budget of {spent} is spent"),
            StopKind::Halt => f.write_str("halted, waiting for an interrupt that cannot come"),
            StopKind::Unsupported { .. } => {
                f.write_str("AVX instructions, which the CPU emulator does not execute correctly")
            }
            StopKind::Deadlock(what) => write!(f, "waits forever: {what}"),
            StopKind::Emulator(text) => write!(f, "the CPU emulator failed: {text}"),
        }
    }
}

/// A call into a module that did not return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopReport {
    /// Why.
    pub kind: StopKind,
    /// Where: `function+offset/size [module]`. For a call, where it was made.
    pub at: String,
}

/// An oops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oops {
    /// The first line, as `BUG: kernel NULL pointer dereference, address: 0000000000000008`.
    pub title: String,
    /// Address of the instruction.
    pub pc: u64,
    /// The same as `function+offset/size [module]`.
    pub at: String,
    /// The instruction, disassembled, if it could be read.
    pub instruction: Option<String>,
    /// Registers by name.
    pub registers: Vec<(&'static str, u64)>,
    /// Return addresses found on the stack, as symbols.
    pub backtrace: Vec<String>,
}

/// A wrong access to heap memory, or a wrong free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeapReport {
    /// What is wrong.
    pub kind: HeapErrorKind,
    /// Stored rather than loaded; for a free, `false`.
    pub write: bool,
    /// Address touched or freed.
    pub address: u64,
    /// Bytes touched; 0 for a free.
    pub size: u64,
    /// Who did it: `function+offset/size [module]`.
    pub at: String,
    /// The kernel function that did it on the module's behalf.
    pub through: Option<&'static str>,
    /// The object nearby.
    pub object: Option<HeapObject>,
}

/// The object that a wrong access belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeapObject {
    /// Its address.
    pub address: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Where it came from.
    pub origin: Origin,
    /// Who took it.
    pub allocated_by: String,
    /// Who freed it.
    pub freed_by: Option<String>,
}

/// Memory that a module left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leak {
    /// Its address.
    pub address: u64,
    /// Bytes asked for.
    pub size: u64,
    /// Where it came from.
    pub origin: Origin,
    /// Who took it: `function+offset/size [module]`.
    pub allocated_by: String,
    /// The module.
    pub module: String,
}
