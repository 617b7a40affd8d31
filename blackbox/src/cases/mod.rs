//! The cases, a file for each command, and the tree of modules that most of them have.
//!
//! What the commands have to answer is kmod 30's answer to the same, unless a case writes it down and says why.

use std::io;
use std::path::Path;

use crate::case::Case;
use crate::fixture::RELEASE;
use crate::fixture::put;
use crate::kernel::KERNEL_CRC;
use crate::kernel::KERNEL_SYMBOL;
use crate::module::Module;

mod beyond;
mod damaged;
mod depmod;
mod insert;
mod list;
mod modinfo;
mod modprobe;
mod modprobe_remove;

/// All cases.
pub(crate) fn all() -> Vec<Case> {
    [
        depmod::cases(),
        modinfo::cases(),
        modprobe::cases(),
        modprobe_remove::cases(),
        insert::cases(),
        list::cases(),
        damaged::cases(),
        beyond::cases(),
    ]
    .concat()
}

/// A CMS message with a signer and a serial number.
pub(crate) const SIGNATURE: &[u8] = include_bytes!("../../../crates/module/src/signature/messages/ec.der");
/// A CMS message with a key identifier.
pub(crate) const SIGNATURE_BY_KEY: &[u8] =
    include_bytes!("../../../crates/module/src/signature/messages/rsa-keyid.der");
/// A CMS message with signed attributes, by SHA-1.
pub(crate) const SIGNATURE_SHA1: &[u8] =
    include_bytes!("../../../crates/module/src/signature/messages/attributes.der");

/// The modules of the tree, by path below the directory of the release.
pub(crate) fn modules() -> Vec<(&'static str, Module)> {
    let new = Module::new;
    let top = new("top")
        .info("description", "A module that needs another one")
        .info("author", "A. Uthor <a@example.org>")
        .info("author", "An Other")
        .info("version", "1.2")
        .info("firmware", "top/first.bin")
        .info("firmware", "top/second.bin")
        .info("alias", "pci:v00001234d00005678sv*sd*bc*sc*i*")
        .info("alias", "topping")
        .info("parm", "count:how many")
        .info("parmtype", "count:int")
        .info("parm", "name:what it is called")
        .info("parmtype", "name:charp")
        .info("parmtype", "bare:bool")
        .info("intree", "Y")
        .depends("mid")
        .imports("mid_fn", 0x22);
    let dashed = new("dash_ed").info("alias", "acpi*:PNP0A0[38]:*").info("alias", "dash-alias");
    let softly = new("softly").info("softdep", "pre: base mid post: extra");
    let node = new("node").info("alias", "devname:node/one").info("alias", "char-major-10-229");
    let old = new("old").info("vermagic", "5.0.0-old SMP mod_unload modversions ");
    vec![
        ("kernel/lib/base.ko", new("base").exports("base_fn", 0x11).info("alias", "platform:base")),
        (
            "kernel/lib/mid.ko",
            new("mid")
                .depends("base")
                .imports("base_fn", 0x11)
                .exports("mid_fn", 0x22)
                .exports("mid_data", 0x33),
        ),
        ("kernel/drivers/top.ko", top),
        (
            "kernel/drivers/other.ko",
            new("other")
                .depends("base")
                .imports("base_fn", 0x11)
                .info("alias", "pci:v00001234d*sv*sd*bc*sc*i*")
                .info("alias", "shared"),
        ),
        ("kernel/drivers/dash-ed.ko", dashed),
        ("kernel/fs/softly.ko", softly),
        ("kernel/fs/extra.ko", new("extra").info("alias", "fs-extra").info("alias", "shared")),
        ("kernel/fs/node.ko", node),
        ("kernel/loop/la.ko", new("la").info("softdep", "pre: lb")),
        ("kernel/loop/lb.ko", new("lb").info("softdep", "pre: la")),
        ("kernel/loop/wa.ko", new("wa").info("weakdep", "wb")),
        ("kernel/loop/wb.ko", new("wb").info("weakdep", "wa base")),
        ("kernel/crypto/sealed.ko", new("sealed").signed(SIGNATURE)),
        ("kernel/crypto/sealed-key.ko", new("sealed_key").signed(SIGNATURE_BY_KEY)),
        ("kernel/crypto/sealed-sha1.ko", new("sealed_sha1").signed(SIGNATURE_SHA1)),
        ("kernel/odd/old.ko", old),
        ("kernel/odd/crc.ko", new("crc").imports(KERNEL_SYMBOL, 0xbad)),
        ("kernel/odd/fit.ko", new("fit").imports(KERNEL_SYMBOL, KERNEL_CRC)),
    ]
}

/// The order in which the kernel's build would have listed them: not that of the names.
const ORDER: &[&str] = &[
    "kernel/fs/softly.ko",
    "kernel/fs/node.ko",
    "kernel/fs/extra.ko",
    "kernel/lib/mid.ko",
    "kernel/lib/base.ko",
    "kernel/drivers/other.ko",
    "kernel/drivers/top.ko",
    "kernel/drivers/dash-ed.ko",
    "kernel/loop/lb.ko",
    "kernel/loop/la.ko",
    "kernel/loop/wb.ko",
    "kernel/loop/wa.ko",
    "kernel/crypto/sealed.ko",
    "kernel/crypto/sealed-sha1.ko",
    "kernel/crypto/sealed-key.ko",
    "kernel/odd/old.ko",
    "kernel/odd/fit.ko",
    "kernel/odd/crc.ko",
];

/// Writes the tree below a root, with what the kernel's build leaves beside the modules.
pub(crate) fn ground(root: &Path) -> io::Result<()> {
    let directory = format!("lib/modules/{RELEASE}");
    for (path, module) in modules() {
        put(root, &format!("{directory}/{path}"), &module.file())?;
    }
    let order: String = ORDER.iter().map(|path| format!("{path}\n")).collect();
    put(root, &format!("{directory}/modules.order"), order.as_bytes())?;
    let builtin = "kernel/drivers/stone.ko\nkernel/fs/brick-work.ko\n";
    put(root, &format!("{directory}/modules.builtin"), builtin.as_bytes())?;
    let modinfo = [
        "stone.license=GPL",
        "stone.file=drivers/stone",
        "stone.description=Always there",
        "stone.alias=platform:stone",
        "stone.alias=pebble-*",
        "stone.parm=weight:in grams",
        "stone.parmtype=weight:uint",
        "brick_work.license=Dual MIT/GPL",
        "brick_work.file=fs/brick-work",
    ];
    let modinfo: String = modinfo.iter().map(|line| format!("{line}\0")).collect();
    put(root, &format!("{directory}/modules.builtin.modinfo"), modinfo.as_bytes())
}
