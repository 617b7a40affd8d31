//! The kernel side of module loading: `load_module()` and `delete_module()` with all that they call.
//!
//! [`Kernel`] is the books (modules, references, taints, exports); a [`Host`] is the machine under it (memory,
//! protection, code). One host runs modules in an emulator, one keeps books only, an operating system brings its own.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod host;
mod kernel;

pub use host::CallError;
pub use host::Callee;
pub use host::Fault;
pub use host::Host;
pub use host::KernelExport;
pub use host::Permissions;
pub use kernel::Kernel;
