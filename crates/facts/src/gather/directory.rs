//! Directories: of modules, of kernel headers, of a whole system or an unpacked package.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use lkm_module::Module;
use lkm_tree::compress;

use super::below;
use super::file;
use crate::Export;
use crate::Exports;
use crate::Fact;
use crate::Facts;
use crate::FactsError;
use crate::Machine;
use crate::Source;
use crate::system_map;

/// Facts from a directory: `/lib/modules/V`, kernel headers or a build directory, or the root of a system or an unpacked
/// package with one kernel in it.
pub fn directory(facts: &mut Facts, path: &Path) -> Result<(), FactsError> {
    if is_headers(path) {
        return headers(facts, path);
    }
    if is_modules(path) {
        modules(facts, path)?;
        // The link to what modules are built with.
        let build = path.join("build");
        return if is_headers(&build) { headers(facts, &build) } else { Ok(()) };
    }
    for release in releases(path) {
        let known = facts.release.as_ref().map(|release| release.value.clone());
        if known.is_none_or(|known| known == release) {
            installed(facts, &release, path)?;
        }
    }
    Ok(())
}

fn is_modules(path: &Path) -> bool {
    ["modules.order", "modules.builtin", "modules.dep", "kernel"].iter().any(|name| path.join(name).exists())
}

fn is_headers(path: &Path) -> bool {
    path.join("Module.symvers").is_file()
        || path.join("include/generated/utsrelease.h").is_file()
        || path.join(".config").is_file()
}

/// Kernels below a root, by their releases, each once.
fn releases(root: &Path) -> BTreeSet<String> {
    let mut releases = BTreeSet::new();
    for (directory, prefix) in
        [("lib/modules", ""), ("usr/lib/modules", ""), ("boot", "vmlinuz-"), ("usr/src", "linux-headers-")]
    {
        let Ok(entries) = std::fs::read_dir(below(root, directory)) else { continue };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        releases.extend(names.filter_map(|name| {
            let release = name.strip_prefix(prefix)?;
            // linux-headers-6.1.0-1-common is the part that kernels share.
            let common = prefix == "linux-headers-" && release.ends_with("-common");
            (release.starts_with(|first: char| first.is_ascii_digit()) && !common).then(|| release.to_owned())
        }));
    }
    releases
}

/// Everything about one release that is installed below a root.
pub(super) fn installed(facts: &mut Facts, release: &str, root: &Path) -> Result<(), FactsError> {
    let before = facts.clone();
    for path in [format!("usr/src/linux-headers-{release}"), format!("usr/src/kernels/{release}")] {
        let path = below(root, &path);
        if is_headers(&path) {
            headers(facts, &path)?;
        }
    }
    let symvers =
        ["gz", "xz", "zst"].map(|packing| below(root, &format!("boot/symvers-{release}.{packing}")));
    let boot = ["config", "System.map", "vmlinux", "vmlinuz"]
        .map(|name| below(root, &format!("boot/{name}-{release}")));
    for path in symvers.iter().chain(&boot) {
        if let Ok(bytes) = std::fs::read(path) {
            let stub = path.to_string_lossy().contains("System.map") && !system_map::is_system_map(&bytes);
            if !stub {
                file(facts, &bytes, &Source::file(path))?;
            }
        }
    }
    for path in ["lib/modules", "usr/lib/modules"] {
        let path = below(root, path).join(release);
        if is_modules(&path) {
            modules(facts, &path)?;
            break;
        }
    }
    if *facts != before && facts.release.is_none() {
        facts.release = Some(Fact::new(release.to_owned(), &Source::new("the names of its files")));
    }
    Ok(())
}

/// Kernel headers, or a directory that a kernel was built in.
fn headers(facts: &mut Facts, path: &Path) -> Result<(), FactsError> {
    for name in ["include/generated/utsrelease.h", "include/config/kernel.release"] {
        let path = path.join(name);
        if let Ok(bytes) = std::fs::read(&path) {
            release(facts, &bytes, &Source::file(&path));
        }
    }
    for name in ["Module.symvers", "System.map", ".config", "vmlinux"] {
        let path = path.join(name);
        if let Ok(bytes) = std::fs::read(&path) {
            file(facts, &bytes, &Source::file(&path))?;
        }
    }
    Ok(())
}

/// The line `#define UTS_RELEASE "..."`, or `kernel.release`, which in Debian's headers is the version before packaging.
pub(super) fn release(facts: &mut Facts, bytes: &[u8], source: &Source) {
    let text = String::from_utf8_lossy(bytes);
    let release = match text.split_once("UTS_RELEASE \"") {
        Some((_, rest)) => rest.split('"').next().unwrap_or_default(),
        None => text.trim(),
    };
    if !release.is_empty() && !release.contains(char::is_whitespace) {
        facts.complete(Facts { release: Some(Fact::new(release.to_owned(), source)), ..Facts::default() });
    }
}

/// Whether a file is named as a module is, compressed or not.
pub(super) fn is_module_name(name: &str) -> bool {
    [".ko", ".ko.gz", ".ko.xz", ".ko.zst"].iter().any(|end| name.ends_with(end))
}

