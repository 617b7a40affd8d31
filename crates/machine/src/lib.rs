//! An embedded machine that runs the code of Linux modules.
//!
//! [`Machine`] is the host under a [`lkm_kernel::Kernel`]: memory with permissions at the kernel's own addresses, a
//! processor (an emulator behind [`cpu::Cpu`]), the functions and variables that modules import, a log and registries.
//! What goes wrong in a module ends the call into it and is kept as data: an oops, a wrong heap access, a budget that
//! is spent, a function that has no implementation here.
//!
//! A guest reaches nothing of the host: its memory is the emulator's, and every address that a function gets is
//! looked up there.
#![deny(unsafe_code)]

mod abi;
mod api;
mod books;
mod budget;
pub mod cpu;
mod decompress;
mod file;
mod guard;
mod heap;
mod layout;
mod log;
mod machine;
mod memory;
mod oops;
pub mod printk;
mod registry;
mod report;
mod run;
mod slots;
#[cfg(test)]
mod testing;

pub use budget::Budget;
pub use budget::Spent;
pub use file::FileError;
pub use file::FileInfo;
pub use file::Handle;
pub use heap::HeapErrorKind;
pub use heap::Object;
pub use heap::Origin;
pub use heap::Site;
pub use log::LogLine;
pub use machine::Config;
pub use machine::Machine;
pub use machine::MachineError;
pub use machine::Observer;
pub use registry::Registration;
pub use report::HeapObject;
pub use report::HeapReport;
pub use report::Leak;
pub use report::Oops;
pub use report::StopKind;
pub use report::StopReport;
