//! Why a module could not be linked: the errno and the log lines of the kernel, and the cause in words.

use alloc::vec::Vec;
use core::fmt;

use lkm_module::Errno;
use lkm_module::Level;
use lkm_module::Text;

use crate::rules::PltForm;

/// Takes the lines of the kernel log, one call each.
pub type Log<'a> = &'a mut dyn FnMut(Level, fmt::Arguments<'_>);

/// Why a stage of the linker refused the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// No `SHT_SYMTAB` section.
    NoSymbols {
        /// modinfo's `name`, if there is one.
        name: Option<Vec<u8>>,
    },
    /// No `.gnu.linkonce.this_module` section in memory.
    NoModule {
        /// modinfo's `name`, if there is one.
        name: Option<Vec<u8>>,
    },
    /// ARM with module PLTs: one of the sections for them is missing, which the kernel's linker script adds.
    NoPltSections(PltForm),
    /// ARM with module PLTs: no symbol table to count PLT entries by.
    NoPltSymbols,
    /// A section is both writable and executable.
    WriteExec {
        /// Its name.
        section: Vec<u8>,
        /// Its index.
        index: usize,
    },
    /// An allocation was refused, or it would be larger than any module range.
    NoMemory,
    /// The sizes of the sections wrap (the kernel counts in 32 bits), so that the contents of this one do not fit in
    /// its allocation. The kernel would write out of bounds here.
    SectionOutsideImage {
        /// Index of the section.
        section: usize,
    },
    /// At least one symbol got no value; each was reported when it was met.
    Symbols {
        /// What the last one failed with.
        errno: Errno,
    },
    /// A relocation section of the form (`SHT_REL` or `SHT_RELA`) that the architecture does not use.
    RelocForm,
    /// Relocation sections share bytes of the file: together they are larger than the file. The kernel does not look;
    /// no tool makes such files, and applying them all takes time out of proportion.
    RelocsOverlap {
        /// Index of the section with which the sum is too large.
        section: usize,
    },
    /// A relocation.
    Reloc(RelocError),
}

/// A relocation that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelocError {
    /// Index of the relocation section.
    pub section: usize,
    /// Which of its entries, counted in the order in which the kernel applies them.
    pub index: usize,
    /// The `r_info` type.
    pub kind: u32,
    /// Why.
    pub cause: RelocCause,
}

/// Why a relocation was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelocCause {
    /// x86: the kernel does not know the type.
    UnknownX86,
    /// x86: the bytes at the place are not zero.
    NonZeroPlace {
        /// Address of the place.
        place: u64,
        /// The value that the kernel prints with it.
        value: u64,
        /// Linux 6.12 and later word it without "Skipping".
        skipping: bool,
    },
    /// x86: the value does not fit.
    Overflow {
        /// The value.
        value: u64,
    },
    /// ARM: the kernel does not know the type.
    UnknownArm,
    /// ARM: the symbol index is beyond the table.
    ArmSymbolIndex,
    /// ARM: the place is not inside the section.
    ArmOutOfBounds {
        /// Name of the symbol.
        symbol: Vec<u8>,
        /// `r_offset`
        offset: u32,
        /// Size of the section.
        size: u32,
    },
    /// ARM: the target is too far away.
    ArmOutOfRange {
        /// Name of the symbol.
        symbol: Vec<u8>,
        /// Address of the place.
        place: u32,
        /// Value of the symbol.
        target: u32,
    },
    /// ARM: a direct branch cannot change the instruction set.
    ArmInterworking {
        /// Name of the symbol.
        symbol: Vec<u8>,
        /// The branch is Thumb code and the target is ARM code.
        from_thumb: bool,
    },
    /// ARM: more PLT slots are needed than were counted, which stops the kernel with `BUG`.
    PltFull,
    /// The place is not inside the target section. The kernel does not look and would write out of bounds.
    PlaceOutside {
        /// `r_offset`
        offset: u64,
    },
    /// The symbol index is beyond the table. The kernel does not look and would read out of bounds.
    SymbolOutside {
        /// The index.
        symbol: u32,
    },
}

