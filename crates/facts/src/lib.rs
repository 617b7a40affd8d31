//! What a kernel accepts, from whatever is at hand.
//!
//! [`Facts`] are what has to be known of a kernel to say what it will do with a module: its release and version magic,
//! what it exports with which CRCs, how it was built, which keys it trusts. [`gather`] reads them from a directory of
//! modules, `Module.symvers`, `System.map`, `vmlinux`, a bootable image, a package of kernel headers, a Debian package,
//! or the running system. Every fact keeps its [`Source`], and what no source told stays `None`: whoever asks can say
//! that something was not checked instead of calling it right.
//!
//! ```
//! use lkm_facts::Facts;
//! use lkm_facts::Source;
//!
//! let symvers = b"0x92997ed8\t_printk\tvmlinux\tEXPORT_SYMBOL\t\n";
//! let mut facts = Facts::default();
//! lkm_facts::gather::symvers(&mut facts, symvers, &Source::new("Module.symvers"))?;
//! let exports = facts.exports.unwrap();
//! assert_eq!(exports.value["_printk"].crc, Some(0x92997ed8));
//! assert_eq!(exports.source.to_string(), "Module.symvers");
//! # Ok::<(), lkm_facts::FactsError>(())
//! ```
#![forbid(unsafe_code)]

pub mod certificate;
pub mod config;
pub mod deb;
mod error;
mod facts;
pub mod gather;
pub mod image;
pub mod kallsyms;
mod source;
pub mod symvers;
pub mod system_map;
mod unpack;
pub mod vmlinux;

pub use certificate::Certificate;
pub use config::Config;
pub use error::FactsError;
pub use facts::Export;
pub use facts::Exports;
pub use facts::Facts;
pub use facts::Machine;
pub use source::Fact;
pub use source::Source;