fn module_name(file: &str) -> String {
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// A directory of modules: all of them are read.
fn modules(facts: &mut Facts, path: &Path) -> Result<(), FactsError> {
    let source = Source::file(path);
    let mut files = Vec::new();
    list(path, &mut files)?;
    let next = AtomicUsize::new(0);
    let whole = Mutex::new(Tree::default());
    let work = || {
        let mut tree = Tree::default();
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Ok(bytes) = std::fs::read(file) else { continue };
            let inner = file.strip_prefix(path).unwrap_or(file).to_string_lossy();
            let name = inner.rsplit('/').next().unwrap_or(&inner);
            tree.add(&inner, name, &bytes, &Source::file(file));
        }
        whole.lock().unwrap_or_else(std::sync::PoisonError::into_inner).join(tree);
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    whole.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).finish(facts, &source);
    Ok(())
}

/// Files below a directory that say something; links to other directories are not followed.
fn list(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), FactsError> {
    let entries = std::fs::read_dir(directory).map_err(FactsError::io(directory))?;
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => list(&path, files)?,
            Ok(kind) if kind.is_dir() || name == "build" || name == "source" => {}
            Ok(_) if is_module_name(&name) || name == "modules.builtin" => files.push(path),
            _ => {}
        }
    }
    Ok(())
}

/// What the files of a modules directory say, put together.
#[derive(Default)]
pub(super) struct Tree {
    machine: Option<Machine>,
    vermagic: BTreeMap<String, usize>,
    crcs: BTreeMap<String, BTreeMap<u32, usize>>,
    exports: Exports,
    builtin: Option<(BTreeSet<String>, Source)>,
    modules: BTreeMap<String, String>,
}

impl Tree {
    /// Adds a file; `path` is where it lies in its directory.
    pub(super) fn add(&mut self, path: &str, name: &str, bytes: &[u8], source: &Source) {
        if name == "modules.builtin" {
            let text = String::from_utf8_lossy(bytes);
            let names =
                text.lines().map(|line| module_name(line.rsplit('/').next().unwrap_or(line))).collect();
            self.builtin = Some((names, source.clone()));
        }
        if !is_module_name(name) {
            return;
        }
        let Ok(bytes) = compress::decompress(bytes, lkm_tree::file::LIMIT) else { return };
        let Ok(module) = Module::parse(&bytes) else { return };
        let name = module_name(name);
        self.machine = self.machine.or(Machine::of_elf(&bytes));
        if let Some(vermagic) = module.vermagic() {
            *self.vermagic.entry(String::from_utf8_lossy(vermagic).into_owned()).or_default() += 1;
        }
        for version in module.versions().iter() {
            let (Ok(symbol), Ok(crc)) = (std::str::from_utf8(version.name), u32::try_from(version.crc))
            else {
                continue;
            };
            match self.crcs.get_mut(symbol) {
                Some(crcs) => *crcs.entry(crc).or_default() += 1,
                None => {
                    self.crcs.insert(symbol.to_owned(), BTreeMap::from([(crc, 1)]));
                }
            }
        }
        for export in module.exports().unwrap_or_default() {
            let exported = Export {
                crc: export.crc,
                gpl_only: export.table.is_gpl_only(),
                namespace: String::from_utf8_lossy(export.namespace.unwrap_or_default()).into_owned(),
                module: Some(name.clone()),
                address: None,
            };
            self.exports.insert(String::from_utf8_lossy(export.name).into_owned(), exported);
        }
        let below = path.split_once("lib/modules/").and_then(|(_, rest)| rest.split_once('/'));
        self.modules.insert(name, below.map_or(path, |(_, rest)| rest).to_owned());
    }

    fn join(&mut self, other: Tree) {
        self.machine = self.machine.or(other.machine);
        self.builtin = self.builtin.take().or(other.builtin);
        self.exports.extend(other.exports);
        self.modules.extend(other.modules);
        for (vermagic, count) in other.vermagic {
            *self.vermagic.entry(vermagic).or_default() += count;
        }
        for (name, crcs) in other.crcs {
            let known = self.crcs.entry(name).or_default();
            for (crc, count) in crcs {
                *known.entry(crc).or_default() += count;
            }
        }
    }

    /// Where files disagree, what most of them say counts.
    pub(super) fn finish(self, facts: &mut Facts, source: &Source) {
        fn most<T: Ord>(counts: BTreeMap<T, usize>) -> Option<T> {
            counts.into_iter().max_by_key(|count| count.1).map(|count| count.0)
        }
        let modules = source.part("its modules");
        let vermagic = most(self.vermagic);
        let release = vermagic.as_ref().and_then(|vermagic| vermagic.split(' ').next()).map(str::to_owned);
        let crcs: BTreeMap<String, u32> =
            self.crcs.into_iter().filter_map(|(name, crcs)| Some((name, most(crcs)?))).collect();
        let exports =
            (facts.exports.is_some() && !self.exports.is_empty()).then(|| Fact::new(self.exports, &modules));
        facts.complete(Facts {
            release: release.map(|release| Fact::new(release, &modules)),
            machine: self.machine.map(|machine| Fact::new(machine, &modules)),
            vermagic: vermagic.map(|vermagic| Fact::new(vermagic, &modules)),
            module_crcs: (!crcs.is_empty()).then(|| Fact::new(crcs, &modules)),
            exports,
            builtin: self.builtin.map(|(names, source)| Fact::new(names, &source)),
            modules: (!self.modules.is_empty()).then(|| Fact::new(self.modules, source)),
            ..Facts::default()
        });
    }
}