impl LinkError {
    /// What the system call fails with.
    pub const fn errno(&self) -> Errno {
        match self {
            LinkError::NoMemory | LinkError::SectionOutsideImage { .. } => Errno::ENOMEM,
            LinkError::Symbols { errno } => *errno,
            _ => Errno::ENOEXEC,
        }
    }

    /// The lines that the kernel logs for it. `module` is the name in `struct module`.
    pub fn log(&self, module: &[u8], log: Log<'_>) {
        let name = Text(module);
        match self {
            LinkError::NoSymbols { name } => {
                log(
                    Level::Warning,
                    format_args!("{}: module has no symbols (stripped?)", Text(early_name(name))),
                );
            }
            LinkError::NoModule { name } => {
                log(Level::Warning, format_args!("{}: No module found in object", Text(early_name(name))));
            }
            LinkError::NoPltSections(form) => {
                let what = match form {
                    PltForm::CoreAndInit => "sections missing",
                    PltForm::Single => "module PLT section missing",
                    PltForm::Split => "module PLT section(s) missing",
                };
                log(Level::Err, format_args!("{name}: {what}"));
            }
            LinkError::NoPltSymbols => {
                log(Level::Err, format_args!("{name}: module symtab section missing"));
            }
            LinkError::WriteExec { section, index } => log(
                Level::Err,
                format_args!(
                    "{name}: section {} (index {index}) has invalid WRITE|EXEC flags",
                    Text(section)
                ),
            ),
            LinkError::RelocForm => {
                log(Level::Err, format_args!("module {name}: REL relocation unsupported"));
            }
            LinkError::Reloc(error) => error.log(module, log),
            LinkError::NoMemory
            | LinkError::SectionOutsideImage { .. }
            | LinkError::RelocsOverlap { .. }
            | LinkError::Symbols { .. } => {}
        }
    }
}

/// Name of a module before `struct module` has been found.
fn early_name(name: &Option<Vec<u8>>) -> &[u8] {
    name.as_deref().unwrap_or(b"(missing .modinfo section or name field)")
}

impl RelocError {
    fn log(&self, module: &[u8], log: Log<'_>) {
        let name = Text(module);
        let RelocError { section, index, kind, cause } = self;
        match cause {
            RelocCause::UnknownX86 => {
                log(Level::Err, format_args!("module: {name}: Unknown rela relocation: {kind}"));
            }
            RelocCause::NonZeroPlace { place, value, skipping } => {
                let text = if *skipping {
                    "Skipping invalid relocation target"
                } else {
                    "Invalid relocation target"
                };
                let kind = *kind as i32;
                // The kernel prints a hash in place of the address.
                log(
                    Level::Err,
                    format_args!(
                        "module: x86/modules: {text}, existing value is nonzero for type {kind}, \
                         loc {place:016x}, val {value:x}"
                    ),
                );
            }
            RelocCause::Overflow { value } => {
                let kind = *kind as i32;
                log(Level::Err, format_args!("module: overflow in relocation type {kind} val {value:x}"));
                log(Level::Err, format_args!("module: `{name}' likely not compiled with -mcmodel=kernel"));
            }
            RelocCause::UnknownArm => log(Level::Err, format_args!("{name}: unknown relocation: {kind}")),
            RelocCause::ArmSymbolIndex => log(
                Level::Err,
                format_args!("{name}: section {section} reloc {index}: bad relocation sym offset"),
            ),
            RelocCause::ArmOutOfBounds { symbol, offset, size } => log(
                Level::Err,
                format_args!(
                    "{name}: section {section} reloc {index} sym '{}': out of bounds relocation, \
                     offset {} size {size}",
                    Text(symbol),
                    *offset as i32
                ),
            ),
            RelocCause::ArmOutOfRange { symbol, place, target } => log(
                Level::Err,
                format_args!(
                    "{name}: section {section} reloc {index} sym '{}': relocation {kind} out of range \
                     ({} -> {})",
                    Text(symbol),
                    Alternate(*place),
                    Alternate(*target)
                ),
            ),
            RelocCause::ArmInterworking { symbol, from_thumb } => {
                let way = if *from_thumb { "Thumb -> ARM" } else { "ARM -> Thumb" };
                log(
                    Level::Err,
                    format_args!(
                        "{name}: section {section} reloc {index} sym '{}': unsupported interworking call ({way})",
                        Text(symbol)
                    ),
                );
            }
            RelocCause::PltFull | RelocCause::PlaceOutside { .. } | RelocCause::SymbolOutside { .. } => {}
        }
    }
}

