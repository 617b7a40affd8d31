//! The shortest way to see the loader at work.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::cargo;
use crate::error::Context;
use crate::error::Error;
use crate::error::Result;
use crate::paths;
use crate::process;
use crate::setup;
use crate::setup::Purpose;

/// The committed modules that are shown.
const MODULES: &[&str] = &["fixtures/arm/hello.ko", "fixtures/x86_64/hello.ko"];

/// `cargo xtask demo`.
pub(crate) fn main(arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        return Err(Error::new("usage: cargo xtask demo"));
    }
    setup::run(&[Purpose::Build])?;
    let lkm = build()?;
    for module in MODULES {
        println!("\n$ lkm run {module} who=world count=2");
        let mut command = Command::new(&lkm);
        command.current_dir(paths::root()).args(["run", module, "who=world", "count=2"]);
        process::run(&mut command).with_context(|| format!("the demonstration with {module}"))?;
    }
    println!("\nThe command is {}", display(&lkm));
    Ok(())
}

/// Builds the `lkm` command as it is released; returns where it is.
pub(crate) fn build() -> Result<PathBuf> {
    println!("Building lkm (the first time takes minutes: the CPU emulator in it is large)");
    process::run(cargo().args(["build", "--release", "--locked", "--package", "lkm"]))?;
    Ok(paths::target().join("release/lkm"))
}

/// The path as one would type it in the repository.
fn display(path: &Path) -> String {
    path.strip_prefix(paths::root()).unwrap_or(path).display().to_string()
}
