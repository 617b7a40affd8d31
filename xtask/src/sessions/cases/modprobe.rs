//! `modprobe`: loading with all that belongs to it, and every refusal.

use crate::sessions::case::Case;
use crate::sessions::case::Part::Code;
use crate::sessions::case::Part::Err;
use crate::sessions::case::Part::Modules;

pub(super) const CASES: &[Case] = &[
    Case::ok("modprobe-plain", "modprobe crc7"),
    Case::ok("modprobe-dependency", "modprobe vfat"),
    Case::ok("modprobe-dependencies", "modprobe 8021q"),
    Case::ok("modprobe-dependency-loaded", "modprobe bridge").before("modprobe stp"),
    Case::ok("modprobe-of-extra", "modprobe user"),
    Case::ok("modprobe-dash", "modprobe dm-zero"),
    Case::ok("modprobe-twice", "modprobe crc7").before("modprobe crc7"),
    Case::ok("modprobe-xz", "modprobe nls_ascii"),
    Case::ok("modprobe-zst", "modprobe psample"),
    Case::ok("modprobe-dependency-xz", "modprobe -v bridge"),
    Case::ok("modprobe-verbose", "modprobe -v 8021q"),
    Case::ok("modprobe-verbose-parameters", "modprobe -v dummy numdummies=0").look("parameters dummy"),
    Case::ok("modprobe-quiet", "modprobe -q crc7"),
    Case::ok("modprobe-syslog", "modprobe -s crc7"),
    Case::ok("modprobe-all", "modprobe -a crc7 vfat psample"),
    Case::ok("modprobe-all-verbose", "modprobe -a -v crc7 bridge"),
    Case::fails("modprobe-all-one-absent", "modprobe -a crc7 nothing psample", ""),
    Case::fails("modprobe-all-quiet-one-absent", "modprobe -a -q crc7 nothing psample", ""),
    Case::ok("modprobe-abq", "modprobe -abq crc7 psample"),
    Case::ok("modprobe-kernels-own-call", "modprobe -q -- crc7"),
    Case::fails("modprobe-kernels-own-call-absent", "modprobe -q -- nothing", ""),
    Case::ok("modprobe-release", "modprobe -S $V crc7"),
    Case::ok("modprobe-root", "modprobe -d / crc7"),
    // names that are not names of modules
    Case::ok("modprobe-alias-of-file-system", "modprobe fs-vfat"),
    Case::ok("modprobe-alias-of-block-device", "modprobe block-major-7-0").look("parameters loop"),
    Case::ok("modprobe-alias-of-character-device", "modprobe char-major-10-200"),
    Case::ok("modprobe-alias-of-device-name", "modprobe devname:loop-control"),
    Case::ok("modprobe-alias-of-link", "modprobe rtnl-link-bridge"),
    Case::ok("modprobe-alias-of-code-page", "modprobe -v nls_iso8859-1"),
    Case::ok("modprobe-modalias-virtio", "modprobe -v virtio:d00000001v00001AF4"),
    Case::ok("modprobe-modalias-pci", "modprobe -n -v pci:v00001D0Fd0000EC20sv00001D0Fsd0000EC20bc02sc00i00"),
    Case::ok("modprobe-modalias-crypto", "modprobe -v crypto-rmd160"),
    Case::fails("modprobe-modalias-none", "modprobe pci:v0000FFFFd0000FFFFsv00000000sd00000000bc00sc00i00", ""),
    Case::ok("modprobe-udev", "modprobe -abq virtio:d00000002v00001AF4 pci:v0000FFFFd0000FFFFsv00000000sd00000000bc00sc00i00 virtio:d00000001v00001AF4").code(1),
    Case::ok("modprobe-symbol", "modprobe -v symbol:exporter_plain"),
    Case::fails("modprobe-symbol-none", "modprobe symbol:nobody_exports_this", ""),
    // parameters
    Case::ok("modprobe-parameters", "modprobe params p_int=3 p_charp=word p_array=1,2,3").look("parameters params"),
    Case::ok("modprobe-parameters-blanks", "modprobe params p_charp='a b' p_int=4").look("parameters params"),
    Case::ok("modprobe-parameters-quoted", "modprobe params p_charp='\"a b\"' p_int=4").look("parameters params"),
    Case::ok("modprobe-parameters-only-for-named", "modprobe -v bridge nonsense=1"),
    Case::fails("modprobe-parameter-wrong", "modprobe params p_int=x", "modprobe: ERROR: could not insert 'params': Invalid argument")
        .explains(&["p_int"]),
    // the command line of the kernel
    Case::ok("modprobe-boot-parameters", "modprobe -v hello").look("parameters hello"),
    Case::ok("modprobe-boot-parameters-quoted", "modprobe -v params").look("parameters params"),
    Case::ok("modprobe-boot-and-own-parameters", "modprobe -v hello who=me").look("parameters hello"),
    Case::ok("modprobe-boot-blacklist", "modprobe -v -b ts_kmp; modprobe -v -b ts_fsm"),
    Case::ok("modprobe-boot-blacklist-without-b", "modprobe -v ts_kmp"),
    // soft dependencies
    Case::ok("modprobe-softdep-pre", "modprobe -v xt_LOG"),
    Case::ok("modprobe-softdep-post", "modprobe -v mpls_iptunnel"),
    Case::ok("modprobe-softdep-alias", "modprobe -v libcrc32c"),
    Case::ok("modprobe-softdep-of-dependency", "modprobe -v nf_conntrack"),
    // dry runs
    Case::ok("modprobe-dry", "modprobe -n bridge"),
    Case::ok("modprobe-dry-verbose", "modprobe -n -v bridge"),
    Case::ok("modprobe-dry-loaded", "modprobe -n -v bridge").before("modprobe stp"),
    Case::fails("modprobe-dry-absent", "modprobe -n nothing", ""),
    Case::ok("modprobe-dracut", "modprobe -d / -S $V --dry-run bridge >/dev/null 2>&1"),
    Case::fails("modprobe-dracut-absent", "modprobe -d / -S $V --dry-run nothing >/dev/null 2>&1", ""),
    // force
    Case::ok("modprobe-force", "modprobe -f hello"),
    Case::ok("modprobe-force-vermagic", "modprobe --force-vermagic hello"),
    Case::ok("modprobe-force-modversion", "modprobe --force-modversion hello"),
    // built in
    Case::ok("modprobe-builtin", "modprobe binfmt_script"),
    Case::ok("modprobe-builtin-verbose", "modprobe -v binfmt_script"),
    Case::fails("modprobe-builtin-first-time", "modprobe --first-time binfmt_script", ""),
    // refusals
    Case::fails("modprobe-absent", "modprobe nothing", "").explains(&[]),
    Case::fails("modprobe-absent-dash", "modprobe no-thing", ""),
    Case::fails("modprobe-absent-quiet", "modprobe -q nothing", ""),
    Case::fails("modprobe-first-time", "modprobe --first-time crc7", "modprobe: ERROR: could not insert 'crc7': Module already in kernel")
        .before("modprobe crc7"),
    Case::fails("modprobe-init-fails", "modprobe init_einval", "modprobe: ERROR: could not insert 'init_einval': Invalid argument"),
    Case::fails("modprobe-init-5", "modprobe init_positive value=-5", "modprobe: ERROR: could not insert 'init_positive': Input/output error"),
    Case::fails("modprobe-init-2", "modprobe init_positive value=-2", "modprobe: ERROR: could not insert 'init_positive': Unknown symbol in module, or unknown parameter (see dmesg)"),
    Case::fails("modprobe-init-8", "modprobe init_positive value=-8", "modprobe: ERROR: could not insert 'init_positive': Exec format error"),
    Case::ok("modprobe-init-17", "modprobe init_positive value=-17"),
    Case::fails("modprobe-init-fails-quiet", "modprobe -q init_einval", ""),
    Case::fails("modprobe-namespace", "modprobe user_nons", "modprobe: ERROR: could not insert 'user_nons': Invalid argument"),
    Case::fails("modprobe-proprietary", "modprobe user_proprietary", "modprobe: ERROR: could not insert 'user_proprietary': Unknown symbol in module, or unknown parameter (see dmesg)"),
    Case::fails("modprobe-not-root", "su -s /bin/sh nobody -c \"PATH=$PATH; modprobe crc7\"", "modprobe: ERROR: could not insert 'crc7': Operation not permitted"),
    Case::fails("modprobe-file-gone", "modprobe crc7", "")
        .before("mv /lib/modules/$V/kernel/lib/crc7.ko /tmp/crc7.ko")
        .after("mv /tmp/crc7.ko /lib/modules/$V/kernel/lib/crc7.ko")
        .explains(&["crc7.ko"]),
    Case::fails("modprobe-dependency-gone", "modprobe bridge", "")
        .before("mv /lib/modules/$V/kernel/net/802/stp.ko /tmp/stp.ko")
        .after("mv /tmp/stp.ko /lib/modules/$V/kernel/net/802/stp.ko")
        .differs("a dependency whose file is gone", &[Err], "modprobe: ERROR: could not insert 'bridge': Unknown symbol in module"),
    Case::fails("modprobe-index-gone", "modprobe crc7", "")
        .before("mv /lib/modules/$V/modules.dep.bin /tmp/modules.dep.bin")
        .after("mv /tmp/modules.dep.bin /lib/modules/$V/modules.dep.bin")
        .explains(&["modules.dep.bin"]),
    Case::fails("modprobe-index-damaged", "modprobe crc7", "")
        .before("cd /lib/modules/$V; cp modules.dep.bin /tmp/modules.dep.bin; head -c 3 /tmp/modules.dep.bin >modules.dep.bin")
        .after("mv /tmp/modules.dep.bin /lib/modules/$V/modules.dep.bin"),
    Case::fails("modprobe-other-release", "modprobe -S 1.2.3 crc7", ""),
    Case::fails("modprobe-other-root", "modprobe -d /tmp crc7", ""),
    Case::fails("modprobe-file-is-text", "modprobe crc7", "")
        .before("cd /lib/modules/$V/kernel/lib; mv crc7.ko /tmp/crc7.ko; cp /f/text.ko crc7.ko")
        .after("mv /tmp/crc7.ko /lib/modules/$V/kernel/lib/crc7.ko"),
    Case::fails("modprobe-vermagic", "modprobe hello", "modprobe: ERROR: could not insert 'hello': Exec format error")
        .before("mv /lib/modules/$V/extra/hello.ko /tmp/hello.ko; cp /f/vermagic.ko /lib/modules/$V/extra/hello.ko")
        .after("mv /tmp/hello.ko /lib/modules/$V/extra/hello.ko")
        .explains(&["mod_unlaod", "mod_unload"]),
    Case::fails("modprobe-nothing", "modprobe", "modprobe: ERROR: missing parameters. See -h."),
    Case::fails("modprobe-nothing-all", "modprobe -a", "modprobe: ERROR: missing parameters. See -h."),
    Case::fails("modprobe-option", "modprobe --nonsense crc7", "modprobe: unrecognized option '--nonsense'"),
    Case::fails("modprobe-letter", "modprobe -z crc7", "modprobe: invalid option -- 'z'"),
    // paths
    Case::fails("modprobe-path-relative", "modprobe ./hello.ko", "modprobe: FATAL: Module ./hello.ko not found in directory /lib/modules/$V")
        .differs("paths as arguments of `modprobe`", &[Code, Err, Modules], ""),
    Case::fails("modprobe-path-absolute", "modprobe /f/user.ko", "modprobe: FATAL: Module /f/user.ko not found in directory /lib/modules/$V")
        .differs("paths as arguments of `modprobe`", &[Code, Err, Modules], ""),
    // options from the environment
    Case::ok("modprobe-environment", "MODPROBE_OPTIONS=-v modprobe crc7"),
    Case::ok("modprobe-environment-more", "MODPROBE_OPTIONS='-n -v' modprobe bridge"),
    Case::fails("modprobe-environment-quiet", "MODPROBE_OPTIONS=-q modprobe nothing", ""),
];
