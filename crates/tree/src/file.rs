//! Reading one module file.

use std::fmt;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;

use lkm_module::Errno;

use crate::compress::Compression;
use crate::compress::DecompressError;
use crate::compress::decompress;

/// Largest module that is read or unpacked, in bytes: 512 MiB. The kernel's own limit is `INT_MAX` bytes, and its
/// module area is 1.5 GiB at most on any architecture.
pub const LIMIT: u64 = 512 << 20;

/// A module read from disk, unpacked.
#[derive(Clone, Debug)]
pub struct ModuleFile {
    /// The ELF file with whatever is appended to it.
    pub bytes: Vec<u8>,
    /// How the file on disk was compressed.
    pub compression: Compression,
    /// Bytes of the file on disk.
    pub size_on_disk: u64,
}

/// Why a file gives no module bytes.
#[derive(Debug)]
pub enum FileError {
    /// The file could not be opened or read.
    Io(io::Error),
    /// It is a directory.
    Directory,
    /// It is a device, a pipe or a socket.
    NotRegular,
    /// It has no bytes.
    Empty,
    /// It has more bytes than any module: its size.
    TooLarge(u64),
    /// It starts like none of the things a module may be. Its first bytes (64, or all if it is shorter) are kept: they
    /// are enough for the loader's header check to say what the kernel would.
    NotAModule(Vec<u8>),
    /// It is compressed and does not unpack.
    Decompress(DecompressError),
}

impl FileError {
    /// What `finit_module` gives for such a file (6.1).
    pub fn errno(&self) -> Errno {
        match self {
            FileError::Io(error) => {
                error.raw_os_error().and_then(|n| u16::try_from(n).ok()).map_or(Errno::EIO, Errno::from_raw)
            }
            FileError::Directory | FileError::NotRegular | FileError::Empty => Errno::EINVAL,
            FileError::TooLarge(_) => Errno::EFBIG,
            FileError::NotAModule(_) => Errno::ENOEXEC,
            FileError::Decompress(error) => error.errno(),
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileError::Io(error) => error.fmt(f),
            FileError::Directory => f.write_str("it is a directory; name the .ko file in it"),
            FileError::NotRegular => f.write_str("it is not a regular file"),
            FileError::Empty => f.write_str("the file is empty; was the build or the copy interrupted?"),
            FileError::TooLarge(size) => {
                write!(f, "the file has {size} bytes, which is more than any module may have ({LIMIT})")
            }
            FileError::NotAModule(start) if start.iter().all(|byte| (9..127).contains(byte)) => {
                f.write_str("it is a text file, not a module; name the built .ko file")
            }
            FileError::NotAModule(_) => {
                f.write_str("it starts neither as an ELF file nor as a gzip, xz or zstd file")
            }
            FileError::Decompress(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FileError {}

/// Reads a module file and unpacks it if it is compressed.
///
/// What can be refused by its kind, size or first bytes is refused before the file is read.
pub fn read_module(path: &Path) -> Result<ModuleFile, FileError> {
    // A pipe would block in open(); the kind is looked at first.
    let kind = std::fs::metadata(path).map_err(FileError::Io)?;
    if kind.is_dir() {
        return Err(FileError::Directory);
    }
    if !kind.is_file() {
        return Err(FileError::NotRegular);
    }
    let mut file = File::open(path).map_err(FileError::Io)?;
    let size = file.metadata().map_err(FileError::Io)?.len();
    if size == 0 {
        return Err(FileError::Empty);
    }
    if size > i32::MAX as u64 {
        // The kernel looks at nothing else of such a file (`INT_MAX` in `finit_module`).
        return Err(FileError::TooLarge(size));
    }
    let mut bytes = Vec::new();
    (&mut file).take(64).read_to_end(&mut bytes).map_err(FileError::Io)?;
    let compression = Compression::of(&bytes);
    if compression == Compression::None && (bytes.len() < 52 || !bytes.starts_with(b"\x7fELF")) {
        return Err(FileError::NotAModule(bytes));
    }
    if size > LIMIT {
        return Err(FileError::TooLarge(size));
    }
    bytes.reserve_exact(usize::try_from(size).unwrap_or(0).saturating_sub(bytes.len()));
    file.take(LIMIT).read_to_end(&mut bytes).map_err(FileError::Io)?;
    let size_on_disk = bytes.len() as u64;
    if compression != Compression::None {
        bytes = decompress(&bytes, LIMIT).map_err(FileError::Decompress)?.into_owned();
        if bytes.is_empty() {
            return Err(FileError::Empty);
        }
    }
    Ok(ModuleFile { bytes, compression, size_on_disk })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of its own for one test, gone afterwards.
    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("lkm-tree-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_is_no_module_is_refused_with_the_errno_of_finit_module() {
        let scratch = Scratch::new("refused");
        let at = |name: &str, bytes: &[u8]| {
            let path = scratch.0.join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let errno = |path: &Path| read_module(path).unwrap_err().errno();
        assert_eq!(errno(&scratch.0.join("absent.ko")), Errno::ENOENT);
        assert_eq!(errno(&scratch.0), Errno::EINVAL);
        assert_eq!(errno(&at("empty.ko", b"")), Errno::EINVAL);
        assert_eq!(errno(&at("text.ko", &[b'x'; 100])), Errno::ENOEXEC);
        assert_eq!(errno(&at("short.ko", b"\x7fELF")), Errno::ENOEXEC);
        assert_eq!(errno(Path::new("/dev/zero")), Errno::EINVAL);
        let sparse = at("sparse.ko", &[b"\x7fELF\x02\x01\x01".as_slice(), &[0; 57]].concat());
        File::options().write(true).open(&sparse).unwrap().set_len(4 << 30).unwrap();
        assert_eq!(errno(&sparse), Errno::EFBIG);
        let zeros = at("zeros.ko", b"\0");
        File::options().write(true).open(&zeros).unwrap().set_len(4 << 30).unwrap();
        assert_eq!(errno(&zeros), Errno::EFBIG);
        let text = read_module(&scratch.0.join("text.ko")).unwrap_err();
        assert!(text.to_string().contains("text file"));
    }

    #[test]
    fn a_plain_module_is_read_whole() {
        let scratch = Scratch::new("plain");
        let path = scratch.0.join("m.ko");
        let bytes = [b"\x7fELF".as_slice(), &[7; 200]].concat();
        std::fs::write(&path, &bytes).unwrap();
        let read = read_module(&path).unwrap();
        assert_eq!(read.bytes, bytes);
        assert_eq!(read.compression, Compression::None);
    }
}
