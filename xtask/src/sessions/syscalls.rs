//! The three system calls by themselves, with arguments that no command passes: what each returns is known beforehand.

use std::fmt::Write as _;

use crate::error::Result;
use crate::packages::Kernel;
use crate::paths;
use crate::truth::agent::Agent;
use crate::truth::cpio::Cpio;
use crate::truth::guest::Argument;
use crate::truth::guest::Batch;
use crate::truth::guest::Guest;
use crate::truth::guest::Numbers;
use crate::truth::qemu::Boot;
use crate::truth::qemu::Machine;
use crate::truth::qemu::Qemu;

use super::target::Target;
use super::tree;

/// What came out.
pub(super) struct Calls {
    pub(super) text: String,
    pub(super) count: usize,
    pub(super) failures: usize,
}

// Errnos as the kernel returns them.
const EPERM: i64 = -1;
const ENOENT: i64 = -2;
const ENOEXEC: i64 = -8;
const EBADF: i64 = -9;
const EAGAIN: i64 = -11;
const EFAULT: i64 = -14;
const EBUSY: i64 = -16;
const EEXIST: i64 = -17;
const EINVAL: i64 = -22;
const ETXTBSY: i64 = -26;
const ERANGE: i64 = -34;
const EOPNOTSUPP: i64 = -95;
const EKEYREJECTED: i64 = -129;

const O_RDONLY: u64 = 0;
const O_WRONLY: u64 = 1;
const O_RDWR: u64 = 2;
const O_TRUNC: u64 = 0o1000;
const O_NONBLOCK: u64 = 0o4000;
const O_PATH: u64 = 0o10_000_000;

/// No address of a process.
const BAD: Argument = Argument::Value(u64::MAX - 4095);
const NULL: Argument = Argument::Value(0);
/// More than any fixture has.
const FILE: u64 = 4 << 20;
const NOBODY: u64 = 65534;

/// One question: the calls that lead up to one, and that one.
struct Call<'a> {
    batch: Batch,
    numbers: Numbers,
    target: Target,
    fixture: &'a dyn Fn(&str) -> u64,
}

impl Call<'_> {
    fn open(&mut self, path: &str, flags: u64) -> Argument {
        let path = self.batch.text(path);
        Argument::Result(self.batch.call(self.numbers.open, &[path, Argument::Value(flags), NULL]))
    }

    fn text(&mut self, text: &str) -> Argument {
        self.batch.text(text)
    }

    /// `finit_module` on a file that is opened so and closed afterwards.
    fn finit_opened(&mut self, path: &str, opened: u64, arguments: Argument, flags: u64) -> usize {
        let fd = self.open(path, opened);
        let step = self.finit(fd, arguments, flags);
        self.batch.call(self.numbers.close, &[fd]);
        step
    }

    fn finit(&mut self, fd: Argument, arguments: Argument, flags: u64) -> usize {
        self.batch.call(self.numbers.finit_module, &[fd, arguments, Argument::Value(flags)])
    }

    /// `finit_module` as a command does it.
    fn load(&mut self, name: &str) -> usize {
        let arguments = self.text("");
        self.finit_opened(&format!("/f/{name}"), O_RDONLY, arguments, 0)
    }

    /// A file in memory: its address and length.
    fn read(&mut self, name: &str) -> (Argument, Argument) {
        let fd = self.open(&format!("/f/{name}"), O_RDONLY);
        let (_, buffer) = self.batch.buffer(FILE);
        let length = self.batch.read_all(fd, buffer, FILE);
        self.batch.call(self.numbers.close, &[fd]);
        (buffer, Argument::Result(length))
    }

    fn init(&mut self, image: Argument, length: Argument, arguments: Argument) -> usize {
        self.batch.call(self.numbers.init_module, &[image, length, arguments])
    }

    fn delete(&mut self, name: &str, flags: u64) -> usize {
        let name = self.text(name);
        self.delete_at(name, flags)
    }

    fn delete_at(&mut self, name: Argument, flags: u64) -> usize {
        self.batch.call(self.numbers.delete_module, &[name, Argument::Value(flags)])
    }

    /// Becomes another user, or root again.
    fn user(&mut self, effective: u64) {
        let number = match self.target {
            Target::Amd64 => 117,
            Target::Armhf => 208,
            Target::Arm64 => 147,
        };
        let keep = Argument::Value(u64::MAX);
        self.batch.call(number, &[keep, Argument::Value(effective), keep]);
    }

    fn write(&mut self, path: &str, text: &str) {
        let fd = self.open(path, O_WRONLY);
        let data = self.text(text);
        self.batch.call(self.numbers.write, &[fd, data, Argument::Value(text.len() as u64)]);
        self.batch.call(self.numbers.close, &[fd]);
    }
}

