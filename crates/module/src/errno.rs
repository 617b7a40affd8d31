use core::fmt;

/// An error number of Linux, positive as user space sees it.
///
/// Every error type of these crates has an `errno()` that gives the number the kernel returns for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(u16);

macro_rules! errnos {
    ($($name:ident $number:literal $text:literal,)*) => {
        impl Errno {
            $(#[doc = $text] pub const $name: Errno = Errno($number);)*
            const TABLE: &[(Errno, &str, &str)] = &[$((Errno::$name, stringify!($name), $text),)*];
        }
    };
}

errnos! {
    EPERM 1 "Operation not permitted",
    ENOENT 2 "No such file or directory",
    ESRCH 3 "No such process",
    EINTR 4 "Interrupted system call",
    EIO 5 "Input/output error",
    ENXIO 6 "No such device or address",
    E2BIG 7 "Argument list too long",
    ENOEXEC 8 "Exec format error",
    EBADF 9 "Bad file descriptor",
    EAGAIN 11 "Resource temporarily unavailable",
    ENOMEM 12 "Cannot allocate memory",
    EACCES 13 "Permission denied",
    EFAULT 14 "Bad address",
    EBUSY 16 "Device or resource busy",
    EEXIST 17 "File exists",
    ENODEV 19 "No such device",
    ENOTDIR 20 "Not a directory",
    EISDIR 21 "Is a directory",
    EINVAL 22 "Invalid argument",
    ENOTTY 25 "Inappropriate ioctl for device",
    ETXTBSY 26 "Text file busy",
    EFBIG 27 "File too large",
    ENOSPC 28 "No space left on device",
    EROFS 30 "Read-only file system",
    EDOM 33 "Numerical argument out of domain",
    ERANGE 34 "Numerical result out of range",
    ENOSYS 38 "Function not implemented",
    ELOOP 40 "Too many levels of symbolic links",
    ENODATA 61 "No data available",
    ENOPKG 65 "Package not installed",
    EOVERFLOW 75 "Value too large for defined data type",
    EBADMSG 74 "Bad message",
    EOPNOTSUPP 95 "Operation not supported",
    ETIMEDOUT 110 "Connection timed out",
    ENOKEY 126 "Required key not available",
    EKEYREJECTED 129 "Key was rejected by service",
}

impl Errno {
    /// The error of a raw number. The kernel's range is 1 to 4095; init functions may return others.
    pub const fn from_raw(number: u16) -> Errno {
        Errno(number)
    }

    /// The number, positive.
    pub const fn raw(self) -> u16 {
        self.0
    }

    /// The C name, such as `ENOEXEC`, when it is one the loader knows.
    pub fn name(self) -> Option<&'static str> {
        Self::TABLE.iter().find(|row| row.0 == self).map(|row| row.1)
    }

    /// glibc's text for it (`strerror`).
    pub fn text(self) -> &'static str {
        Self::TABLE.iter().find(|row| row.0 == self).map_or("Unknown error", |row| row.2)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl core::error::Error for Errno {}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::ToString;

    use super::*;

    #[test]
    fn numbers_and_names() {
        assert_eq!((Errno::ENOEXEC.raw(), Errno::EKEYREJECTED.raw()), (8, 129));
        assert_eq!((Errno::ENOPKG.name(), format!("{}", Errno::EBADMSG)), (Some("ENOPKG"), "EBADMSG".into()));
        let unknown = Errno::from_raw(4000);
        assert_eq!((unknown.name(), unknown.text()), (None, "Unknown error"));
        assert_eq!(format!("{unknown:?}"), "errno 4000");
    }

    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn texts_are_those_of_the_c_library() {
        for (errno, name, text) in Errno::TABLE {
            let expected = std::io::Error::from_raw_os_error(i32::from(errno.raw())).to_string();
            assert_eq!(expected, format!("{text} (os error {})", errno.raw()), "{name}");
        }
    }
}
