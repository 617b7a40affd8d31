//! What stands behind the first line of a refusal, and what only our commands do.

use crate::sessions::case::Case;

pub(super) const CASES: &[Case] = &[
    Case::ours("explain-unknown-symbol", "insmod unknown.ko", 1, "insmod: ERROR: could not insert module unknown.ko: Unknown symbol in module")
        .explains(&["  kernel: rare: Unknown symbol zlib_inflate_w0rkspacesize (err -2)", "  cause: "]),
    Case::ours("explain-who-exports-it", "insmod user.ko", 1, "insmod: ERROR: could not insert module user.ko: Unknown symbol in module")
        .explains(&["Unknown symbol exporter_plain (err -2)", "exporter", "  try: modprobe "]),
    Case::ours("explain-vermagic", "insmod vermagic.ko", 1, "insmod: ERROR: could not insert module vermagic.ko: Invalid module format")
        .explains(&["version magic '", "mod_unlaod", "should be '", "mod_unload"]),
    Case::ours("explain-other-machine", "insmod other_arch.ko", 1, "insmod: ERROR: could not insert module other_arch.ko: Invalid module format")
        .explains(&["  cause: "]),
    Case::ours("explain-text", "insmod text.ko", 1, "insmod: ERROR: could not insert module text.ko: Invalid module format")
        .explains(&["  cause: "]),
    Case::ours("explain-truncated", "insmod truncated.ko", 1, "insmod: ERROR: could not insert module truncated.ko: Invalid module format")
        .explains(&["  cause: "]),
    Case::ours("explain-empty", "insmod empty.ko", 1, "insmod: ERROR: could not insert module empty.ko: Invalid parameters")
        .explains(&["  cause: ", "empty"]),
    Case::ours("explain-symbol-version", "insmod crc.ko", 1, "insmod: ERROR: could not insert module crc.ko: Invalid parameters")
        .explains(&["disagrees about version of symbol _printk", "  cause: "]),
    Case::ours("explain-parameter", "insmod params.ko p_int=x", 1, "insmod: ERROR: could not insert module params.ko: Invalid parameters")
        .explains(&["`x' invalid for parameter `p_int'", "  cause: ", "int"]),
    Case::ours("explain-parameter-range", "insmod params.ko p_byte=256", 1, "insmod: ERROR: could not insert module params.ko: Numerical result out of range")
        .explains(&["p_byte", "256"]),
    Case::ours("explain-namespace", "insmod user_nons.ko", 1, "insmod: ERROR: could not insert module user_nons.ko: Invalid parameters")
        .before("insmod exporter.ko")
        .explains(&["FIXTURE"]),
    Case::ours("explain-licence", "insmod user_proprietary.ko", 1, "insmod: ERROR: could not insert module user_proprietary.ko: Unknown symbol in module")
        .before("insmod exporter.ko")
        .explains(&["exporter_gpl", "GPL"]),
    Case::ours("explain-loaded-already", "insmod hello.ko", 1, "insmod: ERROR: could not insert module hello.ko: File exists")
        .before("insmod hello.ko")
        .explains(&["  cause: "]),
    Case::ours("explain-init", "insmod init_einval.ko", 1, "insmod: ERROR: could not insert module init_einval.ko: Invalid parameters")
        .explains(&["  kernel: init_einval: no device", "  cause: "]),
    Case::ours("explain-not-root", "su -s /bin/sh nobody -c \"PATH=$PATH; insmod hello.ko\"", 1, "insmod: ERROR: could not insert module hello.ko: Operation not permitted")
        .explains(&["root"]),
    Case::ours("explain-missing-file", "insmod nothing.ko", 1, "insmod: ERROR: could not load module nothing.ko: No such file or directory"),
    Case::ours("explain-held", "rmmod exporter", 1, "rmmod: ERROR: Module exporter is in use by: user")
        .before("insmod exporter.ko; insmod user.ko"),
    Case::ours("explain-no-exit", "rmmod no_exit", 1, "rmmod: ERROR: could not remove 'no_exit': Device or resource busy")
        .before("grep -q ^no_exit /proc/modules || insmod no_exit.ko")
        .explains(&["exit function"]),
    Case::ours("explain-alike", "modprobe brigde", 1, "modprobe: FATAL: Module brigde not found in directory /lib/modules/$V")
        .explains(&["bridge"]),
    Case::ours("explain-file-gone", "modprobe crc7", 1, "modprobe: ERROR: could not insert 'crc7': Unknown symbol in module, or unknown parameter (see dmesg)")
        .before("mv /lib/modules/$V/kernel/lib/crc7.ko /tmp/crc7.ko")
        .after("mv /tmp/crc7.ko /lib/modules/$V/kernel/lib/crc7.ko")
        .explains(&["  cause: ", "not there"]),
    Case::ours("explain-index-gone", "modprobe crc7", 1, "modprobe: FATAL: Module crc7 not found in directory /lib/modules/$V")
        .before("mv /lib/modules/$V/modules.dep.bin /tmp/modules.dep.bin")
        .after("mv /tmp/modules.dep.bin /lib/modules/$V/modules.dep.bin")
        .explains(&["modules.dep.bin", "depmod"]),
    Case::ours("explain-install-command", "modprobe crc7", 1, "modprobe: ERROR: Error running install command 'exit 3' for module crc7: retcode 3")
        .before("config 'install crc7 exit 3'")
        .explains(&["/etc/modprobe.d/case.conf line 1", "3"]),
    Case::ours("explain-quiet", "modprobe -q brigde 2>&1", 1, ""),
    Case::ours("explain-quiet-init", "modprobe -q init_einval 2>&1 | wc -l", 0, "").shows(&["0"]),
    // what only ours do
    Case::ours("deny-name", "modprobe crc7", 1, "").before("config 'deny crc7'").explains(&["/etc/modprobe.d/case.conf line 1"]),
    Case::ours("deny-dependency", "modprobe bridge", 1, "").before("config 'deny llc'").explains(&["/etc/modprobe.d/case.conf line 1", "llc"])
        .look("grep -c -v no_exit /proc/modules")
        .shows(&["0"]),
    Case::ours("deny-why", "modprobe --why bridge", 1, "").before("config 'deny llc'").shows(&["/etc/modprobe.d/case.conf"]),
    Case::ours("strict-softdep", "modprobe --strict-kmod -v tun", 0, "")
        .before("config 'softdep tun pre: crc7'; config 'softdep tun pre: psample'; config 'install tun /bin/false'")
        .look("cut -d' ' -f1 /proc/modules | tr '\\n' ' '")
        .shows(&["tun crc7 no_exit"]),
    Case::ours("lsmod-json", "lsmod --json", 0, "").before("insmod exporter.ko; insmod user.ko").shows(&["\"exporter\"", "\"user\"", "\"holders\""]),
    Case::ours("modinfo-json", "modinfo --json bridge", 0, "").shows(&["\"bridge\"", "\"depends\"", "stp"]),
];
