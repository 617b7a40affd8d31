//! `lsmod`: what is loaded.

use crate::sessions::case::Case;

pub(super) const CASES: &[Case] = &[
    Case::ok("lsmod-few", "lsmod").before("insmod hello.ko"),
    Case::ok("lsmod-users", "lsmod")
        .before("insmod exporter.ko; insmod user.ko; insmod no_init.ko; insmod params.ko"),
    Case::ok("lsmod-referenced", "lsmod").before("insmod chardev.ko; exec 5</dev/chardev0 6</dev/chardev0"),
    // The users of a module are listed in the order of a directory there, and in the kernel's own here.
    Case::ok("lsmod-long-names", "lsmod | while read -r name size count users; do echo \"$name $size $count $(echo $users | tr , '\\n' | sort | tr '\\n' ' ')\"; done")
        .before("modprobe iptable_filter; modprobe nf_conntrack; modprobe vfat"),
    Case::ours(
        "lsmod-columns",
        "lsmod | tail -n +2 | while read -r name size count users; do echo \"$name $size $count\"; done",
        0,
        "",
    )
    .before("insmod exporter.ko; insmod user.ko; modprobe bridge")
    .look("cut -d' ' -f1-3 /proc/modules >/tmp/modules; cut -d' ' -f1-3 /tmp/modules"),
    Case::ok("lsmod-after-removal", "insmod hello.ko; rmmod hello; lsmod | grep -c hello").code(1),
];
