//! Putting index files in their place so that nobody ever sees half of one.
//!
//! All files are written under names of their own first. Only when the last one is complete they are renamed, one by one:
//! whoever is killed leaves every file either as it was or as it shall be. Between two renames old and new stand beside
//! each other, so the order is such that what is looked up first comes last: `modules.dep.bin`, which has to know every
//! module, before the indexes of aliases and symbols, which name modules.

use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use lkm_module::Errno;
use rustix::fd::OwnedFd;
use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use super::note::Note;
use super::stamp::Stamp;

/// Order of the renames.
const ORDER: [&str; 12] = [
    "modules.dep.bin",
    "modules.dep",
    "modules.symbols.bin",
    "modules.symbols",
    "modules.alias.bin",
    "modules.alias",
    "modules.builtin.bin",
    "modules.builtin.alias.bin",
    "modules.softdep",
    "modules.weakdep",
    "modules.devname",
    super::cache::NAME,
];

/// Its time tells when indexes were made last, so it is new every time.
const ALWAYS: &str = "modules.dep";

/// How long the end of another process is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Something that was done to the directory of the indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step<'a> {
    /// This file is complete, under a name of its own.
    Written(&'a str),
    /// This file is in its place.
    Renamed(&'a str),
}

/// Which system call failed on which file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// The directory cannot be opened.
    Open(PathBuf, Errno),
    /// A file cannot be made: the directory, the file.
    Create(PathBuf, String, Errno),
    /// A file cannot be written: the directory, the file.
    Write(PathBuf, String, Errno),
    /// A file cannot be renamed: the directory, from, to.
    Rename(PathBuf, String, String, Errno),
}

impl StoreError {
    /// Why.
    pub fn errno(&self) -> Errno {
        match self {
            StoreError::Open(_, errno)
            | StoreError::Create(_, _, errno)
            | StoreError::Write(_, _, errno)
            | StoreError::Rename(_, _, _, errno) => *errno,
        }
    }
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StoreError::Open(directory, errno) => {
                write!(f, "could not open directory {}: {}", directory.display(), errno.text())
            }
            StoreError::Create(directory, name, errno) => {
                write!(f, "openat({}, {name}, 301, 644): {}", directory.display(), errno.text())
            }
            StoreError::Write(directory, name, errno) => {
                write!(f, "could not write {}: {}", directory.join(name).display(), errno.text())
            }
            StoreError::Rename(directory, from, to, errno) => {
                let directory = directory.display();
                write!(f, "renameat({directory}, {from}, {directory}, {to}): {}", errno.text())
            }
        }
    }
}

impl std::error::Error for StoreError {}

fn errno(error: rustix::io::Errno) -> Errno {
    u16::try_from(error.raw_os_error()).map_or(Errno::EIO, Errno::from_raw)
}

/// The directory of the indexes, for one process at a time.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    directory: OwnedFd,
    /// Nobody else is at work in it.
    alone: bool,
}

