//! What the administrator says about modules: `modprobe.d` and the kernel's command line.
//!
//! ```
//! use lkm_tree::config::Config;
//!
//! let mut config = Config::default();
//! config.add_text("local.conf".as_ref(), b"options snd-pcm x=1\ninstall floppy /bin/false\nblacklist pcspkr\n");
//! config.add_kernel_command_line(b"quiet snd_pcm.y=2 modprobe.blacklist=nouveau");
//! let options: Vec<_> = config.options_of(b"snd_pcm").map(|line| line.options.as_slice()).collect();
//! assert_eq!(options, [b"x=1".as_slice(), b"y=2"]);
//! assert_eq!(config.install_command(b"floppy").unwrap().command, b"/bin/false");
//! assert_eq!(config.blacklisted(b"pcspkr").unwrap().origin.to_string(), "local.conf line 3");
//! ```
//!
//! Names are kept with `_` for `-` ([`underscores`](crate::name::underscores)) and are looked up in that form. What a
//! line means for a load is the business of whoever loads; here is only what was said, in which order, and where.

use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::fnmatch::fnmatch;
use crate::name::make_underscores;

mod bytes;
mod command_line;
pub(crate) mod files;
pub(crate) mod lines;

pub use bytes::Bytes;
pub use files::DIRECTORIES;

/// Where a line comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file, and the number of the line from 1. Of a line that `\` continues it is the last one's.
    File(Arc<Path>, usize),
    /// The kernel's command line.
    KernelCommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path, line) => write!(f, "{} line {line}", path.display()),
            Origin::KernelCommandLine => f.write_str("the kernel's command line"),
        }
    }
}

/// `alias PATTERN MODULE`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// A shell pattern.
    pub pattern: Bytes,
    /// The name it stands for, which may be an alias itself.
    pub module: Bytes,
    /// Where it was said.
    pub origin: Origin,
}

/// `options MODULE PARAMETERS`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The module, or the alias it was asked for by.
    pub module: Bytes,
    /// The parameters as they were written, a blank for every tab.
    pub options: Bytes,
    /// Where it was said.
    pub origin: Origin,
}

impl Options {
    fn new(module: Bytes, options: &[u8], origin: Origin) -> Options {
        let mut options = Bytes::from(options);
        options.as_mut_slice().iter_mut().filter(|byte| **byte == b'\t').for_each(|byte| *byte = b' ');
        Options { module, options, origin }
    }
}

/// `install MODULE COMMAND` or `remove MODULE COMMAND`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// A shell pattern for the module's name.
    pub pattern: Bytes,
    /// What the shell runs instead of the load or removal. `$CMDLINE_OPTS` in it stands for the parameters.
    pub command: Bytes,
    /// Where it was said.
    pub origin: Origin,
}

/// `blacklist MODULE`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blacklist {
    /// The module.
    pub module: Bytes,
    /// Where it was said.
    pub origin: Origin,
}

/// `deny MODULE`: the module is not loaded, whoever asks for it.
///
/// kmod does not know this word and passes such a line over with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deny {
    /// A shell pattern for the module's name.
    pub pattern: Bytes,
    /// Where it was said.
    pub origin: Origin,
}

/// `softdep MODULE pre: NAME ... post: NAME ...`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoftDependency {
    /// A shell pattern for the module's name.
    pub pattern: Bytes,
    /// Where it was said.
    pub origin: Origin,
    /// What follows the pattern.
    text: Bytes,
}

impl SoftDependency {
    /// Names to load before it if they are there, as they were written.
    pub fn before(&self) -> impl Iterator<Item = &[u8]> {
        self.under(b"pre:")
    }

    /// Names to load after it if they are there, as they were written.
    pub fn after(&self) -> impl Iterator<Item = &[u8]> {
        self.under(b"post:")
    }

    fn under(&self, title: &'static [u8]) -> impl Iterator<Item = &[u8]> {
        // What precedes both titles counts for nothing.
        let mut here = false;
        words(&self.text).filter(move |word| match *word {
            b"pre:" | b"post:" => {
                here = *word == title;
                false
            }
            _ => here,
        })
    }
}

/// `weakdep MODULE NAME ...`, known to kmod from version 33 on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeakDependency {
    /// A shell pattern for the module's name.
    pub pattern: Bytes,
    /// Where it was said.
    pub origin: Origin,
    /// What follows the pattern.
    text: Bytes,
}

impl WeakDependency {
    /// What the module may ask for itself, as it was written.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        words(&self.text)
    }
}

/// [`fnmatch`], for lines of which most are about something else.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.first(), name.first()) {
        (Some(b'*' | b'?' | b'[' | b'\\'), _) => fnmatch(pattern, name),
        (first, other) => first == other && fnmatch(pattern, name),
    }
}

/// Adds to a list that may become long: growing it in small steps would cost more than all else of reading.
fn push<T>(list: &mut Vec<T>, item: T) {
    if list.len() == list.capacity() {
        list.reserve(list.len().max(32));
    }
    list.push(item);
}

/// A name in the form in which names are compared; `None` if its brackets do not pair.
fn named(name: &[u8]) -> Option<Bytes> {
    let mut kept = Bytes::from(name);
    make_underscores(kept.as_mut_slice()).then_some(kept)
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| matches!(byte, b' ' | b'\t'..=b'\r')).filter(|word| !word.is_empty())
}

