//! What a module loading command asks of a kernel.
//!
//! [`Syscalls`] is the boundary: the three system calls of modules and the files in `/proc` and `/sys` that go with
//! them. [`Live`] is the kernel that runs this program. Another kernel, or a test, implements the same trait.
#![forbid(unsafe_code)]

use std::ffi::CStr;
use std::fmt::Debug;
use std::fs::File;

use bitflags::bitflags;
use lkm_module::Errno;

mod kmsg;
mod live;

pub use kmsg::LogMark;
pub use kmsg::LogRecord;
pub use live::Live;

bitflags! {
    /// Flags of `finit_module` (`include/uapi/linux/module.h`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct InitFlags: u32 {
        /// Symbol versions are not compared (`MODULE_INIT_IGNORE_MODVERSIONS`).
        const IGNORE_MODVERSIONS = 1;
        /// The version magic is not compared (`MODULE_INIT_IGNORE_VERMAGIC`).
        const IGNORE_VERMAGIC = 2;
        /// The kernel unpacks the file (`MODULE_INIT_COMPRESSED_FILE`, since 5.17).
        const COMPRESSED_FILE = 4;
    }

    /// Flags of `delete_module`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DeleteFlags: u32 {
        /// The module may be in use or have no exit function (`O_TRUNC`).
        const FORCE = 0o1000;
        /// A module in use is refused and not waited for (`O_NONBLOCK`); kernels from 3.13 on never wait.
        const NONBLOCK = 0o4000;
        /// What busybox sets beside `O_NONBLOCK` (`O_EXCL`); no kernel of 2.6 or later looks at it.
        const EXCLUSIVE = 0o200;
    }
}

/// A kernel that modules are loaded into and asked about.
///
/// Names of modules are the kernel's, with `_` and never `-`. Errors are those that the kernel gives; what a kernel
/// lacks as a whole is `ENOSYS` for calls and `ENOENT` for files.
pub trait Syscalls: Debug {
    /// Loads the module in `image`, an unpacked ELF file, with its parameters as one string.
    fn init_module(&self, image: &[u8], parameters: &CStr) -> Result<(), Errno>;

    /// Loads the module in an open file.
    fn finit_module(&self, file: &File, parameters: &CStr, flags: InitFlags) -> Result<(), Errno>;

    /// Unloads a module.
    fn delete_module(&self, name: &CStr, flags: DeleteFlags) -> Result<(), Errno>;

    /// `/proc/modules`, all of it from one moment as far as the kernel can give that.
    fn modules(&self) -> Result<Vec<u8>, Errno>;

    /// Whether `/sys/module` has a directory for the module: it is loaded, or built in and has parameters or a version.
    fn has_module(&self, name: &[u8]) -> bool;

    /// `/sys/module/NAME/ATTRIBUTE`, such as `initstate` or `refcnt`, without the newline at its end.
    fn module_attribute(&self, name: &[u8], attribute: &str) -> Result<Vec<u8>, Errno>;

    /// Names in `/sys/module/NAME/holders`: the modules that use it, in the kernel's order.
    fn holders(&self, name: &[u8]) -> Result<Vec<Vec<u8>>, Errno>;

    /// `/sys/module/compression`: the one compression that [`InitFlags::COMPRESSED_FILE`] understands (`gzip`, `xz`
    /// or `zstd`), without a newline.
    fn compression(&self) -> Result<Vec<u8>, Errno>;

    /// A setting below `/proc/sys`, such as `kernel/modules_disabled`, without the newline at its end.
    fn sysctl(&self, name: &str) -> Result<Vec<u8>, Errno>;

    /// The kernel's release, as `uname -r` prints it.
    fn release(&self) -> Vec<u8>;

    /// The kernel's architecture, as `uname -m` prints it; empty if it is not known.
    fn machine(&self) -> Vec<u8> {
        Vec::new()
    }

    /// A file of the kernel, by its whole path below `/proc` or `/sys`. It is what explanations look things up in;
    /// a kernel without the file gives `ENOENT`.
    fn kernel_file(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let _ = path;
        Err(Errno::ENOENT)
    }

    /// The end of the kernel's log, to be taken before a call whose messages are wanted. It never fails: why the log
    /// cannot be read is told by [`Syscalls::log_since`]. Taking it costs two system calls at most.
    fn log_mark(&self) -> LogMark {
        LogMark::unreadable(Errno::ENOSYS)
    }

    /// What the kernel logged after the mark was taken, oldest first. Lines that processes wrote into the log are left
    /// out, and where the kernel says which task each line is from (`CONFIG_PRINTK_CALLER`), so are those of others.
    fn log_since(&self, mark: LogMark) -> Result<Vec<LogRecord>, Errno> {
        Err(mark.error().unwrap_or(Errno::ENOSYS))
    }
}
