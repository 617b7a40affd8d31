//! The indexes of a distribution's whole kernel, made by kmod's `depmod` and by ours: the same bytes.
//!
//! All of its modules as they are, and one in eight packed by each tool; then ours again after one module changed.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use lkm_tree::depmod::Depmod;
use lkm_tree::depmod::IndexFile;
use lkm_tree::depmod::Note;
use lkm_tree::depmod::Observer;

use crate::error::Context;
use crate::error::Error;
use crate::error::Result;
use crate::packages::Arch;
use crate::packages::Package;
use crate::paths;
use crate::process;

/// Linux 6.1 for PCs: about 4,000 modules.
const RELEASE: &str = "6.1.0-56-amd64";
const VERSION: &str = "6.1.192-2";
/// Of so many modules one is packed: packing all takes minutes.
const EVERY: usize = 8;
/// What the kernel's build leaves beside the modules.
const LISTS: [&str; 3] = ["modules.order", "modules.builtin", "modules.builtin.modinfo"];
/// kmod has it from version 33 on.
const NEWER: &str = "modules.weakdep";

/// How modules are packed: ending, program, whether Debian's kmod unpacks it.
const PACKINGS: [(&str, &[&str], bool); 3] = [
    ("zst", &["zstd", "-q", "-c"], true),
    ("xz", &["xz", "--check=crc32", "--lzma2=dict=1MiB", "-c"], true),
    ("gz", &["gzip", "-c"], false),
];

/// Makes the trees and compares.
pub(crate) fn check() -> Result<()> {
    let package = Package::new(Arch::Amd64, format!("linux-image-{RELEASE}"), VERSION);
    let source = package.unpack_or_newest()?.join("lib/modules").join(RELEASE);
    let home = paths::cache()?.join("indexes");
    let whole = Tree { root: home.join("whole") };
    if !whole.modules().exists() {
        paths::create(&whole.root.join("lib/modules"))?;
        process::output(Command::new("cp").arg("-al").arg(&source).arg(whole.modules()))?;
    }
    let plain = compare(&whole, "plain")?;
    incremental(&whole, &plain)?;
    let part = Tree { root: home.join("part") };
    part.fill(&source, None)?;
    let unpacked = compare(&part, "one in eight")?;
    for (ending, command, theirs) in PACKINGS {
        let tree = Tree { root: home.join(ending) };
        tree.fill(&source, Some((ending, command)))?;
        let files = if theirs { compare(&tree, ending)? } else { ours(&tree)? };
        for (packed, plain) in files.iter().zip(&unpacked).filter(|(file, _)| file.is_text()) {
            let text = String::from_utf8_lossy(&packed.bytes).replace(&format!(".ko.{ending}"), ".ko");
            if text.as_bytes() != plain.bytes {
                return Err(Error::new(format!(
                    "{} of modules packed as {ending} says something else",
                    packed.name
                )));
            }
        }
    }
    Ok(())
}

/// A root directory with the modules of one kernel.
struct Tree {
    root: PathBuf,
}

impl Tree {
    fn modules(&self) -> PathBuf {
        self.root.join("lib/modules").join(RELEASE)
    }

    /// One in some modules of a directory, packed, if that has not been done.
    fn fill(&self, source: &Path, packing: Option<(&str, &[&str])>) -> Result<()> {
        let done = self.root.join("done");
        if done.exists() {
            return Ok(());
        }
        let mut modules = Vec::new();
        list(source, &mut modules)?;
        modules.sort();
        for file in modules.iter().step_by(EVERY) {
            let below = file.strip_prefix(source).map_err(|_| Error::new("a path outside"))?;
            let target = self.modules().join(below);
            paths::create(target.parent().unwrap_or(&target))?;
            match packing {
                None => fs::copy(file, &target).map(drop)?,
                Some((ending, command)) => {
                    let (program, arguments) = command.split_first().context("no program")?;
                    let output = Command::new(program).args(arguments).arg(file).output();
                    let output = output.with_context(|| format!("cannot run {program}"))?;
                    if !output.status.success() {
                        return Err(Error::new(format!("{program} failed on {}", file.display())));
                    }
                    fs::write(format!("{}.{ending}", target.display()), output.stdout)?;
                }
            }
        }
        for name in LISTS {
            fs::copy(source.join(name), self.modules().join(name))?;
        }
        Ok(fs::write(done, [])?)
    }
}

