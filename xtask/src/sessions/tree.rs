//! The guest's `/lib/modules`: some of the kernel's own modules with all they depend on, two of them compressed, and the fixtures.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use lkm_tree::search::ModuleDirectory;
use lkm_tree::search::depends;
use lkm_tree::search::normalise;

use super::target::Target;
use crate::error::Context;
use crate::error::Result;
use crate::packages::Kernel;
use crate::paths;
use crate::process;

/// Modules of both kernels; what they depend on comes with them.
const MODULES: &[&str] = &[
    // dependencies of several depths, some shared
    "8021q",
    "bridge",
    "veth",
    "bonding",
    "macvlan",
    "tun",
    "dummy",
    "ifb",
    "iptable_filter",
    "nf_conntrack",
    // file systems and their aliases; vfat asks for code pages by name
    "vfat",
    "isofs",
    "udf",
    "nls_utf8",
    "nls_cp437",
    "nls_ascii",
    "nls_iso8859_1",
    // parameters, devices and aliases of devices
    "loop",
    "brd",
    "zram",
    "dm_mod",
    "dm_zero",
    "softdog",
    "virtio_net",
    "virtio_blk",
    "ena",
    // soft dependencies before and after: there, missing, and by alias
    "xt_LOG",
    "nf_log_syslog",
    "xt_NFLOG",
    "mpls_iptunnel",
    "mpls_gso",
    "libcrc32c",
    "crc32c_generic",
    "xts",
    "ecb",
    "lrw",
    // leaves
    "crc7",
    "crc_itu_t",
    "tcp_bic",
    "tcp_vegas",
    "ts_bm",
    "ts_kmp",
    "ts_fsm",
    "sch_prio",
    "raid0",
    "rmd160",
    "psample",
];

/// Modules that are compressed, with the command that does it and the ending that it adds.
const COMPRESSED: &[(&str, &[&str], &str)] =
    &[("nls_ascii", XZ, "xz"), ("nls_iso8859_1", ZSTD, "zst"), ("llc", XZ, "xz"), ("psample", ZSTD, "zst")];

/// As the kernel's build packs modules.
pub(super) const XZ: &[&str] = &["xz", "--check=crc32", "--lzma2=dict=1MiB"];
pub(super) const ZSTD: &[&str] = &["zstd", "-q", "--rm"];
pub(super) const GZIP: &[&str] = &["gzip", "-n"];

/// Files beside the modules that depmod or the commands read.
const LISTS: &[&str] = &["modules.order", "modules.builtin", "modules.builtin.modinfo"];

/// Packs a file in place.
pub(super) fn pack(path: &Path, how: &[&str]) -> Result<()> {
    let (program, arguments) = how.split_first().context("no program packs nothing")?;
    process::output(Command::new(program).args(arguments).arg(path)).map(drop)
}

/// Writes the tree below `root`, with the indexes of kmod's depmod.
pub(super) fn write(target: Target, kernel: &Kernel, root: &Path) -> Result<()> {
    let from = kernel.modules();
    let to = root.join("lib/modules").join(&kernel.release);
    let found = ModuleDirectory::scan(&from);
    let mut wanted: Vec<String> = MODULES.iter().map(|name| normalise(name)).collect();
    let mut taken = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        // A module of one kernel may be a part of another.
        let Some(path) = found.path(&name) else { continue };
        if !taken.insert(name) {
            continue;
        }
        wanted.extend(depends(&read(path)?).iter().map(|name| normalise(name)));
        copy(path, &to.join(path.strip_prefix(&from).unwrap_or(path)))?;
    }
    let copied = ModuleDirectory::scan(&to);
    for (name, how, _) in COMPRESSED {
        let path = copied.path(name).with_context(|| format!("{name} is in no tree"))?;
        pack(path, how)?;
    }
    for path in modules_in(&target.fixtures())? {
        copy(&path, &to.join("extra").join(path.file_name().unwrap_or_default()))?;
    }
    for name in LISTS {
        copy(&from.join(name), &to.join(name))?;
    }
    let depmod = paths::program("depmod").context("depmod is not there; Debian's package is kmod")?;
    process::output(Command::new(depmod).arg("-b").arg(root).arg(&kernel.release)).map(drop)
}

/// The plain module files in a directory, in order.
pub(super) fn modules_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "ko"))
        .collect();
    paths.sort();
    Ok(paths)
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        paths::create(parent)?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display())).map(drop)
}