/// A question: its name, what the call must return, and how it is asked.
type Question = (&'static str, i64, fn(&mut Call<'_>) -> usize);

const QUESTIONS: &[Question] = &[
    // init_module
    ("init: a module", 0, |call| {
        let (image, length) = call.read("hello.ko");
        let arguments = call.text("who=agent");
        call.init(image, length, arguments)
    }),
    ("init: loaded already", EEXIST, |call| {
        call.load("hello.ko");
        let (image, length) = call.read("hello.ko");
        let arguments = call.text("");
        call.init(image, length, arguments)
    }),
    ("init: no image", EFAULT, |call| {
        let arguments = call.text("");
        call.init(NULL, Argument::Value((call.fixture)("hello.ko")), arguments)
    }),
    ("init: an image outside", EFAULT, |call| {
        let arguments = call.text("");
        call.init(BAD, Argument::Value((call.fixture)("hello.ko")), arguments)
    }),
    ("init: no parameters", EFAULT, |call| {
        let (image, length) = call.read("hello.ko");
        call.init(image, length, NULL)
    }),
    ("init: parameters outside", EFAULT, |call| {
        let (image, length) = call.read("hello.ko");
        call.init(image, length, BAD)
    }),
    ("init: length 0", ENOEXEC, |call| {
        let (image, _) = call.read("hello.ko");
        let arguments = call.text("");
        call.init(image, NULL, arguments)
    }),
    ("init: no image and length 0", ENOEXEC, |call| {
        let arguments = call.text("");
        call.init(NULL, NULL, arguments)
    }),
    ("init: length 40", ENOEXEC, |call| {
        let (image, _) = call.read("hello.ko");
        let arguments = call.text("");
        call.init(image, Argument::Value(40), arguments)
    }),
    ("init: half of the length", ENOEXEC, |call| {
        let (image, _) = call.read("hello.ko");
        let arguments = call.text("");
        call.init(image, Argument::Value((call.fixture)("hello.ko") / 2), arguments)
    }),
    ("init: more than the length", 0, |call| {
        let (image, _) = call.read("hello.ko");
        let arguments = call.text("");
        call.init(image, Argument::Value((call.fixture)("hello.ko") + 4096), arguments)
    }),
    ("init: a wrong parameter", EINVAL, |call| {
        let (image, length) = call.read("params.ko");
        let arguments = call.text("p_int=one");
        call.init(image, length, arguments)
    }),
    ("init: init fails", EINVAL, |call| {
        let (image, length) = call.read("init_einval.ko");
        let arguments = call.text("");
        call.init(image, length, arguments)
    }),
    ("init: an unknown symbol", ENOENT, |call| {
        let (image, length) = call.read("user.ko");
        let arguments = call.text("");
        call.init(image, length, arguments)
    }),
    ("init: not root", EPERM, |call| {
        let (image, length) = call.read("hello.ko");
        let arguments = call.text("");
        call.user(NOBODY);
        let step = call.init(image, length, arguments);
        call.user(0);
        step
    }),
    ("init: not root, and nothing right", EPERM, |call| {
        call.user(NOBODY);
        let step = call.init(NULL, NULL, NULL);
        call.user(0);
        step
    }),
    // finit_module
    ("finit: a module", 0, |call| call.load("hello.ko")),
    ("finit: loaded already", EEXIST, |call| {
        call.load("hello.ko");
        call.load("hello.ko")
    }),
    ("finit: descriptor -1", EBADF, |call| {
        let arguments = call.text("");
        call.finit(Argument::Value(u64::MAX), arguments, 0)
    }),
    ("finit: a closed descriptor", EBADF, |call| {
        let fd = call.open("/f/hello.ko", O_RDONLY);
        call.batch.call(call.numbers.close, &[fd]);
        let arguments = call.text("");
        call.finit(fd, arguments, 0)
    }),
    ("finit: the console", EINVAL, |call| {
        let arguments = call.text("");
        call.finit_opened("/dev/console", O_RDWR, arguments, 0)
    }),
    ("finit: /dev/null", EINVAL, |call| {
        let arguments = call.text("");
        call.finit_opened("/dev/null", O_RDONLY, arguments, 0)
    }),
    ("finit: a file of /proc", EINVAL, |call| {
        let arguments = call.text("");
        call.finit_opened("/proc/version", O_RDONLY, arguments, 0)
    }),
    ("finit: a directory", EINVAL, |call| {
        let arguments = call.text("");
        call.finit_opened("/f", O_RDONLY, arguments, 0)
    }),
    ("finit: only for writing", EBADF, |call| {
        let arguments = call.text("");
        call.finit_opened("/f/hello.ko", O_WRONLY, arguments, 0)
    }),
    ("finit: for reading and writing", ETXTBSY, |call| {
        let arguments = call.text("");
        call.finit_opened("/f/hello.ko", O_RDWR, arguments, 0)
    }),
    ("finit: someone else writes", ETXTBSY, |call| {
        let writer = call.open("/f/hello.ko", O_WRONLY);
        let step = call.load("hello.ko");
        call.batch.call(call.numbers.close, &[writer]);
        step
    }),
    ("finit: only a path", EBADF, |call| {
        let arguments = call.text("");
        call.finit_opened("/f/hello.ko", O_PATH, arguments, 0)
    }),
    ("finit: an empty file", EINVAL, |call| call.load("empty.ko")),
    ("finit: a text", ENOEXEC, |call| call.load("text.ko")),
    ("finit: no parameters", EFAULT, |call| call.finit_opened("/f/hello.ko", O_RDONLY, NULL, 0)),
    ("finit: parameters outside", EFAULT, |call| call.finit_opened("/f/hello.ko", O_RDONLY, BAD, 0)),
    ("finit: a wrong parameter", EINVAL, |call| {
        let arguments = call.text("p_int=one");
        call.finit_opened("/f/params.ko", O_RDONLY, arguments, 0)
    }),
    ("finit: a parameter out of range", ERANGE, |call| {
        let arguments = call.text("p_byte=256");
        call.finit_opened("/f/params.ko", O_RDONLY, arguments, 0)
    }),
    ("finit: an unknown parameter", 0, |call| {
        let arguments = call.text("nobody=1");
        call.finit_opened("/f/hello.ko", O_RDONLY, arguments, 0)
    }),
    ("finit: all flags", EINVAL, |call| {
        let arguments = call.text("");
        call.finit_opened("/f/hello.ko", O_RDONLY, arguments, u64::from(u32::MAX))
    }),
    ("finit: an unknown flag", EINVAL, |call| {
        let arguments = call.text("");
        call.finit_opened("/f/hello.ko", O_RDONLY, arguments, 8)
    }),
    ("finit: an unknown flag before a bad descriptor", EINVAL, |call| {
        let arguments = call.text("");
        call.finit(Argument::Value(u64::MAX), arguments, 8)
    }),
    ("finit: both force flags", 0, |call| {
        let arguments = call.text("");
        call.finit_opened("/f/hello.ko", O_RDONLY, arguments, 3)
    }),
    ("finit: compressed, by a kernel that cannot", EOPNOTSUPP, |call| {
        let arguments = call.text("");
        call.finit_opened("/f/hello.ko", O_RDONLY, arguments, 4)
    }),
    ("finit: init fails", EINVAL, |call| call.load("init_einval.ko")),
    ("finit: init returns -5", -5, |call| {
        let arguments = call.text("value=-5");
        call.finit_opened("/f/init_positive.ko", O_RDONLY, arguments, 0)
    }),
    ("finit: init returns 5", 0, |call| call.load("init_positive.ko")),
    ("finit: an unknown symbol", ENOENT, |call| call.load("user.ko")),
    ("finit: not in the namespace", EINVAL, |call| {
        call.load("exporter.ko");
        call.load("user_nons.ko")
    }),
    ("finit: not root", EPERM, |call| {
        let arguments = call.text("");
        let fd = call.open("/f/hello.ko", O_RDONLY);
        call.user(NOBODY);
        let step = call.finit(fd, arguments, 0);
        call.user(0);
        call.batch.call(call.numbers.close, &[fd]);
        step
    }),
    ("finit: not root, and nothing right", EPERM, |call| {
        call.user(NOBODY);
        let step = call.finit(Argument::Value(u64::MAX), NULL, 8);
        call.user(0);
        step
    }),
    // delete_module
    ("delete: a module", 0, |call| {
        call.load("hello.ko");
        call.delete("hello", 0)
    }),
    ("delete: without waiting", 0, |call| {
        call.load("hello.ko");
        call.delete("hello", O_NONBLOCK)
    }),
    ("delete: without init and exit", 0, |call| {
        call.load("no_init.ko");
        call.delete("no_init", 0)
    }),
    ("delete: not loaded", ENOENT, |call| call.delete("dummy_mod", 0)),
    ("delete: no name", ENOENT, |call| call.delete("", 0)),
    ("delete: a null pointer", EFAULT, |call| call.delete_at(NULL, 0)),
    ("delete: a name outside", EFAULT, |call| call.delete_at(BAD, 0)),
    ("delete: a name of 55", ENOENT, |call| call.delete(&"a".repeat(55), 0)),
    ("delete: a name of 59", ENOENT, |call| call.delete(&"a".repeat(59), 0)),
    ("delete: a name of 5000", ENOENT, |call| call.delete(&"a".repeat(5000), 0)),
    ("delete: a dash for an underscore", ENOENT, |call| {
        call.load("no_init.ko");
        call.delete("no-init", 0)
    }),
    ("delete: part of the kernel", ENOENT, |call| call.delete("printk", 0)),
    ("delete: someone depends on it", EAGAIN, |call| {
        call.load("exporter.ko");
        call.load("user.ko");
        call.delete("exporter", 0)
    }),
    ("delete: someone depends on it, by force", EAGAIN, |call| {
        call.load("exporter.ko");
        call.load("user.ko");
        call.delete("exporter", O_TRUNC)
    }),
    ("delete: in use", EAGAIN, |call| {
        call.load("chardev.ko");
        let fd = call.open("/dev/chardev0", O_RDONLY);
        let step = call.delete("chardev", O_NONBLOCK);
        call.batch.call(call.numbers.close, &[fd]);
        step
    }),
    ("delete: not root", EPERM, |call| {
        call.load("hello.ko");
        call.user(NOBODY);
        let step = call.delete("hello", 0);
        call.user(0);
        step
    }),
    ("delete: without exit", EBUSY, |call| {
        call.load("no_exit.ko");
        call.delete("no_exit", 0)
    }),
    ("delete: without exit, by force", 0, |call| call.delete("no_exit", O_TRUNC)),
    // What cannot be taken back.
    ("enforced: an unsigned module", EKEYREJECTED, |call| {
        call.write("/sys/module/module/parameters/sig_enforce", "1");
        call.load("hello.ko")
    }),
    ("enforced: an unsigned image", EKEYREJECTED, |call| {
        let (image, length) = call.read("hello.ko");
        let arguments = call.text("");
        call.init(image, length, arguments)
    }),
    ("enforced: a signed module", 0, |call| call.load("signed.ko")),
    ("enforced: a signed module by force is unsigned", EKEYREJECTED, |call| {
        let arguments = call.text("");
        call.finit_opened("/f/signed.ko", O_RDONLY, arguments, 3)
    }),
    ("disabled: finit", EPERM, |call| {
        call.write("/proc/sys/kernel/modules_disabled", "1");
        call.load("signed.ko")
    }),
    ("disabled: init", EPERM, |call| {
        let (image, length) = call.read("signed.ko");
        let arguments = call.text("");
        call.init(image, length, arguments)
    }),
    ("disabled: delete", EPERM, |call| call.delete("hello", 0)),
];

