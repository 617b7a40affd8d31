//! Unpacking thousands of files one after the other.

use lkm_module::Errno;

use crate::compress::decompress_into;
use crate::file::LIMIT;

/// A decoder that keeps what it needs from file to file.
#[derive(Default)]
pub(super) struct Unpacker {
    #[cfg(feature = "libzstd")]
    zstd: Option<zstd_safe::DCtx<'static>>,
}

impl Unpacker {
    /// Unpacks a file. What was in the buffer is gone.
    pub(super) fn unpack(&mut self, packed: &[u8], buffer: &mut Vec<u8>) -> Result<(), Errno> {
        #[cfg(feature = "libzstd")]
        if self.unpack_zstd(packed, buffer) {
            return Ok(());
        }
        decompress_into(packed, LIMIT, buffer).map_err(|error| error.errno())
    }

    /// By zstd's own library, several times as fast as any other. False if the file is no zstd file, does not tell its
    /// size, or is damaged, in which case others say how.
    #[cfg(feature = "libzstd")]
    fn unpack_zstd(&mut self, packed: &[u8], buffer: &mut Vec<u8>) -> bool {
        use crate::compress::Compression;
        if Compression::of(packed) != Compression::Zstd {
            return false;
        }
        let Ok(Some(size)) = zstd_safe::get_frame_content_size(packed) else { return false };
        let Some(size) = usize::try_from(size).ok().filter(|size| *size as u64 <= LIMIT) else {
            return false;
        };
        buffer.clear();
        buffer.reserve(size);
        if self.zstd.is_none() {
            self.zstd = zstd_safe::DCtx::try_create();
        }
        self.zstd.as_mut().is_some_and(|context| context.decompress(buffer, packed).is_ok())
    }
}
