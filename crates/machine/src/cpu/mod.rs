//! The processor, as little of it as the machine needs.
//!
//! The style is stop and return: [`Cpu::run`] comes back whenever the guest does something that the host has to act
//! on, and is called again to continue. Nothing of the machine runs inside the emulator, so that a host function may
//! run the guest again, and so that any other engine fits behind the trait.

use core::fmt;
use std::rc::Rc;
use std::time::Instant;

use lkm_link::Arch;

mod host_check;
mod pages;
mod unicorn;
mod vector;

#[cfg(test)]
mod tests;

/// What a page may be used for by the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    /// Loads.
    pub read: bool,
    /// Stores.
    pub write: bool,
    /// Instruction fetches.
    pub execute: bool,
}

impl Access {
    /// Nothing at all.
    pub const NONE: Access = Access { read: false, write: false, execute: false };
    /// Constants.
    pub const READ: Access = Access { read: true, write: false, execute: false };
    /// Data.
    pub const READ_WRITE: Access = Access { read: true, write: true, execute: false };
    /// Code.
    pub const READ_EXECUTE: Access = Access { read: true, write: false, execute: true };
    /// Code of kernels that do not protect it.
    pub const ALL: Access = Access { read: true, write: true, execute: true };

    /// Whether it includes an attempt of this kind.
    pub const fn allows(self, attempt: Attempt) -> bool {
        match attempt {
            Attempt::Read => self.read,
            Attempt::Write => self.write,
            Attempt::Fetch => self.execute,
        }
    }
}

/// What the guest tried to do with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attempt {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Fetch,
}

/// Why the processor stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Control went to an address in the trap ranges (see [`Cpu::trap_range`]); nothing there was executed.
    Trap(u64),
    /// Memory that is not there, or not for this use. The program counter is at the instruction.
    Fault {
        /// What was tried.
        attempt: Attempt,
        /// Where; of an access that spans two pages, where it begins.
        address: u64,
        /// Bytes of the access; 0 if not known.
        size: u32,
        /// The page is mapped, so that it is the permission that is missing.
        mapped: bool,
    },
    /// An instruction that the processor does not have. The program counter is at it.
    Undefined,
    /// A breakpoint instruction (`int3`, `bkpt`). The program counter is at it or behind it, as the processor has it.
    Breakpoint,
    /// Division by zero. The program counter is at the instruction.
    DivideError,
    /// Another exception or software interrupt, by the architecture's number.
    Exception(u32),
    /// The budget is spent.
    Limit,
    /// The deadline has passed.
    Deadline,
    /// The processor waits for an interrupt that will never come. The program counter is behind the instruction.
    Halt,
    /// A real instruction that the emulator is known to execute wrongly (AVX). It has not been executed.
    Unsupported {
        /// Where it is.
        address: u64,
    },
    /// The emulator failed in a way of its own.
    Emulator(&'static str),
}

/// How long a run may last.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Instructions; counted in blocks, so that this is a budget and not an exact number.
    pub instructions: u64,
    /// Wall time.
    pub deadline: Option<Instant>,
}

/// A finished run.
#[derive(Clone, Copy, Debug)]
pub struct Ran {
    /// Why it ended.
    pub exit: Exit,
    /// Instructions spent, estimated as the bytes of the executed blocks divided by four.
    pub spent: u64,
}

/// A register by what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Register {
    /// Program counter.
    Pc,
    /// Stack pointer.
    Sp,
    /// Where the return value goes.
    Return,
    /// The upper half of a return value of two words.
    ReturnHigh,
    /// The link register; on x86 there is none, and it reads as 0.
    Link,
    /// The n-th register that carries an argument. Reads as 0 beyond the last one.
    Argument(u8),
    /// Base of the per-cpu area: `gs` on x86_64, TPIDRPRW on ARM.
    PerCpu,
    /// Pointer to the current task where the processor holds it: TPIDRURO on ARM.
    Current,
    /// The n-th general register in the instruction encoding's order (x86_64: rax rcx rdx rbx rsp rbp rsi rdi r8-r15,
    /// ARM: r0-r15).
    General(u8),
    /// Flags: RFLAGS, CPSR.
    Flags,
}

/// Registers kept while a host function runs other guest code.
#[derive(Clone, Debug, Default)]
pub struct Saved(Vec<u64>);

/// Judges accesses to a watched range.
pub trait Watcher {
    /// Whether an access is in order.
    fn allows(&self, address: u64, size: u64, write: bool) -> bool;
}

/// An access that the watcher found wrong. It was executed all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Address of the instruction.
    pub pc: u64,
    /// Stack pointer at it.
    pub sp: u64,
    /// Where it touched memory.
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// Stored rather than loaded.
    pub write: bool,
}

/// Memory cannot be had, or the engine is not available.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuError {
    /// The host forbids memory that is both writable and executable, which the emulator's translator needs.
    WriteExecuteForbidden,
    /// The host's address space is too small for the emulator, which takes 1 GiB for its code buffer.
    AddressSpace,
    /// The emulator refused.
    Engine(&'static str),
}

impl fmt::Display for CpuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CpuError::WriteExecuteForbidden => f.write_str(
                "this host forbids memory that is writable and executable, which the CPU emulator needs for its translator",
            ),
            CpuError::AddressSpace => {
                f.write_str("this process may not have the 1 GiB of address space that the CPU emulator reserves")
            }
            CpuError::Engine(text) => write!(f, "the CPU emulator failed: {text}"),
        }
    }
}

impl core::error::Error for CpuError {}

/// A processor with its memory.
pub trait Cpu {
    /// Maps zeroed pages. Base and size are page-aligned and the range is free.
    fn map(&mut self, base: u64, size: u64, access: Access) -> Result<(), CpuError>;

    /// Takes a mapped range away; it must have been mapped as one piece.
    fn unmap(&mut self, base: u64, size: u64) -> Result<(), CpuError>;

    /// Changes what a page-aligned range inside one mapping is for.
    fn protect(&mut self, base: u64, size: u64, access: Access) -> Result<(), CpuError>;

    /// What the page of an address is for; `None` if it is not mapped.
    fn access(&self, address: u64) -> Option<Access>;

    /// Copies memory out whatever its permissions; the error is the first address that is not mapped.
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), u64>;

    /// Copies into memory whatever its permissions; the error is the first address that is not mapped.
    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), u64>;

    /// Fetches from `base` to `end` end the run with [`Exit::Trap`]. The range must stay unmapped.
    fn trap_range(&mut self, base: u64, end: u64);

    /// Every access to the range is shown to the watcher.
    fn watch(&mut self, base: u64, size: u64, watcher: Rc<dyn Watcher>) -> Result<(), CpuError>;

    /// The accesses that watchers refused since the last call, at most a few hundred.
    fn violations(&mut self) -> Vec<Violation>;

    /// Reads a register.
    fn get(&self, register: Register) -> u64;

    /// Sets a register.
    fn set(&mut self, register: Register, value: u64);

    /// Runs from the program counter until something happens.
    fn run(&mut self, limits: Limits) -> Ran;

    /// Keeps the general registers, the program counter and the flags.
    fn save(&self) -> Saved;

    /// Brings kept registers back.
    fn restore(&mut self, saved: &Saved);
}

/// The engine for an architecture.
pub fn new(arch: Arch) -> Result<Box<dyn Cpu>, CpuError> {
    Ok(Box::new(unicorn::Unicorn::new(arch)?))
}
