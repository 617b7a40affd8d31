//! The readers and writers against the tools of kmod 30 (Debian 12), which have to be installed: `cargo xtask setup`
//! does that.

mod config;
mod depmod;
mod indexes;
mod lookup;
mod support;
