//! What is fuzzed: each function takes any bytes, and may neither panic nor hang nor take memory without bound.
#![forbid(unsafe_code)]

mod kernel;
mod link;
mod module;
#[cfg(feature = "machine")]
mod printk;

pub use kernel::load;
pub use kernel::parameters;
pub use link::link_arm;
pub use link::link_x86_64;
pub use module::module;
#[cfg(feature = "machine")]
pub use printk::printk;

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is also that of its corpus.
    pub name: &'static str,
    /// Takes any bytes.
    pub run: fn(&[u8]),
    /// The bytes are those of a module's file.
    pub takes_modules: bool,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "module", run: module, takes_modules: true },
    Target { name: "link_x86_64", run: link_x86_64, takes_modules: true },
    Target { name: "link_arm", run: link_arm, takes_modules: true },
    Target { name: "load", run: load, takes_modules: true },
    Target { name: "parameters", run: parameters, takes_modules: false },
    #[cfg(feature = "machine")]
    Target { name: "printk", run: printk, takes_modules: false },
];
