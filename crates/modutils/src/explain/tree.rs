//! What the directory of a kernel's modules says.

use std::path::Path;
use std::path::PathBuf;

use lkm_module::Module;
use lkm_tree::file::read_module;
use lkm_tree::index::binary::Index;
use lkm_tree::index::binary::IndexError;
use lkm_tree::index::text;
use lkm_tree::name::underscores;

use super::cause::Cause;
use super::cause::Rebuild;
use super::shown::shown;
use super::system::System;

/// Modules of the tree that are read to learn how the kernel was built.
const SAMPLES: usize = 4;

impl System<'_> {
    /// The modules that export a symbol by the index; `None` without an index that can be used.
    pub(crate) fn providers(&self, symbol: &[u8]) -> Option<Vec<String>> {
        let index = self.index("modules.symbols.bin").ok()?;
        let values = index.values(&[b"symbol:", symbol].concat()).ok()?;
        Some(values.iter().map(|value| shown(value.text)).collect())
    }

    /// Reads an index of the directory.
    pub(crate) fn index(&self, name: &str) -> Result<Index<Vec<u8>>, IndexError> {
        Index::open(&self.directory.join(name))
    }

    /// How a module is to be built again for this kernel; `path` is its file, `name` its name.
    pub(crate) fn rebuild(&self, name: Option<&[u8]>, path: &Path) -> Rebuild {
        if let Some(name) = name
            && !self.is_own(name, path)
            && self.own(name).is_some_and(|own| own.is_file())
        {
            return Rebuild::Own(shown(name));
        }
        let build = self.directory.join("build");
        match build.is_dir() {
            true => Rebuild::Headers(shown(build.as_os_str().as_encoded_bytes())),
            false => Rebuild::NoHeaders(self.release()),
        }
    }

    /// Whether a file is the one that the index has for the module.
    pub(crate) fn is_own(&self, name: &[u8], path: &Path) -> bool {
        self.own(name).is_some_and(|own| same_file(&own, path))
    }

    /// The file that the index has for a module.
    fn own(&self, name: &[u8]) -> Option<PathBuf> {
        let index = self.index("modules.dep.bin").ok()?;
        let line = index.find(&underscores(name)?).ok()??;
        Some(self.resolve(line.split(|&byte| byte == b':').next()?))
    }

    /// A path of an index: below the directory if it is relative.
    fn resolve(&self, path: &[u8]) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        self.directory.join(std::ffi::OsStr::from_bytes(path))
    }

    /// Calls `each` with some modules that came with the kernel, as far as their files can be read, until it gives
    /// something.
    pub(crate) fn samples<T>(&self, mut each: impl FnMut(&Module<'_>) -> Option<T>) -> Option<T> {
        let list = std::fs::read(self.directory.join("modules.dep")).ok()?;
        let lines = text::dependencies(&list).flatten();
        let came_with_it = lines.filter(|line| line.path.starts_with(b"kernel/"));
        came_with_it.take(SAMPLES).find_map(|line| {
            let file = read_module(&self.resolve(line.path)).ok()?;
            each(&Module::parse(&file.bytes).ok()?)
        })
    }

    /// Why nothing can be found in the directory: it is not there, or its index is missing or damaged.
    pub(crate) fn unusable(&self) -> Option<Cause> {
        if !self.directory.is_dir() {
            let path = shown(self.directory.as_os_str().as_encoded_bytes());
            let releases = self.releases();
            let running = self.release().as_bytes() == self.kernel.release();
            return Some(match running {
                true => Cause::NoRelease(path, releases),
                false => Cause::NoOtherRelease(path, releases),
            });
        }
        match self.index("modules.dep.bin") {
            Ok(_) => None,
            Err(error) => Some(index_cause(&error, &self.directory.join("modules.dep.bin"), self.release())),
        }
    }

    /// The releases whose modules are there.
    pub(crate) fn releases(&self) -> Vec<String> {
        let Some(Ok(entries)) = self.directory.parent().map(std::fs::read_dir) else { return Vec::new() };
        let with_modules = entries.flatten().filter(|entry| {
            entry.path() != self.directory
                && (entry.path().join("modules.dep").is_file() || entry.path().join("kernel").is_dir())
        });
        let mut names: Vec<String> =
            with_modules.map(|entry| shown(entry.file_name().as_encoded_bytes())).collect();
        names.sort();
        names
    }
}

/// What is wrong with an index.
pub(crate) fn index_cause(error: &IndexError, path: &Path, release: String) -> Cause {
    let path = shown(path.as_os_str().as_encoded_bytes());
    match error {
        IndexError::Io(_, error) if error.kind() == std::io::ErrorKind::NotFound => {
            Cause::NoIndex(path, release)
        }
        IndexError::Io(_, error) => Cause::BadIndex(format!("{path}: {error}"), release),
        error => Cause::BadIndex(format!("{path}: {error}"), release),
    }
}

fn same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}
