//! How the commands speak of themselves, and how they are called.

use crate::sessions::case::Case;
use crate::sessions::case::Part::Code;
use crate::sessions::case::Part::Err;
use crate::sessions::case::Part::Out;

const TEXTS: &str = "texts of `--help` and `--version`";

pub(super) const CASES: &[Case] = &[
    Case::ok("version-modprobe", "modprobe --version").differs(TEXTS, &[Out], "kmod version 30\n"),
    Case::ok("version-insmod", "insmod -V").differs(TEXTS, &[Out], "kmod version 30\n"),
    Case::ok("version-first-line", "modprobe -V | head -n 1; rmmod -V | head -n 1; modinfo -V | head -n 1"),
    Case::ok("help-insmod", "insmod --help").differs(TEXTS, &[Out], "Usage:\n\tinsmod [options] filename"),
    Case::ok("help-rmmod", "rmmod -h").differs(TEXTS, &[Out], "Usage:\n\trmmod [options] modulename"),
    Case::ok("help-modinfo", "modinfo --help").differs(TEXTS, &[Out], "Usage:"),
    Case::ok("help-modprobe", "modprobe --help").differs(TEXTS, &[Out], "Usage:"),
    Case::fails("help-lsmod", "lsmod --help", "Usage: lsmod").differs("options of `lsmod`", &[Code, Out, Err], "Usage:"),
    Case::fails("lsmod-argument", "lsmod something", "Usage: lsmod"),
    Case::ok("called-by-multi-call", "ln -s $(readlink /tools/$T/insmod) /tmp/lsmod; /tmp/lsmod; rm /tmp/lsmod")
        .before("insmod hello.ko"),
    Case::ok("called-kmod-list", "kmod list").before("insmod hello.ko"),
    Case::ok("called-kmod-static-nodes", "kmod static-nodes"),
    Case::ok("called-kmod-static-nodes-tmpfiles", "kmod static-nodes --format=tmpfiles --output=/tmp/nodes")
        .look("cat /tmp/nodes"),
    Case::ok("depmod-of-the-tree", "cp -r /lib/modules/$V/kernel /lib/modules/$V/modules.order /lib/modules/$V/modules.builtin /lib/modules/$V/modules.builtin.modinfo /tmp/tree/lib/modules/$V; depmod -b /tmp/tree $V")
        .before("mkdir -p /tmp/tree/lib/modules/$V")
        .look("cd /tmp/tree/lib/modules/$V; md5sum modules.dep modules.alias modules.symbols modules.softdep modules.devname")
        .after("rm -r /tmp/tree"),
];
