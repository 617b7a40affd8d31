//! Why a module was not loaded or not removed.

use alloc::format;
use alloc::string::String;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt;

use lkm_link::LinkError;
use lkm_link::post::PostError;
use lkm_module::Errno;
use lkm_module::Text;
use lkm_module::elf::ElfRefusal;

use crate::DecompressFault;
use crate::Stage;

/// A load that failed: the stage and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// Where.
    pub stage: Stage,
    /// Why.
    pub reason: Reason,
}

/// An import that could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingSymbol {
    /// Its name.
    pub name: Vec<u8>,
    /// Why not.
    pub reason: MissingReason,
}

/// Why an import could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MissingReason {
    /// Nothing exports it.
    NotExported,
    /// It is exported to GPL-compatible modules only.
    GplOnly,
    /// A module that uses GPL-only symbols may not use a proprietary module's.
    ProprietaryOwner(Vec<u8>),
    /// The CRCs differ, or the module does not record one.
    Version,
    /// Its namespace is not imported.
    Namespace(Vec<u8>),
    /// The module that exports it did not become ready.
    NotReady(Vec<u8>),
    /// The module that exports it is going.
    Going(Vec<u8>),
}

impl MissingReason {
    /// What `resolve_symbol` answers.
    pub const fn errno(&self) -> Errno {
        match self {
            MissingReason::NotExported
            | MissingReason::GplOnly
            | MissingReason::ProprietaryOwner(_)
            | MissingReason::Going(_) => Errno::ENOENT,
            MissingReason::Version | MissingReason::Namespace(_) => Errno::EINVAL,
            MissingReason::NotReady(_) => Errno::EBUSY,
        }
    }
}

impl fmt::Display for MissingSymbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Text(&self.name);
        match &self.reason {
            MissingReason::NotExported => write!(f, "{name} is exported by nothing that is loaded"),
            MissingReason::GplOnly => write!(f, "{name} is for GPL-compatible modules only"),
            MissingReason::ProprietaryOwner(owner) => {
                write!(f, "{name} belongs to the proprietary module {}", Text(owner))
            }
            MissingReason::Version => write!(f, "{name} has another version (CRC) here"),
            MissingReason::Namespace(space) => {
                write!(f, "{name} is in namespace {}, which the module does not import", Text(space))
            }
            MissingReason::NotReady(owner) => {
                write!(f, "{name} belongs to {}, which is not ready", Text(owner))
            }
            MissingReason::Going(owner) => write!(f, "{name} belongs to {}, which is going", Text(owner)),
        }
    }
}

/// Why a signature was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignatureFault {
    /// There is none, and the kernel insists on one.
    Unsigned,
    /// It is of an unknown kind, and the kernel insists.
    UnsupportedCrypto,
    /// The key is not known, and the kernel insists.
    UnavailableKey,
    /// The trailer makes no sense.
    Malformed,
}

