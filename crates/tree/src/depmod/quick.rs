//! Whether anything is newer than the indexes.

use std::path::Path;

use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Stat;

use lkm_module::Errno;

use super::note::Note;
use super::rules::Rules;
use super::stamp::Stamp;
use super::walk::is_module;

/// Directories inside each other that are gone into.
const DEPTH: usize = 64;

fn time(stat: &Stat) -> i64 {
    Stamp::of(stat).modified
}

/// Whether no module below `directory`, and no directory in which one may have been removed or put, is newer than
/// `modules.dep` in `output`.
pub(super) fn is_current(directory: &Path, output: &Path, rules: &Rules) -> Result<bool, Note> {
    let errno =
        |error: rustix::io::Errno| u16::try_from(error.raw_os_error()).map_or(Errno::EIO, Errno::from_raw);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, directory, flags, Mode::empty())
        .map_err(|error| Note::OpenDirectory(directory.to_owned(), errno(error)))?;
    let stat = rustix::fs::statat(CWD, output.join("modules.dep"), AtFlags::empty())
        .map_err(|error| Note::NoIndex(output.to_owned(), errno(error)))?;
    Ok(is_older(&fd, time(&stat), rules, 0).unwrap_or(false))
}

/// Whether all below a directory is older. `None` if something cannot be looked at.
fn is_older(fd: &rustix::fd::OwnedFd, limit: i64, rules: &Rules, depth: usize) -> Option<bool> {
    if depth > DEPTH {
        return None;
    }
    for entry in Dir::read_from(fd).ok()? {
        let entry = entry.ok()?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") || rules.is_excluded(name) {
            continue;
        }
        if entry.file_type() == FileType::RegularFile && !is_module(name) {
            continue;
        }
        let Ok(stat) = rustix::fs::statat(fd, entry.file_name(), AtFlags::empty()) else { continue };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let inner = rustix::fs::openat(fd, entry.file_name(), flags, Mode::empty()).ok()?;
                if time(&stat) > limit || !is_older(&inner, limit, rules, depth + 1)? {
                    return Some(false);
                }
            }
            FileType::RegularFile if is_module(name) && time(&stat) > limit => return Some(false),
            _ => {}
        }
    }
    Some(true)
}