/// Something in a configuration that was passed over. The texts are those of kmod.
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// A file or directory could not be read.
    Io(PathBuf, io::Error),
    /// A directory in a configuration directory has a name like a configuration file.
    Directory(PathBuf),
    /// A line starts with this word, which is unknown or lacks what has to follow.
    BadLine(Origin, Vec<u8>),
    /// A line starts with `include` or `config`, which module-init-tools knew.
    Deprecated(Origin, Vec<u8>),
    /// A parameter on the kernel's command line is for what cannot be a module's name.
    BadModule(Vec<u8>),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Problem::Directory(path) => {
                write!(f, "Directories inside directories are not supported: {}", path.display())
            }
            Problem::BadLine(origin, word) => {
                write!(f, "{origin}: ignoring bad line starting with '{}'", String::from_utf8_lossy(word))
            }
            Problem::Deprecated(origin, word) => {
                let word = String::from_utf8_lossy(word);
                match origin {
                    Origin::File(path, _) => write!(f, "{}", path.display())?,
                    other => write!(f, "{other}")?,
                }
                write!(f, ": command {word} is deprecated and not parsed anymore")
            }
            Problem::BadModule(name) => write!(
                f,
                "Ignoring bad option on kernel command line while parsing module name: '{}'",
                String::from_utf8_lossy(name)
            ),
        }
    }
}

impl std::error::Error for Problem {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Problem::Io(_, error) => Some(error),
            _ => None,
        }
    }
}

/// Everything that was said, each kind in the order in which it was.
#[derive(Debug, Default)]
pub struct Config {
    /// `alias` lines.
    pub aliases: Vec<Alias>,
    /// `options` lines and parameters on the kernel's command line.
    pub options: Vec<Options>,
    /// `install` lines.
    pub install: Vec<Command>,
    /// `remove` lines.
    pub remove: Vec<Command>,
    /// `blacklist` lines and what `modprobe.blacklist=` lists.
    pub blacklist: Vec<Blacklist>,
    /// `deny` lines.
    pub deny: Vec<Deny>,
    /// `softdep` lines.
    pub soft_dependencies: Vec<SoftDependency>,
    /// `weakdep` lines.
    pub weak_dependencies: Vec<WeakDependency>,
    /// What was passed over.
    pub problems: Vec<Problem>,
}

impl Config {
    /// Reads configuration files. Each source is a directory, whose `*.conf` files count, or a file of any name; what
    /// is not there is passed over.
    ///
    /// All files are read in the order of their base names, and of two with one name only that of the earlier source:
    /// an administrator's `/etc/modprobe.d/x.conf` hides the distribution's `/lib/modprobe.d/x.conf`. `modprobe` gives
    /// `modules.softdep` of the kernel's directory first and then [`DIRECTORIES`].
    pub fn read(sources: &[PathBuf]) -> Config {
        let mut config = Config::default();
        for path in files::list(sources, &mut config.problems) {
            match std::fs::read(&path) {
                Ok(text) => config.add_text(&path, &text),
                Err(error) => config.problems.push(Problem::Io(path, error)),
            }
        }
        config
    }

    /// Adds what a file says; the path is for messages only.
    pub fn add_text(&mut self, path: &Path, text: &[u8]) {
        let path: Arc<Path> = path.into();
        for (line, text) in lines::Lines::new(text) {
            lines::add(self, Origin::File(path.clone(), line), &text);
        }
    }

    /// Adds what the kernel's command line (`/proc/cmdline`) says: `MODULE.PARAMETER`, `MODULE.PARAMETER=VALUE` and
    /// `modprobe.blacklist=MODULE,...`.
    ///
    /// A `"` may stand in a value or before the whole item, as GRUB writes it; the latter is moved to the value. Unlike
    /// kmod 30, which compares them as they are and so never finds one with a `-`, blacklisted names are brought to the
    /// usual form here, and empty ones left out.
    pub fn add_kernel_command_line(&mut self, text: &[u8]) {
        command_line::add(self, text);
    }

    /// The `alias` lines whose pattern matches a name.
    pub fn aliases_of<'a>(&'a self, name: &[u8]) -> impl Iterator<Item = &'a Alias> {
        self.aliases.iter().filter(move |alias| matches(&alias.pattern, name))
    }

    /// The `options` lines for exactly this name, all of which count.
    pub fn options_of<'a>(&'a self, name: &[u8]) -> impl Iterator<Item = &'a Options> {
        self.options.iter().filter(move |line| *line.module == *name)
    }

    /// The `install` line that counts for a module: the first one that matches. For a name that is in no index kmod
    /// takes a line only if its pattern is that very name.
    pub fn install_command(&self, name: &[u8]) -> Option<&Command> {
        self.install.iter().find(|line| matches(&line.pattern, name))
    }

    /// The `remove` line that counts for a module: the first one that matches.
    pub fn remove_command(&self, name: &[u8]) -> Option<&Command> {
        self.remove.iter().find(|line| matches(&line.pattern, name))
    }

    /// The line that blacklists a module.
    pub fn blacklisted(&self, name: &[u8]) -> Option<&Blacklist> {
        self.blacklist.iter().find(|line| *line.module == *name)
    }

    /// The line that denies a module: the first one that matches.
    pub fn denied(&self, name: &[u8]) -> Option<&Deny> {
        self.deny.iter().find(|line| matches(&line.pattern, name))
    }

    /// The `softdep` lines that match a module. kmod heeds the first of them only.
    pub fn soft_dependencies_of<'a>(&'a self, name: &[u8]) -> impl Iterator<Item = &'a SoftDependency> {
        self.soft_dependencies.iter().filter(move |line| matches(&line.pattern, name))
    }

    /// The `weakdep` lines that match a module. kmod heeds the first of them only.
    pub fn weak_dependencies_of<'a>(&'a self, name: &[u8]) -> impl Iterator<Item = &'a WeakDependency> {
        self.weak_dependencies.iter().filter(move |line| matches(&line.pattern, name))
    }
}

#[cfg(test)]
mod tests;
