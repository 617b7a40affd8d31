//! What the commands are measured on: the modules of a distribution's kernel, plain and compressed, for each program a directory of
//! its own.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::error::Context;
use crate::error::Result;
use crate::packages::Arch;
use crate::packages::Package;
use crate::paths;
use crate::process;

/// Linux 6.1 for PCs: about 4,000 modules.
const PACKAGE: &str = "linux-image-6.1.0-56-amd64";
const VERSION: &str = "6.1.192-2";

/// How modules are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Zstd,
    Xz,
}

impl Packing {
    fn name(self) -> &'static str {
        match self {
            Packing::Plain => "plain",
            Packing::Zstd => "zst",
            Packing::Xz => "xz",
        }
    }

    /// What packs a file in its place, as the kernel's own build does.
    fn command(self) -> &'static [&'static str] {
        match self {
            Packing::Plain => &[],
            Packing::Zstd => &["zstd", "-q", "--rm", "-f"],
            Packing::Xz => &["xz", "--check=crc32", "--lzma2=dict=1MiB", "-f"],
        }
    }
}

/// The trees.
#[derive(Debug)]
pub(super) struct Roots {
    directory: PathBuf,
    /// `uname -r` of the kernel.
    pub(super) release: String,
}

impl Roots {
    /// Fetches and unpacks the kernel, packs its modules once.
    pub(super) fn prepare() -> Result<Roots> {
        let package = Package::new(Arch::Amd64, PACKAGE, VERSION);
        let unpacked = package.unpack_or_newest()?.join("lib/modules");
        let release = PACKAGE.trim_start_matches("linux-image-").to_owned();
        let directory = paths::cache()?.join("bench").join(&release);
        let roots = Roots { directory, release };
        for packing in [Packing::Plain, Packing::Zstd, Packing::Xz] {
            let made = roots.directory.join(packing.name()).join("made");
            if made.exists() {
                continue;
            }
            let root = roots.root(packing, "source");
            remove(&root)?;
            paths::create(&root.join("lib/modules"))?;
            let modules = roots.modules(&root);
            // Packing replaces files, so that links to the package's own do it no harm.
            process::output(Command::new("cp").arg("-al").arg(unpacked.join(&roots.release)).arg(&modules))?;
            if packing != Packing::Plain {
                println!("    packing the modules of {} ({}), once", roots.release, packing.name());
                let threads = std::thread::available_parallelism().map_or(1, usize::from).to_string();
                let find = ["find", "-name", "*.ko", "-print0"];
                let pack = ["xargs", "-0", "-n", "16", "-P", &threads];
                let script =
                    format!("'{}' | {} {}", find.join("' '"), pack.join(" "), packing.command().join(" "));
                process::output(Command::new("sh").args(["-c", &script]).current_dir(&modules))?;
            }
            fs::write(&made, [])?;
        }
        Ok(roots)
    }

    /// The root directory that a program has for itself.
    fn root(&self, packing: Packing, program: &str) -> PathBuf {
        self.directory.join(packing.name()).join(program)
    }

    /// Where a root has the modules of the kernel.
    pub(super) fn modules(&self, root: &Path) -> PathBuf {
        root.join("lib/modules").join(&self.release)
    }

    /// A new tree for a program, without any index: the modules are links.
    pub(super) fn fresh(&self, packing: Packing, program: &str) -> Result<PathBuf> {
        let root = self.root(packing, program);
        remove(&root)?;
        paths::create(&root.join("lib/modules"))?;
        let source = self.modules(&self.root(packing, "source"));
        process::output(Command::new("cp").arg("-al").arg(source).arg(self.modules(&root)))?;
        Ok(root)
    }

    /// Removes all that a depmod may have written.
    pub(super) fn clean(&self, root: &Path) -> Result<()> {
        let modules = self.modules(root);
        for entry in fs::read_dir(&modules).with_context(|| format!("cannot read {}", modules.display()))? {
            let entry = entry?;
            let name = entry.file_name();
            let own = ["modules.order", "modules.builtin", "modules.builtin.modinfo"];
            if entry.file_type()?.is_file() && !own.iter().any(|own| name == OsStr::new(own)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// The plain file of a module.
    pub(super) fn module(&self, root: &Path, path: &str) -> PathBuf {
        self.modules(root).join("kernel").join(path)
    }

    /// Puts a changed copy of a module in its place.
    pub(super) fn change(&self, root: &Path, path: &str) -> Result<()> {
        let file = self.module(root, path);
        let mut bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        fs::remove_file(&file)?;
        // Behind all sections: a file of another size, otherwise the same module.
        bytes.extend_from_slice(&[0; 8]);
        Ok(fs::write(&file, bytes)?)
    }
}

fn remove(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    Ok(())
}
