//! Why a file could not be read as a module.

use std::io;
use std::path::Path;

use lkm_module::Errno;
use lkm_module::Module;
use lkm_tree::file::FileError;
use lkm_tree::file::read_module;

use super::cause::Cause;
use super::shown::shown;
use super::system::System;

/// Compressions that some tools use and modules do not, by magic number.
const FOREIGN: [(&[u8], &str); 5] = [
    (b"BZh", "bzip2"),
    (&[0x04, 0x22, 0x4d, 0x18], "lz4"),
    (&[0x02, 0x21, 0x4c, 0x18], "lz4"),
    (b"LZIP", "lzip"),
    (b"PK\x03\x04", "zip"),
];

/// What is wrong with a file that a call failed on with `errno` before the kernel was asked. With `indexed` the path is
/// from the index of that directory.
pub(crate) fn cause(path: &Path, errno: Errno, indexed: Option<&System<'_>>) -> Option<Cause> {
    let absent = std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    if absent && let Some(system) = indexed {
        return Some(Cause::GoneFromDisk(display(path), system.release()));
    }
    match read_module(path) {
        Err(error) => of_error(path, Some(&error)),
        // It can be read, so it is no module: that is what the caller saw.
        Ok(file) if matches!(errno, Errno::ENOEXEC | Errno::EINVAL | Errno::ENODATA | Errno::ENOENT) => {
            let damaged = Module::parse(&file.bytes).err().map(|error| Cause::File(error.to_string()));
            damaged.or_else(|| without_modinfo(&file.bytes))
        }
        Ok(_) => None,
    }
}

fn without_modinfo(bytes: &[u8]) -> Option<Cause> {
    let module = Module::parse(bytes).ok()?;
    let lacks = module.elf().find_any_sec(b".modinfo").is_none();
    lacks.then(|| Cause::File("it is an ELF file, but has no .modinfo section as modules have".into()))
}

/// What an error of [`read_module`] means for the user.
pub(crate) fn of_error(path: &Path, error: Option<&FileError>) -> Option<Cause> {
    Some(match error? {
        FileError::Io(error) => match error.kind() {
            io::ErrorKind::NotFound => return absent(path),
            // The message has said it.
            _ => return None,
        },
        FileError::NotAModule(start) => {
            let foreign = FOREIGN.iter().find(|(magic, _)| start.starts_with(magic));
            match foreign {
                Some((_, name)) => Cause::Compression(name),
                None => Cause::File(error?.to_string()),
            }
        }
        error => Cause::File(error.to_string()),
    })
}

/// Why there is no file at a path.
fn absent(path: &Path) -> Option<Cause> {
    if let Ok(target) = std::fs::read_link(path) {
        return Some(Cause::DanglingLink(display(&target)));
    }
    let parents = path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
    let gone: Vec<&Path> = parents.take_while(|parent| !parent.exists()).collect();
    if let Some(first) = gone.last() {
        return Some(Cause::NoDirectory(display(first)));
    }
    let name = path.as_os_str().as_encoded_bytes();
    let is_name = !name.is_empty()
        && name.iter().all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    is_name.then(|| Cause::NameForPath(shown(name)))
}

fn display(path: &Path) -> String {
    shown(path.as_os_str().as_encoded_bytes())
}