impl Store {
    /// Opens the directory and waits until no other process is at work in it, but not forever.
    pub(super) fn open(path: &Path, note: &mut dyn FnMut(Note)) -> Result<Store, StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| StoreError::Open(path.to_owned(), errno(error)))?;
        let start = Instant::now();
        let alone = loop {
            match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break true,
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
                // A file system without locks.
                Err(_) => break false,
            }
            if start.elapsed() > PATIENCE {
                note(Note::Locked(path.to_owned()));
                break false;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        Ok(Store { path: path.to_owned(), directory, alone })
    }

    /// Writes files and puts them in place. With `durable` they are on the disk before the first one is renamed.
    pub(super) fn put(
        &self,
        files: &[(&str, &[u8])],
        durable: bool,
        step: &mut dyn FnMut(Step<'_>),
    ) -> Result<usize, StoreError> {
        if self.alone {
            self.remove_leftovers();
        }
        let mut written = Vec::new();
        let result = self.write_and_rename(files, durable, &mut written, step);
        if result.is_err() {
            for (temporary, _) in &written {
                let _ = rustix::fs::unlinkat(&self.directory, temporary.as_str(), AtFlags::empty());
            }
        }
        result
    }

    fn write_and_rename(
        &self,
        files: &[(&str, &[u8])],
        durable: bool,
        written: &mut Vec<(String, usize)>,
        step: &mut dyn FnMut(Step<'_>),
    ) -> Result<usize, StoreError> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let run = COUNTER.fetch_add(1, Ordering::Relaxed);
        let mut order: Vec<usize> = (0..files.len()).collect();
        let place = |index: &usize| {
            let name = files.get(*index).map(|file| file.0);
            ORDER.iter().position(|other| Some(*other) == name)
        };
        order.sort_by_key(|index| place(index).unwrap_or(ORDER.len()));
        for index in order {
            let Some((name, bytes)) = files.get(index) else { continue };
            if *name != ALWAYS && self.has(name, bytes) {
                continue;
            }
            let temporary = format!("{name}.tmp-{}-{run}", std::process::id());
            written.push((temporary.clone(), index));
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
            let file = rustix::fs::openat(&self.directory, temporary.as_str(), flags, mode)
                .map_err(|error| StoreError::Create(self.path.clone(), temporary.clone(), errno(error)))?;
            let mut file = File::from(file);
            let result = file.write_all(bytes).and_then(|()| if durable { file.sync_data() } else { Ok(()) });
            result.map_err(|error| {
                StoreError::Write(self.path.clone(), temporary, super::sections::errno_of(&error))
            })?;
            step(Step::Written(name));
        }
        for (temporary, index) in &*written {
            let Some((name, _)) = files.get(*index) else { continue };
            rustix::fs::renameat(&self.directory, temporary.as_str(), &self.directory, *name).map_err(
                |error| {
                    StoreError::Rename(self.path.clone(), temporary.clone(), (*name).to_owned(), errno(error))
                },
            )?;
            step(Step::Renamed(name));
        }
        if durable {
            let _ = rustix::fs::fsync(&self.directory);
        }
        Ok(written.len())
    }

    /// Whether a file has these bytes already.
    fn has(&self, name: &str, bytes: &[u8]) -> bool {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let Ok(file) = rustix::fs::openat(&self.directory, name, flags, Mode::empty()) else { return false };
        let same = rustix::fs::fstat(&file).is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && stat.st_size as u64 == bytes.len() as u64
        });
        if !same {
            return false;
        }
        let mut file = File::from(file);
        let mut buffer = [0; 1 << 15];
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = buffer.len().min(rest.len());
            let Some(piece) = buffer.get_mut(..room) else { return false };
            if file.read_exact(piece).is_err() || !crate::words::same(piece, rest.get(..room).unwrap_or(&[]))
            {
                return false;
            }
            rest = rest.get(room..).unwrap_or(&[]);
        }
        true
    }

    /// State of a file; none for what is not there or not a file.
    pub(super) fn stamp(&self, name: &str) -> Option<Stamp> {
        let stat = rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then(|| Stamp::of(&stat))
    }

    /// Gives a file that stays as it is the time of now.
    pub(super) fn touch(&self, name: &str) -> bool {
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
        rustix::fs::utimensat(&self.directory, name, &times, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Removes what processes that were killed have left.
    fn remove_leftovers(&self) {
        let Ok(entries) = Dir::read_from(&self.directory) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if is_leftover(name.to_bytes()) {
                let _ = rustix::fs::unlinkat(&self.directory, name, AtFlags::empty());
            }
        }
    }
}

/// Whether a name is `INDEX.tmp-NUMBER-NUMBER`.
fn is_leftover(name: &[u8]) -> bool {
    let own = |index: &str| {
        let rest = name.strip_prefix(index.as_bytes()).and_then(|rest| rest.strip_prefix(b".tmp-"));
        rest.is_some_and(|rest| {
            let mut numbers = rest.split(|byte| *byte == b'-');
            let mut number =
                || numbers.next().is_some_and(|text| !text.is_empty() && text.iter().all(u8::is_ascii_digit));
            number() && number() && numbers.next().is_none()
        })
    };
    ORDER.iter().any(|index| own(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_leftovers_are_taken_for_such() {
        assert!(is_leftover(b"modules.dep.tmp-12-0") && is_leftover(b"modules.dep.bin.tmp-1-22"));
        for name in [
            "modules.dep",
            "modules.dep.tmp-",
            "modules.dep.tmp-1",
            "modules.x.tmp-1-1",
            "modules.dep.tmp-1-1-1",
            "modules.dep.tmp-a-1",
        ] {
            assert!(!is_leftover(name.as_bytes()), "{name}");
        }
    }
}
