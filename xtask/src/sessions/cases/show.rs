//! What `modprobe` shows without touching the kernel.

use crate::sessions::case::Case;
use crate::sessions::case::Part::Code;
use crate::sessions::case::Part::Err;
use crate::sessions::case::Part::Out;

/// Every module of the tree by name.
macro_rules! every {
    () => {
        "$(cut -d: -f1 /lib/modules/$V/modules.dep | sed -e 's|.*/||' -e 's|[.]ko.*||' | sort)"
    };
}

pub(super) const CASES: &[Case] = &[
    Case::ok("show-depends", "modprobe -D bridge"),
    Case::ok("show-depends-every", concat!("modprobe -a -D ", every!())),
    Case::ok("show-depends-of-loaded", "modprobe -D bridge").before("modprobe bridge"),
    Case::ok("show-depends-parameters", "modprobe -D dummy numdummies=3"),
    Case::ok("show-depends-alias", "modprobe --show-depends fs-vfat"),
    Case::ok("show-depends-builtin", "modprobe -D binfmt_script"),
    Case::fails("show-depends-absent", "modprobe -D nothing", ""),
    Case::ok("show-depends-initramfs", "modprobe --all --set-version=$V --quiet --show-depends bridge ext4 nothing vfat binfmt_script").code(1),
    Case::ok("show-depends-initramfs-ignore", "modprobe --all --set-version=$V --ignore-install --quiet --show-depends bridge vfat")
        .before("config 'install vfat /bin/true'"),
    Case::ok("show-depends-install", "modprobe -D vfat").before("config 'install vfat echo no'"),
    Case::ok("show-alias", "modprobe -R fs-vfat"),
    Case::ok("show-alias-long", "modprobe --resolve-alias block-major-7-1"),
    Case::ok("show-alias-name", "modprobe -R crc7"),
    Case::ok("show-alias-builtin", "modprobe -R binfmt_script"),
    Case::fails("show-alias-none", "modprobe -R nothing", ""),
    Case::ok("show-config", "modprobe -c"),
    Case::ok("show-config-long", "modprobe --showconfig | grep -v '^alias' ")
        .before("config 'options crc7 a=1'; config 'blacklist vfat'; config 'install loop /bin/true'; config 'remove loop /bin/false'; config 'softdep tun pre: crc7 post: vfat'; config 'alias my-* crc7'"),
    Case::ok("show-exports", "modprobe --show-exports exporter.ko"),
    Case::ok("show-exports-path", "modprobe --show-exports /lib/modules/$V/kernel/net/llc/llc.ko.xz"),
    Case::fails("show-exports-none", "modprobe --show-exports hello.ko", "modprobe: FATAL: could not get symbols of hello.ko: No such file or directory"),
    Case::ok("show-modversions", "modprobe --dump-modversions user.ko"),
    Case::ok("show-modversions-long", "modprobe --show-modversions /lib/modules/$V/kernel/net/bridge/bridge.ko"),
    Case::fails("show-exports-by-name", "modprobe --show-exports exporter", "")
        .differs("names for `--show-exports` and `--show-modversions`", &[Code, Out, Err], "exporter_plain"),
    Case::fails("show-modversions-by-name", "modprobe --dump-modversions bridge", "")
        .differs("names for `--show-exports` and `--show-modversions`", &[Code, Out, Err], "_printk"),
    Case::fails("show-modversions-text", "modprobe --dump-modversions text.ko", ""),
    Case::fails("show-modversions-missing", "modprobe --dump-modversions nothing.ko", ""),
];
