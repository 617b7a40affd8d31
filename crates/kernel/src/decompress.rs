//! Modules that the kernel itself decompresses: flag 4 of `finit_module()`.
//!
//! The rules of the three containers that do not need a decoder are here; the decoder is the host's.

use alloc::vec::Vec;
use core::fmt;

use lkm_link::Arch;
use lkm_module::Errno;
use lkm_module::Level;
use lkm_module::elf::Class;

use crate::Host;
use crate::Kernel;
use crate::profile::Decompress;

/// Why a compressed module was not decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DecompressFault {
    /// The kernel was built without `CONFIG_MODULE_DECOMPRESS`.
    NotBuilt,
    /// The file is not compressed in the one format that the kernel was built for.
    Format(Decompress),
    /// The decoder of a gzip file could not be set up: the status of `zlib_inflateInit2()`.
    Init(i32),
    /// The stream is damaged or cut short. The status is that of the kernel's decoder: of `zlib_inflate()` (−3 wrong data,
    /// −5 too little), of `xz_dec_run()` (0 too little, 6 unsupported options, 7 wrong data), or the number of a zstd error
    /// (20 wrong data, 22 wrong check sum).
    Stream(Decompress, i32),
    /// zstd: the header of the frame is cut short or makes no sense.
    FrameHeader,
    /// zstd: the frame needs a larger window than the decoder knows.
    Window,
    /// zstd: the decoder could not be set up.
    NoStream,
    /// No memory for the decoder or for the module.
    NoMemory,
}

impl DecompressFault {
    /// What the system call fails with.
    pub const fn errno(self) -> Errno {
        match self {
            DecompressFault::NotBuilt => Errno::EOPNOTSUPP,
            DecompressFault::NoStream | DecompressFault::NoMemory => Errno::ENOMEM,
            DecompressFault::Format(_)
            | DecompressFault::Init(_)
            | DecompressFault::Stream(..)
            | DecompressFault::FrameHeader
            | DecompressFault::Window => Errno::EINVAL,
        }
    }

    /// Writes the kernel's line; `false` if it has none.
    fn line(self, out: &mut dyn fmt::Write) -> Result<bool, fmt::Error> {
        match self {
            DecompressFault::NotBuilt | DecompressFault::NoMemory => return Ok(false),
            DecompressFault::Format(Decompress::Gzip) => out.write_str("not a gzip compressed module")?,
            DecompressFault::Format(Decompress::Xz) => out.write_str("not an xz compressed module")?,
            DecompressFault::Format(Decompress::Zstd) => out.write_str("not a zstd compressed module")?,
            DecompressFault::Init(status) => write!(out, "failed to initialize decompressor: {status}")?,
            DecompressFault::Stream(Decompress::Zstd, status) => {
                write!(out, "ZSTD-decompression failed with status {status}")?;
            }
            DecompressFault::Stream(_, status) => write!(out, "decompression failed with status {status}")?,
            DecompressFault::FrameHeader => {
                out.write_str("ZSTD-compressed data has an incomplete frame header")?;
            }
            DecompressFault::Window => out.write_str("ZSTD-compressed data has too large a window size")?,
            DecompressFault::NoStream => out.write_str("Can't initialize ZSTD stream")?,
        }
        Ok(true)
    }

    /// The kernel's log line, if it has one.
    pub fn log(self) -> Option<(Level, alloc::string::String)> {
        let mut text = alloc::string::String::new();
        matches!(self.line(&mut text), Ok(true)).then_some((Level::Err, text))
    }
}

impl fmt::Display for DecompressFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DecompressFault::NotBuilt => "this kernel does not decompress modules; decompress the file first",
            DecompressFault::Format(Decompress::Gzip) => {
                "the file is not a gzip file, and this kernel decompresses no other"
            }
            DecompressFault::Format(Decompress::Xz) => {
                "the file is not an xz file, and this kernel decompresses no other"
            }
            DecompressFault::Format(Decompress::Zstd) => {
                "the file is not a zstd file, and this kernel decompresses no other"
            }
            DecompressFault::Stream(Decompress::Xz, XZ_OPTIONS_ERROR) => {
                "the file uses an xz feature that kernels do not know; they want it compressed with --check=crc32"
            }
            DecompressFault::Stream(..) | DecompressFault::FrameHeader => {
                "the compressed file is damaged or cut short"
            }
            DecompressFault::Window => "the file was compressed with too large a window",
            DecompressFault::Init(_) | DecompressFault::NoStream | DecompressFault::NoMemory => {
                "there is no memory to decompress it"
            }
        })
    }
}

/// `XZ_OPTIONS_ERROR` of the kernel's decoder.
const XZ_OPTIONS_ERROR: i32 = 6;

/// `module_decompress()`: the contents of a compressed file.
pub(crate) fn module_decompress<H: Host>(
    kernel: &Kernel,
    host: &mut H,
    data: &[u8],
) -> Result<Vec<u8>, DecompressFault> {
    let result = decompress(kernel, host, data);
    if let Err(fault) = &result
        && let Some((level, line)) = fault.log()
    {
        host.log(level, format_args!("{line}"));
    }
    result
}

