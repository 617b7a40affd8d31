//! What `modprobe` does by the files in modprobe.d.

use crate::sessions::case::Case;
use crate::sessions::case::Part::Code;
use crate::sessions::case::Part::Err;
use crate::sessions::case::Part::Modules;
use crate::sessions::case::Part::Out;

pub(super) const CASES: &[Case] = &[
    Case::ok("config-options", "modprobe -v dummy").before("config 'options dummy numdummies=2'").look("parameters dummy"),
    Case::ok("config-options-several", "modprobe -v params p_uint=7")
        .before("config 'options params p_int=1'; config 'options params p_byte=2 p_charp=\"a b\"' another")
        .look("parameters params"),
    Case::ok("config-options-of-alias", "modprobe -v greeter").before("config 'alias greeter hello'; config 'options greeter who=alias'; config 'options hello count=3'")
        .look("parameters hello"),
    Case::ok("config-options-of-dependency", "modprobe -v zram").before("config 'options zsmalloc nonsense=1'"),
    Case::ok("config-alias", "modprobe -v my-bridge").before("config 'alias my-bridge bridge'"),
    Case::ok("config-alias-pattern", "modprobe -v thing-12-x").before("config 'alias thing-[0-9]*-? crc7'"),
    Case::ok("config-alias-two", "modprobe -v both").before("config 'alias both crc7'; config 'alias both vfat'"),
    Case::ok("config-alias-over-name", "modprobe -v crc7").before("config 'alias crc7 vfat'"),
    Case::fails("config-alias-to-nothing", "modprobe off-one", "").before("config 'alias off-one nothing'"),
    Case::ok("config-alias-off", "modprobe -v fs-vfat").before("config 'alias fs-vfat off'").code(1),
    Case::ok("config-blacklist-name", "modprobe -v crc7").before("config 'blacklist crc7'"),
    Case::ok("config-blacklist-name-b", "modprobe -v -b crc7").before("config 'blacklist crc7'"),
    Case::ok("config-blacklist-alias", "modprobe -v fs-vfat").before("config 'blacklist vfat'"),
    Case::ok("config-blacklist-dependency", "modprobe -v -b bridge").before("config 'blacklist llc'"),
    Case::fails("config-blacklist-alias-first-time", "modprobe --first-time fs-vfat", "").before("config 'blacklist vfat'").code(0),
    Case::ok("config-blacklist-udev", "modprobe -abq virtio:d00000001v00001AF4").before("config 'blacklist virtio_net'"),
    Case::ok("config-blacklist-dash", "modprobe -v -b dm-zero").before("config 'blacklist dm-zero'"),
    Case::ok("config-install", "modprobe crc7").before("config 'install crc7 echo installing $MODPROBE_MODULE'"),
    Case::ok("config-install-verbose", "modprobe -v crc7 a=1").before("config 'install crc7 echo with $CMDLINE_OPTS'").differs("order of lines on standard output", &[Out], "with a=1"),
    Case::ok("config-install-calls-modprobe", "modprobe -v dummy numdummies=0").before("config 'install dummy modprobe --ignore-install dummy $CMDLINE_OPTS; echo done'").differs("order of lines on standard output", &[Out], "done"),
    Case::ok("config-install-of-dependency", "modprobe bridge").before("config 'install llc echo llc; modprobe -i llc'"),
    Case::ok("config-install-ignored", "modprobe -i -v crc7").before("config 'install crc7 /bin/false'"),
    Case::ok("config-install-ignored-for-dependency", "modprobe -i -v bridge").before("config 'install llc echo llc; modprobe -i llc'")
        .differs("order of lines on standard output", &[Out], "install echo llc; modprobe -i llc"),
    Case::fails("config-install-fails", "modprobe crc7", "").before("config 'install crc7 false'"),
    Case::fails("config-install-fails-3", "modprobe crc7", "").before("config 'install crc7 exit 3'"),
    Case::fails("config-install-dependency-fails", "modprobe bridge", "").before("config 'install llc /bin/false'"),
    Case::ok("config-install-dry", "modprobe -n -v crc7").before("config 'install crc7 echo hello'"),
    Case::ok("config-install-of-nothing", "modprobe nothing-real").before("config 'install nothing_real echo here'"),
    Case::ok("config-softdep", "modprobe -v tun").before("config 'softdep tun pre: crc7 post: psample'"),
    Case::ok("config-softdep-missing", "modprobe -v tun").before("config 'softdep tun pre: nothing'"),
    Case::ok("config-softdep-fails", "modprobe tun").before("config 'softdep tun pre: init_einval'"),
    Case::ok("config-softdep-loop", "modprobe -v tun").before("config 'softdep tun pre: crc7'; config 'softdep crc7 pre: tun'"),
    Case::ok("config-softdep-two-lines", "modprobe -v tun").before("config 'softdep tun pre: crc7'; config 'softdep tun pre: psample'")
        .differs("several `softdep` lines for one module", &[Out, Modules], "psample.ko.zst"),
    Case::ok("config-softdep-over-own", "modprobe -v xt_LOG").before("config 'softdep xt_LOG pre: crc7'")
        .differs("several `softdep` lines for one module", &[Out, Modules], "nf_log_syslog.ko"),
    Case::fails("config-softdep-install", "modprobe -v tun", "").before("config 'softdep tun pre: crc7'; config 'install tun /bin/false'").code(0)
        .differs("`install` and `softdep` for one module", &[Code, Out, Err, Modules], "modprobe: ERROR: Error running install command '/bin/false' for module tun: retcode 1"),
    Case::ok("config-comments", "modprobe -v crc7").before("printf '# one\\n\\n  options   crc7 \\\\\\n  a=1\\n#options crc7 b=2\\n' >/etc/modprobe.d/x.conf"),
    Case::ok("config-bad-line", "modprobe -v crc7").before("config 'nonsense crc7'; config 'options'"),
    Case::ok("config-include", "modprobe -v crc7").before("config 'include /tmp/x.conf'"),
    Case::ok("config-other-ending", "modprobe -v dummy").before("echo 'options dummy numdummies=2' >/etc/modprobe.d/x.txt"),
    Case::ok("config-order", "modprobe -v dummy").before("config 'options dummy numdummies=1' b; config 'options dummy numdummies=2' a")
        .look("parameters dummy"),
    Case::ok("config-lib-shadowed", "modprobe -v dummy")
        .before("mkdir -p /lib/modprobe.d; echo 'options dummy numdummies=3' >/lib/modprobe.d/x.conf; config 'options dummy numdummies=1' x")
        .after("rm -r /lib/modprobe.d"),
    Case::ok("config-run", "modprobe -v dummy").before("mkdir -p /run/modprobe.d; echo 'options dummy numdummies=3' >/run/modprobe.d/x.conf")
        .after("rm -r /run/modprobe.d"),
    Case::ok("config-named-file", "modprobe -C /tmp/own.conf -v dummy").before("echo 'options dummy numdummies=4' >/tmp/own.conf; config 'options dummy numdummies=1'"),
    Case::ok("config-named-directory", "modprobe --config=/tmp/own.d -v dummy").before("mkdir -p /tmp/own.d; echo 'options dummy numdummies=5' >/tmp/own.d/a.conf"),
    Case::ok("config-named-missing", "modprobe -C /tmp/nothing.d -v crc7"),
];
