//! What a capture keeps on disk: one directory a kernel and machine, `capture.json` and raw memory beside it.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use super::Result;

/// Counts up whenever a capture holds something else than before.
pub(crate) const FORMAT: u32 = 1;

/// A kernel and what it did with its modules.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Capture {
    pub(crate) format: u32,
    /// `x86_64` or `armv7l`.
    pub(crate) arch: String,
    pub(crate) machine: String,
    /// Contents of /proc/version.
    pub(crate) version: String,
    /// Digest of the kernel image, of the list of modules and of their files.
    pub(crate) sources: String,
    /// Address of the first byte of the memory in the file [`KERNEL`].
    pub(crate) kernel_base: u64,
    pub(crate) modules: Vec<ModuleCapture>,
}

/// What the kernel did with one module.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct ModuleCapture {
    pub(crate) name: String,
    /// Its path below the tree of modules.
    pub(crate) path: String,
    /// What `finit_module` returned, as the kernel returns it.
    pub(crate) result: i64,
    /// Address of `struct module`.
    pub(crate) this_module: u64,
    /// Address of the temporary copy of the file.
    pub(crate) copy: u64,
    /// The core allocation.
    pub(crate) core: Part,
    /// The init allocation.
    pub(crate) init: Part,
    /// `sh_addr` of every section header in the temporary copy, when all symbols had their values.
    pub(crate) sections: Vec<u64>,
    /// `mod->percpu`, 0 for none.
    pub(crate) percpu: u64,
    /// Kernel memory outside the module as it was right before the init function: address, bytes in hex. These
    /// are the static keys and static calls that its tables refer to.
    pub(crate) peeks: BTreeMap<u64, String>,
    /// Lines of the kernel's log while it was loaded, with levels and times.
    pub(crate) log: String,
    /// /proc/modules afterwards.
    pub(crate) proc_modules: String,
    /// /proc/sys/kernel/tainted afterwards.
    pub(crate) tainted: u64,
    /// Files under /sys/module/X afterwards, paths relative to it: contents in hex, or the errno.
    pub(crate) sysfs: BTreeMap<String, std::result::Result<String, i64>>,
    /// Its lines of /proc/kallsyms at the end of the run.
    pub(crate) kallsyms: Vec<String>,
}

/// `struct module_layout`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) base: u64,
    pub(crate) size: u64,
    pub(crate) text_size: u64,
    pub(crate) ro_size: u64,
    pub(crate) ro_after_init_size: u64,
}

/// When memory was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// After all relocations, before anything else.
    Relocated,
    /// Right before the init function.
    BeforeInit,
}

impl Stage {
    const fn name(self) -> &'static str {
        match self {
            Stage::Relocated => "relocated",
            Stage::BeforeInit => "before-init",
        }
    }
}

/// File with the kernel image's memory.
pub(crate) const KERNEL: &str = "kernel.bin";
/// File with /proc/kallsyms before the first module.
pub(crate) const KALLSYMS: &str = "kallsyms";

/// Path of a module's memory: the core part, or the init part.
pub(crate) fn memory(directory: &Path, module: &str, stage: Stage, init: bool) -> PathBuf {
    directory.join(format!("{module}.{}.{}", stage.name(), if init { "init" } else { "core" }))
}

impl Capture {
    /// Reads a capture if there is a complete one that was made from `sources`.
    pub(crate) fn load(directory: &Path, sources: &str) -> Option<Capture> {
        let text = std::fs::read(directory.join("capture.json")).ok()?;
        let capture: Capture = serde_json::from_slice(&text).ok()?;
        (capture.format == FORMAT && capture.sources == sources).then_some(capture)
    }

    /// Writes it; the last thing that is written, so that a capture without it is an unfinished one.
    pub(crate) fn save(&self, directory: &Path) -> Result<()> {
        std::fs::write(directory.join("capture.json"), serde_json::to_vec_pretty(self)?)?;
        Ok(())
    }
}

/// Bytes as text for JSON.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The reverse of [`hex`].
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).unwrap_or(0) as u8;
    text.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
