//! What is said while indexes are made.

use std::fmt;
use std::path::PathBuf;

use lkm_module::Errno;

/// How grave a note is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something is missing from the indexes.
    Error,
    /// Something is odd.
    Warning,
    /// Only for those who want to know what happens.
    Info,
}

/// Something that was met on the way and does not stop it. The texts are those of kmod 30.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// A line of a `depmod.d` file is not understood: file, line, its first word.
    BadLine(PathBuf, usize, String),
    /// An `override` or `external` line is for other kernels: file, line, what it is about, its pattern.
    OtherKernel(PathBuf, usize, &'static str, String),
    /// A line of a `depmod.d` file has a command of module-init-tools: file, line, the command.
    NotParsed(PathBuf, usize, String),
    /// A `depmod.d` file or directory could not be read.
    Config(PathBuf, Errno),
    /// A directory in a `depmod.d` directory is named like a file of it.
    ConfigDirectory(PathBuf),
    /// A directory with modules could not be opened.
    OpenDirectory(PathBuf, Errno),
    /// A directory entry could not be looked at: its directory, its name.
    Entry(PathBuf, Vec<u8>, Errno),
    /// A directory entry is neither a file nor a directory: path, file type bits of its mode.
    FileType(PathBuf, u32),
    /// A directory is, by way of a symbolic link, inside itself.
    Circle(PathBuf),
    /// An input beside the modules is missing: its name, the directory.
    Missing(&'static str, PathBuf, Errno),
    /// There is no `modules.dep` whose age could be compared: the directory.
    NoIndex(PathBuf, Errno),
    /// A line of `modules.order` has no end: file, number of the line.
    OrderCorrupted(PathBuf, usize),
    /// The symbols of a module could not be read.
    Unreadable(PathBuf, Errno),
    /// A line of a `Module.symvers` file has no number where the CRC should be: file, line, what is there.
    SymbolVersion(PathBuf, usize, String),
    /// A line of a `System.map` file is not of three words: file, line, the line.
    SystemMapLine(PathBuf, usize, String),
    /// A module needs another: path of the one, symbol, path of the other.
    Needs(PathBuf, String, PathBuf),
    /// Nobody has a symbol that a module needs.
    UnknownSymbol(PathBuf, String),
    /// A module was built against another version of a symbol.
    SymbolDisagrees(PathBuf, String),
    /// An alias has a `[` without `]` or the reverse.
    Bracket(String),
    /// An alias cannot be indexed because it is not plain ASCII: alias, module.
    NotAscii(String, String),
    /// A module has one alias twice: alias, module.
    DuplicateAlias(String, String),
    /// A line of `modules.builtin` does not start with a letter.
    BuiltinLine(String),
    /// A module wants a device node, but not which: module, name of the node.
    NoDeviceNumber(String, String),
    /// Modules need each other: their names, the first one again at the end.
    Cycle(Vec<String>),
    /// So many modules need each other.
    InCycles(usize),
    /// Another process makes indexes in the same directory for longer than was waited.
    Locked(PathBuf),
    /// The cache could not be written; it is of use only to the next run.
    CacheNotWritten(PathBuf, Errno),
}

impl Note {
    /// How grave it is.
    pub fn severity(&self) -> Severity {
        match self {
            Note::OtherKernel(..) | Note::NotParsed(..) | Note::Needs(..) => Severity::Info,
            Note::Missing(..)
            | Note::UnknownSymbol(..)
            | Note::SymbolDisagrees(..)
            | Note::Bracket(..)
            | Note::NotAscii(..)
            | Note::DuplicateAlias(..)
            | Note::Locked(..)
            | Note::CacheNotWritten(..) => Severity::Warning,
            _ => Severity::Error,
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::BadLine(file, line, word) => {
                write!(f, "{}:{line}: ignoring bad line starting with '{word}'", file.display())
            }
            Note::OtherKernel(file, line, what, pattern) => {
                write!(f, "{}:{line}: {what} did not match {pattern}", file.display())
            }
            Note::NotParsed(file, line, word) => {
                write!(f, "{}:{line}: command {word} is deprecated and not parsed anymore", file.display())
            }
            Note::Config(path, errno) => write!(f, "file parse {}: {}", path.display(), errno.text()),
            Note::ConfigDirectory(path) => {
                write!(f, "Directories inside directories are not supported: {}", path.display())
            }
            Note::OpenDirectory(path, errno) => {
                write!(f, "could not open directory {}: {}", path.display(), errno.text())
            }
            Note::Entry(directory, name, errno) => {
                let name = String::from_utf8_lossy(name);
                write!(f, "fstatat({}, {name}): {}", directory.display(), errno.text())
            }
            Note::FileType(path, kind) => write!(f, "unsupported file type {}: {kind:o}", path.display()),
            Note::Circle(path) => {
                write!(f, "{}: a symbolic link leads back to a directory that it is in", path.display())
            }
            Note::Missing(name, directory, errno) => {
                write!(f, "could not open {name} at {}: {}", directory.display(), errno.text())
            }
            Note::NoIndex(directory, errno) => {
                write!(f, "could not fstatat({}, modules.dep): {}", directory.display(), errno.text())
            }
            Note::OrderCorrupted(path, line) => {
                write!(f, "{}:{line} corrupted line misses '\\n'", path.display())
            }
            Note::Unreadable(path, errno) => {
                write!(f, "failed to load symbols from {}: {}", path.display(), errno.text())
            }
            Note::SymbolVersion(path, line, text) => {
                write!(f, "{}:{line} Invalid symbol version {text}", path.display())
            }
            Note::SystemMapLine(path, line, text) => {
                write!(f, "{}:{line}: invalid line: {text}", path.display())
            }
            Note::Needs(module, symbol, other) => {
                write!(f, "{} needs \"{symbol}\": {}", module.display(), other.display())
            }
            Note::UnknownSymbol(module, symbol) => {
                write!(f, "{} needs unknown symbol {symbol}", module.display())
            }
            Note::SymbolDisagrees(module, symbol) => {
                write!(f, "{} disagrees about version of symbol {symbol}", module.display())
            }
            Note::Bracket(alias) => write!(f, "Unmatched bracket in {alias}"),
            Note::NotAscii(alias, module) => {
                write!(f, "alias '{alias}' of module {module} is not plain ASCII and cannot be looked up")
            }
            Note::DuplicateAlias(alias, module) => write!(f, "duplicate module alias:\n{alias} {module}"),
            Note::BuiltinLine(line) => write!(f, "Invalid modules.builtin line: {line}"),
            Note::NoDeviceNumber(module, name) => write!(
                f,
                "Module '{module}' has devname ({name}) but lacks major and minor information. Ignoring."
            ),
            Note::Cycle(names) => write!(f, "Cycle detected: {}", names.join(" -> ")),
            Note::InCycles(count) => write!(f, "Found {count} modules in dependency cycles!"),
            Note::Locked(path) => {
                write!(f, "another depmod works in {} and does not end; going on beside it", path.display())
            }
            Note::CacheNotWritten(path, errno) => {
                write!(
                    f,
                    "could not write {}: {}; the next run reads all modules again",
                    path.display(),
                    errno.text()
                )
            }
        }
    }
}
