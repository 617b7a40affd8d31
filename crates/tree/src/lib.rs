//! Module files and directories as they lie on disk.
//!
//! [`mod@file`] reads one module, compressed or not, and refuses what no kernel would take before it costs memory;
//! [`search`] finds the modules that another one depends on; [`index`] reads and writes what `depmod` leaves in
//! `/lib/modules`; [`config`] reads `modprobe.d` and the kernel command line; [`fnmatch`] and [`name`] compare with the
//! patterns and names in them; [`lookup`] puts all this together: what a name stands for, and what it takes to load it.
#![forbid(unsafe_code)]

pub mod compress;
pub mod config;
pub mod depmod;
pub mod file;
pub mod fnmatch;
pub mod index;
pub mod lookup;
pub mod name;
pub mod search;
mod words;
