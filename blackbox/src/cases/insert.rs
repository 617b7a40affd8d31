use crate::case::Case;
use crate::kernel::errno;
use crate::module::gzip;
use crate::module::zstd_without_size;

const HELLO: &[u8] = include_bytes!("../../../fixtures/x86_64/hello.ko");
const HELLO_XZ: &[u8] = include_bytes!("../../../fixtures/x86_64/hello.ko.xz");
const HELLO_ZST: &[u8] = include_bytes!("../../../fixtures/x86_64/hello.ko.zst");
/// The release that the committed fixtures are made for.
const HELLO_RELEASE: &str = "6.1.0-56-cloud-amd64";

fn insmod(name: &'static str, line: &str) -> Case {
    Case::new("insmod", name).within("/lib/modules/6.1.0-test/kernel").run(line)
}

fn rmmod(name: &'static str, line: &str) -> Case {
    Case::new("rmmod", name)
        .loaded("base", 0, &[])
        .loaded("mid", 0, &["base"])
        .loaded("dash_ed", 0, &[])
        .run(line)
}

fn packed(name: &'static str, file: &str, bytes: Vec<u8>) -> Case {
    Case::new("insmod", name)
        .put(&format!("files/{file}"), bytes)
        .kernel(|kernel| kernel.release = HELLO_RELEASE)
        .run(&format!("insmod /files/{file} a=b"))
}

pub(super) fn cases() -> Vec<Case> {
    [insertions(), removals()].concat()
}

fn insertions() -> Vec<Case> {
    let refused = |name, error: i64| insmod(name, "insmod fs/extra.ko").refuses("extra", error);
    let loads = |case: Case| case.calls(&["load hello \"a=b\" = 0"]);
    vec![
        insmod("a file", "insmod lib/base.ko"),
        insmod("a file with parameters", "insmod lib/base.ko a=1 b=2 c"),
        insmod("a parameter with a blank", "insmod lib/base.ko 'a=b c'")
            .unlike("kmod 30 leaves it to the kernel, which cuts it; later releases put it in quotes")
            .calls(&["load base \"a=\\\"b c\\\"\" = 0"]),
        insmod("without what it needs", "insmod drivers/top.ko"),
        insmod("loaded already", "insmod lib/base.ko").loaded("base", 0, &[]),
        insmod("-f", "insmod -f odd/old.ko").run("insmod -f odd/crc.ko"),
        insmod("--force-vermagic", "insmod --force-vermagic odd/old.ko")
            .unlike("kmod 30 knows -f only")
            .calls(&["load old any-vermagic \"\" = 0"]),
        insmod("--force-modversion", "insmod --force-modversion odd/crc.ko")
            .unlike("kmod 30 knows -f only")
            .calls(&["load crc any-modversions \"\" = 0"]),
        insmod("of another kernel", "insmod odd/old.ko").run("insmod odd/crc.ko"),
        insmod("a kernel without finit_module", "insmod lib/base.ko a=1")
            .kernel(|kernel| kernel.finit = false),
        insmod("not there", "insmod lib/absent.ko"),
        insmod("a directory", "insmod lib"),
        insmod("-", "insmod -"),
        insmod("no operand", "insmod"),
        insmod("an unknown option", "insmod --nonsense lib/base.ko"),
        insmod("options behind the file are options", "insmod lib/base.ko -h")
            .unlike("each has its own help")
            .any_out(),
        insmod("options behind -- are none", "insmod -- lib/base.ko -x"),
        insmod("-v", "insmod -v lib/base.ko a=1")
            .unlike("kmod 30 knows it not")
            .err("insmod: INFO: finit_module 'lib/base.ko' 'a=1' 0\n")
            .calls(&["load base \"a=1\" = 0"]),
        insmod("empty, text, cut", "insmod /files/empty.ko")
            .put("files/empty.ko", "")
            .put("files/text.ko", "text, and more of it than a header is long, so that it is looked at")
            .put("files/cut.ko", &HELLO[..400])
            .run("insmod /files/text.ko")
            .run("insmod /files/cut.ko"),
        refused("the kernel says: not permitted", errno::EPERM),
        refused("the kernel says: no such entry", errno::ENOENT),
        refused("the kernel says: no memory", errno::ENOMEM),
        refused("the kernel says: no such device", errno::ENODEV),
        refused("the kernel says: busy", errno::EBUSY),
        insmod("a wrong parameter", "insmod lib/base.ko x=invalid"),
        packed("plain, of a name that is none", "hello", HELLO.to_vec()),
        packed("xz", "hello.ko.xz", HELLO_XZ.to_vec()),
        packed("zst", "hello.ko.zst", HELLO_ZST.to_vec()),
        packed("zst without the size of its contents", "hello.ko.zst", zstd_without_size(HELLO)),
        loads(packed("gz", "hello.ko.gz", gzip(HELLO)).unlike("Debian's kmod 30 reads no gzip")),
        packed("xz under another name", "hello.ko", HELLO_XZ.to_vec()),
        packed("xz, the kernel decompresses", "hello.ko.xz", HELLO_XZ.to_vec())
            .kernel(|kernel| kernel.decompresses = true),
        packed("cut xz", "hello.ko.xz", HELLO_XZ[..500].to_vec()),
        packed("cut zst", "hello.ko.zst", HELLO_ZST[..500].to_vec()),
        Case::new("insmod", "refusals are explained")
            .within("/lib/modules/6.1.0-test/kernel")
            .run("insmod drivers/top.ko")
            .explains("cause: "),
    ]
}

fn removals() -> Vec<Case> {
    vec![
        rmmod("a name", "rmmod mid"),
        rmmod("several", "rmmod mid base"),
        rmmod("dashes", "rmmod dash-ed"),
        rmmod("a path", "rmmod /lib/modules/6.1.0-test/kernel/lib/mid.ko"),
        rmmod("used by another", "rmmod base"),
        rmmod("held", "rmmod extra").loaded("extra", 2, &[]),
        rmmod("not loaded", "rmmod node"),
        rmmod("not there", "rmmod nonsense"),
        rmmod("one that is not loaded among others", "rmmod node mid nonsense base"),
        rmmod("built in", "rmmod stone").put("sys/module/stone/uevent", ""),
        rmmod("-f of what is held", "rmmod -f extra").loaded("extra", 1, &[]),
        rmmod("-v", "rmmod -v mid")
            .unlike("kmod 30 takes it and says nothing")
            .err("rmmod: INFO: delete_module 'mid'\n")
            .calls(&["unload mid nonblock = 0"]),
        rmmod("without exit function", "rmmod extra")
            .loaded("extra", 0, &[])
            .kernel(|kernel| kernel.make_permanent("extra")),
        rmmod("the kernel says: busy", "rmmod mid").keeps("mid", errno::EBUSY),
        rmmod("the kernel says: not permitted", "rmmod mid").keeps("mid", errno::EPERM),
        rmmod("no operand", "rmmod"),
        rmmod("an unknown option", "rmmod -x mid"),
        rmmod("without /proc and /sys", "rmmod mid").kernel(|kernel| kernel.mounted = false),
        rmmod("users of a user", "rmmod base").loaded("other", 0, &["base"]),
    ]
}
