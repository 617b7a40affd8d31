//! Why a module was not unloaded.

use lkm_module::Errno;

use super::alike;
use super::cause::Cause;
use super::shown::shown;
use super::system::System;

/// The cause of a failed unload: who holds the module, or what keeps it.
pub(crate) fn cause(system: &System<'_>, name: &[u8], errno: Errno) -> Option<Cause> {
    if errno == Errno::EPERM
        && let Some(cause) = system.forbids("unload")
    {
        return Some(cause);
    }
    let Some(state) = system.state(name) else {
        if system.kernel.has_module(name) {
            return Some(Cause::Builtin(shown(name)));
        }
        let loaded = system.loaded();
        return Some(Cause::NotLoaded(alike::names(name, loaded.iter().map(Vec::as_slice))));
    };
    if errno == Errno::ENOSYS {
        return Some(Cause::NoUnload);
    }
    if state != b"live" {
        return Some(Cause::InBetween(shown(name)));
    }
    let holders = system.kernel.holders(name).unwrap_or_default();
    if !holders.is_empty() {
        return Some(Cause::Holders(shown(name), holders.iter().map(|holder| shown(holder)).collect()));
    }
    let count = match system.kernel.module_attribute(name, "refcnt") {
        Ok(count) => count,
        Err(Errno::ENOENT) => return Some(Cause::NoUnload),
        Err(_) => return None,
    };
    if count != b"0" && !count.starts_with(b"-") {
        return Some(Cause::References(shown(&count), mounted(system, name)));
    }
    (errno == Errno::EBUSY).then_some(Cause::Permanent)
}

/// Where a file system of the module's name is mounted: the one kind of user that is cheap to find.
fn mounted(system: &System<'_>, name: &[u8]) -> Option<String> {
    let mounts = system.kernel.kernel_file("/proc/mounts").ok()?;
    let mut lines = mounts.split(|&byte| byte == b'\n');
    lines.find_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ').skip(1);
        let place = fields.next()?;
        (crate::module_name(fields.next()?) == name).then(|| shown(place))
    })
}
