//! Whether this host can carry the emulator, found out before the emulator finds out by ending the process.

#![allow(unsafe_code, reason = "asks the operating system for one mapping and gives it back")]

use core::ffi::c_int;
use core::ffi::c_void;

use super::CpuError;

// These four values are the same on every architecture that Linux and this emulator run on, MIPS apart.
const PROT_READ_WRITE_EXEC: c_int = 7;
const MAP_PRIVATE: c_int = 2;
const MAP_ANONYMOUS_NORESERVE: c_int = 0x20 | 0x4000;
/// The translator's code buffer.
const CODE_BUFFER: usize = 1 << 30;

unsafe extern "C" {
    fn mmap(
        address: *mut c_void,
        size: usize,
        protection: c_int,
        flags: c_int,
        fd: c_int,
        offset: isize,
    ) -> *mut c_void;
    fn munmap(address: *mut c_void, size: usize) -> c_int;
}

fn can_map(size: usize) -> bool {
    // SAFETY: an anonymous mapping at an address that the operating system chooses touches no memory in use, and
    // it is unmapped with the same address and size before anything could point into it.
    unsafe {
        let at = mmap(
            core::ptr::null_mut(),
            size,
            PROT_READ_WRITE_EXEC,
            MAP_PRIVATE | MAP_ANONYMOUS_NORESERVE,
            -1,
            0,
        );
        if at as isize == -1 {
            return false;
        }
        munmap(at, size) == 0
    }
}

/// Asks for a mapping such as the emulator will ask for.
pub(super) fn check() -> Result<(), CpuError> {
    if !cfg!(target_os = "linux") || can_map(CODE_BUFFER) {
        return Ok(());
    }
    Err(if can_map(4096) { CpuError::AddressSpace } else { CpuError::WriteExecuteForbidden })
}
