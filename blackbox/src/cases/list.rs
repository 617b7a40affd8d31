use crate::case::Case;
use crate::case::Ground;
use crate::fixture::RELEASE;

fn lsmod(name: &'static str, line: &str) -> Case {
    Case::new("lsmod", name).loaded("base", 0, &[]).loaded("mid", 2, &["base"]).run(line)
}

fn kmod(name: &'static str, line: &str) -> Case {
    Case::new("kmod", name).run(line)
}

pub(super) fn cases() -> Vec<Case> {
    let directory = format!("lib/modules/{RELEASE}");
    vec![
        lsmod("size, references, users", "lsmod"),
        lsmod("several users", "lsmod").loaded("other", 0, &["base"]).unlike("kmod 30 lists users as the directory does, which has no order").out(
            "Module                  Size  Used by\n\
             other                  16384  0\n\
             mid                    16384  2\n\
             base                   16384  2 mid,other\n",
        ),
        lsmod("nothing loaded", "lsmod").put("proc/modules", ""),
        lsmod("a long name", "lsmod").loaded("a_name_that_is_longer_than_its_column", 1, &[]),
        lsmod("an operand", "lsmod x"),
        lsmod("without /proc and /sys", "lsmod")
            .kernel(|kernel| kernel.mounted = false)
            .unlike("kmod 30's library says it too")
            .code(1)
            .err("Error: could not get list of modules: No such file or directory\n"),
        lsmod("a module that goes while it is listed", "lsmod")
            .put("proc/modules", "gone 4096 0 - Live 0x0\nbase 16384 0 - Live 0x0\n")
            .unlike("kmod 30 asks sysfs again and finds nothing there")
            .out("Module                  Size  Used by\ngone                    4096  0\nbase                   16384  0\n"),
        lsmod("modules that come and go", "lsmod").put(
            "proc/modules",
            "base 16384 1 mid, Live 0x0000000000000000 (OE)\nmid 16384 2 - Unloading 0x0000000000000000\n",
        ),
        kmod("list", "kmod list").loaded("base", 0, &[]),
        kmod("static-nodes", "kmod static-nodes"),
        kmod("static-nodes: -f tmpfiles", "kmod static-nodes -f tmpfiles"),
        kmod("static-nodes: -f devname", "kmod static-nodes --format=devname"),
        kmod("static-nodes: -f nonsense", "kmod static-nodes -f nonsense").unlike("each has its own help").any_out().code(1).err("Unknown format: 'nonsense'.\n"),
        kmod("static-nodes: -o, as systemd asks", "kmod static-nodes --format=tmpfiles --output=/run/tmpfiles.d/static-nodes.conf"),
        kmod("static-nodes: a file that cannot be written", "kmod static-nodes -o /dev/null/x").unlike("kmod 30 has lost the reason").code(1).err("Error: could not create parent directory for /dev/null/x - File exists.\n"),
        kmod("static-nodes: no modules.devname", "kmod static-nodes").on(Ground::Bare),
        kmod("static-nodes: what it leaves out", "kmod static-nodes -f tmpfiles").put(
            &format!("{directory}/modules.devname"),
            "# Device nodes\nfuse fuse c10:229\nlong dir/dir/x b7:0\nbad bad x10:1\nbad2 bad2 c10\nbad3\nloop loop-control c10:237\n",
        ),
        kmod("static-nodes: an operand", "kmod static-nodes x"),
        kmod("without a command", "kmod").unlike("each has its own help").any_out().code(1).err("missing command\n"),
        kmod("an unknown command", "kmod nonsense").unlike("each has its own help").any_out().code(1).err("invalid command 'nonsense'\n"),
    ]
}
