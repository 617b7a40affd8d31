//! What a Linux kernel module file (`.ko`) says: a borrowed, validated view of its bytes.
//!
//! [`elf`] reads ELF32 and ELF64 in both byte orders and holds the kernel's own order of checks;
//! the other modules read what the loader and the tools look for in the sections.
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
