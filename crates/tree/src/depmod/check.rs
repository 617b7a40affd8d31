//! Whether the indexes of a directory are those that would be made.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;

use super::output::IndexFile;
use crate::index::binary::Index;
use crate::index::text;

/// How many items of one file are named.
const NAMED: usize = 20;

/// State of one index file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileState {
    /// It says what it should.
    Current,
    /// It is not there or cannot be read: why.
    Missing(String),
    /// It is not a file of its kind: why.
    Damaged(String),
    /// It says something else than it should.
    Stale(Stale),
}

/// How a file differs from what it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stale {
    /// Items it lacks, at most 20 of them.
    pub missing: Vec<String>,
    /// Items it should not have, at most 20 of them.
    pub surplus: Vec<String>,
    /// How many it lacks.
    pub missing_count: usize,
    /// How many it should not have.
    pub surplus_count: usize,
}

/// What was found out about the indexes of a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// Each file with its state.
    pub files: Vec<(&'static str, FileState)>,
    /// Modules that the directory has and the index does not, by their paths.
    pub new: Vec<String>,
    /// Modules that the index has and the directory does not.
    pub gone: Vec<String>,
    /// Modules that need others than the index says.
    pub changed: Vec<String>,
}

impl Check {
    /// All files say what they should.
    pub fn is_current(&self) -> bool {
        self.files.iter().all(|(_, state)| *state == FileState::Current)
    }
}

/// Holds the files of a directory against those that were made for it.
pub(super) fn check(directory: &Path, made: &[IndexFile]) -> Check {
    let mut check = Check::default();
    for file in made {
        let state = match std::fs::read(directory.join(file.name)) {
            Err(error) => FileState::Missing(error.to_string()),
            Ok(bytes) if bytes == file.bytes => FileState::Current,
            Ok(bytes) if file.is_text() => compare(lines(&file.bytes), lines(&bytes)),
            Ok(bytes) => compare_binary(&file.bytes, &bytes),
        };
        check.files.push((file.name, state));
    }
    if let Some(file) = made.iter().find(|file| file.name == "modules.dep")
        && let Ok(theirs) = std::fs::read(directory.join(file.name))
    {
        let by_path = |bytes: &[u8]| -> BTreeMap<String, Vec<u8>> {
            let lines = text::dependencies(bytes).flatten();
            lines.map(|line| (lossy(line.path), line.depends().collect::<Vec<_>>().join(&b' '))).collect()
        };
        let (ours, theirs) = (by_path(&file.bytes), by_path(&theirs));
        for (path, needs) in &ours {
            match theirs.get(path) {
                None => check.new.push(path.clone()),
                Some(other) if other != needs => check.changed.push(path.clone()),
                Some(_) => {}
            }
        }
        check.gone = theirs.into_keys().filter(|path| !ours.contains_key(path)).collect();
    }
    check
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// The lines that count, in any order: another C library sorts modules that `modules.order` does not have otherwise.
fn lines(bytes: &[u8]) -> BTreeSet<Vec<u8>> {
    let lines = bytes.split(|byte| *byte == b'\n');
    lines.filter(|line| !line.is_empty() && !line.starts_with(b"#")).map(<[u8]>::to_vec).collect()
}

fn compare(ours: BTreeSet<Vec<u8>>, theirs: BTreeSet<Vec<u8>>) -> FileState {
    let missing: Vec<_> = ours.difference(&theirs).collect();
    let surplus: Vec<_> = theirs.difference(&ours).collect();
    if missing.is_empty() && surplus.is_empty() {
        return FileState::Current;
    }
    let name = |items: &[&Vec<u8>]| items.iter().take(NAMED).map(|item| lossy(item)).collect();
    FileState::Stale(Stale {
        missing: name(&missing),
        surplus: name(&surplus),
        missing_count: missing.len(),
        surplus_count: surplus.len(),
    })
}

/// Compares keys and values. How the nodes lie in the file, and priorities as such, differ between versions of kmod.
fn compare_binary(ours: &[u8], theirs: &[u8]) -> FileState {
    let entries = |bytes: &[u8]| {
        let mut entries = BTreeSet::new();
        let index = Index::new(bytes)?;
        index.for_each(|key, value| {
            entries.insert([key, b" ", value.text].concat());
        })?;
        Ok::<_, crate::index::binary::IndexError>(entries)
    };
    // kmod 30 leaves an empty file where there is nothing to index.
    let theirs = if theirs.is_empty() { Ok(BTreeSet::new()) } else { entries(theirs) };
    match (entries(ours), theirs) {
        (Ok(ours), Ok(theirs)) => compare(ours, theirs),
        (Err(error), _) | (_, Err(error)) => FileState::Damaged(error.to_string()),
    }
}
