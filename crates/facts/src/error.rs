//! Why facts cannot be had.

use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::Source;

/// Why a source gives no facts.
#[derive(Debug)]
#[non_exhaustive]
pub enum FactsError {
    /// It cannot be read.
    Io(PathBuf, io::Error),
    /// It is nothing that facts of a kernel are read from.
    Unknown(Source),
    /// It is of a known kind and damaged: what is wrong, in a few words.
    Damaged(Source, String),
    /// There is no kernel of this name in the places where kernels are installed.
    NoKernel(String),
}

impl FactsError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> FactsError {
        let path = path.to_owned();
        move |error| FactsError::Io(path, error)
    }

    pub(crate) fn damaged(source: &Source, what: impl fmt::Display) -> FactsError {
        FactsError::Damaged(source.clone(), what.to_string())
    }
}

impl fmt::Display for FactsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FactsError::Io(path, error) => write!(f, "{}: {error}", path.display()),
            FactsError::Unknown(source) => write!(
                f,
                "{source} is nothing that says what a kernel accepts: a modules directory, Module.symvers, System.map, \
                 a kernel configuration, vmlinux, a bootable kernel, a directory or package of kernel headers, a \
                 Debian package, or facts written by this program"
            ),
            FactsError::Damaged(source, what) => write!(f, "{source}: {what}"),
            FactsError::NoKernel(name) => write!(
                f,
                "there is no kernel {name}: no file or directory of that name, nothing for it in /lib/modules, /boot or \
                 /usr/src"
            ),
        }
    }
}

impl std::error::Error for FactsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            FactsError::Io(_, error) => Some(error),
            _ => None,
        }
    }
}
