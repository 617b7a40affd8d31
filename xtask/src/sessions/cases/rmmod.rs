//! `rmmod`: names, files, several at once, and every refusal.

use crate::sessions::case::Case;
use crate::sessions::case::Part::Err;

pub(super) const CASES: &[Case] = &[
    Case::ok("rmmod-plain", "rmmod hello").before("insmod hello.ko"),
    Case::ok("rmmod-file", "rmmod hello.ko").before("insmod hello.ko"),
    Case::ok("rmmod-path", "rmmod /f/no_init.ko").before("insmod no_init.ko"),
    Case::ok("rmmod-dash", "rmmod no-init").before("insmod no_init.ko"),
    Case::ok("rmmod-missing-path", "rmmod exporter").before("insmod exporter.ko"),
    Case::ok("rmmod-several", "rmmod user exporter hello")
        .before("insmod exporter.ko; insmod user.ko; insmod hello.ko"),
    Case::fails(
        "rmmod-several-one-absent",
        "rmmod nothing hello other",
        "rmmod: ERROR: Module nothing is not currently loaded",
    )
    .before("insmod hello.ko"),
    Case::ok("rmmod-verbose", "rmmod -v hello").before("insmod hello.ko").differs(
        "options of `rmmod`",
        &[Err],
        "rmmod: INFO: delete_module 'hello'",
    ),
    Case::ok("rmmod-syslog", "rmmod -s hello").before("insmod hello.ko"),
    Case::fails("rmmod-absent", "rmmod hello", "rmmod: ERROR: Module hello is not currently loaded"),
    Case::fails(
        "rmmod-absent-dash",
        "rmmod not-there",
        "rmmod: ERROR: Module not_there is not currently loaded",
    ),
    Case::fails("rmmod-held", "rmmod exporter", "rmmod: ERROR: Module exporter is in use by: user")
        .before("insmod exporter.ko; insmod user.ko"),
    Case::fails("rmmod-held-by-two", "rmmod llc", "").before("modprobe 8021q; modprobe bridge"),
    Case::fails("rmmod-open", "rmmod chardev", "rmmod: ERROR: Module chardev is in use")
        .before("insmod chardev.ko; exec 5</dev/chardev0"),
    Case::fails(
        "rmmod-builtin-in-list",
        "rmmod binfmt_script",
        "rmmod: ERROR: Module binfmt_script is builtin.",
    ),
    Case::fails(
        "rmmod-builtin-in-sysfs",
        "rmmod printk",
        "rmmod: ERROR: could not open '/sys/module/printk/holders': No such file or directory",
    )
    .differs(
        "`rmmod` of a part of the kernel that no index lists",
        &[Err],
        "rmmod: ERROR: Module printk is builtin.",
    ),
    Case::fails("rmmod-no-exit", "rmmod no_exit", "")
        .before("grep -q ^no_exit /proc/modules || insmod no_exit.ko"),
    Case::fails("rmmod-force-held", "rmmod -f exporter", "").before("insmod exporter.ko; insmod user.ko"),
    Case::fails("rmmod-force-absent", "rmmod -f hello", ""),
    Case::ok("rmmod-force", "rmmod -f hello").before("insmod hello.ko"),
    Case::fails("rmmod-not-root", "su -s /bin/sh nobody -c \"PATH=$PATH; rmmod hello\"", "")
        .before("insmod hello.ko"),
    Case::fails("rmmod-empty", "rmmod ''", "").differs(
        "`rmmod` of a part of the kernel that no index lists",
        &[Err],
        "rmmod: ERROR: Module  is ",
    ),
    Case::fails(
        "rmmod-long",
        "rmmod aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggggggggg",
        "",
    ),
    Case::fails("rmmod-nothing", "rmmod", "rmmod: ERROR: missing module name."),
    Case::fails("rmmod-option", "rmmod --nonsense", "rmmod: unrecognized option '--nonsense'"),
    Case::fails("rmmod-letter", "rmmod -z", "rmmod: invalid option -- 'z'"),
];
