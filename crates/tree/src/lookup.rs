//! What a name stands for in a kernel's directory, and what it takes to load it.
//!
//! [`Modules`] is `/lib/modules/VERSION` together with `modprobe.d`: it finds modules by name and alias, tells where
//! they lie, what they need and with which parameters they are loaded, and lays out a load as a [`Plan`], a list of steps
//! that whoever loads carries out one by one. Nothing here asks or changes a kernel.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let root = std::env::temp_dir().join(format!("lkm-lookup-{}", std::process::id()));
//! # std::fs::create_dir_all(&root)?;
//! # let mut builder = lkm_tree::index::binary::IndexBuilder::new();
//! # builder.insert(b"ext4", b"kernel/ext4.ko: kernel/jbd2.ko", 0)?;
//! # builder.insert(b"jbd2", b"kernel/jbd2.ko:", 0)?;
//! # std::fs::write(root.join("modules.dep.bin"), builder.finish()?)?;
//! use lkm_tree::config::Config;
//! use lkm_tree::lookup::{Modules, Named};
//!
//! let mut config = Config::default();
//! config.add_text("local.conf".as_ref(), b"alias my-disk ext4\noptions jbd2 debug=1\n");
//! let modules = Modules::new(&root, config);
//! for found in modules.find(b"my-disk")? {
//!     for step in modules.plan(&found, Named::WithCommands)?.steps {
//!         println!("{} {}", step.path.unwrap_or_default().display(), step.options.escape_ascii());
//!     }
//! }
//! # std::fs::remove_dir_all(&root)?;
//! # Ok(())
//! # }
//! ```
//!
//! On a running system the directory and the configuration are those that `modprobe` uses:
//!
//! ```no_run
//! use lkm_tree::lookup::Modules;
//!
//! let cmdline = std::fs::read("/proc/cmdline")?;
//! let modules = Modules::open("/lib/modules/6.1.0-56-amd64", None, &cmdline);
//! for problem in &modules.config().problems {
//!     eprintln!("{problem}");
//! }
//! println!("{:?}", modules.find(b"pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00"));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Names of modules are given and taken with `-` or `_` alike; what comes back has `_`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::path::PathBuf;

use crate::config::Command;
use crate::config::Config;
use crate::config::DIRECTORIES;
use crate::config::Deny;
use crate::index::text::DependencyLine;
use crate::name::underscores;

mod error;
mod find;
mod indexes;
mod plan;

pub use error::LookupError;
pub use find::Found;
pub use find::Source;
pub use indexes::IndexFile;
use indexes::Indexes;
pub use plan::Action;
pub use plan::Named;
pub use plan::Plan;
pub use plan::Reason;
pub use plan::Step;

/// Where this loader does more with a configuration than kmod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// All `softdep` and `weakdep` lines of a module count, and not the first one alone.
    pub every_softdep_line: bool,
    /// A module that has soft dependencies is loaded by its `install` line if it has one; kmod passes that line over.
    pub install_with_softdep: bool,
}

impl Rules {
    /// What kmod does, up to its version 34.
    pub const KMOD: Rules = Rules { every_softdep_line: false, install_with_softdep: false };
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { every_softdep_line: true, install_with_softdep: true }
    }
}

/// A module that another one needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// Its name.
    pub name: Vec<u8>,
    /// Its file.
    pub path: PathBuf,
}

/// The modules of one kernel, as they are configured.
#[derive(Debug)]
pub struct Modules {
    directory: PathBuf,
    config: Config,
    rules: Rules,
    indexes: Indexes,
}

impl Modules {
    /// The modules of a directory such as `/lib/modules/6.1.0-56-amd64`, with a configuration that was read before.
    /// An index is read when it is first needed.
    pub fn new(directory: impl Into<PathBuf>, config: Config) -> Modules {
        let directory = directory.into();
        let indexes = Indexes::new(&directory);
        Modules { directory, config, rules: Rules::default(), indexes }
    }

    /// The modules of a directory, with the configuration that `modprobe` has: the soft and weak dependencies that the
    /// modules ask for themselves, the files and directories in `sources` ([`DIRECTORIES`] if it is `None`), and the
    /// kernel's command line, the contents of `/proc/cmdline`.
    pub fn open(directory: impl Into<PathBuf>, sources: Option<&[PathBuf]>, command_line: &[u8]) -> Modules {
        let directory = directory.into();
        let mut all = vec![directory.join("modules.softdep"), directory.join("modules.weakdep")];
        match sources {
            Some(sources) => all.extend_from_slice(sources),
            None => all.extend(DIRECTORIES.iter().map(PathBuf::from)),
        }
        let mut config = Config::read(&all);
        config.add_kernel_command_line(command_line);
        Modules::new(directory, config)
    }