/// C's `%#x`: zero has no prefix.
struct Alternate(u32);

impl fmt::Display for Alternate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { f.write_str("0") } else { write!(f, "{:#x}", self.0) }
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::NoSymbols { .. } => f.write_str("the file has no symbol table (stripped?)"),
            LinkError::NoModule { .. } => f.write_str(
                "the file has no .gnu.linkonce.this_module section: it is an object, not a module",
            ),
            LinkError::NoPltSections(form) => {
                let [core, init] = form.sections();
                write!(
                    f,
                    "section {core} or {init} is missing: it was not linked with the linker script of a kernel with \
                     module PLTs"
                )
            }
            LinkError::NoPltSymbols => f.write_str("there is no symbol table to count PLT entries by"),
            LinkError::WriteExec { section, index } => {
                write!(f, "section {} (index {index}) is both writable and executable", Text(section))
            }
            LinkError::NoMemory => f.write_str("there is no module memory of that size"),
            LinkError::SectionOutsideImage { section } => {
                write!(
                    f,
                    "the sizes of the sections wrap: section {section} lies outside the module's memory"
                )
            }
            LinkError::Symbols { errno } => write!(f, "a symbol has no value ({errno})"),
            LinkError::RelocForm => f.write_str(
                "a relocation section has the form (REL or RELA) that the architecture does not use",
            ),
            LinkError::RelocsOverlap { section } => {
                write!(f, "relocation section {section} and others before it share bytes of the file")
            }
            LinkError::Reloc(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl fmt::Display for RelocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RelocError { section, index, kind, cause } = self;
        write!(f, "relocation {index} of section {section} (type {kind}): ")?;
        match cause {
            RelocCause::UnknownX86 | RelocCause::UnknownArm => {
                f.write_str("the kernel does not know the type")
            }
            RelocCause::NonZeroPlace { place, .. } => write!(
                f,
                "the bytes at {place:#x} are not zero: the file has been relocated before, or damaged"
            ),
            RelocCause::Overflow { value } => {
                write!(f, "the value {value:#x} does not fit (compiled without -mcmodel=kernel?)")
            }
            RelocCause::ArmSymbolIndex | RelocCause::SymbolOutside { .. } => {
                f.write_str("the symbol index is beyond the symbol table")
            }
            RelocCause::ArmOutOfBounds { offset, .. } => {
                write!(f, "the offset {offset:#x} is not inside the section")
            }
            RelocCause::PlaceOutside { offset } => write!(
                f,
                "the offset {offset:#x} is not inside the section; the kernel would write out of bounds"
            ),
            RelocCause::ArmOutOfRange { symbol, place, target } => {
                write!(f, "{} at {target:#x} is out of reach from {place:#x}", Text(symbol))
            }
            RelocCause::ArmInterworking { symbol, from_thumb: false } => {
                write!(f, "{} is Thumb code and cannot be branched to from ARM code", Text(symbol))
            }
            RelocCause::ArmInterworking { symbol, from_thumb: true } => {
                write!(f, "{} is ARM code and cannot be branched to from Thumb code", Text(symbol))
            }
            RelocCause::PltFull => f.write_str("more PLT slots are needed than were counted"),
        }
    }
}

impl core::error::Error for LinkError {}
impl core::error::Error for RelocError {}
