//! ELF as module files use it: relocatable objects of either class and byte order.
//!
//! Numbers of ELF32 are widened, so that one set of types serves both classes; hot loops (symbols,
//! relocations) are generic over [`ElfClass`] instead and read the raw records in place.

mod class;
mod header;
mod section;

pub use class::Class;
pub use class::Elf32;
pub use class::Elf64;
pub use class::ElfClass;
pub use class::Endian;
pub use class::RawReloc;
pub use class::RawSymbol;
pub use header::Elf;
pub use header::ElfError;
pub use header::Header;
pub use header::string_at;
pub use section::SectionHeader;
pub use section::consts;
