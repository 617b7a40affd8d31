//! The linker inside the Linux module loader, as a library: it lays a module out in memory, gives its symbols
//! their values, applies the relocations and the later patches of the kernel, and ends with bytes ready to run.
//!
//! The functions carry the kernel's names and are called in the kernel's order by `lkm-kernel`:
//! `setup_load_info`, `layout_sections`, `layout_symtab`,
//! `move_module`, `simplify_symbols`, `apply_relocations`, `post_relocation`.
//! What differs between kernels is data ([`rules`]); what differs between architectures is in [`arch`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod arch;
pub mod image;
pub mod info;
pub mod rules;

pub use arch::Arch;
pub use image::Image;
pub use image::Region;
pub use image::RegionKind;
pub use info::LoadInfo;
