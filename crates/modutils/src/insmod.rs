//! `insmod`: gives a file to the kernel.

use std::ffi::CString;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use lkm_module::Errno;
use lkm_syscall::InitFlags;
use lkm_tree::compress::Compression;
use lkm_tree::compress::Damage;
use lkm_tree::compress::DecompressError;
use lkm_tree::compress::decompress_partly;
use lkm_tree::file::LIMIT;

use crate::Context;
use crate::Style;
use crate::command;
use crate::command::Command;
use crate::explain;
use crate::explain::Attempt;
use crate::explain::Load;
use crate::getopt::Spec;

mod busybox;
mod force;

/// Keys of the options that have no letter.
const MODVERSION: u8 = 1;
const VERMAGIC: u8 = 2;

pub(crate) const COMMAND: Command = Command {
    name: "insmod",
    about: "load a module from a file",
    synopsis: &["[options] filename [name=value ...]"],
    description: "Gives the module in a file to the running kernel. The kernel opens and, where it can, unpacks the file itself
(finit_module); otherwise it is read, unpacked by its magic number (gzip, xz, zstd, lzma) and handed over (init_module).

What follows the file name are parameters of the module; a value with blanks is quoted for the kernel, and several
parameters may be given as one word.

Behind the message of a refusal stand lines that begin with two blanks: kernel: and what the kernel logged meanwhile,
cause: and why, try: and what to do about it. MODUTILS_STYLE=kmod in the environment leaves them out.

The exit code is 0 if the module was loaded, 1 otherwise. With MODUTILS_STYLE=busybox in the environment it behaves as
the insmod of busybox: no options, a second try by init_module after any failure, the errno as exit code.",
    options: OPTIONS,
    run,
};

const OPTIONS: &[Spec] = &[
    Spec::flag(b'f', "force", "both of the following"),
    Spec::flag(MODVERSION, "force-modversion", "load even if versions of symbols differ").only_long(),
    Spec::flag(VERMAGIC, "force-vermagic", "load even if it was built for another kernel").only_long(),
    // kmod 30 knows it and does nothing for it.
    Spec::flag(b'p', "", "").hidden(),
    command::SYSLOG,
    command::VERBOSE,
    command::VERSION,
    command::HELP,
];

pub(crate) fn run(context: &mut Context<'_>, args: &[OsString]) -> u8 {
    if context.style == Style::Busybox {
        return busybox::run(context, args);
    }
    let parsed = match COMMAND.parse(context, args) {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    let mut flags = InitFlags::empty();
    for option in parsed.options {
        flags |= match option.key {
            MODVERSION => InitFlags::IGNORE_MODVERSIONS,
            VERMAGIC => InitFlags::IGNORE_VERMAGIC,
            b'p' => InitFlags::empty(),
            _ => InitFlags::IGNORE_MODVERSIONS | InitFlags::IGNORE_VERMAGIC,
        };
    }
    let Some((path, parameters)) = parsed.operands.split_first() else {
        context.error(&[b"missing filename."]);
        return 1;
    };
    if path.as_bytes() == b"-" {
        context.error(&[b"this tool does not support loading from stdin!"]);
        return 1;
    }
    if let Err(error) = std::fs::metadata(path) {
        let text = errno_of(&error).text().as_bytes();
        context.error(&[b"could not load module ", path.as_bytes(), b": ", text]);
        explain::refusal(context, Attempt::Read(path.as_ref(), errno_of(&error)));
        return 1;
    }
    let parameters = join(parameters);
    let log = context.log_mark();
    match insert(context, path, &parameters, flags) {
        Ok(()) => 0,
        Err(errno) => {
            let text = load_text(errno).as_bytes();
            context.error(&[b"could not insert module ", path.as_bytes(), b": ", text]);
            explain::refusal(context, Attempt::Load(Load::of_file(path, &parameters, flags, errno, log)));
            1
        }
    }
}

/// Parameters as the kernel takes them: separated by blanks, and what holds blanks itself in quotes.
pub(crate) fn join(parameters: &[&OsStr]) -> Vec<u8> {
    parameters.iter().map(|parameter| quote(parameter.as_bytes())).collect::<Vec<_>>().join(&b' ')
}

/// Scripts also give all parameters in one word, `"$OPTIONS"`: what has a `=` in each of its parts is left as it is.
fn quote(parameter: &[u8]) -> Vec<u8> {
    let mut parts = parameter.split(u8::is_ascii_whitespace).filter(|part| !part.is_empty());
    let has_value = parts.next().is_some_and(|first| first.contains(&b'='));
    let one_value = has_value && !parameter.contains(&b'"') && parts.any(|part| !part.contains(&b'='));
    let equals = parameter.iter().position(|&byte| byte == b'=');
    match equals.and_then(|at| parameter.split_at_checked(at + 1)) {
        Some((name, value)) if one_value => [name, b"\"", value, b"\""].concat(),
        _ => parameter.to_vec(),
    }
}

/// What an errno of loading means.
fn load_text(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOEXEC => "Invalid module format",
        Errno::ENOENT => "Unknown symbol in module",
        Errno::ESRCH => "Module has wrong symbol version",
        Errno::EINVAL => "Invalid parameters",
        other => other.text(),
    }
}

