//! The fixture modules: built by kbuild against Debian's kernel headers, compared byte for byte with the committed ones.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::error::Context;
use crate::error::Error;
use crate::error::Result;
use crate::packages;
use crate::packages::Arch;
use crate::packages::Package;
use crate::paths;
use crate::process;

/// One kernel that the modules are built for.
struct Target {
    /// Directory of the committed files.
    directory: &'static str,
    arch: Arch,
    release: &'static str,
    common: &'static str,
    version: &'static str,
    /// What kbuild puts before the names of tools.
    cross: &'static str,
    /// Debian's version of the compiler that made the committed files; another makes other bytes.
    compiler_version: &'static str,
}

const TARGETS: &[Target] = &[
    Target {
        directory: "x86_64",
        arch: Arch::Amd64,
        release: packages::CLOUD_AMD64.release,
        common: "6.1.0-56-common",
        version: packages::CLOUD_AMD64.version,
        cross: "",
        compiler_version: "12.2.0-14+deb12u1",
    },
    Target {
        directory: "arm",
        arch: Arch::Armhf,
        release: packages::ARMMP.release,
        common: "6.1.0-50-common",
        version: packages::ARMMP.version,
        cross: "arm-linux-gnueabihf-",
        compiler_version: "12.2.0-14",
    },
    Target {
        directory: "arm64",
        arch: Arch::Arm64,
        release: packages::CLOUD_ARM64.release,
        common: "6.1.0-56-common",
        version: packages::CLOUD_ARM64.version,
        cross: "aarch64-linux-gnu-",
        compiler_version: "12.2.0-14",
    },
];

/// Bytes changed in a built module, because modpost refuses to build what the kernel has to refuse to load.
struct Edit {
    module: &'static str,
    from: &'static [u8],
    to: &'static [u8],
}

const EDITS: &[Edit] = &[
    Edit { module: "user_nons.ko", from: b"import_ns=FIXTURE\0", to: b"import_ns=ANOTHER\0" },
    Edit { module: "user_proprietary.ko", from: b"license=Dual MIT/GPL\0", to: b"license=Proprietary\0\0" },
];

/// Compressed forms of one module, with the commands that make and undo them.
struct Packed {
    suffix: &'static str,
    pack: &'static [&'static str],
    unpack: &'static [&'static str],
}

const PACKED_MODULE: &str = "x86_64/hello.ko";
const PACKED: &[Packed] = &[
    Packed { suffix: "gz", pack: &["gzip", "-9nk"], unpack: &["gzip", "-dc"] },
    // As the kernel's own build packs modules.
    Packed {
        suffix: "xz",
        pack: &["xz", "--check=crc32", "--lzma2=dict=1MiB", "-k"],
        unpack: &["xz", "-dc"],
    },
    Packed { suffix: "zst", pack: &["zstd", "-q", "-19", "-k"], unpack: &["zstd", "-qdc"] },
];

/// What the comparison came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All files are what the recipe makes; how many.
    Same(usize),
    /// These differ, with the reason.
    Different(Vec<String>),
    /// The recipe cannot be followed here; why. The committed files stay valid.
    Impossible(String),
}

/// `cargo xtask fixtures [--bless]`.
pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let bless = match arguments {
        [] => false,
        [one] if one == "--bless" => true,
        _ => return Err(Error::new("usage: cargo xtask fixtures [--bless]")),
    };
    match check(bless)? {
        Outcome::Same(count) => println!("{count} fixture files are what the recipe makes."),
        Outcome::Impossible(why) => return Err(Error::new(why)),
        Outcome::Different(files) if bless => println!("Updated: {}", files.join(", ")),
        Outcome::Different(files) => {
            return Err(Error::new(format!(
                "these differ from what the recipe makes: {}\n`cargo xtask fixtures --bless` takes the built ones",
                files.join(", ")
            )));
        }
    }
    Ok(())
}