/// Why a load failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// No `CAP_SYS_MODULE`, or loading is switched off.
    NotPermitted,
    /// Flags that the kernel does not know.
    BadFlags(u32),
    /// The descriptor is not open for reading.
    NotReadable,
    /// No open descriptor (before 4.6, which answered ENOEXEC).
    NotOpen,
    /// A directory.
    IsDirectory,
    /// Not a regular file.
    NotRegular,
    /// Open for writing.
    OpenForWriting,
    /// Nothing in it.
    EmptyFile,
    /// Less could be read than the file is long.
    ShortRead,
    /// More than 2 GiB.
    FileTooLarge,
    /// Shorter than an ELF header (`init_module` only).
    TooShort,
    /// The memory with the module cannot be read (`init_module` only).
    ImageFault,
    /// A security module of the kernel refuses.
    Security {
        /// What the system call answers.
        errno: Errno,
    },
    /// A compressed file that the kernel cannot decompress.
    Compressed(DecompressFault),
    /// The signature.
    Signature {
        /// What is wrong.
        fault: SignatureFault,
        /// What the system call answers.
        errno: Errno,
    },
    /// ELF header or section headers.
    Elf(ElfRefusal),
    /// The linker: sections, memory, symbol table, relocations.
    Link(LinkError),
    /// Named in `module_blacklist=`.
    Blacklisted,
    /// Built against another `struct module` (the CRC of `module_layout`).
    ModuleLayout,
    /// Built for another kernel.
    VersionMagic {
        /// The module's.
        has: Vec<u8>,
        /// The kernel's.
        wants: Vec<u8>,
    },
    /// It has no vermagic, and the kernel cannot be forced.
    NoVersionMagic,
    /// A live patch, and the kernel cannot.
    Livepatch,
    /// No memory.
    NoMemory,
    /// A module of that name is loaded.
    Exists,
    /// A module of that name was being loaded or removed.
    Busy,
    /// A signal ended the wait for a module of that name, or for another load of the same file.
    Interrupted,
    /// No per-cpu memory.
    NoPercpu,
    /// Both `.ctors` and `.init_array`.
    TwoConstructorTables,
    /// Exports without CRCs, and the kernel cannot be forced.
    ExportsWithoutVersions,
    /// Symbols without a value.
    Symbols {
        /// What the last one failed with.
        errno: Errno,
        /// Imports that could not be had, the first thousand or so.
        missing: Vec<MissingSymbol>,
    },
    /// Later changes of the bytes.
    Post(PostError),
    /// The parameter text cannot be read.
    ArgsFault,
    /// The parameter text is too long.
    ArgsTooLong,
    /// Its memory is not aligned to pages, so that it cannot be protected.
    Misaligned,
    /// Its memory could not be protected.
    Protect {
        /// What the system call answers.
        errno: Errno,
    },
    /// Its type information (`.BTF`) is damaged.
    Btf {
        /// What the system call answers.
        errno: Errno,
    },
    /// It exports what is exported already.
    DuplicateExport {
        /// The symbol.
        symbol: Vec<u8>,
        /// The module that exports it; `kernel` for the image.
        owner: Vec<u8>,
    },
    /// Parameters; each was logged.
    Params {
        /// What the last one failed with.
        errno: Errno,
    },
    /// `/sys/module/NAME` exists or has no valid name.
    Sysfs {
        /// What the system call answers.
        errno: Errno,
    },
    /// The init function is named in `initcall_blacklist=`.
    InitcallBlacklisted,
    /// The init function returned an error.
    Init(i32),
    /// The init function did not return: the host has the report.
    InitDied,
    /// The host wanted to go no further.
    Stopped,
}

impl LoadError {
    pub(crate) const fn new(stage: Stage, reason: Reason) -> LoadError {
        LoadError { stage, reason }
    }

    /// What the system call fails with. For an init function's own value see [`LoadError::returned`].
    pub fn errno(&self) -> Errno {
        match &self.reason {
            Reason::NotPermitted | Reason::Blacklisted | Reason::InitcallBlacklisted => Errno::EPERM,
            Reason::BadFlags(_)
            | Reason::NotRegular
            | Reason::EmptyFile
            | Reason::TwoConstructorTables
            | Reason::Misaligned => Errno::EINVAL,
            Reason::ShortRead => Errno::EIO,
            Reason::NotReadable => Errno::EBADF,
            Reason::IsDirectory => Errno::EISDIR,
            Reason::OpenForWriting => Errno::ETXTBSY,
            Reason::FileTooLarge => Errno::EFBIG,
            Reason::NotOpen
            | Reason::TooShort
            | Reason::ModuleLayout
            | Reason::VersionMagic { .. }
            | Reason::NoVersionMagic
            | Reason::Livepatch
            | Reason::ExportsWithoutVersions
            | Reason::DuplicateExport { .. } => Errno::ENOEXEC,
            Reason::Compressed(fault) => fault.errno(),
            Reason::Security { errno }
            | Reason::Protect { errno }
            | Reason::Btf { errno }
            | Reason::Signature { errno, .. }
            | Reason::Symbols { errno, .. }
            | Reason::Params { errno }
            | Reason::Sysfs { errno } => *errno,
            Reason::Elf(refusal) => refusal.errno(),
            Reason::Link(error) => error.errno(),
            Reason::NoMemory | Reason::NoPercpu | Reason::ArgsTooLong => Errno::ENOMEM,
            Reason::Exists => Errno::EEXIST,
            Reason::Busy => Errno::EBUSY,
            Reason::Post(error) => error.errno(),
            Reason::ImageFault | Reason::ArgsFault | Reason::InitDied => Errno::EFAULT,
            Reason::Init(value) => u16::try_from(value.unsigned_abs()).map_or(Errno::EINVAL, Errno::from_raw),
            Reason::Interrupted | Reason::Stopped => Errno::EINTR,
        }
    }

