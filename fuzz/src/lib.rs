//! What is fuzzed: each function takes any bytes, and may neither panic nor hang nor take memory without bound.
#![forbid(unsafe_code)]

mod link;
mod module;

pub use link::link_arm;
pub use link::link_x86_64;
pub use module::module;

/// Every target with its name, which is also that of its corpus.
pub const TARGETS: &[(&str, fn(&[u8]))] =
    &[("module", module), ("link_x86_64", link_x86_64), ("link_arm", link_arm)];
