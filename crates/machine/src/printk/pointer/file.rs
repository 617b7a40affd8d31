//! Names in file systems and of disks: `%pd`, `%pD`, `%pg`.

use super::super::render::read_string;
use super::Environment;
use super::Field;
use super::Output;
use super::bad_pointer;
use super::number;
use super::read;
use super::read_pointer;
use super::string;
use super::unreadable;

/// Bytes of a name that are looked at: `NAME_MAX` and its NUL.
const NAME: usize = 256;

/// `%pd` with 2, 3, 4 for that many parts of the path.
pub(super) fn dentry(
    out: &mut Output,
    at: u64,
    extension: &[u8],
    field: Field,
    environment: &dyn Environment,
) {
    let depth = match extension.get(1) {
        Some(digit @ b'2'..=b'4') => digit - b'0',
        _ => 1,
    };
    let structures = environment.structures();
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let mut here = at;
    for _ in 0..depth {
        if let Some(text) = bad_pointer(here, environment) {
            return field.text(out, text);
        }
        let name = read_pointer(here.wrapping_add(structures.dentry_name), environment)
            .and_then(|name| read_string(name, NAME, NAME, environment));
        let parent = read_pointer(here.wrapping_add(structures.dentry_parent), environment);
        let (Some(name), Some(parent)) = (name, parent) else { return unreadable(out, field) };
        if parent == here {
            // The root's own name is "/", which the one before is joined by in any case.
            parts.push(if parts.is_empty() { name } else { Vec::new() });
            break;
        }
        parts.push(name);
        here = parent;
    }
    parts.reverse();
    field.text(out, &parts.join(&b'/'));
}

/// `%pD`
pub(super) fn file(out: &mut Output, at: u64, extension: &[u8], field: Field, environment: &dyn Environment) {
    match read_pointer(at.wrapping_add(environment.structures().file_dentry), environment) {
        Some(at) => dentry(out, at, extension, field, environment),
        None => unreadable(out, field),
    }
}

/// `%pg`: the disk's name and the number of the partition, each in a field of its own.
pub(super) fn block_device(out: &mut Output, at: u64, _: &[u8], field: Field, environment: &dyn Environment) {
    const DISK_NAME_LEN: usize = 32;
    let structures = environment.structures();
    let disk = read_pointer(at.wrapping_add(structures.block_device_disk), environment);
    let partition = read::<1>(at.wrapping_add(structures.block_device_partition), environment);
    let (Some(disk), Some([partition])) = (disk, partition) else { return unreadable(out, field) };
    let name = disk.wrapping_add(structures.disk_name);
    string(out, name, field, environment);
    if partition == 0 {
        return;
    }
    let last =
        read_string(name, DISK_NAME_LEN, DISK_NAME_LEN, environment).and_then(|name| name.last().copied());
    if last.is_some_and(|last| last.is_ascii_digit()) {
        out.push(b'p');
    }
    number(out, u64::from(partition), false, false, field.decimal());
}
