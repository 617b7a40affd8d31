//! `cargo xtask package`: the static program of the commands with its manual pages, completions, and a Debian package.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use crate::error::Context;
use crate::error::Error;
use crate::error::Result;
use crate::paths;
use crate::process;

mod check;
mod completions;
mod deb;
mod man;

pub(crate) use check::check;

const USAGE: &str = "usage: cargo xtask package [--target TRIPLE]...";

/// What a target is called elsewhere, and how it is linked.
struct Target {
    triple: &'static str,
    debian: &'static str,
    linker: Option<&'static str>,
    flags: Option<&'static str>,
    /// Features of modutils: those that need a C compiler are for where one is at hand.
    features: &'static str,
}

const TARGETS: &[Target] = &[
    Target {
        triple: "x86_64-unknown-linux-musl",
        debian: "amd64",
        linker: None,
        flags: None,
        features: "libzstd,liblzma",
    },
    // The musl targets bring all that is linked; the toolchain's own linker knows every machine.
    Target {
        triple: "aarch64-unknown-linux-musl",
        debian: "arm64",
        linker: Some("rust-lld"),
        flags: None,
        features: "",
    },
    // glibc, which Debian's cross compiler links statically.
    Target {
        triple: "armv7-unknown-linux-gnueabihf",
        debian: "armhf",
        linker: Some("arm-linux-gnueabihf-gcc"),
        flags: Some("-Ctarget-feature=+crt-static"),
        features: "",
    },
];

/// `cargo xtask package`.
pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let mut targets = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument != "--target" {
            return Err(Error::new(format!("unknown argument {argument}\n{USAGE}")));
        }
        let triple = arguments.next().ok_or_else(|| Error::new(format!("--target needs one\n{USAGE}")))?;
        targets.push(target(triple)?);
    }
    if targets.is_empty() {
        targets.push(native());
    }
    for target in targets {
        let package = make(target)?;
        println!("{}", package.display());
    }
    Ok(())
}

fn native() -> &'static Target {
    &TARGETS[0]
}

fn target(triple: &str) -> Result<&'static Target> {
    TARGETS.iter().find(|target| target.triple == triple).ok_or_else(|| {
        let known: Vec<&str> = TARGETS.iter().map(|target| target.triple).collect();
        Error::new(format!("no packages are made for {triple}, only for {}", known.join(", ")))
    })
}

/// The static program for the machine that this runs on.
pub(crate) fn program() -> Result<PathBuf> {
    build(native())
}

/// The static program for a target.
pub(crate) fn program_for(triple: &str) -> Result<PathBuf> {
    build(target(triple)?)
}

fn build(target: &Target) -> Result<PathBuf> {
    let mut command = crate::cargo();
    command.args(["build", "--quiet", "--locked", "--profile", "dist", "--package", "modutils"]);
    command.args(["--target", target.triple, "--features", target.features]);
    let variable = target.triple.to_uppercase().replace('-', "_");
    if let Some(linker) = target.linker {
        command.env(format!("CARGO_TARGET_{variable}_LINKER"), linker);
    }
    if let Some(flags) = target.flags {
        command.env(format!("CARGO_TARGET_{variable}_RUSTFLAGS"), flags);
    }
    process::run(&mut command)?;
    Ok(paths::target().join(target.triple).join("dist/modutils"))
}

/// Builds everything for a target; the Debian package.
fn make(target: &Target) -> Result<PathBuf> {
    let program = build(target)?;
    let directory = paths::target().join("package").join(target.debian);
    if directory.exists() {
        fs::remove_dir_all(&directory).with_context(|| format!("cannot empty {}", directory.display()))?;
    }
    copy(&program, &directory.join("modutils"))?;
    for page in man::pages() {
        write(&directory.join("man").join(page.file()), page.text.as_bytes())?;
    }
    for file in completions::files() {
        write(&directory.join("completions").join(file.path), file.text.as_bytes())?;
    }
    deb::build(&directory, target.debian)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(parent) = path.parent() {
        paths::create(parent)?;
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        paths::create(parent)?;
    }
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}
