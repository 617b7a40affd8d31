//! `modprobe -r`.

use crate::sessions::case::Case;
use crate::sessions::case::Part::Code;
use crate::sessions::case::Part::Err;
use crate::sessions::case::Part::Modules;
use crate::sessions::case::Part::Out;

pub(super) const CASES: &[Case] = &[
    Case::ok("remove-plain", "modprobe -r crc7").before("modprobe crc7"),
    Case::ok("remove-verbose", "modprobe -r -v bridge").before("modprobe bridge"),
    Case::ok("remove-unused", "modprobe -r bridge").before("modprobe bridge"),
    Case::ok("remove-shared", "modprobe -r -v bridge").before("modprobe bridge; modprobe 8021q"),
    Case::ok("remove-alias", "modprobe -r -v fs-vfat").before("modprobe vfat"),
    Case::ok("remove-several", "modprobe -r -v crc7 vfat").before("modprobe crc7; modprobe vfat"),
    Case::ok("remove-all-verbose", "modprobe -r -a -v crc7 vfat").before("modprobe crc7; modprobe vfat"),
    Case::fails(
        "remove-holders",
        "modprobe -r -v --remove-holders llc",
        "modprobe: FATAL: Module stp is in use.",
    )
    .before("modprobe bridge")
    .differs(
        "`modprobe -r --remove-holders`",
        &[Code, Out, Err, Modules],
        "rmmod bridge\nrmmod stp\nrmmod llc\n",
    ),
    Case::fails(
        "remove-holders-old-name",
        "modprobe -r -v --remove-dependencies exporter",
        "modprobe: ERROR: could not remove 'exporter': No such file or directory",
    )
    .before("modprobe user")
    .differs("`modprobe -r --remove-holders`", &[Code, Out, Err], "rmmod user\nrmmod exporter\n"),
    Case::fails("remove-held", "modprobe -r llc", "modprobe: FATAL: Module llc is in use.")
        .before("modprobe bridge"),
    Case::fails("remove-open", "modprobe -r chardev", "modprobe: FATAL: Module chardev is in use.")
        .before("insmod chardev.ko; exec 5</dev/chardev0"),
    Case::fails("remove-open-holders", "modprobe -r --remove-holders chardev", "")
        .before("insmod chardev.ko; exec 5</dev/chardev0"),
    Case::fails(
        "remove-builtin",
        "modprobe -r binfmt_script",
        "modprobe: FATAL: Module binfmt_script is builtin.",
    ),
    Case::fails("remove-unknown", "modprobe -r nothing", ""),
    Case::fails("remove-unknown-quiet", "modprobe -r -q nothing", ""),
    Case::ok("remove-not-loaded", "modprobe -r crc7"),
    Case::fails(
        "remove-not-loaded-first-time",
        "modprobe -r --first-time crc7",
        "modprobe: FATAL: Module crc7 is not in kernel.",
    ),
    Case::ok("remove-dry", "modprobe -r -n bridge").before("modprobe bridge"),
    Case::ok("remove-dry-verbose", "modprobe -r -n -v bridge").before("modprobe bridge"),
    Case::fails("remove-no-exit", "modprobe -r no_exit", "")
        .before("grep -q ^no_exit /proc/modules || insmod no_exit.ko"),
    Case::ok("remove-force", "modprobe -r -f crc7").before("modprobe crc7"),
    Case::fails("remove-not-root", "su -s /bin/sh nobody -c \"PATH=$PATH; modprobe -r crc7\"", "")
        .before("modprobe crc7"),
    Case::ok("remove-softdep", "modprobe -r -v tun")
        .before("config 'softdep tun pre: crc7 post: psample'; modprobe tun"),
    Case::ok("remove-softdep-of-module", "modprobe -r -v xt_LOG").before("modprobe xt_LOG"),
    Case::ok("remove-command", "modprobe -r crc7").before(
        "config 'remove crc7 echo removing; modprobe -r --ignore-remove $MODPROBE_MODULE'; modprobe crc7",
    ),
    Case::ok("remove-command-ignored", "modprobe -r -i -v crc7")
        .before("config 'remove crc7 /bin/false'; modprobe crc7"),
    Case::fails("remove-command-fails", "modprobe -r crc7", "")
        .before("config 'remove crc7 /bin/false'; modprobe crc7"),
    Case::ok("remove-wait", "modprobe -r -w 300 crc7").before("modprobe crc7"),
    Case::ok("remove-wait-long-name", "modprobe -r --wait=300 crc7").before("modprobe crc7"),
    // kmod 30 ends with 0 or never, by chance: nothing to compare with.
    Case::ours(
        "remove-wait-in-vain",
        "modprobe -r -w 200 chardev",
        1,
        "modprobe: ERROR: could not remove 'chardev': Resource temporarily unavailable",
    )
    .before("insmod chardev.ko; exec 5</dev/chardev0")
    .look("cut -d' ' -f1 /proc/modules")
    .shows(&["chardev"]),
    Case::fails("remove-nothing", "modprobe -r", "modprobe: ERROR: missing parameters. See -h."),
];
