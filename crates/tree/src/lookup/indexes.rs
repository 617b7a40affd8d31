//! The binary indexes of a directory, each read when it is first asked.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::OnceLock;

use super::LookupError;
use crate::index::binary::Index;
use crate::index::binary::IndexError;

/// One of the binary indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexFile {
    /// `modules.dep.bin`: from a module to its file and those of the modules it needs.
    Dependencies,
    /// `modules.alias.bin`: from patterns to modules.
    Aliases,
    /// `modules.symbols.bin`: from `symbol:NAME` to the module that exports it.
    Symbols,
    /// `modules.builtin.bin`: modules that are part of the kernel.
    Builtin,
    /// `modules.builtin.alias.bin`: from patterns to modules that are part of the kernel.
    BuiltinAliases,
}

impl IndexFile {
    /// The file's name.
    pub fn name(self) -> &'static str {
        match self {
            IndexFile::Dependencies => "modules.dep.bin",
            IndexFile::Aliases => "modules.alias.bin",
            IndexFile::Symbols => "modules.symbols.bin",
            IndexFile::Builtin => "modules.builtin.bin",
            IndexFile::BuiltinAliases => "modules.builtin.alias.bin",
        }
    }
}

/// An index, or why there is none.
type Loaded = Result<Index<Vec<u8>>, Arc<IndexError>>;

#[derive(Debug)]
pub(super) struct Indexes {
    directory: PathBuf,
    loaded: [OnceLock<Loaded>; 5],
}

impl Indexes {
    pub(super) fn new(directory: &Path) -> Indexes {
        Indexes { directory: directory.to_owned(), loaded: [const { OnceLock::new() }; 5] }
    }

    pub(super) fn get(&self, file: IndexFile) -> Result<&Index<Vec<u8>>, LookupError> {
        let [dependencies, aliases, symbols, builtin, builtin_aliases] = &self.loaded;
        let cell = match file {
            IndexFile::Dependencies => dependencies,
            IndexFile::Aliases => aliases,
            IndexFile::Symbols => symbols,
            IndexFile::Builtin => builtin,
            IndexFile::BuiltinAliases => builtin_aliases,
        };
        let loaded = cell.get_or_init(|| Index::open(&self.path(file)).map_err(Arc::new));
        loaded.as_ref().map_err(|error| match &**error {
            IndexError::Io(path, why) if why.kind() == io::ErrorKind::NotFound => {
                LookupError::NoIndex(path.clone())
            }
            _ => LookupError::BadIndex(self.path(file), error.clone()),
        })
    }

    /// What a walk through an index ran into.
    pub(super) fn damaged(&self, file: IndexFile, error: IndexError) -> LookupError {
        LookupError::BadIndex(self.path(file), Arc::new(error))
    }

    fn path(&self, file: IndexFile) -> PathBuf {
        self.directory.join(file.name())
    }
}