/// Builds the modules and compares them with the committed ones; `bless` replaces those that differ.
pub(crate) fn check(bless: bool) -> Result<Outcome> {
    if let Some(why) = other_compiler()? {
        return Ok(Outcome::Impossible(why));
    }
    let fixtures = paths::root().join("fixtures");
    let mut count = 0;
    let mut different = Vec::new();
    for target in TARGETS {
        let kernel = match target.headers() {
            Ok(kernel) => kernel,
            Err(error) => return Ok(Outcome::Impossible(target.without_headers(&error))),
        };
        println!("    building the modules for {}", target.release);
        let built = target.build(&kernel, &fixtures.join("src"))?;
        let directory = fixtures.join(target.directory);
        paths::create(&directory)?;
        for name in names(&directory)?.iter().filter(|name| name.ends_with(".ko")) {
            if !built.iter().any(|(built, _)| built == name) {
                different.push(format!("{}/{name} (has no source)", target.directory));
                if bless {
                    fs::remove_file(directory.join(name))?;
                }
            }
        }
        for (name, bytes) in &built {
            count += 1;
            let path = directory.join(name);
            let difference = match fs::read(&path) {
                Ok(committed) => match first_difference(&committed, bytes) {
                    None => continue,
                    Some(at) => format!("first at byte {at:#x}"),
                },
                Err(error) => error.to_string(),
            };
            different.push(format!("{}/{name} ({difference})", target.directory));
            if bless {
                fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
    }
    let packed = packed(&fixtures, bless)?;
    count += PACKED.len();
    different.extend(packed);
    Ok(if different.is_empty() { Outcome::Same(count) } else { Outcome::Different(different) })
}

/// Why the bytes would differ here whatever the sources are.
fn other_compiler() -> Result<Option<String>> {
    for target in TARGETS {
        let compiler = target.compiler();
        let shown = process::output(Command::new(&compiler).arg("--version"))?;
        let first = shown.lines().next().unwrap_or_default();
        if !first.contains(&format!("(Debian {})", target.compiler_version)) {
            return Ok(Some(format!(
                "the committed modules for {} were made by Debian's gcc {}, but {compiler} is here: {first}",
                target.directory, target.compiler_version
            )));
        }
    }
    Ok(None)
}

impl Target {
    fn compiler(&self) -> String {
        format!("{}gcc-12", self.cross)
    }

    /// The headers and the kernel's build tools, put together in one directory; its `usr/src` is returned.
    fn headers(&self) -> Result<PathBuf> {
        let debs: Vec<PathBuf> = [
            Package::new(self.arch, format!("linux-headers-{}", self.release), self.version),
            Package::new(self.arch, format!("linux-headers-{}", self.common), self.version),
            // The tools run here, whatever the modules are for.
            Package::new(Arch::Amd64, "linux-kbuild-6.1", self.version),
        ]
        .iter()
        .map(Package::fetch)
        .collect::<Result<_>>()?;
        let dir = paths::cache()?.join("kbuild").join(format!("{}_{}", self.release, self.version));
        packages::unpack(&debs, &dir)?;
        let sources = dir.join("usr/src");
        // The package's Makefile includes another by the place where it would be installed.
        let makefile = sources.join(format!("linux-headers-{}/Makefile", self.release));
        let common = sources.join(format!("linux-headers-{}/Makefile", self.common));
        let content = format!("include {}\n", common.display());
        if fs::read_to_string(&makefile).ok().as_deref() != Some(content.as_str()) {
            fs::write(&makefile, content).with_context(|| format!("cannot write {}", makefile.display()))?;
        }
        Ok(sources)
    }

    /// Says what is in the archive in place of the headers that the committed modules were built against.
    fn without_headers(&self, error: &Error) -> String {
        let flavour = match self.arch {
            Arch::Amd64 => packages::CLOUD_AMD64,
            Arch::Armhf => packages::ARMMP,
            Arch::Arm64 => packages::CLOUD_ARM64,
        };
        let newest = match flavour.newest() {
            Ok((package, _)) => format!("the newest kernel there is {package}"),
            Err(error) => error.to_string(),
        };
        format!(
            "the kernel headers that the committed modules belong to cannot be had: {error}; {newest}. \
             The committed modules stay valid, they only cannot be rebuilt."
        )
    }

    /// Name and content of each module, in the order of names.
    fn build(&self, sources: &Path, from: &Path) -> Result<Vec<(String, Vec<u8>)>> {
        let work = paths::cache()?.join("fixtures").join(self.directory);
        if work.exists() {
            fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
        }
        paths::create(&work)?;
        for name in names(from)? {
            fs::copy(from.join(&name), work.join(&name)).with_context(|| format!("cannot copy {name}"))?;
        }
        let prefix = format!("-g0 -Wall -Werror -ffile-prefix-map={}/=", work.display());
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let mut make = Command::new("make");
        make.arg("-C").arg(sources.join(format!("linux-headers-{}", self.release)));
        make.args([format!("-j{jobs}"), format!("M={}", work.display()), format!("CC={}", self.compiler())]);
        if !self.cross.is_empty() {
            make.arg(format!("CROSS_COMPILE={}", self.cross));
        }
        make.arg(format!("KCFLAGS={prefix}")).arg("modules");
        // Nothing of the caller's surroundings may reach the bytes, nor a make that this one is run by.
        make.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        make.env("LC_ALL", "C").env("KBUILD_BUILD_TIMESTAMP", "@0");
        process::output(&mut make)?;

        let mut modules = Vec::new();
        for name in names(&work)? {
            if name.ends_with(".ko") {
                let mut bytes = fs::read(work.join(&name)).with_context(|| format!("cannot read {name}"))?;
                for edit in EDITS.iter().filter(|edit| edit.module == name) {
                    apply(edit, &mut bytes)?;
                }
                modules.push((name, bytes));
            }
        }
        if modules.is_empty() {
            return Err(Error::new("the build made no module"));
        }
        Ok(modules)
    }
}

/// Replaces the one place that holds `edit.from`.
fn apply(edit: &Edit, bytes: &mut [u8]) -> Result<()> {
    let places: Vec<usize> = bytes
        .windows(edit.from.len())
        .enumerate()
        .filter(|(_, window)| *window == edit.from)
        .map(|(at, _)| at)
        .collect();
    let &[at] = places.as_slice() else {
        return Err(Error::new(format!(
            "{} holds {:?} at {} places, not one",
            edit.module,
            String::from_utf8_lossy(edit.from),
            places.len()
        )));
    };
    bytes[at..at + edit.from.len()].copy_from_slice(edit.to);
    Ok(())
}

/// Compressed files are compared by what they hold: their bytes depend on the packer's version.
fn packed(fixtures: &Path, bless: bool) -> Result<Vec<String>> {
    let plain = fixtures.join(PACKED_MODULE);
    let expected = fs::read(&plain).with_context(|| format!("cannot read {}", plain.display()))?;
    let mut different = Vec::new();
    for packed in PACKED {
        let name = format!("{PACKED_MODULE}.{}", packed.suffix);
        let path = fixtures.join(&name);
        let content = Command::new(packed.unpack[0])
            .args(&packed.unpack[1..])
            .arg(&path)
            .output()
            .with_context(|| format!("cannot run {}", packed.unpack[0]))?;
        if content.status.success() && content.stdout == expected {
            continue;
        }
        different.push(format!("{name} (does not hold {PACKED_MODULE})"));
        if bless {
            let _ = fs::remove_file(&path);
            process::output(Command::new(packed.pack[0]).args(&packed.pack[1..]).arg(&plain))?;
        }
    }
    Ok(different)
}

/// The names of a directory's files in order.
fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", dir.display()))?;
        if entry.path().is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    if a == b {
        return None;
    }
    Some(a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_keep_the_length_and_need_exactly_one_place() {
        for edit in EDITS {
            assert_eq!(edit.from.len(), edit.to.len(), "{}", edit.module);
        }
        let mut bytes = b"x\0license=Dual MIT/GPL\0y".to_vec();
        apply(&EDITS[1], &mut bytes).unwrap();
        assert_eq!(bytes, b"x\0license=Proprietary\0\0y");
        assert!(apply(&EDITS[1], &mut bytes).is_err());
    }

    #[test]
    fn the_first_difference_is_found() {
        assert_eq!(first_difference(b"abc", b"abc"), None);
        assert_eq!(first_difference(b"abc", b"abd"), Some(2));
        assert_eq!(first_difference(b"abc", b"ab"), Some(2));
    }

    /// The tree is consistent without any tool: each source has a module for each target, and nothing else is there.
    #[test]
    fn every_source_has_its_modules() {
        let fixtures = paths::root().join("fixtures");
        let sources: Vec<String> = names(&fixtures.join("src"))
            .unwrap()
            .iter()
            .filter_map(|name| name.strip_suffix(".c"))
            .map(|stem| format!("{stem}.ko"))
            .collect();
        for target in TARGETS {
            let built = names(&fixtures.join(target.directory)).unwrap();
            let modules: Vec<String> = built.into_iter().filter(|name| name.ends_with(".ko")).collect();
            assert_eq!(modules, sources, "{}", target.directory);
        }
    }
}