    /// The value that the system call returns: the negative errno, or whatever negative number init returned.
    pub fn returned(&self) -> i64 {
        match self.reason {
            Reason::Init(value) => i64::from(value),
            _ => -i64::from(self.errno().raw()),
        }
    }

    /// One sentence for the user: why, and what to do.
    pub fn cause(&self) -> String {
        match &self.reason {
            Reason::NotPermitted => "Loading modules is not permitted here: it takes CAP_SYS_MODULE, and \
                kernel.modules_disabled must be 0."
                .into(),
            Reason::BadFlags(flags) => format!("The kernel does not know the flags {flags:#x}."),
            Reason::NotReadable => "The file is not open for reading.".into(),
            Reason::NotOpen => "The file is not open.".into(),
            Reason::IsDirectory => "It is a directory.".into(),
            Reason::NotRegular => "It is not a regular file.".into(),
            Reason::OpenForWriting => "The file is open for writing; close it first.".into(),
            Reason::EmptyFile => "The file is empty.".into(),
            Reason::FileTooLarge => "The file is larger than 2 GiB.".into(),
            Reason::TooShort => "The file is shorter than an ELF header: it is no module, or cut off.".into(),
            Reason::ShortRead => "Less could be read than the file is long.".into(),
            Reason::ImageFault => "The memory with the module cannot be read.".into(),
            Reason::Security { errno } => {
                format!("A security module of this kernel refuses it ({errno}: {}).", errno.text())
            }
            Reason::Compressed(fault) => sentence(fault),
            Reason::Signature { fault, .. } => match fault {
                SignatureFault::Unsigned => {
                    "The module is not signed and this kernel takes signed modules only.".into()
                }
                SignatureFault::UnsupportedCrypto => {
                    "The signature is of a kind that this kernel does not know.".into()
                }
                SignatureFault::UnavailableKey => {
                    "The module is signed by a key that this kernel does not trust.".into()
                }
                SignatureFault::Malformed => {
                    "The signature behind the module is damaged; sign it again or cut it off.".into()
                }
            },
            Reason::Elf(refusal) => sentence(refusal),
            Reason::Link(error) => sentence(error),
            Reason::Blacklisted => {
                "The module is named in module_blacklist= on the kernel command line.".into()
            }
            Reason::ModuleLayout => {
                "The module was built against another kernel: its CRC of module_layout is \
                not this kernel's; build it again with this kernel's headers."
                    .into()
            }
            Reason::VersionMagic { has, wants } => format!(
                "The module was built for \"{}\" and this kernel is \"{}\"; build it again with this kernel's \
                 headers.",
                Text(has),
                Text(wants)
            ),
            Reason::NoVersionMagic => {
                "The module does not say which kernel it was built for, and this kernel insists.".into()
            }
            Reason::Livepatch => "The module is a live patch, which this kernel does not support.".into(),
            Reason::NoMemory => "There is no memory for it.".into(),
            Reason::Exists => "A module of that name is loaded already; remove it first.".into(),
            Reason::Busy => "A module of that name was just being loaded or removed; try again.".into(),
            Reason::Interrupted => {
                "The file, or a module of that name, is just being loaded or removed, and the wait for it was interrupted."
                    .into()
            }
            Reason::NoPercpu => "There is no per-cpu memory for its static per-cpu variables.".into(),
            Reason::TwoConstructorTables => "It has both .ctors and .init_array sections.".into(),
            Reason::ExportsWithoutVersions => {
                "It exports symbols without versions, and this kernel insists; build it with modversions."
                    .into()
            }
            Reason::Symbols { errno, missing } => match missing.as_slice() {
                [] => format!("A symbol has no value ({errno})."),
                // It starts with the symbol's name, which keeps its letters.
                [one] => format!("{one}."),
                [first, rest @ ..] => {
                    format!("{first}, and {} more symbols could not be had.", rest.len())
                }
            },
            Reason::Post(error) => sentence(error),
            Reason::ArgsFault => "The parameter text cannot be read.".into(),
            Reason::ArgsTooLong => "The parameter text is too long.".into(),
            Reason::Misaligned => "Its memory is not aligned to pages.".into(),
            Reason::Protect { errno } => {
                format!("Its memory could not be protected ({errno}: {}).", errno.text())
            }
            Reason::Btf { .. } => {
                "Its type information (.BTF) is damaged; build it again, or strip that section.".into()
            }
            Reason::DuplicateExport { symbol, owner } => format!(
                "It exports {}, which {} exports already; only one of the two can be loaded.",
                Text(symbol),
                Text(owner)
            ),
            Reason::Params { errno } => format!("A parameter was refused ({errno}: {}).", errno.text()),
            Reason::Sysfs { .. } => {
                "Its directory /sys/module cannot be made: the name is taken by built-in code, or empty."
                    .into()
            }
            Reason::InitcallBlacklisted => {
                "Its init function is named in initcall_blacklist= on the kernel command line.".into()
            }
            Reason::Init(value) => match self.errno().name() {
                Some(name) => format!(
                    "Its init function refused with {value} ({name}: {}); what it logged may tell why.",
                    self.errno().text()
                ),
                None => format!("Its init function refused with {value}, which is no error number."),
            },
            Reason::InitDied => "Its init function did not return; the report of the fault says why.".into(),
            Reason::Stopped => format!("It was stopped before {}.", self.stage),
        }
    }
}

