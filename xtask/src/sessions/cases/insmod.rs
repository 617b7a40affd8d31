//! `insmod`: files, parameters, force, and every refusal.

use crate::sessions::case::Case;
use crate::sessions::case::Part::Code;
use crate::sessions::case::Part::Err;
use crate::sessions::case::Part::Look;
use crate::sessions::case::Part::Modules;

const PARAMETERS: &str = "parameters params";

pub(super) const CASES: &[Case] = &[
    Case::ok("insmod-plain", "insmod hello.ko").look("parameters hello"),
    Case::ok("insmod-path", "insmod /f/hello.ko who=you count=3").look("parameters hello"),
    Case::ok("insmod-dot-path", "insmod ./hello.ko"),
    Case::ok("insmod-any-name", "insmod renamed.bin"),
    Case::ok("insmod-own-dependency", "insmod user.ko").before("insmod exporter.ko"),
    Case::ok("insmod-of-the-tree", "insmod /lib/modules/$V/kernel/drivers/net/dummy.ko numdummies=0")
        .look("parameters dummy"),
    Case::ok("insmod-positive-init", "insmod init_positive.ko").look("parameters init_positive"),
    Case::ok("insmod-no-init", "insmod no_init.ko"),
    Case::ok("insmod-percpu", "insmod percpu.ko"),
    Case::fails("insmod-verbose", "insmod -v no_init.ko", "insmod: invalid option -- 'v'").differs(
        "options of `insmod`",
        &[Code, Err, Modules],
        "insmod: INFO: finit_module 'no_init.ko' '' 0",
    ),
    Case::ok("insmod-syslog", "insmod -s hello.ko"),
    // parameters
    Case::ok("insmod-parameters-default", "insmod params.ko").look(PARAMETERS),
    Case::ok(
        "insmod-parameters-numbers",
        "insmod params.ko p_byte=255 p_short=-32768 p_ushort=65535 p_int=-2147483648 p_uint=4294967295 \
         p_long=-2147483648 p_ulong=4294967295 p_ullong=18446744073709551615 p_hexint=0x7f",
    )
    .look(PARAMETERS),
    Case::ok("insmod-parameters-bases", "insmod params.ko p_int=0x10 p_uint=010 p_byte=0xff")
        .look(PARAMETERS),
    Case::ok(
        "insmod-parameters-truth",
        "insmod params.ko p_bool p_invbool=1 p_bint=Y p_enable_only=1 p_flag",
    )
    .look(PARAMETERS),
    Case::ok("insmod-parameters-truth-no", "insmod params.ko p_bool=n p_invbool=N p_bint=0").look(PARAMETERS),
    Case::ok("insmod-parameters-arrays", "insmod params.ko p_array=1,2,3,4 p_bytes=7,8 p_names=a,b")
        .look(PARAMETERS),
    Case::ok("insmod-parameters-text", "insmod params.ko p_charp=word p_string=seven77").look(PARAMETERS),
    Case::ok("insmod-parameters-quoted", "insmod params.ko 'p_charp=\"a b  c\"' p_int=1").look(PARAMETERS),
    Case::ok("insmod-parameters-blanks", "insmod params.ko p_charp='a b' p_int=1").look(PARAMETERS).differs(
        "blanks in the value of a parameter",
        &[Look],
        "p_charp=a b",
    ),
    Case::ok("insmod-parameters-one-word", "insmod params.ko 'p_int=1 p_uint=2'").look(PARAMETERS),
    Case::ok("insmod-parameters-empty", "insmod params.ko p_charp= p_string=").look(PARAMETERS),
    Case::ok("insmod-parameters-dash", "insmod params.ko p-int=77").look(PARAMETERS),
    Case::ok("insmod-parameters-twice", "insmod params.ko p_int=1 p_int=2").look(PARAMETERS),
    Case::ok("insmod-parameters-unknown", "insmod params.ko p_unknown=1 p_int=3").look(PARAMETERS),
    Case::ok("insmod-parameters-other-module", "insmod params.ko params.p_int=5").look(PARAMETERS),
    Case::ok("insmod-parameters-unsafe", "insmod params.ko p_unsafe=1 p_outside=3 p_hidden=4 p_even=12")
        .look(PARAMETERS),
    Case::ok("insmod-parameters-after-dashes", "insmod params.ko p_int=1 -- p_uint=2").look(PARAMETERS),
    Case::fails(
        "insmod-parameter-range",
        "insmod params.ko p_byte=256",
        "insmod: ERROR: could not insert module params.ko: Numerical result out of range",
    )
    .explains(&["p_byte"]),
    Case::fails(
        "insmod-parameter-text",
        "insmod params.ko p_int=one",
        "insmod: ERROR: could not insert module params.ko: Invalid parameters",
    )
    .explains(&["p_int"]),
    Case::fails(
        "insmod-parameter-none",
        "insmod params.ko p_int",
        "insmod: ERROR: could not insert module params.ko: Invalid parameters",
    ),
    Case::fails(
        "insmod-parameter-long",
        "insmod params.ko p_string=12345678",
        "insmod: ERROR: could not insert module params.ko: No space left on device",
    ),
    Case::fails(
        "insmod-parameter-many",
        "insmod params.ko p_array=1,2,3,4,5",
        "insmod: ERROR: could not insert module params.ko: Invalid parameters",
    ),
    Case::fails(
        "insmod-parameter-odd",
        "insmod params.ko p_even=3",
        "insmod: ERROR: could not insert module params.ko: Invalid parameters",
    ),
    Case::fails(
        "insmod-parameter-refused",
        "insmod params.ko p_even=13",
        "insmod: ERROR: could not insert module params.ko: Numerical argument out of domain",
    ),
    // compressed
    Case::ok("insmod-xz", "insmod hello.ko.xz who=xz").look("parameters hello"),
    Case::ok("insmod-zst", "insmod hello.ko.zst who=zst").look("parameters hello"),
    Case::ok("insmod-zst-piped", "insmod hello_piped.ko.zst"),
    Case::fails("insmod-xz-cut", "insmod cut.ko.xz", ""),
    Case::fails("insmod-zst-cut", "insmod cut.ko.zst", ""),
    // force
    Case::ok("insmod-force-vermagic", "insmod -f vermagic.ko"),
    Case::ok("insmod-force-crc", "insmod -f crc.ko who=forced").look("parameters hello"),
    Case::ok("insmod-force-good", "insmod -f hello.ko"),
    Case::ok("insmod-force-both-after", "insmod vermagic.ko -f"),
    // refusals
    Case::fails(
        "insmod-missing",
        "insmod nothing.ko",
        "insmod: ERROR: could not load module nothing.ko: No such file or directory",
    ),
    Case::fails(
        "insmod-missing-directory",
        "insmod no/hello.ko",
        "insmod: ERROR: could not load module no/hello.ko: No such file or directory",
    ),
    Case::fails(
        "insmod-below-file",
        "insmod hello.ko/x",
        "insmod: ERROR: could not load module hello.ko/x: Not a directory",
    ),
    Case::fails(
        "insmod-directory",
        "insmod directory.ko",
        "insmod: ERROR: could not insert module directory.ko: Is a directory",
    ),
    Case::fails(
        "insmod-empty",
        "insmod empty.ko",
        "insmod: ERROR: could not insert module empty.ko: Invalid parameters",
    ),
    Case::fails(
        "insmod-three-bytes",
        "insmod three.ko",
        "insmod: ERROR: could not insert module three.ko: Invalid parameters",
    ),
    Case::fails(
        "insmod-text",
        "insmod text.ko",
        "insmod: ERROR: could not insert module text.ko: Invalid module format",
    ),
    Case::fails(
        "insmod-truncated",
        "insmod truncated.ko",
        "insmod: ERROR: could not insert module truncated.ko: Invalid module format",
    ),
    Case::fails(
        "insmod-one-short",
        "insmod one_short.ko",
        "insmod: ERROR: could not insert module one_short.ko: Invalid module format",
    ),
    Case::fails(
        "insmod-other-arch",
        "insmod other_arch.ko",
        "insmod: ERROR: could not insert module other_arch.ko: Invalid module format",
    ),
    Case::fails(
        "insmod-vermagic",
        "insmod vermagic.ko",
        "insmod: ERROR: could not insert module vermagic.ko: Invalid module format",
    )
    .explains(&["mod_unlaod", "mod_unload"]),
    Case::fails(
        "insmod-crc",
        "insmod crc.ko",
        "insmod: ERROR: could not insert module crc.ko: Invalid parameters",
    )
    .explains(&["_printk"]),
    Case::fails(
        "insmod-unknown-symbol",
        "insmod unknown.ko",
        "insmod: ERROR: could not insert module unknown.ko: Unknown symbol in module",
    )
    .explains(&["zlib_inflate_w0rkspacesize"]),
    Case::fails(
        "insmod-dependency-missing",
        "insmod user.ko",
        "insmod: ERROR: could not insert module user.ko: Unknown symbol in module",
    )
    .explains(&["exporter_plain"]),
    Case::fails(
        "insmod-namespace",
        "insmod user_nons.ko",
        "insmod: ERROR: could not insert module user_nons.ko: Invalid parameters",
    )
    .before("insmod exporter.ko")
    .explains(&["FIXTURE"]),
    Case::fails(
        "insmod-proprietary",
        "insmod user_proprietary.ko",
        "insmod: ERROR: could not insert module user_proprietary.ko: Unknown symbol in module",
    )
    .before("insmod exporter.ko"),
    Case::fails(
        "insmod-twice",
        "insmod hello.ko",
        "insmod: ERROR: could not insert module hello.ko: File exists",
    )
    .before("insmod hello.ko"),
    Case::fails(
        "insmod-init-einval",
        "insmod init_einval.ko",
        "insmod: ERROR: could not insert module init_einval.ko: Invalid parameters",
    ),
    Case::fails(
        "insmod-init-1",
        "insmod init_positive.ko value=-1",
        "insmod: ERROR: could not insert module init_positive.ko: Operation not permitted",
    ),
    Case::fails(
        "insmod-init-2",
        "insmod init_positive.ko value=-2",
        "insmod: ERROR: could not insert module init_positive.ko: Unknown symbol in module",
    ),
    Case::fails(
        "insmod-init-5",
        "insmod init_positive.ko value=-5",
        "insmod: ERROR: could not insert module init_positive.ko: Input/output error",
    ),
    Case::fails(
        "insmod-init-8",
        "insmod init_positive.ko value=-8",
        "insmod: ERROR: could not insert module init_positive.ko: Invalid module format",
    ),
    Case::fails(
        "insmod-init-12",
        "insmod init_positive.ko value=-12",
        "insmod: ERROR: could not insert module init_positive.ko: Cannot allocate memory",
    ),
    Case::fails(
        "insmod-init-16",
        "insmod init_positive.ko value=-16",
        "insmod: ERROR: could not insert module init_positive.ko: Device or resource busy",
    ),
    Case::fails(
        "insmod-init-17",
        "insmod init_positive.ko value=-17",
        "insmod: ERROR: could not insert module init_positive.ko: File exists",
    ),
    Case::fails(
        "insmod-init-19",
        "insmod init_positive.ko value=-19",
        "insmod: ERROR: could not insert module init_positive.ko: No such device",
    ),
    Case::fails(
        "insmod-init-110",
        "insmod init_positive.ko value=-110",
        "insmod: ERROR: could not insert module init_positive.ko: Connection timed out",
    ),
    Case::fails(
        "insmod-not-root",
        "su -s /bin/sh nobody -c \"PATH=$PATH; insmod hello.ko\"",
        "insmod: ERROR: could not insert module hello.ko: Operation not permitted",
    ),
    Case::fails(
        "insmod-not-root-xz",
        "su -s /bin/sh nobody -c \"PATH=$PATH; insmod hello.ko.xz\"",
        "insmod: ERROR: could not insert module hello.ko.xz: Operation not permitted",
    ),
    Case::fails(
        "insmod-unreadable",
        "su -s /bin/sh nobody -c \"PATH=$PATH; insmod /tmp/secret.ko\"",
        "insmod: ERROR: could not insert module /tmp/secret.ko: Permission denied",
    )
    .before("cp hello.ko /tmp/secret.ko; chmod 600 /tmp/secret.ko"),
    // how it is called
    Case::fails("insmod-nothing", "insmod", "insmod: ERROR: missing filename."),
    Case::fails(
        "insmod-stdin",
        "insmod - <hello.ko",
        "insmod: ERROR: this tool does not support loading from stdin!",
    ),
    Case::fails("insmod-option", "insmod --nonsense hello.ko", "insmod: unrecognized option '--nonsense'"),
    Case::fails("insmod-letter", "insmod -z hello.ko", "insmod: invalid option -- 'z'"),
    // later kmods do
    Case::fails(
        "insmod-gz",
        "insmod hello.ko.gz who=gz",
        "insmod: ERROR: could not insert module hello.ko.gz: Invalid module format",
    )
    .look("parameters hello")
    .differs("gzip and lzma", &[Code, Err, Modules, Look], "who=gz"),
    Case::fails(
        "insmod-force-vermagic-only",
        "insmod --force-vermagic vermagic.ko",
        "insmod: unrecognized option '--force-vermagic'",
    )
    .differs("options of `insmod`", &[Code, Err, Modules], ""),
    Case::fails(
        "insmod-force-modversion-only",
        "insmod --force-modversion crc.ko",
        "insmod: unrecognized option '--force-modversion'",
    )
    .differs("options of `insmod`", &[Code, Err, Modules], ""),
    Case::fails(
        "insmod-force-other-vermagic",
        "insmod --force-modversion vermagic.ko",
        "insmod: unrecognized option '--force-modversion'",
    )
    .differs(
        "options of `insmod`",
        &[Err],
        "insmod: ERROR: could not insert module vermagic.ko: Invalid module format",
    ),
];
