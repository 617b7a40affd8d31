//! What a Linux kernel module file (`.ko`) says: a borrowed, validated view of its bytes.
//!
//! Two ways lead in:
//!
//! * [`Module::parse`] reads any module of either class and byte order, as tolerantly as `modinfo`, and gives
//!   everything that it says: [`modinfo`], [`params`], [`versions`], [`exports`], [`imports`], [`this_module`],
//!   [`note`], [`signature`].
//! * [`elf::elf_validity_check`] reads it as one kernel does, by that kernel's [`elf::ElfRules`], and refuses what it
//!   refuses, with its errno and its log line.
//!
//! ```no_run
//! # let file: Vec<u8> = Vec::new();
//! use lkm_module::Module;
//! use lkm_module::Text;
//!
//! let module = Module::parse(&file).unwrap();
//! for import in module.imports() {
//!     println!("{} {:?} {}", Text(import.name), import.crc, if import.weak { "weak" } else { "" });
//! }
//! ```
//!
//! Nothing is copied but section headers and the lists that are asked for. No input makes it panic, and work and
//! memory are bounded by the size of the input.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod elf;
mod errno;
pub mod exports;
pub mod imports;
mod log;
pub mod modinfo;
mod module;
pub mod note;
pub mod params;
#[cfg(test)]
mod robustness;
pub mod signature;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod this_module;
pub mod versions;

pub use errno::Errno;
pub use log::Level;
pub use log::Text;
pub use module::Module;
pub use module::ModuleError;
