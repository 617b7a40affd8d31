//! Memory that the system gives zeroed, page by page: what filling it with zeros costs is nobody's part of the count.

use std::ops::Deref;
use std::ops::DerefMut;
use std::ptr::NonNull;

/// Pages of its own.
#[derive(Debug)]
pub struct Pages {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: the pages belong to this value alone.
unsafe impl Send for Pages {}
// SAFETY: a shared reference only reads.
unsafe impl Sync for Pages {}

impl Pages {
    /// Zeroed pages; below 2 GiB if so asked. `None`: the system has none.
    pub fn new(size: usize, low: bool) -> Option<Self> {
        let low = if low { libc::MAP_32BIT } else { 0 };
        // SAFETY: an anonymous mapping at an address of the system's choice touches nothing that exists.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size.max(1),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | low,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED { None } else { Some(Self { start: NonNull::new(start.cast())?, size }) }
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping is that long, readable, initialised, and lives as long as this value.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.size) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; and it is writable, and borrowed by nobody else.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.size) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: `new` made the mapping with this size, and nothing refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.size.max(1)) };
    }
}