fn decompress<H: Host>(kernel: &Kernel, host: &mut H, data: &[u8]) -> Result<Vec<u8>, DecompressFault> {
    let format = kernel.profile.config.decompress.ok_or(DecompressFault::NotBuilt)?;
    let stream = match format {
        Decompress::Gzip => gzip_stream(data).ok_or(DecompressFault::Format(format))?,
        Decompress::Xz if data.starts_with(b"\xfd7zXZ\0") => data,
        Decompress::Zstd if data.starts_with(b"\x28\xb5\x2f\xfd") => {
            let window = zstd_window(data, kernel.profile.arch).ok_or(DecompressFault::FrameHeader)?;
            if window > largest_window(kernel.profile.arch) {
                return Err(DecompressFault::Window);
            }
            data
        }
        Decompress::Xz | Decompress::Zstd => return Err(DecompressFault::Format(format)),
    };
    host.decompress(format, stream)
}

/// The deflate stream of a gzip file. Of the optional fields of the header only the file name is known.
fn gzip_stream(data: &[u8]) -> Option<&[u8]> {
    const FIXED: usize = 10;
    const FNAME: u8 = 8;
    let fixed = data.get(..FIXED).filter(|fixed| fixed.starts_with(b"\x1f\x8b\x08"))?;
    let rest = data.get(FIXED..)?;
    if fixed.get(3).is_some_and(|flags| flags & FNAME != 0) {
        let end = rest.iter().position(|&byte| byte == 0)?;
        return rest.get(end + 1..);
    }
    Some(rest)
}

/// Bytes of the window that a zstd frame asks for (`zstd_get_frame_header()`); `None` if the header is incomplete, or has
/// bits or a window that the format does not know.
fn zstd_window(frame: &[u8], arch: Arch) -> Option<u64> {
    let descriptor = *frame.get(4)?;
    let single_segment = descriptor & 0x20 != 0;
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size = match (descriptor >> 6, single_segment) {
        (0, false) => 0,
        (0, true) => 1,
        (1, _) => 2,
        (2, _) => 4,
        _ => 8,
    };
    let size_at = 5 + usize::from(!single_segment) + dictionary;
    let header = frame.get(..size_at + size)?;
    if descriptor & 0x08 != 0 {
        return None;
    }
    if single_segment {
        let field = header.get(size_at..)?;
        let value = field.iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
        return Some(if size == 2 { value + 256 } else { value });
    }
    let window = *header.get(5)?;
    let log = 10 + u32::from(window >> 3);
    let base = 1u64 << log;
    (log <= window_log_max(arch)).then_some(base + base / 8 * u64::from(window & 7))
}

/// `ZSTD_WINDOWLOG_MAX`
const fn window_log_max(arch: Arch) -> u32 {
    match arch.class() {
        Class::Elf64 => 31,
        Class::Elf32 => 30,
    }
}

/// What windows are compared with: 1 shifted by that as an `int`, which is negative on 64-bit kernels, so that all but the
/// largest numbers are below it.
const fn largest_window(arch: Arch) -> u64 {
    (1i32 << window_log_max(arch)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_headers() {
        let header = b"\x1f\x8b\x08\0\0\0\0\0\0\x03";
        assert_eq!(gzip_stream(&[header, &b"stream"[..]].concat()), Some(&b"stream"[..]));
        let named = [&b"\x1f\x8b\x08\x08\0\0\0\0\0\x03hello.ko\0"[..], b"stream"].concat();
        assert_eq!(gzip_stream(&named), Some(&b"stream"[..]));
        assert_eq!(gzip_stream(&named[..15]), None, "a name without end");
        assert_eq!(gzip_stream(&header[..9]), None);
        assert_eq!(gzip_stream(b"\x1f\x8b\x07\0\0\0\0\0\0\x03"), None);
    }

    /// Headers as `zstd -c`, `zstd --single-thread --long=31` and the format's description (RFC 8878, 3.1.1.1) have them.
    #[test]
    fn zstd_headers() {
        let zstd_window = |frame: &[u8]| zstd_window(frame, Arch::X86_64);
        let frame = |rest: &[u8]| [&b"\x28\xb5\x2f\xfd"[..], rest].concat();
        assert_eq!(zstd_window(&frame(&[0x04, 0x58])), Some(2 << 20));
        assert_eq!(zstd_window(&frame(&[0x04, 0x59])), Some((2 << 20) + (2 << 17)));
        assert_eq!(
            zstd_window(&frame(&[0x24, 0x25])),
            Some(0x25),
            "a single segment as large as the contents"
        );
        assert_eq!(zstd_window(&frame(&[0x64, 0x00, 0x10])), Some(0x1100));
        assert_eq!(zstd_window(&frame(&[0xe4, 1, 2, 3, 4, 5, 6, 7, 8])), Some(0x0807_0605_0403_0201));
        assert_eq!(zstd_window(&frame(&[0xe4, 1, 2, 3, 4, 5, 6, 7])), None, "cut short");
        assert_eq!(zstd_window(&frame(&[0x0c, 0x58])), None, "a reserved bit");
        assert_eq!(zstd_window(&frame(&[0x04, 0xb0])), None, "a window of 4 GiB");
        assert_eq!(largest_window(Arch::Arm), 1 << 30);
        assert_eq!(largest_window(Arch::X86_64), 0xffff_ffff_8000_0000);
        assert_eq!(zstd_window(&frame(&[])), None);
    }
}
