//! Why a look-up has no answer.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use lkm_module::Errno;

use crate::index::binary::IndexError;

/// Why a look-up has no answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LookupError {
    /// This is neither a name nor an alias: its brackets do not pair.
    BadName(Vec<u8>),
    /// This index is not there: `depmod` never ran for the directory, or its output was left out of an image.
    NoIndex(PathBuf),
    /// This index cannot be read, for this reason.
    BadIndex(PathBuf, Arc<IndexError>),
    /// All indexes were asked, and none knows this name.
    Unknown(Vec<u8>),
    /// The index names this file, which is not there.
    NoFile(PathBuf),
    /// The load of this module has more steps than any real one: a configuration or an index was made for that.
    TooLong(Vec<u8>),
}

impl LookupError {
    /// The number for it that kmod's library would return.
    pub fn errno(&self) -> Errno {
        match self {
            LookupError::BadName(_) | LookupError::TooLong(_) => Errno::EINVAL,
            LookupError::NoIndex(_) | LookupError::BadIndex(..) => Errno::ENOSYS,
            LookupError::Unknown(_) | LookupError::NoFile(_) => Errno::ENOENT,
        }
    }
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LookupError::BadName(name) => {
                write!(f, "'{}' is no name of a module: its brackets do not pair", name.escape_ascii())
            }
            LookupError::NoIndex(path) => write!(f, "the index {} is missing", path.display()),
            LookupError::BadIndex(path, error) => match &**error {
                // This error names the file itself.
                IndexError::Io(..) => write!(f, "the index cannot be read: {error}"),
                error => write!(f, "the index {} cannot be used: {error}", path.display()),
            },
            LookupError::Unknown(name) => {
                write!(f, "'{}' is in no index and in no line of the configuration", name.escape_ascii())
            }
            LookupError::NoFile(path) => {
                write!(f, "the index names {}, which is not there", path.display())
            }
            LookupError::TooLong(name) => write!(f, "the load of '{}' would never end", name.escape_ascii()),
        }
    }
}

impl std::error::Error for LookupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LookupError::BadIndex(_, error) => Some(&**error),
            _ => None,
        }
    }
}
