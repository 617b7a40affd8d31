//! The readers and writers against the tools of kmod, which have to be installed: `cargo xtask setup` does that.

mod indexes;
mod support;
