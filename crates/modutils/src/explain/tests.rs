//! What the kernel answered and logged, the file and the tree, and the lines that are made of them.

use std::path::PathBuf;

use lkm_module::Errno;
use lkm_module::elf::Class;
use lkm_module::elf::Endian;
use lkm_module::elf::consts::*;
use lkm_module::testing::ObjectBuilder;
use lkm_tree::index::binary::IndexBuilder;
use proptest::prelude::*;

use crate::testing::Fake;
use crate::testing::FakeModule;

mod modprobe;

const RELEASE: &str = "6.1.0-test";
const MAGIC: &str = "6.1.0-test SMP preempt mod_unload modversions ";
const ROOT: &str = "Name:\tinsmod\nUid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\n";

/// A directory for one test, gone afterwards: `root` with modules, and files beside it.
struct Place(PathBuf);

impl Place {
    fn new(test: &str) -> Place {
        let place = std::env::temp_dir().join(format!("modutils-explain-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        Place(place)
    }

    /// A file; gives its path.
    fn put(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn index(&self, name: &str, entries: &[(&str, &str)]) {
        let mut builder = IndexBuilder::new();
        for (at, (key, value)) in (0..).zip(entries) {
            builder.insert(key.as_bytes(), value.as_bytes(), at).unwrap();
        }
        self.put(&format!("root/{RELEASE}/{name}"), &builder.finish().unwrap());
    }

    /// The modules of the running kernel: `bar`, which exports `foo`, and the module's own.
    fn tree(&self) {
        self.index("modules.symbols.bin", &[("symbol:foo", "bar"), ("symbol:fie", "baz")]);
        self.index(
            "modules.dep.bin",
            &[
                ("bar", "kernel/bar.ko:"),
                ("baz", "kernel/baz.ko: kernel/bar.ko"),
                ("hello_there", "gone.ko:"),
            ],
        );
        self.put(&format!("root/{RELEASE}/modules.dep"), b"kernel/bar.ko:\n");
        let mut object = ObjectBuilder::new(Class::Elf64, Endian::Little, EM_X86_64);
        object.modinfo(&[("name", "bar"), ("vermagic", MAGIC)]);
        object.versions(&[("module_layout", 1), ("_printk", 2)]);
        self.put(&format!("root/{RELEASE}/kernel/bar.ko"), &object.finish());
    }

    fn kernel(&self, answer: Errno, log: &[&'static str]) -> Fake {
        Fake {
            module_root: self.path("root"),
            explain: true,
            log: Some(log.to_vec()),
            answers: vec![Err(answer); 2],
            files: vec![("/proc/self/status", ROOT.into())],
            ..Fake::default()
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A module `hello` with these strings of modinfo besides, and these undefined symbols.
fn object(tags: &[(&str, &str)], undefined: &[&str]) -> ObjectBuilder {
    let mut object = ObjectBuilder::new(Class::Elf64, Endian::Little, EM_X86_64);
    let text = object.section(".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 16, &[0xc3; 16]);
    let init = object.global("init_module", text, 0);
    object.modinfo(&[&[("name", "hello"), ("license", "GPL"), ("vermagic", MAGIC)], tags].concat());
    object.versions(&[("module_layout", 1), ("_printk", 2)]);
    object.this_module("hello", 0x380, Some((0x138, init)), None);
    for name in undefined {
        object.undefined(name);
    }
    object
}

fn module(tags: &[(&str, &str)], undefined: &[&str]) -> Vec<u8> {
    object(tags, undefined).finish()
}

/// The lines behind the first.
fn explained(fake: &Fake, args: &[&str]) -> Vec<String> {
    let (code, out, err) = fake.run(args);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    let mut lines = err.lines();
    assert!(lines.next().unwrap().contains(": ERROR: "), "{err}");
    lines.map(str::to_owned).collect()
}

fn insmod(fake: &Fake, path: &str, parameters: &[&str]) -> Vec<String> {
    explained(fake, &[&["insmod", path], parameters].concat())
}

#[test]
fn a_refusal_that_the_log_tells_of() {
    let place = Place::new("log");
    place.tree();
    let path = place.put("hello.ko", &module(&[("parmtype", "n:int")], &[]));
    let directory = place.path("root/6.1.0-test");
    let headers = "install the headers of 6.1.0-test (linux-headers-6.1.0-test) and build it again";
    let cases: &[(Errno, &[&str], &[&str])] = &[
        (
            Errno::ENOENT,
            &["hello: Unknown symbol foo (err -2)"],
            &["cause: foo is exported by the module bar, which is not loaded", "try: modprobe bar"],
        ),
        (
            Errno::ENOENT,
            &[
                "hello: loading out-of-tree module taints kernel.",
                "hello: Unknown symbol foo (err -2)",
                "hello: Unknown symbol fie (err -2)",
            ],
            &[
                "cause: foo is exported by the module bar, which is not loaded; nor is fie there",
                "try: modprobe -a bar baz",
            ],
        ),
        (
            Errno::ENOENT,
            &["hello: Unknown symbol nowhere (err -2)"],
            &[
                &format!("cause: neither the running kernel nor a module in {directory} exports nowhere"),
                "try: load the module that exports it first, or build for a kernel that does",
            ],
        ),
        (
            Errno::EINVAL,
            &["hello: disagrees about version of symbol foo", "hello: Unknown symbol foo (err -22)"],
            &["cause: it was built against other versions of foo", &format!("try: {headers}")],
        ),
        (
            Errno::EINVAL,
            &["hello: no symbol version for foo", "hello: Unknown symbol foo (err -22)"],
            &["cause: it was built without symbol versions (no CRC of foo)", &format!("try: {headers}")],
        ),
        (
            Errno::EINVAL,
            &[
                "hello: module uses symbol (foo) from namespace NS, but does not import it.",
                "hello: Unknown symbol foo (err -22)",
            ],
            &[
                "cause: foo is in the namespace NS, which the module does not import",
                "try: MODULE_IMPORT_NS(NS) in its source, and build it again",
            ],
        ),
        (
            Errno::ENOEXEC,
            &["hello: version magic '5.0 SMP ' should be '6.1.0-test SMP '"],
            &[
                "cause: it was built for '5.0 SMP', and this kernel is '6.1.0-test SMP'",
                &format!("try: {headers}"),
            ],
        ),
        (
            Errno::ENOEXEC,
            &["hello: disagrees about version of symbol module_layout"],
            &[
                "cause: it was built against a kernel of another configuration or version (another struct module)",
                &format!("try: {headers}"),
            ],
        ),
        (
            Errno::ENOEXEC,
            &["hello: exports duplicate symbol foo (owned by bar)"],
            &[
                "cause: it exports foo, which the loaded module bar exports already",
                "try: rmmod bar: only one of the two can be loaded",
            ],
        ),
        (
            Errno::EINVAL,
            &["hello: `abc' invalid for parameter `n'"],
            &[
                "cause: the parameter n, of type int, does not take the value 'abc'",
                "try: a whole number from -2147483648 to 2147483647",
            ],
        ),
        (
            Errno::ERANGE,
            &["hello: `99999999999' invalid for parameter `n'"],
            &[
                "cause: the value '99999999999' is too large for the parameter n, of type int",
                "try: a whole number from -2147483648 to 2147483647",
            ],
        ),
        (
            Errno::EPERM,
            &["Module hello is blacklisted"],
            &["cause: module_blacklist= on the kernel's command line names hello", "try: boot without it"],
        ),
        (
            Errno::EKEYREJECTED,
            &["Loading of unsigned module is rejected"],
            &[
                "cause: the module is not signed, and the kernel insists: module.sig_enforce is on",
                "try: sign it (scripts/sign-file of the kernel) with a key that the kernel trusts",
            ],
        ),
        (
            Errno::EPERM,
            &["Lockdown: insmod: unsigned module loading is restricted; see man kernel_lockdown.7"],
            &[
                "cause: the module is not signed, and the kernel insists: it is locked down, as with Secure Boot",
                "try: sign it with a key of yours and enrol that by mokutil --import, or boot without Secure Boot",
            ],
        ),
        (
            Errno::EINVAL,
            &["hello: module is already loaded"],
            &[
                "cause: hello is part of the kernel itself",
                "try: nothing: it works without being loaded; its parameters go on the kernel's command line",
            ],
        ),
        (
            Errno::ENODEV,
            &["hello: no hardware"],
            &[
                "cause: the module's init function returned -19 (ENODEV): there is no device that it could drive",
            ],
        ),
    ];
    for (errno, log, expected) in cases {
        let fake = Fake {
            files: vec![
                ("/proc/self/status", ROOT.into()),
                ("/proc/kallsyms", "ffff T _printk\nffff r __ksymtab__printk\n".into()),
            ],
            ..place.kernel(*errno, log)
        };
        let kernel = log.iter().map(|line| format!("  kernel: {line}"));
        let expected: Vec<String> = kernel.chain(expected.iter().map(|line| format!("  {line}"))).collect();
        assert_eq!(insmod(&fake, &path, &[]), expected, "{log:?}");
        let silent = Fake { explain: false, ..fake };
        silent.calls.borrow_mut().clear();
        assert!(insmod(&silent, &path, &[]).is_empty());
    }
}

#[test]
fn a_refusal_that_the_log_is_silent_about() {
    let place = Place::new("silent");
    place.tree();
    let hello =
        place.put("hello.ko", &module(&[("srcversion", "NEW"), ("parmtype", "n:int")], &["_printk", "foo"]));
    let case = |errno: Errno, file: &[u8], change: fn(&mut Fake)| {
        let path = place.put("case.ko", file);
        let mut fake = place.kernel(errno, &[]);
        change(&mut fake);
        insmod(&fake, &path, &["n=x"]).join("|").replace(&place.path(""), "")
    };
    let good = std::fs::read(&hello).unwrap();
    let plain = |_: &mut Fake| {};

    assert_eq!(
        case(Errno::ENOENT, &good, |fake| {
            fake.files.push(("/proc/kallsyms", "0 T _printk\n".into()));
            fake.log = None;
        }),
        "  kernel: its log could not be read (Operation not permitted); dmesg, as root, shows it|  cause: foo is exported by the module bar, which is not loaded|  try: modprobe bar"
    );
    assert_eq!(
        case(Errno::ENOENT, &good, |fake| {
            fake.files.push(("/proc/kallsyms", "0 T _printk\n0 t foo\t[bar]\n".into()));
            fake.log = None;
        }),
        "  kernel: its log could not be read (Operation not permitted); dmesg, as root, shows it|  cause: the kernel \
         itself had no objection: the module's init function returned -2 (ENOENT)"
    );
    assert_eq!(case(Errno::ENOENT, &good, plain), "  cause: the module's init function returned -2 (ENOENT)");
    let loaded = |fake: &mut Fake| {
        fake.sysfs = vec![FakeModule::new("hello", &[("initstate", "live"), ("srcversion", "OLD")])];
    };
    assert_eq!(
        case(Errno::EEXIST, &good, loaded),
        "  cause: another build of hello is loaded already: its srcversion is OLD, the file's is NEW|  try: rmmod hello first"
    );
    assert_eq!(case(Errno::EEXIST, &module(&[], &[]), loaded), "  cause: the module hello is loaded already");
    assert_eq!(
        case(Errno::EEXIST, &good, plain),
        "  cause: the kernel itself had no objection: the module's init function returned -17 (EEXIST)"
    );
    assert_eq!(
        case(Errno::EBUSY, &good, |fake| {
            fake.sysfs = vec![FakeModule::new("hello", &[("initstate", "coming")])];
        }),
        "  cause: the module hello is just being loaded or unloaded|  try: the same again a little later"
    );
    assert_eq!(
        case(Errno::EINVAL, &good, |fake| fake.sysfs = vec![FakeModule::new("hello", &[])]),
        "  cause: hello is part of the kernel itself|  try: nothing: it works without being loaded; its parameters \
         go on the kernel's command line"
    );
    assert_eq!(
        case(Errno::EINVAL, &good, plain),
        "  cause: the parameter n, of type int, does not take the value 'x'|  try: a whole number from -2147483648 \
         to 2147483647"
    );
    assert_eq!(
        case(Errno::EPERM, &good, |fake| {
            fake.files[0].1 = "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\n".into();
            fake.log = None;
        }),
        "  cause: only root may load modules (CAP_SYS_MODULE)|  try: sudo"
    );
    assert_eq!(
        case(Errno::EPERM, &good, |fake| {
            fake.files[0].1 = "Uid:\t0\t0\t0\t0\nCapEff:\t00000000a80425fb\n".into();
        }),
        "  cause: this process is root but without CAP_SYS_MODULE, as in a container|  try: do it on the host, or \
         give the container CAP_SYS_MODULE"
    );
    assert_eq!(
        case(Errno::EPERM, &good, |fake| fake.files.push(("/proc/sys/kernel/modules_disabled", "1".into()))),
        "  cause: kernel.modules_disabled is 1: no module comes or goes until the next boot|  try: reboot; sysctl.d \
         or a boot script sets it"
    );
    assert_eq!(
        case(Errno::EPERM, &good, |fake| fake
            .files
            .push(("/proc/cmdline", "a module_blacklist=x,hello b".into()))),
        "  cause: module_blacklist= on the kernel's command line names hello|  try: boot without it"
    );
    assert_eq!(
        case(Errno::ENODEV, &good, |fake| fake.log = None),
        "  kernel: its log could not be read (Operation not permitted); dmesg, as root, shows it|  cause: the \
         module's init function returned -19 (ENODEV): there is no device that it could drive"
    );
}

#[test]
fn a_file_that_is_no_module_for_this_kernel() {
    let place = Place::new("format");
    place.tree();
    let case = |errno: Errno, file: &[u8]| {
        let path = place.put("case.ko", file);
        insmod(&place.kernel(errno, &[]), &path, &[]).join("|").replace(&place.path(""), "")
    };
    let good = module(&[], &[]);
    let headers = "  try: install the headers of 6.1.0-test (linux-headers-6.1.0-test) and build it again";
    assert_eq!(
        case(Errno::ENOEXEC, b"#!/bin/sh\necho no module\n"),
        "  cause: it is a text file, not a module; name the built .ko file"
    );
    assert_eq!(
        case(Errno::ENOEXEC, b"BZh91AY&SY...."),
        "  cause: the file is compressed by bzip2, which is not used for modules|  try: unpack it first"
    );
    assert_eq!(
        case(Errno::ENOEXEC, &good[..good.len() - 200]),
        format!(
            "  cause: the file is cut short or damaged: its section headers should stand at byte {}, and it has {} bytes",
            lkm_module::elf::Elf::parse(&good).unwrap().header.shoff,
            good.len() - 200
        )
    );
    let mut arm = ObjectBuilder::new(Class::Elf32, Endian::Little, EM_ARM);
    arm.modinfo(&[("name", "hello")]);
    assert_eq!(
        case(Errno::ENOEXEC, &arm.finish()),
        "  cause: it is made for arm (32 bits), and this kernel is for x86_64|  try: build it for this kernel"
    );
    let mut plain = ObjectBuilder::new(Class::Elf64, Endian::Little, EM_X86_64);
    plain.section(".text", SHT_PROGBITS, SHF_ALLOC, 1, &[0xc3]);
    assert_eq!(
        case(Errno::ENOEXEC, &plain.finish()),
        "  cause: it is an object file that was not linked to a module: it has no struct module|  try: name the .ko \
         file that the kernel's build made beside it"
    );
    let other = object(&[], &[]).finish();
    let at = other.windows(10).position(|window| window == b"6.1.0-test").unwrap();
    let mut other = other;
    other[at..at + 19].copy_from_slice(b"6.1.0-test NO_SMP p");
    assert_eq!(
        case(Errno::ENOEXEC, &other),
        format!(
            "  cause: it was built for '6.1.0-test NO_SMP pmpt mod_unload modversions', and this kernel is '{}'|{headers}",
            MAGIC.trim_end()
        )
    );
    let mut unlike = object(&[], &[]);
    let versions = unlike.find("__versions").unwrap();
    unlike.data(versions)[0] = 99;
    assert_eq!(
        case(Errno::ENOEXEC, &unlike.finish()),
        format!(
            "  cause: it was built against a kernel of another configuration or version (another struct module)|{headers}"
        )
    );
}

#[test]
fn a_list_is_shown_as_it_was_given() {
    let place = Place::new("list");
    let path = place.put("hello.ko", &module(&[("parmtype", "a:array of int")], &[]));
    let log = &["a: can only take 2 arguments", "hello: `1' invalid for parameter `a'"];
    let all = insmod(&place.kernel(Errno::EINVAL, log), &path, &["a=1,2,3"]);
    assert_eq!(all[2], "  cause: the parameter a, of type array of int, does not take the value '1,2,3'");
}

#[test]
fn an_init_function_may_return_what_the_loader_does() {
    let place = Place::new("returns");
    let path = place.put("hello.ko", &module(&[], &[]));
    for (errno, name) in
        [(Errno::ENOEXEC, "-8 (ENOEXEC)"), (Errno::EPERM, "-1 (EPERM)"), (Errno::EEXIST, "-17 (EEXIST)")]
    {
        let all = insmod(&place.kernel(errno, &["hello: no"]), &path, &[]);
        let cause = format!(
            "  cause: the kernel itself had no objection: the module's init function returned {name}"
        );
        assert_eq!(all, ["  kernel: hello: no", &cause]);
    }
}

#[test]
fn symbols_of_one_module_are_told_together() {
    let place = Place::new("together");
    place.index(
        "modules.symbols.bin",
        &[("symbol:a", "bar"), ("symbol:b", "bar"), ("symbol:c", "bar"), ("symbol:d", "baz")],
    );
    place.index("modules.dep.bin", &[("hello", "kernel/hello.ko: kernel/bar.ko")]);
    let log = &[
        "hello: Unknown symbol a (err -2)",
        "hello: Unknown symbol b (err -2)",
        "hello: Unknown symbol c (err -2)",
    ];
    let path = place.put("hello.ko", &module(&[], &[]));
    let all = insmod(&place.kernel(Errno::ENOENT, log), &path, &[]);
    assert_eq!(
        all[3..],
        ["  cause: a, b and c are exported by the module bar, which is not loaded", "  try: modprobe bar"]
    );
    let own = place.put("root/6.1.0-test/kernel/hello.ko", &module(&[], &[]));
    let all = insmod(&place.kernel(Errno::ENOENT, log), &own, &[]);
    assert_eq!(all[4], "  try: modprobe hello, which loads what it needs before it");
    let mixed = &[
        "hello: Unknown symbol a (err -2)",
        "hello: Unknown symbol d (err -2)",
        "hello: Unknown symbol e (err -2)",
    ];
    let all = insmod(&place.kernel(Errno::ENOENT, mixed), &path, &[]);
    assert_eq!(
        all[3..],
        [
            "  cause: a is exported by the module bar, which is not loaded; 2 more symbols are missing",
            "  try: modprobe -a bar baz"
        ]
    );
}

#[test]
fn a_file_that_is_not_there() {
    let place = Place::new("absent");
    place.tree();
    let case = |path: &str| {
        insmod(&place.kernel(Errno::EPERM, &[]), path, &[]).join("|").replace(&place.path(""), "")
    };
    assert_eq!(
        case("no_such_module_name"),
        "  cause: a path is wanted here, and no file is called no_such_module_name|  try: modprobe \
         no_such_module_name, which finds modules by their names"
    );
    assert_eq!(case(&place.path("no/such/file.ko")), "  cause: there is no directory no");
    assert_eq!(case(&place.path("file.ko")), "");
    std::os::unix::fs::symlink("/nowhere/x.ko", place.path("link.ko")).unwrap();
    assert_eq!(case(&place.path("link.ko")), "  cause: it is a link to /nowhere/x.ko, which is not there");
    assert_eq!(case(&place.path("root")), "  cause: it is a directory; name the .ko file in it");
    let empty = place.put("empty.ko", b"");
    assert_eq!(case(&empty), "  cause: the file is empty; was the build or the copy interrupted?");
}

#[test]
fn modules_that_stay() {
    let place = Place::new("stay");
    let module = |name: &str, state: &str, count: &str| {
        FakeModule::new(name, &[("initstate", state), ("refcnt", count)])
    };
    let mut held = module("held", "live", "2");
    held.holders = vec!["b".into(), "a".into()];
    let mut fake = place.kernel(Errno::EBUSY, &[]);
    fake.modules = Some("snd_pcm 1 0 - Live 0x0\next4 1 2 - Live 0x0\n".into());
    fake.files.push(("/proc/mounts", "/dev/sda1 / ext4 rw 0 0\n".into()));
    fake.sysfs = vec![
        held,
        module("ext4", "live", "2"),
        module("used", "live", "1"),
        module("fixed", "live", "0"),
        FakeModule::new("printk", &[]),
    ];
    let case = |args: &[&str]| explained(&fake, &[&["rmmod"], args].concat()).join("|");
    assert_eq!(case(&["held"]), "  try: modprobe -r b a held");
    assert_eq!(case(&["ext4"]), "  cause: the file system at / is mounted with it|  try: umount /");
    assert_eq!(
        case(&["used"]),
        "  cause: 1 reference to it: an open device, a mount, a network interface or the like|  try: close what uses \
         it; fuser -v or lsof on its devices shows who does"
    );
    assert_eq!(
        case(&["printk"]),
        "  cause: printk is part of the kernel itself|  try: nothing: it works without being loaded; its parameters \
         go on the kernel's command line"
    );
    assert_eq!(case(&["snd-pmc"]), "  try: is it snd_pcm?");
    assert_eq!(case(&["altogether_else"]), "");
    assert!(fake.calls.borrow().is_empty());
    let refused = case(&["fixed"]);
    assert_eq!(
        refused,
        "rmmod: ERROR: could not remove module fixed: Device or resource busy|  cause: it has no exit function: it \
         was made to stay until the next boot|  try: reboot; rmmod -f, on kernels that allow it, can bring the \
         machine down"
    );
}

#[test]
fn a_flood_of_lines_is_cut() {
    let place = Place::new("flood");
    let path = place.put("hello.ko", &module(&[], &[]));
    let lines: Vec<&'static str> = (0..30).map(|at| &*format!("line {at}\n\x1b[2J").leak()).collect();
    let shown = insmod(&place.kernel(Errno::EIO, &lines), &path, &[]);
    assert_eq!(shown.len(), 12);
    assert_eq!(shown[..2], ["  kernel: line 0", "  kernel: \\x1b[2J"]);
    assert_eq!(shown[5], "  kernel: ... 50 more lines, see dmesg");
    assert_eq!(shown[9], "  kernel: line 29");
}

proptest! {
    #[test]
    fn any_log_any_file_and_any_answer_end_in_lines(
        errno in 1u16..140,
        log in prop::collection::vec("(hello: )?(Unknown symbol |disagrees about version of symbol |`|version magic ')?.{0,40}", 0..4),
        file in prop::collection::vec(any::<u8>(), 0..300),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        whole in any::<bool>(),
    ) {
        let place = Place::new("any");
        place.tree();
        let mut bytes = if whole { module(&[("parmtype", "n:int")], &["foo"]) } else { file };
        for (at, byte) in damage {
            let length = bytes.len();
            if length > 0 {
                bytes[at.index(length)] = byte;
            }
        }
        let path = place.put("x.ko", &bytes);
        let log: Vec<&'static str> = log.into_iter().map(|line| &*line.leak()).collect();
        let fake = place.kernel(Errno::from_raw(errno), &log);
        let (code, _, err) = fake.run(&["insmod", &path, "n=1"]);
        prop_assert_eq!(code, 1);
        let mut lines = err.lines();
        prop_assert!(lines.next().unwrap().starts_with("insmod: ERROR: "));
        for line in lines {
            prop_assert!(["  kernel: ", "  cause: ", "  try: "].iter().any(|start| line.starts_with(start)), "{}", line);
            prop_assert!(!line.chars().any(char::is_control));
        }
    }
}
