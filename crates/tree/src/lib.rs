//! Module files and directories as they lie on disk.
//!
//! [`file`] reads one module, compressed or not, and refuses what no kernel would take before it costs memory;
//! [`search`] finds the modules that another one depends on.
#![forbid(unsafe_code)]

pub mod compress;
pub mod file;
pub mod search;
