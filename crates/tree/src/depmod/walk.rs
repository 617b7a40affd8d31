//! Finding the modules of a directory.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use lkm_module::Errno;
use rustix::fs::CWD;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use super::note::Note;
use super::rules::Rules;
use super::stamp::Stamp;

/// Directories inside each other that are gone into; a path of more is longer than the kernel takes.
const DEPTH: usize = 2048;

/// A module file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its path, below the directory of the modules or absolute.
    pub(super) path: Vec<u8>,
    /// Its module's name, with `_` for `-`.
    pub(super) name: Vec<u8>,
}

impl Found {
    pub(super) fn new(path: Vec<u8>) -> Found {
        let start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let base = path.get(start..).unwrap_or(&[]);
        let stem = base.split(|byte| *byte == b'.').next().unwrap_or(base);
        let name = stem.iter().map(|byte| if *byte == b'-' { b'_' } else { *byte }).collect();
        Found { path, name }
    }

    /// The path as `modules.order` has it: without the ending of a compressed file.
    pub(super) fn plain_path(&self) -> &[u8] {
        let start = self.path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        self.path.get(..start + self.name.len() + b".ko".len()).unwrap_or(&self.path)
    }
}

/// Whether a file is named as modules are.
pub(super) fn is_module(name: &[u8]) -> bool {
    [b".ko".as_slice(), b".ko.gz", b".ko.xz", b".ko.zst"]
        .iter()
        .any(|end| name.len() > end.len() && name.ends_with(end))
}

fn errno(error: rustix::io::Errno) -> Errno {
    u16::try_from(error.raw_os_error()).map_or(Errno::EIO, Errno::from_raw)
}

/// Finds modules, each name once.
pub(super) struct Walk<'a> {
    rules: &'a Rules,
    root: &'a Path,
    by_name: HashMap<Vec<u8>, usize>,
    found: Vec<Option<Found>>,
    /// Device and inode of the directories that are being gone through, from the first to the last.
    open: Vec<(u64, u64)>,
}

impl<'a> Walk<'a> {
    /// Goes through a directory and the external ones. The error is that of opening the first.
    pub(super) fn search(
        root: &Path,
        rules: &Rules,
        note: &mut dyn FnMut(Note),
    ) -> Result<Vec<Found>, Errno> {
        let mut walk = Walk { rules, root, by_name: HashMap::new(), found: Vec::new(), open: Vec::new() };
        let directory = open(CWD, root.as_os_str()).map_err(errno)?;
        walk.directory(directory, &mut Vec::new(), note);
        for path in rules.external() {
            match open(CWD, path.as_os_str()) {
                Ok(directory) => {
                    let mut prefix = [path.as_os_str().as_bytes(), b"/"].concat();
                    walk.directory(directory, &mut prefix, note);
                }
                Err(error) => note(Note::OpenDirectory(path.to_owned(), errno(error))),
            }
        }
        Ok(walk.found.into_iter().flatten().collect())
    }

    fn shown(&self, path: &[u8]) -> PathBuf {
        self.root.join(OsStr::from_bytes(path))
    }

    /// Goes through a directory whose path, with a `/` at its end, is `path`.
    fn directory(&mut self, fd: rustix::fd::OwnedFd, path: &mut Vec<u8>, note: &mut dyn FnMut(Note)) {
        let identity = rustix::fs::fstat(&fd).map(|stat| Stamp::identity(&stat));
        if identity.is_ok_and(|identity| self.open.contains(&identity)) || self.open.len() > DEPTH {
            note(Note::Circle(self.shown(path)));
            return;
        }
        self.open.push(identity.unwrap_or_default());
        self.entries(&fd, path, note);
        self.open.pop();
    }

    fn entries(&mut self, fd: &rustix::fd::OwnedFd, path: &mut Vec<u8>, note: &mut dyn FnMut(Note)) {
        let length = path.len();
        let entries = match Dir::read_from(fd) {
            Ok(entries) => entries,
            Err(error) => {
                note(Note::OpenDirectory(self.shown(path), errno(error)));
                return;
            }
        };
        for entry in entries {
            path.truncate(length);
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    note(Note::OpenDirectory(self.shown(path), errno(error)));
                    return;
                }
            };
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") || self.rules.is_excluded(name) {
                continue;
            }
            let mut kind = entry.file_type();
            if !matches!(kind, FileType::RegularFile | FileType::Directory) {
                // A link counts as what it leads to.
                match rustix::fs::statat(fd, entry.file_name(), rustix::fs::AtFlags::empty()) {
                    Ok(stat) => {
                        kind = FileType::from_raw_mode(stat.st_mode);
                        if !matches!(kind, FileType::RegularFile | FileType::Directory) {
                            path.extend_from_slice(name);
                            note(Note::FileType(self.shown(path), stat.st_mode & 0o170_000));
                            continue;
                        }
                    }
                    Err(error) => {
                        note(Note::Entry(self.shown(path), name.to_vec(), errno(error)));
                        continue;
                    }
                }
            }
            path.extend_from_slice(name);
            if kind == FileType::Directory {
                match open(fd, entry.file_name()) {
                    Ok(inner) => {
                        path.push(b'/');
                        self.directory(inner, path, note);
                    }
                    Err(error) => note(Note::OpenDirectory(self.shown(path), errno(error))),
                }
            } else if is_module(name) {
                self.file(path);
            }
        }
        path.truncate(length);
    }

    fn file(&mut self, path: &[u8]) {
        let new = Found::new(path.to_vec());
        if let Some(&index) = self.by_name.get(&new.name) {
            if let Some(Some(old)) = self.found.get_mut(index)
                && self.rules.replaces(&new.path, &old.path)
            {
                *old = new;
            }
            return;
        }
        self.by_name.insert(new.name.clone(), self.found.len());
        self.found.push(Some(new));
    }
}

fn open(at: impl rustix::fd::AsFd, path: impl rustix::path::Arg) -> rustix::io::Result<rustix::fd::OwnedFd> {
    rustix::fs::openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}