    /// The same with other rules.
    #[must_use]
    pub fn with_rules(self, rules: Rules) -> Modules {
        Modules { rules, ..self }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The rules.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// Where an index of this directory lies.
    pub fn index_path(&self, index: IndexFile) -> PathBuf {
        self.directory.join(index.name())
    }

    /// Every key and value of an index, keys in the order of their bytes.
    pub fn for_each(&self, index: IndexFile, mut each: impl FnMut(&[u8], &[u8])) -> Result<(), LookupError> {
        let found = self.indexes.get(index)?.for_each(|key, value| each(key, value.text));
        found.map_err(|error| self.indexes.damaged(index, error))
    }

    /// The file of a module, as the index has it; whether it is there is not looked at. `None` if the index does not know
    /// the module.
    pub fn path(&self, name: &[u8]) -> Result<Option<PathBuf>, LookupError> {
        Ok(self.line(&normal(name)?)?.map(|line| self.absolute(line.path)))
    }

    /// The file of a module, which is there.
    pub fn file(&self, name: &[u8]) -> Result<PathBuf, LookupError> {
        let path = self.path(name)?.ok_or_else(|| LookupError::Unknown(name.to_vec()))?;
        match std::fs::metadata(&path) {
            Ok(_) => Ok(path),
            Err(_) => Err(LookupError::NoFile(path)),
        }
    }

    /// All modules that a module needs, the one to load first at the start. Empty if the index does not know it.
    pub fn dependencies(&self, name: &[u8]) -> Result<Vec<Dependency>, LookupError> {
        let Some(line) = self.line(&normal(name)?)? else { return Ok(Vec::new()) };
        Ok(self.needed_by(line))
    }

    fn needed_by(&self, line: DependencyLine<'_>) -> Vec<Dependency> {
        let paths = line.depends().rev();
        paths.map(|path| Dependency { name: name_of(path), path: self.absolute(path) }).collect()
    }

    /// What `softdep` lines name for a module, as it is written there: to load before it and after it. A name may be an
    /// alias, and need not stand for anything.
    pub fn soft_dependencies(&self, name: &[u8]) -> (Vec<&[u8]>, Vec<&[u8]>) {
        let lines = self.config.soft_dependencies_of(name).take(self.lines_that_count());
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for line in lines {
            before.extend(line.before());
            after.extend(line.after());
        }
        (before, after)
    }

    /// What `weakdep` lines name for a module: what it may ask for itself while it runs.
    pub fn weak_dependencies(&self, name: &[u8]) -> Vec<&[u8]> {
        let lines = self.config.weak_dependencies_of(name).take(self.lines_that_count());
        lines.flat_map(|line| line.names()).collect()
    }

    fn lines_that_count(&self) -> usize {
        if self.rules.every_softdep_line { usize::MAX } else { 1 }
    }

    /// The parameters that the configuration has for a module, and for the alias that it was found by, in the order of
    /// the lines.
    pub fn options(&self, name: &[u8], alias: Option<&[u8]>) -> Vec<u8> {
        let mut all = Vec::new();
        for line in &self.config.options {
            if line.options.is_empty() || *line.module != *name && Some(line.module.as_slice()) != alias {
                continue;
            }
            if !all.is_empty() {
                all.push(b' ');
            }
            all.extend_from_slice(&line.options);
        }
        all
    }

    /// The line with the command that takes the place of the load.
    pub fn install_command(&self, name: &[u8]) -> Option<&Command> {
        self.config.install_command(name)
    }

    /// The line with the command that takes the place of the removal.
    pub fn remove_command(&self, name: &[u8]) -> Option<&Command> {
        self.config.remove_command(name)
    }

    /// The line that says that a module is not loaded, whoever asks.
    pub fn denied(&self, name: &[u8]) -> Option<&Deny> {
        self.config.denied(name)
    }

    /// Whether a module is part of the kernel. False if there is no index of those.
    pub fn is_builtin(&self, name: &[u8]) -> bool {
        let Ok(index) = self.indexes.get(IndexFile::Builtin) else { return false };
        index.find(name).is_ok_and(|value| value.is_some())
    }

    /// The module in a file that is named by its path, with its dependencies by its name from the index.
    pub fn by_path(&self, path: &Path) -> Found {
        let name = name_of(path.as_os_str().as_bytes());
        Found { name, alias: None, source: Source::Path(path.to_owned()) }
    }

    /// The entry of a module in `modules.dep.bin`.
    fn line(&self, name: &[u8]) -> Result<Option<DependencyLine<'_>>, LookupError> {
        let value = self.indexes.get(IndexFile::Dependencies)?.find(name);
        let value = value.map_err(|error| self.indexes.damaged(IndexFile::Dependencies, error))?;
        Ok(value.and_then(DependencyLine::parse))
    }

    /// A path in the index, which is absolute or starts at the directory.
    fn absolute(&self, path: &[u8]) -> PathBuf {
        let mut whole = Vec::new();
        if !path.starts_with(b"/") {
            let directory = self.directory.as_os_str().as_bytes();
            whole.reserve_exact(directory.len() + 1 + path.len());
            whole.extend_from_slice(directory);
            if !directory.ends_with(b"/") {
                whole.push(b'/');
            }
        }
        whole.extend_from_slice(path);
        PathBuf::from(OsString::from_vec(whole))
    }
}

fn normal(name: &[u8]) -> Result<Vec<u8>, LookupError> {
    underscores(name).ok_or_else(|| LookupError::BadName(name.to_vec()))
}

/// The module that a file's name stands for: what precedes the first `.`, with `_` for `-`.
fn name_of(path: &[u8]) -> Vec<u8> {
    let base = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    let stem = base.split(|byte| *byte == b'.').next().unwrap_or(base);
    stem.iter().map(|byte| if *byte == b'-' { b'_' } else { *byte }).collect()
}

#[cfg(test)]
mod tests;
