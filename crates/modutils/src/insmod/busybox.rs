//! `insmod` as busybox 1.36 has it (the full one): tries twice, exits with the errno.

use std::ffi::CString;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;

use lkm_module::Errno;
use lkm_syscall::InitFlags;

use super::errno_of;
use super::read_unpacked;
use crate::Context;

/// What failed decides the sign of the number that is shown and given as exit code.
enum Failure {
    /// The kernel refused the module.
    Refused(Errno),
    /// The file could not be opened or read.
    File(Errno),
}

pub(super) fn run(context: &mut Context<'_>, args: &[OsString]) -> u8 {
    let Some((path, parameters)) = args.split_first() else {
        context.complain("Usage: insmod FILE [SYMBOL=VALUE]...");
        return 1;
    };
    let (text, code) = match insert(context, path, parameters) {
        Ok(()) => return 0,
        Err(Failure::Refused(errno)) => (refusal_text(errno), errno.raw()),
        // The number -1 has a text of its own.
        Err(Failure::File(Errno::EPERM)) => ("no such module", Errno::EPERM.raw().wrapping_neg()),
        Err(Failure::File(errno)) => (errno.text(), errno.raw().wrapping_neg()),
    };
    let program = crate::path::base_name(context.program()).to_vec();
    let line = [&program, &b": can't insert '"[..], path.as_bytes(), b"': ", text.as_bytes()].concat();
    context.complain_bytes(&line);
    code.to_le_bytes()[0]
}

fn insert(context: &mut Context<'_>, path: &OsStr, parameters: &[OsString]) -> Result<(), Failure> {
    let mut joined = Vec::new();
    for parameter in parameters {
        joined.extend_from_slice(parameter.as_bytes());
        joined.push(b' ');
    }
    let joined = CString::new(joined).map_err(|_| Failure::Refused(Errno::EINVAL))?;
    let mut file = File::open(path).map_err(|error| Failure::File(errno_of(&error)))?;
    if context.kernel.finit_module(&file, &joined, InitFlags::empty()).is_ok() {
        return Ok(());
    }
    let Ok(image) = read_unpacked(&mut file) else {
        let program = crate::path::base_name(context.program()).to_vec();
        context.complain_bytes(&[&program, &b": read error from '"[..], path.as_bytes(), b"'"].concat());
        return Err(Failure::File(Errno::ENOMEM));
    };
    context.kernel.init_module(&image, &joined).map_err(Failure::Refused)
}

fn refusal_text(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOEXEC => "invalid module format",
        Errno::ENOENT => "unknown symbol in module, or unknown parameter",
        Errno::ESRCH => "module has wrong symbol version",
        Errno::ENOSYS => "kernel does not support requested operation",
        other => other.text(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Style;
    use crate::testing::Fake;

    fn fake(answers: Vec<Result<(), Errno>>) -> Fake {
        Fake { answers, style: Style::Busybox, ..Fake::default() }
    }

    #[test]
    fn a_refused_module_is_tried_twice_and_the_second_errno_is_the_exit_code() {
        let path = format!("{}/../../fixtures/x86_64/hello.ko", env!("CARGO_MANIFEST_DIR"));
        let size = std::fs::metadata(&path).unwrap().len();
        let fake_kernel = fake(vec![Err(Errno::EPERM), Err(Errno::ENOEXEC)]);
        let (code, out, err) = fake_kernel.run(&["insmod", &path, "-f", "a=b c"]);
        assert_eq!((code, out.as_str()), (8, ""));
        assert_eq!(err, format!("insmod: can't insert '{path}': invalid module format\n"));
        let calls = [format!("finit {size} 0 -f a=b c "), format!("init {size} -f a=b c ")];
        assert_eq!(*fake_kernel.calls.borrow(), calls);
        assert_eq!(fake(vec![Err(Errno::EEXIST), Ok(())]).run(&["insmod", &path]).0, 0);
    }

    #[test]
    fn files_that_cannot_be_read() {
        let (code, _, err) = fake(vec![]).run(&["insmod", "/nonexistent.ko"]);
        let absent = "insmod: can't insert '/nonexistent.ko': No such file or directory\n";
        assert_eq!((code, err.as_str()), (254, absent));
        assert_eq!(fake(vec![]).run(&["insmod"]).0, 1);
    }
}
