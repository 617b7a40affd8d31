//! `insmod` as busybox 1.36 has it (the full one): tries twice, exits with the errno.

use std::ffi::CString;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;

use lkm_module::Errno;
use lkm_syscall::InitFlags;
use lkm_tree::compress::Compression;
use lkm_tree::compress::Damage;
use lkm_tree::compress::DecompressError;
use lkm_tree::compress::decompress_partly;
use lkm_tree::file::LIMIT;

use super::errno_of;
use super::read;
use crate::Context;
use crate::path::base_name;

/// Why a module was not loaded.
enum Failure {
    /// The kernel refused the module.
    Refused(Errno),
    /// The file could not be opened or read: the negative of this is the exit code.
    File(Errno),
    /// A message ended the program.
    Fatal,
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
        Err(Failure::Fatal) => return 1,
    };
    say(context, &[b"can't insert '", path.as_bytes(), b"': ", text.as_bytes()]);
    code.to_le_bytes()[0]
}

fn say(context: &mut Context<'_>, parts: &[&[u8]]) {
    let line = [base_name(context.program()), b": ", &parts.concat()].concat();
    context.complain_bytes(&line);
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
    let bytes = read(&mut file).unwrap_or_default();
    if bytes.len() < 2 {
        say(context, &[b"short read"]);
        return Err(Failure::Fatal);
    }
    let image = unpack(context, path, bytes)?;
    context.kernel.init_module(&image, &joined).map_err(Failure::Refused)
}

fn unpack(context: &mut Context<'_>, path: &OsStr, bytes: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let (image, error) = decompress_partly(&bytes, LIMIT);
    let Some(error) = error else { return Ok(image) };
    if let DecompressError::Damaged(Compression::Zstd, _) = error {
        // No busybox knows zstd: the kernel gets what is in the file.
        return Ok(bytes);
    }
    let (text, go_on) = damage(&error, bytes.len(), !image.is_empty());
    say(context, &[text]);
    match go_on {
        GoOn::With => Ok(image),
        GoOn::NoFurther => Err(Failure::Fatal),
        GoOn::Without => {
            let text = Errno::ENOMEM.text().as_bytes();
            say(context, &[b"read error from '", path.as_bytes(), b"': ", text]);
            Err(Failure::File(Errno::ENOMEM))
        }
    }
}

/// What happens with a file that does not unpack.
enum GoOn {
    /// The kernel gets what could be unpacked.
    With,
    /// It counts as unreadable.
    Without,
    /// The program ends.
    NoFurther,
}

/// What is said of damage, which depends on the format, the bytes of the file, and whether any were unpacked.
fn damage(error: &DecompressError, length: usize, any: bool) -> (&'static [u8], GoOn) {
    /// No header of a format is longer.
    const HEADER: usize = 64;
    let DecompressError::Damaged(how, damage) = error else { return (b"corrupted data", GoOn::Without) };
    match (how, damage) {
        (Compression::Gzip, Damage::CheckSum) => (b"crc error", GoOn::With),
        (Compression::Gzip, Damage::Trailer) => (b"corrupted data", GoOn::With),
        (Compression::Gzip, Damage::CutShort) if length > HEADER => {
            (b"unexpected end of file", GoOn::Without)
        }
        (Compression::Lzma, Damage::Header) => (b"bad lzma header", GoOn::Without),
        (Compression::Lzma, Damage::CutShort) => (b"unexpected EOF", GoOn::NoFurther),
        (Compression::Xz, Damage::CutShort) if length > HEADER => (b"corrupted data", GoOn::With),
        (Compression::Xz, _) if any => (b"corrupted data", GoOn::With),
        _ => (b"corrupted data", GoOn::Without),
    }
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
        let refused = || fake(vec![Err(Errno::EISDIR), Err(Errno::ENOEXEC)]);
        let short = (1, String::new(), "insmod: short read\n".to_owned());
        assert_eq!(refused().run(&["insmod", "/dev/null"]), short);
        assert_eq!(refused().run(&["insmod", "/"]), short);
    }

    #[test]
    fn files_that_do_not_unpack() {
        let directory = std::env::temp_dir().join(format!("modutils-busybox-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let fixture = |end: &str| {
            let root = env!("CARGO_MANIFEST_DIR");
            std::fs::read(format!("{root}/../../fixtures/x86_64/hello.ko.{end}")).unwrap()
        };
        let run = |name: &str, bytes: &[u8]| {
            let path = directory.join(name);
            std::fs::write(&path, bytes).unwrap();
            let (code, _, err) =
                fake(vec![Err(Errno::ENOEXEC), Err(Errno::ENOEXEC)]).run(&["insmod", path.to_str().unwrap()]);
            (code, err.replace(path.to_str().unwrap(), name))
        };
        let (gz, xz) = (fixture("gz"), fixture("xz"));
        let unreadable = |why: &str, name: &str| {
            let memory = "Cannot allocate memory";
            (
                244,
                format!(
                    "insmod: {why}\ninsmod: read error from '{name}': {memory}\ninsmod: can't insert '{name}': {memory}\n"
                ),
            )
        };
        let refused = |why: &str, name: &str| {
            (8, format!("insmod: {why}\ninsmod: can't insert '{name}': invalid module format\n"))
        };
        assert_eq!(run("cut.ko.gz", &gz[..gz.len() / 2]), unreadable("unexpected end of file", "cut.ko.gz"));
        assert_eq!(run("end.ko.gz", &gz[..gz.len() - 3]), refused("corrupted data", "end.ko.gz"));
        let mut wrong = gz.clone();
        let last = wrong.len() - 5;
        wrong[last] ^= 1;
        assert_eq!(run("sum.ko.gz", &wrong), refused("crc error", "sum.ko.gz"));
        assert_eq!(run("head.ko.gz", &gz[..7]), unreadable("corrupted data", "head.ko.gz"));
        assert_eq!(run("end.ko.xz", &xz[..xz.len() - 3]), refused("corrupted data", "end.ko.xz"));
        assert_eq!(run("cut.ko.xz", &xz[..xz.len() / 2]), refused("corrupted data", "cut.ko.xz"));
        assert_eq!(run("head.ko.xz", &xz[..7]), unreadable("corrupted data", "head.ko.xz"));
        std::fs::remove_dir_all(directory).unwrap();
    }
}
