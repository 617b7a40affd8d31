//! The system calls `init_module()` and `finit_module()` up to `load_module()`.

use alloc::borrow::Cow;

use crate::Host;
use crate::Kernel;
use crate::LoadError;
use crate::ModuleId;
use crate::Reason;
use crate::Security;
use crate::Stage;
use crate::decompress::module_decompress;
use crate::idempotent;
use crate::load::load_module;
use crate::load::stage;

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
    /// Which file it is, whatever descriptor it is reached by: the identity of its inode. Kernels from 6.5 on load one file
    /// once at a time. `None` if nobody else can be loading it.
    pub inode: Option<u64>,
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
            inode: None,
        }
    }
}

/// The memory that a caller of `init_module()` hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserImage<'a> {
    /// Its length in bytes, as the caller says.
    pub len: u64,
    /// Its bytes; `None` if they cannot be read.
    pub bytes: Option<&'a [u8]>,
}

impl<'a> From<&'a [u8]> for UserImage<'a> {
    fn from(bytes: &'a [u8]) -> UserImage<'a> {
        UserImage { len: bytes.len() as u64, bytes: Some(bytes) }
    }
}

impl<'a> From<&'a alloc::vec::Vec<u8>> for UserImage<'a> {
    fn from(bytes: &'a alloc::vec::Vec<u8>) -> UserImage<'a> {
        bytes.as_slice().into()
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for UserImage<'a> {
    fn from(bytes: &'a [u8; N]) -> UserImage<'a> {
        bytes.as_slice().into()
    }
}

/// `init_module(image, len, args)`. `None` for the parameter text: it cannot be read.
pub fn init_module<'a, H: Host>(
    kernel: &mut Kernel,
    host: &mut H,
    image: impl Into<UserImage<'a>>,
    args: Option<&[u8]>,
) -> Result<ModuleId, LoadError> {
    let image = image.into();
    let data = stage(host, Stage::Entry, |host, numbers| {
        may_init_module(kernel)?;
        numbers.bytes("file", image.len);
        if image.len < kernel.profile.arch.class().header_size() as u64 {
            return Err(Reason::TooShort);
        }
        host.security(Security::LoadModule).map_err(|errno| Reason::Security { errno })?;
        if !host.room_for_copy(image.len) {
            return Err(Reason::NoMemory);
        }
        let bytes = image.bytes.ok_or(Reason::ImageFault)?;
        host.security(Security::ModuleLoaded).map_err(|errno| Reason::Security { errno })?;
        Ok(bytes)
    })?;
    load_module(kernel, host, data, args, 0)
}

/// What the entry of `finit_module()` comes to.
enum Entered<'data> {
    /// The contents of the file.
    Data(Cow<'data, [u8]>),
    /// Somebody else has loaded the file meanwhile.
    Loaded(Result<ModuleId, LoadError>),
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
    let file = facts.inode.filter(|_| kernel.profile.rules.idempotent);
    let mut first = None;
    let entered = stage(host, Stage::Entry, |host, numbers| {
        may_init_module(kernel)?;
        let rules = &kernel.profile.rules;
        let (modern, known) = (rules.kernel_read_file, if rules.compressed_flag { 7 } else { 3 });
        if flags & !known != 0 {
            return Err(Reason::BadFlags(flags & !known));
        }
        if modern && !(facts.open && facts.readable) {
            return Err(Reason::NotReadable);
        }
        if let Some(file) = file {
            if let Some(theirs) = idempotent::wait_for_other(kernel, host, file)? {
                return Ok(Entered::Loaded(theirs));
            }
            first = Some(file);
        }
        kernel_read_file(host, facts, data, modern)?;
        numbers.bytes("file", facts.size);
        if flags & COMPRESSED_FILE == 0 {
            return Ok(Entered::Data(Cow::Borrowed(data)));
        }
        let data = module_decompress(kernel, host, data).map_err(Reason::Compressed)?;
        numbers.bytes("decompressed", data.len() as u64);
        Ok(Entered::Data(Cow::Owned(data)))
    });
    let result = match entered {
        Ok(Entered::Data(data)) => load_module(kernel, host, &data, args, flags),
        Ok(Entered::Loaded(theirs)) => theirs,
        Err(error) => Err(error),
    };
    if let Some(file) = first {
        idempotent::complete(kernel, file, &result);
    }
    result
}

fn may_init_module(kernel: &Kernel) -> Result<(), Reason> {
    if !kernel.capabilities.sys_module || kernel.options.modules_disabled {
        return Err(Reason::NotPermitted);
    }
    Ok(())
}

/// `kernel_read_file_from_fd()`, or before 4.6 `copy_module_from_fd()`.
fn kernel_read_file<H: Host>(
    host: &mut H,
    facts: &FileFacts,
    data: &[u8],
    modern: bool,
) -> Result<(), Reason> {
    if modern {
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
    let secure = |host: &mut H, hook| host.security(hook).map_err(|errno| Reason::Security { errno });
    secure(host, Security::ReadFile)?;
    match facts.size {
        0 => return Err(Reason::EmptyFile),
        0x8000_0000.. => return Err(Reason::FileTooLarge),
        _ if !host.room_for_copy(facts.size) => return Err(Reason::NoMemory),
        _ if !facts.readable => return Err(Reason::NotReadable),
        // Old kernels take what they could read.
        size if modern && (data.len() as u64) < size => return Err(Reason::ShortRead),
        _ => {}
    }
    secure(host, Security::FileRead)
}
