//! Which files are read, and in which order.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use super::Problem;

/// Where configuration files are looked for, the first one first. The last two are one directory on most systems.
pub const DIRECTORIES: [&str; 5] = [
    "/etc/modprobe.d",
    "/run/modprobe.d",
    "/usr/local/lib/modprobe.d",
    "/usr/lib/modprobe.d",
    "/lib/modprobe.d",
];

/// The files to read, in order.
pub(crate) fn list(sources: &[PathBuf], problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let mut files: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for source in sources {
        match std::fs::metadata(source) {
            Ok(kind) if kind.is_dir() => {
                if let Err(error) = list_directory(source, &mut files, problems) {
                    problems.push(Problem::Io(source.clone(), error));
                }
            }
            Ok(_) => add(source.clone(), &mut files),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => problems.push(Problem::Io(source.clone(), error)),
        }
    }
    files.into_values().collect()
}

fn list_directory(
    directory: &Path,
    files: &mut BTreeMap<OsString, PathBuf>,
    problems: &mut Vec<Problem>,
) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.as_bytes();
        if name.starts_with(b".") || name.len() < 6 || !name.ends_with(b".conf") {
            continue;
        }
        let path = entry.path();
        let kind = entry.file_type()?;
        if kind.is_dir() || kind.is_symlink() && path.is_dir() {
            problems.push(Problem::Directory(path));
        } else {
            add(path, files);
        }
    }
    Ok(())
}

fn add(path: PathBuf, files: &mut BTreeMap<OsString, PathBuf>) {
    if let Some(name) = path.file_name() {
        files.entry(name.to_owned()).or_insert(path);
    }
}
