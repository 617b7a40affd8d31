//! ELF as module files use it: relocatable objects of either class and byte order.
//!
//! Numbers of ELF32 are widened, so that one set of types serves both classes; hot loops (symbols,
//! relocations) are generic over [`ElfClass`] instead and read the raw records in place.

mod class;
mod header;
mod relocs;
mod section;
mod symbols;
mod validity;

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
pub use header::MAX_STRING;
pub use header::is_string_at;
pub use header::string_at;
pub use relocs::Target;
pub use relocs::TargetMap;
pub(crate) use relocs::is_reloc;
pub use section::SectionHeader;
pub use section::consts;
pub use symbols::Symbol;
pub use symbols::SymbolTable;
pub use validity::ArchCheck;
pub use validity::ElfFault;
pub use validity::ElfGeneration;
pub use validity::ElfRefusal;
pub use validity::ElfRules;
pub use validity::elf_validity_check;