/// Makes a sentence of a cause: a capital first, a stop last.
fn sentence(cause: &impl ToString) -> String {
    let mut text = cause.to_string();
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text.push('.');
    text
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.stage, self.cause())
    }
}

impl core::error::Error for LoadError {}

/// Why a module was not removed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnloadError {
    /// No `CAP_SYS_MODULE`, or loading is switched off.
    NotPermitted,
    /// The kernel has no such system call (`CONFIG_MODULE_UNLOAD` is off).
    NotBuilt,
    /// The name cannot be read.
    NameFault,
    /// There is no such module.
    NotFound,
    /// Other modules use it; their names, latest first.
    Used(Vec<Vec<u8>>),
    /// It is coming or going.
    Busy,
    /// It has no exit function.
    Permanent,
    /// It is in use.
    Referenced(i32),
    /// The exit function did not return: the module stays for good.
    ExitDied,
}

impl UnloadError {
    /// What the system call fails with.
    pub const fn errno(&self) -> Errno {
        match self {
            UnloadError::NotPermitted => Errno::EPERM,
            UnloadError::NotBuilt => Errno::ENOSYS,
            UnloadError::NameFault | UnloadError::ExitDied => Errno::EFAULT,
            UnloadError::NotFound => Errno::ENOENT,
            UnloadError::Used(_) | UnloadError::Referenced(_) => Errno::EAGAIN,
            UnloadError::Busy | UnloadError::Permanent => Errno::EBUSY,
        }
    }

    /// One sentence for the user.
    pub fn cause(&self) -> String {
        match self {
            UnloadError::NotPermitted => "Removing modules is not permitted here.".into(),
            UnloadError::NotBuilt => "This kernel was built without the removal of modules.".into(),
            UnloadError::NameFault => "The name cannot be read.".into(),
            UnloadError::NotFound => "No module of that name is loaded.".into(),
            UnloadError::Used(users) => {
                let names: Vec<String> = users.iter().map(|name| Text(name).to_string()).collect();
                format!("It is used by {}; remove that first.", names.join(", "))
            }
            UnloadError::Busy => "It is just being loaded or removed.".into(),
            UnloadError::Permanent => "It has no exit function and can only be removed by force.".into(),
            UnloadError::Referenced(count) => format!("It is in use ({count} references)."),
            UnloadError::ExitDied => "Its exit function did not return.".into(),
        }
    }
}

impl fmt::Display for UnloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause())
    }
}

impl core::error::Error for UnloadError {}
