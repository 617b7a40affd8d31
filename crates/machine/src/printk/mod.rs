//! The kernel's format language: that of `printk`, `snprintf`, `seq_printf` and all the others.
//!
//! It is C's with fewer conversions and with the many `%p` extensions. [`parse`] cuts a format into pieces,
//! [`format()`] renders it over a [`Source`] of arguments and an [`Environment`] that knows the kernel's memory.

mod errname;
mod flags;
mod number;
mod parse;
mod pointer;
mod prefix;
mod render;
mod structures;
#[cfg(test)]
mod tests;

pub use flags::PageFlags;
pub use number::Style;
pub use parse::Conversion;
pub use parse::Length;
pub use parse::Number;
pub use parse::Piece;
pub use parse::Pieces;
pub use parse::Spec;
pub use parse::parse;
pub use prefix::Prefix;
pub use prefix::prefix;
pub use render::Complaint;
pub use render::Output;
pub use render::format;
pub use structures::DeviceTree;
pub use structures::Structures;

/// Where arguments come from.
pub trait Source {
    /// The next argument of the width of a register or less; upper bits of smaller types are undefined.
    fn word(&mut self) -> u64;
    /// The next 64-bit argument.
    fn double_word(&mut self) -> u64;
}

/// A symbol that an address belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Its name.
    pub name: Vec<u8>,
    /// The address's distance from its start.
    pub offset: u64,
    /// Its size in bytes.
    pub size: u64,
    /// The module that it is in; `None` for the kernel image.
    pub module: Option<Vec<u8>>,
}

/// The format and arguments of a `struct va_format`.
pub struct Nested<'a> {
    /// The format.
    pub format: Vec<u8>,
    /// The arguments; reading them leaves the `va_list` as it is.
    pub arguments: Box<dyn Source + 'a>,
}

impl core::fmt::Debug for Nested<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Nested").field("format", &self.format).finish_non_exhaustive()
    }
}

/// The kernel that a format is rendered in.
pub trait Environment {
    /// Bytes in a pointer and in `long`: 4 or 8.
    fn pointer_size(&self) -> u8;
    /// Copies kernel memory; `false` if it is not there.
    fn read(&self, address: u64, bytes: &mut [u8]) -> bool;
    /// The symbol that an address belongs to.
    fn symbol(&self, address: u64) -> Option<Symbol>;
    /// What `%p` prints instead of an address: 32 bits that stay the same for the same address.
    fn hash(&self, address: u64) -> u32;
    /// `kernel.kptr_restrict`
    fn kptr_restrict(&self) -> u8;
    /// What `%pV` points to.
    fn nested(&self, address: u64) -> Option<Nested<'_>>;
    /// What is known of structures.
    fn structures(&self) -> &'static Structures;
    /// Whether these `struct fwnode_operations` are those of the device tree.
    fn is_device_tree(&self, operations: u64) -> bool;
}
