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
pub mod error;
pub mod image;
pub mod info;
pub mod kallsyms;
pub mod layout;
pub mod post;
pub mod relocate;
#[cfg(test)]
mod robustness;
pub mod rules;
pub mod sort;
mod strings;
pub mod symbols;
#[cfg(test)]
mod test_support;

pub use arch::Arch;
pub use arch::module_frob_arch_sections;
pub use error::LinkError;
pub use error::RelocCause;
pub use error::RelocError;
pub use image::Image;
pub use image::MoveError;
pub use image::Region;
pub use image::RegionKind;
pub use image::move_module;
pub use info::LoadInfo;
pub use kallsyms::add_kallsyms;
pub use layout::layout_sections;
pub use layout::layout_symtab;
pub use layout::module_enforce_rwx_sections;
pub use relocate::RelocObserver;
pub use relocate::RelocStats;
pub use relocate::apply_relocations;
pub use rules::LinkRules;
pub use symbols::Resolve;
pub use symbols::SymbolError;
pub use symbols::Symbols;
pub use symbols::simplify_symbols;
pub use symbols::write_symtab;