/// Modules that a question may leave, users before what they use.
const LEFT: &[&str] = &["hello", "user", "exporter", "no_init", "init_positive", "params", "chardev", "crc7"];

/// Boots the kernel and asks everything.
pub(super) fn check(target: Target, machine: Machine, kernel: &Kernel) -> Result<Calls> {
    let agent = Agent::build(machine.arch(), &paths::root(), &paths::target().join("agent"))?;
    let mut cpio = Cpio::default();
    for directory in ["dev", "proc", "sys", "f"] {
        cpio.directory(directory);
    }
    cpio.device("dev/console", 5, 1);
    cpio.device("dev/null", 1, 3);
    cpio.file("init", &agent.file);
    for path in tree::modules_in(&target.fixtures())? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        cpio.file(&format!("f/{name}"), &tree::read(&path)?);
    }
    cpio.file("f/signed.ko", &tree::read(&kernel.modules().join("kernel/lib/crc7.ko"))?);
    cpio.file("f/empty.ko", b"");
    cpio.file(
        "f/text.ko",
        b"This is no module, but longer than the header of one, whatever the size of a word is.\n",
    );
    let archive = cpio.finish();
    let directory = std::env::temp_dir().join(format!("lkm-calls-{}-{}", std::process::id(), target.name()));
    let device_tree = target.device_tree(kernel);
    let image = kernel.image();
    let boot = Boot {
        machine,
        kernel: &image,
        device_tree: device_tree.as_deref(),
        arguments: "quiet loglevel=1",
        initramfs: &archive,
        directory: &directory,
    };
    let mut guest = Guest::boot(Qemu::start(&boot)?, machine.arch(), &agent)?;
    crate::truth::capture::mount(&mut guest)?;
    let mut devices = guest.batch();
    let (kind, place) = (devices.text("devtmpfs"), devices.text("/dev"));
    let mounted = devices.call(guest.numbers().mount, &[kind, place, kind, NULL, NULL]);
    if guest.run(&devices)?.result(mounted) != 0 {
        return Err("devtmpfs cannot be mounted in the guest".into());
    }
    let fixture = |name: &str| std::fs::metadata(target.fixtures().join(name)).map_or(0, |file| file.len());
    let mut calls = Calls { text: String::new(), count: QUESTIONS.len(), failures: 0 };
    for (name, expected, ask) in QUESTIONS {
        let numbers = guest.numbers();
        let mut call = Call { batch: guest.batch(), numbers, target, fixture: &fixture };
        let step = ask(&mut call);
        for module in LEFT {
            call.delete(module, 0);
        }
        let result = guest.run(&call.batch)?.result(step);
        if result != *expected {
            calls.failures += 1;
            let _ = writeln!(calls.text, "  {name}: returned {result}, not {expected}");
        }
    }
    Ok(calls)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn names_of_questions_are_unique() {
        let names: BTreeSet<&str> = super::QUESTIONS.iter().map(|(name, ..)| *name).collect();
        assert_eq!(names.len(), super::QUESTIONS.len());
    }
}
