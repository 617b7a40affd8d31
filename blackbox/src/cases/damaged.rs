//! Indexes and configurations that are cut, changed, of another byte order, or missing.

use crate::case::Case;
use crate::fixture::RELEASE;

fn path(name: &str) -> String {
    format!("lib/modules/{RELEASE}/modules.{name}")
}

fn case(name: &'static str, index: &str, bytes: &[u8]) -> Case {
    Case::new("damaged", name).put(&path(index), bytes)
}

pub(super) fn cases() -> Vec<Case> {
    let swapped: Vec<u8> =
        [0x57f4_07b0_u32, 0x0100_0200].iter().flat_map(|word| word.to_be_bytes()).chain([0; 64]).collect();
    let asked = |case: Case| case.run("modprobe -D top").run("modprobe topping").run("modprobe -R shared");
    vec![
        asked(case("modules.dep.bin is empty", "dep.bin", b"")),
        asked(case("modules.dep.bin is text", "dep.bin", b"kernel/lib/base.ko:\n")),
        asked(case("modules.dep.bin is of the other byte order", "dep.bin", &swapped)),
        asked(Case::new("damaged", "modules.dep.bin has another version").patch(
            &path("dep.bin"),
            4,
            &[0, 9, 0, 9],
        )),
        asked(Case::new("damaged", "modules.dep.bin is missing").without(&path("dep.bin"))),
        asked(Case::new("damaged", "modules.dep is missing").without(&path("dep"))),
        asked(case("modules.alias.bin is empty", "alias.bin", b"")),
        asked(case("modules.alias.bin is of the other byte order", "alias.bin", &swapped)),
        asked(Case::new("damaged", "modules.alias.bin is missing").without(&path("alias.bin"))),
        asked(Case::new("damaged", "modules.symbols.bin is missing").without(&path("symbols.bin"))),
        asked(Case::new("damaged", "modules.builtin.bin is missing").without(&path("builtin.bin"))),
        Case::new("damaged", "modules.builtin.alias.bin is missing")
            .without(&path("builtin.alias.bin"))
            .run("modprobe -D platform:stone")
            .run("modprobe -D top"),
        Case::new("damaged", "modules.builtin.modinfo is missing")
            .without(&path("builtin.modinfo"))
            .run("modinfo stone")
            .run("modprobe stone"),
        Case::new("damaged", "modules.builtin.modinfo is cut")
            .put(&path("builtin.modinfo"), "stone.license=GPL\0stone.desc")
            .run("modinfo stone"),
        Case::new("damaged", "modules.softdep has nonsense")
            .put(&path("softdep"), "softdep\nsoftdep base pre:\nnonsense\n")
            .run("modprobe -D base"),
        Case::new("damaged", "a module that is cut")
            .put(&format!("lib/modules/{RELEASE}/kernel/lib/base.ko"), "\x7fELF")
            .run("modprobe top")
            .run("modinfo base"),
        Case::new("damaged", "/proc/modules is cut")
            .put("proc/modules", "base 16384")
            .run("lsmod")
            .unlike("kmod 30 shows -2 for what it does not find")
            .out("Module                  Size  Used by\nbase                   16384  -\n"),
        Case::new("damaged", "the kernel command line without an end")
            .put("proc/cmdline", "top.count=\"3")
            .run("modprobe -D top"),
        Case::new("damaged", "configuration with bytes that are no text")
            .put("etc/modprobe.d/c.conf", b"options top a=\xe9\xff\noptions top b=1\n")
            .run("modprobe -D top"),
    ]
}