fn list(directory: &Path, modules: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, modules)?;
        } else if path.extension().is_some_and(|extension| extension == "ko") {
            modules.push(path);
        }
    }
    Ok(())
}

/// Nothing is to be said about modules as they come from the distribution.
#[derive(Default)]
struct Silence(Vec<String>);

impl Observer for Silence {
    fn note(&mut self, note: Note) {
        self.0.push(note.to_string());
    }
}

fn ours(tree: &Tree) -> Result<Vec<IndexFile>> {
    let mut silence = Silence::default();
    let made = Depmod::new(tree.modules()).indexes(&mut silence);
    let made = made.map_err(|error| Error::new(error.to_string()))?;
    match silence.0.first() {
        None => Ok(made.files),
        Some(note) => Err(Error::new(format!("ours says: {note}"))),
    }
}

/// Both on one tree.
fn compare(tree: &Tree, name: &str) -> Result<Vec<IndexFile>> {
    for entry in fs::read_dir(tree.modules())? {
        let entry = entry?;
        let is_list = LISTS.iter().any(|list| entry.file_name() == *list);
        if entry.file_type()?.is_file() && !is_list {
            fs::remove_file(entry.path())?;
        }
    }
    let start = Instant::now();
    process::output(Command::new("depmod").arg("-b").arg(&tree.root).arg(RELEASE))?;
    let theirs = start.elapsed();
    let start = Instant::now();
    let files = ours(tree)?;
    let ours = start.elapsed();
    let mut bytes = 0;
    for file in files.iter().filter(|file| file.name != NEWER) {
        let path = tree.modules().join(file.name);
        let expected = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        bytes += expected.len();
        if file.bytes != expected {
            let place = file.bytes.iter().zip(&expected).take_while(|(a, b)| a == b).count();
            return Err(Error::new(format!("{name}: {} differs from kmod's at byte {place}", file.name)));
        }
    }
    println!(
        "    {name}: {} files, {bytes} bytes, all the same (kmod {:.2} s; ours, unoptimised, {:.2} s)",
        files.len() - 1,
        theirs.as_secs_f64(),
        ours.as_secs_f64()
    );
    Ok(files)
}

/// Ours twice with a cache, with one module changed in between.
fn incremental(tree: &Tree, expected: &[IndexFile]) -> Result<()> {
    let output = tree.root.join("incremental");
    if output.exists() {
        fs::remove_dir_all(&output)?;
    }
    paths::create(&output)?;
    let depmod = Depmod { cache: true, output: Some(output.clone()), ..Depmod::new(tree.modules()) };
    let update = || depmod.update(&mut ()).map_err(|error| Error::new(error.to_string()));
    let all = update()?;
    // Another file with the same contents in its place: only that one has to be read.
    let module = tree.modules().join("kernel/fs/ext4/ext4.ko");
    let copy = tree.root.join("copy");
    fs::copy(&module, &copy)?;
    fs::rename(&copy, &module)?;
    let one = update()?;
    let none = update()?;
    let read = [all, one, none].map(|done| done.modules - done.cached);
    // What was changed a moment ago is read again, for it may have changed once more.
    if read[0] != all.modules || read[1] != 1 || read[2] > 1 {
        return Err(Error::new(format!("of {} modules {read:?} were read in three runs", all.modules)));
    }
    for file in expected {
        if fs::read(output.join(file.name))? != file.bytes {
            return Err(Error::new(format!("{} is not what it was before", file.name)));
        }
    }
    println!("    read in three runs: {} modules, then {}, then {}", read[0], read[1], read[2]);
    Ok(())
}