/// The kernel reads the file where it can, because then it may check where the file comes from; else it is unpacked
/// here.
pub(crate) fn insert(
    context: &mut Context<'_>,
    path: &OsStr,
    parameters: &[u8],
    flags: InitFlags,
) -> Result<(), Errno> {
    let c_parameters = CString::new(parameters).map_err(|_| Errno::EINVAL)?;
    let mut file = File::open(path).map_err(|error| errno_of(&error))?;
    let mut start = [0; Compression::MAGIC_LENGTH];
    // Six bytes are the longest magic number: with fewer a file is nothing.
    file.read_exact_at(&mut start, 0).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Errno::EINVAL,
        _ => errno_of(&error),
    })?;
    let compression = Compression::of(&start);
    let flags_of_file = match compression {
        Compression::None => Some(flags),
        how if kernel_unpacks(context, how) => Some(flags | InitFlags::COMPRESSED_FILE),
        _ => None,
    };
    if let Some(flags) = flags_of_file {
        let bits = format!("{}", flags.bits());
        context.info(&[b"finit_module '", path.as_bytes(), b"' '", parameters, b"' ", bits.as_bytes()]);
        match context.kernel.finit_module(&file, &c_parameters, flags) {
            // Kernels before 3.8; a kernel built without unpacking.
            Err(Errno::ENOSYS) => {}
            Err(Errno::EOPNOTSUPP) if compression != Compression::None => {}
            result => return result,
        }
    }
    let mut image = read_unpacked(&mut file)?;
    force::strip(&mut image, flags);
    context.info(&[b"init_module '", path.as_bytes(), b"' '", parameters, b"'"]);
    context.kernel.init_module(&image, &c_parameters)
}

fn kernel_unpacks(context: &Context<'_>, how: Compression) -> bool {
    let name: &[u8] = match how {
        Compression::None | Compression::Lzma => return false,
        Compression::Gzip => b"gzip",
        Compression::Xz => b"xz",
        Compression::Zstd => b"zstd",
    };
    context.kernel.compression().is_ok_and(|known| known == name)
}

/// All of a file from its start.
fn read(file: &mut File) -> Result<Vec<u8>, Errno> {
    io::Seek::rewind(file).map_err(|error| errno_of(&error))?;
    let size = file.metadata().map_or(0, |file| file.len()).min(LIMIT);
    // One more, so that the end is met without growing.
    let mut bytes = Vec::with_capacity(usize::try_from(size + 1).unwrap_or(0));
    file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(|error| errno_of(&error))?;
    if bytes.len() as u64 > LIMIT {
        return Err(Errno::EFBIG);
    }
    Ok(bytes)
}

/// The same, unpacked if it is compressed.
fn read_unpacked(file: &mut File) -> Result<Vec<u8>, Errno> {
    let bytes = read(file)?;
    if Compression::of(&bytes) == Compression::None {
        return Ok(bytes);
    }
    let (image, error) = decompress_partly(&bytes, LIMIT);
    match error {
        None => Ok(image),
        // As with kmod the kernel gets what there is, and has the word.
        Some(DecompressError::Damaged(Compression::Zstd, Damage::CutShort)) => Ok(image),
        Some(error) => Err(error.errno()),
    }
}

