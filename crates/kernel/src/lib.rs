//! The kernel side of module loading: `load_module()` and `delete_module()` with all that they call.
//!
//! [`Kernel`] is the books (modules, references, taints, exports); a [`Host`] is the machine under it (memory,
//! protection, code). One host runs modules in an emulator, one keeps books only ([`Bookkeeper`]), an operating
//! system brings its own.
//!
//! [`init_module`] and [`finit_module`] load, [`delete_module`] removes; `load.rs` reads as the list of stages.
//! Everything in which kernels differ is in a [`Profile`].
//!
//! ```
//! use lkm_kernel::{Bookkeeper, Kernel, Profile, delete_module, init_module};
//! # use lkm_module::elf::{Class, Endian, consts::*};
//! # let mut object = lkm_module::testing::ObjectBuilder::new(Class::Elf64, Endian::Little, EM_X86_64);
//! # let text = object.section(".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 16, &[0xc3]);
//! # let init = object.global("init_module", text, 0);
//! # let exit = object.global("cleanup_module", text, 0);
//! # object.modinfo(&[("name", "hello"), ("license", "GPL"), ("vermagic", "6.1.0 SMP preempt mod_unload ")]);
//! # object.this_module("hello", 0x380, Some((0x138, init)), Some((0x350, exit)));
//! # let file = object.finish();
//! let profile = Profile::by_name("linux-6.1-x86_64").expect("one of the known kernels");
//! let mut host = Bookkeeper::new(&profile);
//! let mut kernel = Kernel::new(profile);
//! init_module(&mut kernel, &mut host, &file, Some(b"who=world"))?;
//! assert_eq!(kernel.proc_modules(), "hello 12288 0 - Live 0xffffffffc0000000 (O)\n");
//! assert!(host.log_text().contains("hello: unknown parameter 'who' ignored"));
//! delete_module(&mut kernel, &mut host, Some(b"hello"), 0)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod args;
mod bookkeeping;
mod btf;
mod decompress;
mod entry;
mod error;
mod event;
mod formation;
mod host;
mod idempotent;
mod init;
mod kallsyms;
mod kernel;
mod load;
mod memory;
mod modinfo;
mod module;
pub mod numbers;
mod param;
mod param_ops;
mod params;
mod patches;
mod procfs;
pub mod profile;
mod profiles;
mod stage;
mod stages;
mod symbols;
mod sysfs;
mod taint;
mod this_module;
mod unload;
mod versions;

pub use bookkeeping::Bookkeeper;
pub use decompress::DecompressFault;
pub use entry::COMPRESSED_FILE;
pub use entry::FileFacts;
pub use entry::IGNORE_MODVERSIONS;
pub use entry::IGNORE_VERMAGIC;
pub use entry::UserImage;
pub use entry::finit_module;
pub use entry::init_module;
pub use error::LoadError;
pub use error::MissingReason;
pub use error::MissingSymbol;
pub use error::Reason;
pub use error::SignatureFault;
pub use error::UnloadError;
pub use event::Event;
pub use event::ImageRegion;
pub use event::ImageView;
pub use event::Mask;
pub use event::Number;
pub use event::Patch;
pub use event::Provider;
pub use event::Unit;
pub use host::CallError;
pub use host::Callee;
pub use host::Fault;
pub use host::Host;
pub use host::KernelExport;
pub use host::Permissions;
pub use host::Security;
pub use kallsyms::Kallsyms;
pub use kallsyms::KernelSymbol;
pub use kallsyms::Place;
pub use kernel::BootOptions;
pub use kernel::Capabilities;
pub use kernel::Kernel;
pub use kernel::Lockdown;
pub use lkm_link::RegionKind;
pub use modinfo::license_is_gpl_compatible;
pub use module::Export;
pub use module::MODULE_REF_BASE;
pub use module::Module;
pub use module::ModuleId;
pub use module::ModuleMemory;
pub use module::ModuleSection;
pub use module::OldTable;
pub use module::State;
pub use param::Param;
pub use param::ParamOps;
pub use param::parameq;
pub use param_ops::Standard;
pub use profile::Profile;
pub use stage::Stage;
pub use symbols::Found;
pub use sysfs::EntryKind;
pub use sysfs::SysfsEntry;
pub use taint::TaintOrder;
pub use taint::Taints;
pub use unload::O_NONBLOCK;
pub use unload::O_TRUNC;
pub use unload::delete_module;
pub use unload::delete_module_by_id;
