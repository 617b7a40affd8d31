//! What cannot be taken back: no module may be loaded or unloaded any more.

use crate::sessions::case::Case;

const DISABLE: &str = "echo 1 >/proc/sys/kernel/modules_disabled";

pub(super) const CASES: &[Case] = &[
    Case::fails(
        "disabled-insmod",
        "insmod hello.ko",
        "insmod: ERROR: could not insert module hello.ko: Operation not permitted",
    )
    .before(DISABLE),
    Case::fails(
        "disabled-insmod-xz",
        "insmod hello.ko.xz",
        "insmod: ERROR: could not insert module hello.ko.xz: Operation not permitted",
    ),
    Case::fails("disabled-modprobe", "modprobe bridge", ""),
    Case::fails("disabled-rmmod", "rmmod no_exit", ""),
    Case::fails("disabled-modprobe-remove", "modprobe -r no_exit", ""),
    Case::busybox("disabled-busybox", "insmod hello.ko", 1, ""),
    Case::ok("disabled-lsmod", "lsmod"),
    Case::ok("disabled-dry-run", "modprobe -n -v bridge"),
];
