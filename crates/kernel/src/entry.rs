//! The system calls `init_module()` and `finit_module()` up to `load_module()`.

use alloc::borrow::Cow;

use lkm_module::Errno;
use lkm_module::Level;

use crate::Host;
use crate::Kernel;
use crate::LoadError;
use crate::ModuleId;
use crate::Reason;
use crate::Stage;
use crate::load::load_module;
use crate::load::stage;
use crate::profile::Decompress;

/// Flag of `finit_module()`: do as if the module recorded no symbol versions.
pub const IGNORE_MODVERSIONS: u32 = 1;
/// Flag of `finit_module()`: do as if the module had no vermagic.
pub const IGNORE_VERMAGIC: u32 = 2;
/// Flag of `finit_module()`: the file is compressed.
pub const COMPRESSED_FILE: u32 = 4;

/// What `finit_module()` finds out about its descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// It is a descriptor of an open file.
    pub open: bool,
    /// It is open for reading.
    pub readable: bool,
    /// A regular file.
    pub regular: bool,
    /// A directory.
    pub directory: bool,
    /// Somebody has it open for writing.
    pub open_for_writing: bool,
    /// Its size in bytes.
    pub size: u64,
}

impl FileFacts {
    /// A regular file of a size, open for reading and for nothing else.
    pub const fn regular(size: u64) -> FileFacts {
        FileFacts {
            open: true,
            readable: true,
            regular: true,
            directory: false,
            open_for_writing: false,
            size,
        }
    }
}

/// `init_module(image, len, args)`. `None` for the parameter text: it cannot be read.
pub fn init_module<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    image: &[u8],
    args: Option<&[u8]>,
) -> Result<ModuleId, LoadError> {
    stage(host, Stage::Entry, |_, numbers| {
        may_init_module(kernel)?;
        numbers.bytes("file", image.len() as u64);
        if image.len() < kernel.profile.arch.class().header_size() { Err(Reason::TooShort) } else { Ok(()) }
    })?;
    load_module(kernel, host, image, args, 0)
}

/// `finit_module(fd, args, flags)`: `facts` is what the descriptor is, `data` the contents of the file.
pub fn finit_module<H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    facts: &FileFacts,
    data: &[u8],
    args: Option<&[u8]>,
    flags: u32,
) -> Result<ModuleId, LoadError> {
    let data = stage(host, Stage::Entry, |host, numbers| {
        may_init_module(kernel)?;
        let rules = &kernel.profile.rules;
        let known = if rules.compressed_flag { 7 } else { 3 };
        if flags & !known != 0 {
            return Err(Reason::BadFlags(flags & !known));
        }
        kernel_read_file(facts, rules.kernel_read_file)?;
        numbers.bytes("file", facts.size);
        if flags & COMPRESSED_FILE != 0 {
            module_decompress(kernel, host, data)
        } else {
            Ok(Cow::Borrowed(data))
        }
    })?;
    load_module(kernel, host, &data, args, flags)
}

fn may_init_module(kernel: &Kernel) -> Result<(), Reason> {
    if !kernel.capabilities.sys_module || kernel.options.modules_disabled {
        return Err(Reason::NotPermitted);
    }
    Ok(())
}

/// `kernel_read_file_from_fd()`, or before 4.6 `copy_module_from_fd()`.
fn kernel_read_file(facts: &FileFacts, modern: bool) -> Result<(), Reason> {
    if modern {
        if !facts.open || !facts.readable {
            return Err(Reason::NotReadable);
        }
        if !facts.regular {
            return Err(Reason::NotRegular);
        }
        if facts.open_for_writing {
            return Err(Reason::OpenForWriting);
        }
    } else if !facts.open {
        return Err(Reason::NotOpen);
    } else if facts.directory {
        return Err(Reason::IsDirectory);
    }
    match facts.size {
        0 => Err(Reason::EmptyFile),
        0x8000_0000.. => Err(Reason::FileTooLarge),
        _ if !facts.readable => Err(Reason::NotReadable),
        _ => Ok(()),
    }
}

fn module_decompress<H: Host>(
    kernel: &Kernel,
    host: &mut H,
    data: &[u8],
) -> Result<Cow<'static, [u8]>, Reason> {
    let Some(format) = kernel.profile.config.decompress else {
        return Err(Reason::Compressed { errno: Errno::EOPNOTSUPP });
    };
    let (magic, text): (&[u8], &str) = match format {
        Decompress::Gzip => (b"\x1f\x8b\x08", "not a gzip compressed module"),
        Decompress::Xz => (b"\xfd7zXZ\0", "not an xz compressed module"),
        Decompress::Zstd => (b"\x28\xb5\x2f\xfd", "not a zstd compressed module"),
    };
    if !data.starts_with(magic) {
        host.log(Level::Err, format_args!("{text}"));
        return Err(Reason::Compressed { errno: Errno::EINVAL });
    }
    host.decompress(format, data).map(Cow::Owned).map_err(|errno| Reason::Compressed { errno })
}
