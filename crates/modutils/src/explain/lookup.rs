//! Why nothing was found by a name.

use lkm_tree::name::underscores;
use lkm_tree::search::ModuleDirectory;

use super::alike;
use super::cause::Cause;
use super::shown::shown;
use super::system::System;

/// Why the directory has no module of this name.
pub(crate) fn cause(system: &System<'_>, name: &[u8]) -> Option<Cause> {
    if let Some(cause) = system.unusable() {
        return Some(cause);
    }
    if name.contains(&b':') {
        return Some(Cause::NoAlias);
    }
    let key = underscores(name)?;
    let as_text = String::from_utf8_lossy(&key).into_owned();
    if let Some(path) = ModuleDirectory::scan(&system.directory).path(&as_text) {
        return Some(Cause::NotIndexed(shown(path.as_os_str().as_encoded_bytes()), system.release()));
    }
    for release in system.releases() {
        let Some(other) = system.directory.parent().map(|parent| parent.join(&release)) else { continue };
        let other = System { kernel: system.kernel, directory: other };
        let listed = other
            .index("modules.dep.bin")
            .is_ok_and(|index| index.find(&key).is_ok_and(|line| line.is_some()));
        if listed {
            return Some(Cause::OtherRelease(shown(&key), release));
        }
    }
    let mut known: Vec<Vec<u8>> = Vec::new();
    for index in ["modules.dep.bin", "modules.builtin.bin"] {
        if let Ok(index) = system.index(index) {
            // A damaged index gives what was read of it.
            let _ = index.for_each(|key, _| known.push(key.to_vec()));
        }
    }
    Some(Cause::NoSuchName(alike::names(&key, known.iter().map(Vec::as_slice))))
}
