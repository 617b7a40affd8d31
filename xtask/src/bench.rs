//! The tables of costs.

mod commands;
mod link;
mod measure;
mod roots;

use std::path::PathBuf;

use crate::cargo;
use crate::error::Error;
use crate::error::Result;
use crate::paths;
use crate::process;
use crate::setup;
use crate::setup::Purpose;

/// `cargo xtask bench [link|commands]`.
pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let (linking, commands) = match arguments {
        [] => (true, true),
        [one] if one == "link" => (true, false),
        [one] if one == "commands" => (false, true),
        _ => return Err(Error::new("usage: cargo xtask bench [link|commands]")),
    };
    setup::run(&[Purpose::Build, Purpose::Bench])?;
    let program = build()?;
    let mut missed = Vec::new();
    if linking {
        link::run(&program, &mut missed)?;
    }
    if commands {
        commands::run(&program, &mut missed)?;
    }
    println!();
    if missed.is_empty() {
        println!("All bars are kept.");
        return Ok(());
    }
    Err(Error::new(format!("bars missed:\n    {}", missed.join("\n    "))))
}

/// Builds the program that links, is counted, and runs others. It is no part of the workspace: what it compares with is no
/// dependency of the project.
fn build() -> Result<PathBuf> {
    let target = paths::target().join("bench");
    let manifest = paths::root().join("bench/Cargo.toml");
    let mut command = cargo();
    command.args(["build", "--release", "--locked", "--manifest-path"]).arg(manifest);
    command.arg("--target-dir").arg(&target);
    process::run(&mut command)?;
    Ok(target.join("release/lkm-bench"))
}
