//! The running kernel.

use std::ffi::CStr;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::path::PathBuf;

use lkm_module::Errno;

use crate::DeleteFlags;
use crate::InitFlags;
use crate::LogMark;
use crate::LogRecord;
use crate::Syscalls;
use crate::kmsg;

/// The kernel that runs this program, asked by system calls and through `/proc` and `/sys`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Live;

impl Syscalls for Live {
    fn init_module(&self, image: &[u8], parameters: &CStr) -> Result<(), Errno> {
        rustix::system::init_module(image, parameters).map_err(errno)
    }

    fn finit_module(&self, file: &File, parameters: &CStr, flags: InitFlags) -> Result<(), Errno> {
        rustix::system::finit_module(file, parameters, flags.bits().cast_signed()).map_err(errno)
    }

    fn delete_module(&self, name: &CStr, flags: DeleteFlags) -> Result<(), Errno> {
        rustix::system::delete_module(name, flags.bits().cast_signed()).map_err(errno)
    }

    fn modules(&self) -> Result<Vec<u8>, Errno> {
        // The kernel does not tell the size before; with room enough there is nothing to move.
        let mut text = Vec::with_capacity(32 << 10);
        File::open("/proc/modules").and_then(|mut file| file.read_to_end(&mut text)).map_err(io_errno)?;
        Ok(text)
    }

    fn has_module(&self, name: &[u8]) -> bool {
        directory(name).is_some_and(|directory| directory.is_dir())
    }

    fn module_attribute(&self, name: &[u8], attribute: &str) -> Result<Vec<u8>, Errno> {
        line(&directory(name).ok_or(Errno::ENOENT)?.join(attribute))
    }

    fn holders(&self, name: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
        let holders = directory(name).ok_or(Errno::ENOENT)?.join("holders");
        let entries = std::fs::read_dir(holders).map_err(io_errno)?;
        entries.map(|entry| entry.map(|entry| entry.file_name().into_vec()).map_err(io_errno)).collect()
    }

    fn compression(&self) -> Result<Vec<u8>, Errno> {
        line(Path::new("/sys/module/compression"))
    }

    fn sysctl(&self, name: &str) -> Result<Vec<u8>, Errno> {
        line(&Path::new("/proc/sys").join(name))
    }

    fn release(&self) -> Vec<u8> {
        rustix::system::uname().release().to_bytes().to_vec()
    }

    fn machine(&self) -> Vec<u8> {
        rustix::system::uname().machine().to_bytes().to_vec()
    }

    fn kernel_file(&self, path: &str) -> Result<Vec<u8>, Errno> {
        std::fs::read(path).map_err(io_errno)
    }

    fn log_mark(&self) -> LogMark {
        kmsg::mark()
    }

    fn log_since(&self, mark: LogMark) -> Result<Vec<LogRecord>, Errno> {
        kmsg::since(mark)
    }
}

/// The module's directory in sysfs; `None` for what cannot be a module's name.
fn directory(name: &[u8]) -> Option<PathBuf> {
    let valid = !name.is_empty() && !name.contains(&b'/') && name != b"." && name != b"..";
    valid.then(|| Path::new("/sys/module").join(OsStr::from_bytes(name)))
}

fn line(path: &Path) -> Result<Vec<u8>, Errno> {
    let mut bytes = std::fs::read(path).map_err(io_errno)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    Ok(bytes)
}

pub(crate) fn errno(error: rustix::io::Errno) -> Errno {
    u16::try_from(error.raw_os_error()).map_or(Errno::EIO, Errno::from_raw)
}

fn io_errno(error: io::Error) -> Errno {
    error.raw_os_error().and_then(|number| u16::try_from(number).ok()).map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_that_of_proc() {
        assert_eq!(Live.release(), Live.sysctl("kernel/osrelease").unwrap());
        assert_eq!(Live.sysctl("kernel/no such setting"), Err(Errno::ENOENT));
    }

    #[test]
    fn names_stay_below_the_directory_of_modules() {
        for name in [&b""[..], b".", b"..", b"../fs", b"/etc"] {
            assert!(!Live.has_module(name));
            assert_eq!(Live.module_attribute(name, "initstate"), Err(Errno::ENOENT));
            assert_eq!(Live.holders(name), Err(Errno::ENOENT));
        }
        let first = std::fs::read_dir("/sys/module").unwrap().flatten().find(|entry| entry.path().is_dir());
        assert!(Live.has_module(first.unwrap().file_name().as_bytes()));
    }

    #[test]
    fn what_is_no_module_is_refused() {
        // The errno depends on the kernel (no modules at all, a sandbox) and on who asks.
        let refusals = [Errno::ENOSYS, Errno::EPERM, Errno::ENOEXEC, Errno::EINVAL];
        let result = Live.init_module(b"no module", c"").unwrap_err();
        assert!(refusals.contains(&result), "{result}");
        let file = File::open("/proc/self/exe").unwrap();
        let result = Live.finit_module(&file, c"", InitFlags::empty()).unwrap_err();
        assert!(refusals.contains(&result), "{result}");
        let result = Live.delete_module(c"no module has this name", DeleteFlags::NONBLOCK).unwrap_err();
        assert!([Errno::ENOSYS, Errno::EPERM, Errno::ENOENT].contains(&result), "{result}");
    }
}
