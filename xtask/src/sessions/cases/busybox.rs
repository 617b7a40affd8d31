//! busybox's `insmod` against `MODUTILS_STYLE=busybox`: errno as exit code, its messages, its second try.

use crate::sessions::case::Case;
use crate::sessions::case::Part::Code;
use crate::sessions::case::Part::Err;
use crate::sessions::case::Part::Modules;

pub(super) const CASES: &[Case] = &[
    Case::busybox("busybox-plain", "insmod hello.ko", 0, "").look("parameters hello"),
    Case::busybox("busybox-parameters", "insmod params.ko p_int=3 p_charp=word p_array=1,2", 0, "")
        .look("parameters params"),
    Case::busybox("busybox-blanks", "insmod params.ko p_charp='\"a b\"' p_int=4", 0, "")
        .look("parameters params"),
    Case::busybox("busybox-xz", "insmod hello.ko.xz", 0, ""),
    Case::busybox(
        "busybox-zst",
        "insmod hello.ko.zst",
        8,
        "insmod: can't insert 'hello.ko.zst': invalid module format",
    )
    .differs("zstd", &[Code, Err, Modules], ""),
    Case::busybox("busybox-gz", "insmod hello.ko.gz", 0, ""),
    Case::busybox(
        "busybox-missing",
        "insmod nothing.ko",
        254,
        "insmod: can't insert 'nothing.ko': No such file or directory",
    ),
    Case::busybox("busybox-option", "insmod -f hello.ko", 254, ""),
    Case::busybox("busybox-twice", "insmod hello.ko", 17, "insmod: can't insert 'hello.ko': File exists")
        .before("insmod hello.ko"),
    Case::busybox("busybox-directory", "insmod directory.ko", 1, "insmod: short read"),
    Case::busybox("busybox-empty", "insmod empty.ko", 1, "insmod: short read"),
    Case::busybox("busybox-three-bytes", "insmod three.ko", 8, ""),
    Case::busybox(
        "busybox-text",
        "insmod text.ko",
        8,
        "insmod: can't insert 'text.ko': invalid module format",
    ),
    Case::busybox("busybox-truncated", "insmod truncated.ko", 8, ""),
    Case::busybox("busybox-cut-xz", "insmod cut.ko.xz", 8, "insmod: corrupted data"),
    Case::busybox("busybox-other-arch", "insmod other_arch.ko", 8, ""),
    Case::busybox("busybox-vermagic", "insmod vermagic.ko", 8, ""),
    Case::busybox(
        "busybox-unknown",
        "insmod unknown.ko",
        2,
        "insmod: can't insert 'unknown.ko': unknown symbol in module, or unknown parameter",
    ),
    Case::busybox(
        "busybox-parameter",
        "insmod params.ko p_int=x",
        22,
        "insmod: can't insert 'params.ko': Invalid argument",
    ),
    Case::busybox("busybox-parameter-range", "insmod params.ko p_byte=256", 34, ""),
    Case::busybox(
        "busybox-init-1",
        "insmod init_positive.ko value=-1",
        1,
        "insmod: can't insert 'init_positive.ko': Operation not permitted",
    ),
    Case::busybox(
        "busybox-init-5",
        "insmod init_positive.ko value=-5",
        5,
        "insmod: can't insert 'init_positive.ko': Input/output error",
    ),
    Case::busybox("busybox-init-12", "insmod init_positive.ko value=-12", 12, ""),
    Case::busybox("busybox-init-2", "insmod init_positive.ko value=-2", 2, ""),
    Case::busybox("busybox-init-17", "insmod init_positive.ko value=-17", 17, ""),
    Case::busybox("busybox-not-root", "su -s /bin/sh nobody -c \"PATH=$PATH; insmod hello.ko\"", 1, ""),
];
