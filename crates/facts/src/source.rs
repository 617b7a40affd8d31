//! Where a fact comes from.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::Serialize;

/// A file, or a part of one: `linux-image.deb: boot/vmlinuz: embedded configuration`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Source(String);

impl Source {
    /// A source of this name.
    pub fn new(name: impl Into<String>) -> Source {
        Source(name.into())
    }

    /// A file.
    pub fn file(path: &Path) -> Source {
        Source(path.display().to_string())
    }

    /// A part of this source.
    pub fn part(&self, name: impl fmt::Display) -> Source {
        Source(format!("{}: {name}", self.0))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something that is known, and from where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact<T> {
    /// What is known.
    pub value: T,
    /// Who said it.
    pub source: Source,
}

impl<T> Fact<T> {
    /// A fact.
    pub fn new(value: T, source: &Source) -> Fact<T> {
        Fact { value, source: source.clone() }
    }
}
