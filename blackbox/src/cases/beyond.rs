//! What kmod 30 does not have, or what is switched to its way.

use crate::case::Case;
use crate::fixture::RELEASE;
use crate::module::Module;

fn case(name: &'static str, line: &str) -> Case {
    Case::new("beyond kmod", name).run(line).unlike("kmod 30 has no such thing")
}

pub(super) fn cases() -> Vec<Case> {
    [configuration(), outputs(), busybox()].concat()
}

fn insmod(path: &str) -> String {
    format!("insmod /lib/modules/{RELEASE}/{path} \n")
}

fn configuration() -> Vec<Case> {
    let denied = "modprobe: ERROR: could not insert 'top': denied by /etc/modprobe.d/case.conf line 1\n";
    vec![
        case("deny: by name", "modprobe top").conf("deny top\n").code(1).err(denied),
        case("deny: by alias", "modprobe topping").conf("deny top\n").code(1).err(denied),
        case("deny: as a dependency", "modprobe top").conf("# why\ndeny base\n").code(1).err(
            "modprobe: ERROR: could not insert 'top': it needs base, which is denied by /etc/modprobe.d/case.conf line 2\n",
        ),
        case("deny: what else -a names", "modprobe -a top extra")
            .conf("deny top\n")
            .code(1)
            .err(denied)
            .calls(&["load extra \"\" = 0"]),
        case("deny: -q", "modprobe -q top").conf("deny top\n").code(1),
        case("--why", "modprobe --why top").conf("options top count=1\nblacklist mid\n").out(
            "top: module top, by its name in /lib/modules/6.1.0-test/modules.dep.bin\n  \
               state      not loaded\n  \
               file       /lib/modules/6.1.0-test/kernel/drivers/top.ko\n  \
               needs      base, mid\n  \
               options    count=1 (/etc/modprobe.d/case.conf line 1)\n  \
               so         this is done, in this order:\n             \
                          insmod /lib/modules/6.1.0-test/kernel/lib/base.ko (top needs it)\n             \
                          insmod /lib/modules/6.1.0-test/kernel/lib/mid.ko (top needs it)\n             \
                          insmod /lib/modules/6.1.0-test/kernel/drivers/top.ko count=1 (as was asked)\n",
        ),
        case("--why of what is denied", "modprobe --why topping").conf("deny top\n").code(1).out(
            "topping: module top, by alias topping in /lib/modules/6.1.0-test/modules.alias.bin\n  \
               state      not loaded\n  \
               file       /lib/modules/6.1.0-test/kernel/drivers/top.ko\n  \
               needs      base, mid\n  \
               deny       /etc/modprobe.d/case.conf line 1\n  \
               so         it is refused: denied by /etc/modprobe.d/case.conf line 1\n",
        ),
        case("several softdep lines add up", "modprobe -D extra")
            .conf("softdep extra pre: base\nsoftdep extra pre: node\n")
            .out(&(insmod("kernel/lib/base.ko") + &insmod("kernel/fs/node.ko") + &insmod("kernel/fs/extra.ko"))),
        case("several softdep lines, kmod's way", "modprobe --strict-kmod -D extra")
            .conf("softdep extra pre: base\nsoftdep extra pre: node\n")
            .out(&(insmod("kernel/lib/base.ko") + &insmod("kernel/fs/extra.ko"))),
        case("install keeps out a module with soft dependencies", "modprobe extra")
            .conf("softdep extra pre: base\ninstall extra false\n")
            .code(1)
            .calls(&["load base \"\" = 0"])
            .err(
                "modprobe: ERROR: Error running install command 'false' for module extra: retcode 1\n\
                 modprobe: ERROR: could not insert 'extra': Invalid argument\n",
            ),
        Case::new("beyond kmod", "install and softdep, kmod's way")
            .environment("MODUTILS_STYLE", "kmod")
            .conf("softdep extra pre: base\ninstall extra false\n")
            .run("modprobe extra"),
        Case::new("beyond kmod", "several softdep lines, kmod's way, by the environment")
            .environment("MODUTILS_STYLE", "kmod")
            .conf("softdep extra pre: base\nsoftdep extra pre: node\n")
            .run("modprobe -D extra"),
    ]
}

fn outputs() -> Vec<Case> {
    let none = "modules.weakdep: missing: No such file or directory (os error 2)\n";
    vec![
        Case::new("beyond kmod", "lsmod --json")
            .loaded("base", 0, &[])
            .loaded("mid", 2, &["base"])
            .run("lsmod --json")
            .unlike("kmod 30 has no such thing")
            .out(
                "[\n  {\n    \"name\": \"mid\",\n    \"size\": 16384,\n    \"references\": 2,\n    \"holders\": [],\n    \
                 \"permanent\": false,\n    \"state\": \"Live\",\n    \"address\": \"0x0000000000000000\",\n    \
                 \"taints\": \"\"\n  },\n  {\n    \"name\": \"base\",\n    \"size\": 16384,\n    \"references\": 1,\n    \
                 \"holders\": [\n      \"mid\"\n    ],\n    \"permanent\": false,\n    \"state\": \"Live\",\n    \
                 \"address\": \"0x0000000000000000\",\n    \"taints\": \"\"\n  }\n]\n",
            ),
        case("modinfo --json", "modinfo --json -F alias top other").out(
            "[\n  {\n    \"alias\": [\n      \"pci:v00001234d00005678sv*sd*bc*sc*i*\",\n      \"topping\"\n    ]\n  },\n  \
             {\n    \"alias\": [\n      \"pci:v00001234d*sv*sd*bc*sc*i*\",\n      \"shared\"\n    ]\n  }\n]\n",
        ),
        case("depmod --check: indexes of kmod 30", "depmod --check").code(1).out(none),
        case("depmod --check: a module is new", "depmod --check")
            .module("kernel/new.ko", Module::new("new"))
            .code(1)
            .out(&format!(
                "modules.dep: stale: 1 entry missing\n  + kernel/new.ko:\n\
                 modules.dep.bin: stale: 1 entry missing\n{none}new: kernel/new.ko\n"
            )),
        Case::new("beyond kmod", "depmod --check: indexes of our own")
            .run("depmod")
            .run(&format!("depmod --check {RELEASE}"))
            .unlike("kmod 30 has no such thing"),
    ]
}

fn busybox() -> Vec<Case> {
    let file = "/lib/modules/6.1.0-test/kernel/lib/base.ko";
    vec![
        case("insmod as busybox: the exit code is the error", &format!("insmod {file}"))
            .environment("MODUTILS_STYLE", "busybox")
            .loaded("base", 0, &[])
            .code(17)
            .err(&format!("insmod: can't insert '{file}': File exists\n"))
            .calls(&["load base \"\" = -17", "load base \"\" = -17"]),
        // -ENOENT as an exit code, as busybox 1.35 has it.
        case("insmod as busybox: not there", "insmod /files/absent.ko")
            .environment("MODUTILS_STYLE", "busybox")
            .code(254)
            .err("insmod: can't insert '/files/absent.ko': No such file or directory\n"),
    ]
}