pub(crate) fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().and_then(|number| u16::try_from(number).ok()).map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fake;

    fn fixture(name: &str) -> String {
        format!("{}/../../fixtures/x86_64/{name}", env!("CARGO_MANIFEST_DIR"))
    }

    fn size(name: &str) -> usize {
        std::fs::read(fixture(name)).unwrap().len()
    }

    #[test]
    fn values_with_blanks_are_quoted() {
        let cases: [(&str, &str); 10] = [
            ("a=b", "a=b"),
            ("a=b c", "a=\"b c\""),
            ("a=\"b c\"", "a=\"b c\""),
            ("a=\"b c\" d=e", "a=\"b c\" d=e"),
            ("a", "a"),
            ("a b", "a b"),
            ("a=b=c d", "a=\"b=c d\""),
            ("a=1 b=2", "a=1 b=2"),
            (" a=1\tb=2 ", " a=1\tb=2 "),
            ("", ""),
        ];
        for (given, expected) in cases {
            assert_eq!(quote(given.as_bytes()), expected.as_bytes(), "{given}");
        }
    }

    #[test]
    fn a_plain_file_goes_to_the_kernel_as_it_is() {
        let fake = Fake::default();
        let path = fixture("hello.ko");
        assert_eq!(fake.run(&["insmod", &path, "who=a b", "-f", "n=1"]), (0, String::new(), String::new()));
        assert_eq!(*fake.calls.borrow(), [format!("finit {} 3 who=\"a b\" n=1", size("hello.ko"))]);
        let flags = |option: &str| {
            let fake = Fake::default();
            assert_eq!(fake.run(&["insmod", option, &path]).0, 0);
            fake.calls.borrow()[0].split(' ').nth(2).unwrap().to_owned()
        };
        assert_eq!((flags("--force-modversion"), flags("--force-vermagic")), ("1".into(), "2".into()));
    }

    #[test]
    fn a_compressed_file_is_unpacked_by_whom_can() {
        for (end, name) in [("gz", "gzip"), ("xz", "xz"), ("zst", "zstd")] {
            let file = format!("hello.ko.{end}");
            let path = fixture(&file);
            let plain = format!("init {} ", size("hello.ko"));
            let packed = format!("finit {} 4 ", size(&file));
            let none = Fake::default();
            assert_eq!(none.run(&["insmod", &path]).0, 0);
            assert_eq!(none.calls.borrow().join("|"), plain);
            let knows = Fake { compression: Some(name), ..Fake::default() };
            assert_eq!(knows.run(&["insmod", &path]).0, 0);
            assert_eq!(knows.calls.borrow().join("|"), packed);
            let cannot = Fake { answers: vec![Err(Errno::EOPNOTSUPP)], ..knows };
            cannot.calls.borrow_mut().clear();
            assert_eq!(cannot.run(&["insmod", &path]).0, 0);
            assert_eq!(*cannot.calls.borrow(), [packed, plain]);
        }
    }

    #[test]
    fn a_kernel_without_finit_module_gets_the_bytes() {
        let fake = Fake { answers: vec![Err(Errno::ENOSYS), Err(Errno::EEXIST)], ..Fake::default() };
        let path = fixture("hello.ko");
        let (code, _, err) = fake.run(&["insmod", &path, "a=1"]);
        assert_eq!((code, err), (1, format!("insmod: ERROR: could not insert module {path}: File exists\n")));
        assert_eq!(fake.calls.borrow()[1], format!("init {} a=1", size("hello.ko")));
        assert_eq!(*fake.image.borrow(), std::fs::read(&path).unwrap());
    }

    #[test]
    fn a_refusal_is_final_and_has_its_text() {
        for (errno, text) in [
            (Errno::ENOEXEC, "Invalid module format"),
            (Errno::ENOENT, "Unknown symbol in module"),
            (Errno::ESRCH, "Module has wrong symbol version"),
            (Errno::EINVAL, "Invalid parameters"),
            (Errno::EPERM, "Operation not permitted"),
            (Errno::EKEYREJECTED, "Key was rejected by service"),
        ] {
            let fake = Fake { answers: vec![Err(errno)], ..Fake::default() };
            let path = fixture("hello.ko");
            let (code, _, err) = fake.run(&["insmod", &path]);
            assert_eq!((code, err), (1, format!("insmod: ERROR: could not insert module {path}: {text}\n")));
            assert_eq!(fake.calls.borrow().len(), 1);
        }
    }

    #[test]
    fn what_is_done_is_told_when_asked() {
        let path = fixture("hello.ko.xz");
        let (_, _, err) = Fake::default().run(&["insmod", "-v", &path, "a=1"]);
        assert_eq!(err, format!("insmod: INFO: init_module '{path}' 'a=1'\n"));
    }
}
