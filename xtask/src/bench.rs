//! The table of costs: lkm, the least that the work can cost, and the published crate that does part of it.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Instant;

use serde::Deserialize;

use crate::cargo;
use crate::demo;
use crate::error::Context;
use crate::error::Error;
use crate::error::Result;
use crate::packages;
use crate::packages::Package;
use crate::paths;
use crate::process;
use crate::setup;
use crate::setup::Purpose;

/// Instructions that linking all modules of the kernel may take.
const LINK_BAR: u64 = 120_000_000;
/// Milliseconds that `lkm run` may take for the smallest module.
const RUN_BAR: f64 = 60.0;
const RUNS: usize = 20;

/// Name of a linker for the bench program, its title, and whether its instructions are counted: valgrind gives memory at low
/// addresses, so that a linker whose success depends on the address would be counted doing something else.
const LINKERS: &[(&str, &str, bool)] = &[
    ("lkm", "lkm, all checks", true),
    ("floor", "floor, no check at all", true),
    ("kmod-loader", "kmod-loader 0.3.1, memory below 2 GiB", true),
    ("kmod-loader-anywhere", "kmod-loader 0.3.1, memory as in its example", false),
];

/// The C library would copy by an instruction that repeats itself, which valgrind counts once a byte.
const TUNABLES: &str =
    "glibc.cpu.x86_rep_movsb_threshold=0x7fffffff:glibc.cpu.x86_rep_stosb_threshold=0x7fffffff";

#[derive(Deserialize)]
struct Linked {
    modules: usize,
    linked: usize,
}

#[derive(Deserialize)]
struct Tally {
    mutants: usize,
    linked: usize,
    refused: usize,
    panics: usize,
    crashes: usize,
    hangs: usize,
}

/// `cargo xtask bench`.
pub(crate) fn main(arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        return Err(Error::new("usage: cargo xtask bench"));
    }
    setup::run(&[Purpose::Build, Purpose::Bench])?;
    let kernel = packages::CLOUD_AMD64.kernel()?;
    let headers = Package::new(
        kernel.package.arch,
        format!("linux-headers-{}", kernel.release),
        kernel.package.version.clone(),
    );
    let symvers =
        headers.unpack()?.join("usr/src").join(format!("linux-headers-{}/Module.symvers", kernel.release));
    let program = build()?;
    let lkm = demo::build()?;
    let mut missed = Vec::new();

    println!("\nLinking all modules of {}, from file to relocated bytes", kernel.release);
    println!("{:<46} {:>14} {:>8} {:>8}", "", "instructions", "linked", "refused");
    for (name, title, counted) in LINKERS {
        let linked = link(&program, name, &symvers, &kernel.modules())?;
        let refused = linked.modules - linked.linked;
        let mut shown = "-".to_owned();
        if *counted {
            let instructions = count(&program, name, &symvers, &kernel.modules())?;
            shown = format!("{:.1} M", instructions as f64 / 1e6);
            if *name == "lkm" && instructions > LINK_BAR {
                missed.push(format!("linking takes {instructions} instructions (bar: {LINK_BAR})"));
            }
        }
        println!("{title:<46} {shown:>14} {:>8} {refused:>8}", linked.linked);
        if *name == "lkm" && refused != 0 {
            missed.push(format!("{refused} modules of {} do not link", linked.modules));
        }
    }

    let module = paths::root().join("fixtures/x86_64/hello.ko");
    println!("\nhello.ko with one field changed");
    println!(
        "{:<46} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "", "mutants", "linked", "refused", "panics", "crashes", "hangs"
    );
    for name in ["lkm", "kmod-loader"] {
        let tally = mutants(&program, name, &symvers, &module)?;
        println!(
            "{name:<46} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
            tally.mutants, tally.linked, tally.refused, tally.panics, tally.crashes, tally.hangs
        );
        if name == "lkm" && tally.panics + tally.crashes + tally.hangs != 0 {
            missed.push(format!("{} mutants ended badly", tally.panics + tally.crashes + tally.hangs));
        }
    }

    println!("\nlkm run hello.ko who=world, wall time of {RUNS} runs");
    println!("{:<46} {:>10} {:>10} {:>10}", "", "median", "fastest", "slowest");
    for directory in ["x86_64", "arm"] {
        let times = run_times(&lkm, &paths::root().join("fixtures").join(directory).join("hello.ko"))?;
        let median = times[times.len() / 2];
        println!("{directory:<46} {median:>7.1} ms {:>7.1} ms {:>7.1} ms", times[0], times[times.len() - 1]);
        if median > RUN_BAR {
            missed.push(format!("lkm run takes {median:.1} ms for {directory} (bar: {RUN_BAR} ms)"));
        }
    }

    println!();
    if missed.is_empty() {
        println!(
            "All bars are kept: {} M instructions, no mutant ends badly, {RUN_BAR} ms.",
            LINK_BAR / 1_000_000
        );
        return Ok(());
    }
    Err(Error::new(format!("bars missed:\n    {}", missed.join("\n    "))))
}

/// Builds the program that is counted. It is no part of the workspace: what it compares with is no dependency of the project.
fn build() -> Result<PathBuf> {
    let target = paths::target().join("bench");
    let manifest = paths::root().join("bench/Cargo.toml");
    let mut command = cargo();
    command.args(["build", "--release", "--locked", "--manifest-path"]).arg(manifest);
    command.arg("--target-dir").arg(&target);
    process::run(&mut command)?;
    Ok(target.join("release/lkm-bench"))
}

/// How many modules the linker links.
fn link(program: &Path, linker: &str, symvers: &Path, modules: &Path) -> Result<Linked> {
    let output = process::output(Command::new(program).args(["link", linker]).arg(symvers).arg(modules))?;
    serde_json::from_str(&output).context("the bench program's answer is not as expected")
}

/// Instructions from the first module to the last, reading of the files not included.
fn count(program: &Path, linker: &str, symvers: &Path, modules: &Path) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.args([
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
        "--toggle-collect=lkm_bench_measured",
    ]);
    command.arg(program).args(["link", linker]).arg(symvers).arg(modules).env("GLIBC_TUNABLES", TUNABLES);
    let output = process::capture(&mut command)?;
    if !output.status.success() {
        return Err(Error::new(format!("{} failed:\n{}", process::describe(&command), output.stderr)));
    }
    output
        .stderr
        .lines()
        .find_map(|line| line.split_once("Collected :"))
        .and_then(|(_, number)| number.trim().parse().ok())
        .context("valgrind said no number of instructions")
}

fn mutants(program: &Path, linker: &str, symvers: &Path, module: &Path) -> Result<Tally> {
    let output = process::output(Command::new(program).args(["mutants", linker]).arg(symvers).arg(module))?;
    serde_json::from_str(&output).context("the bench program's answer is not as expected")
}

/// Milliseconds of each run, the shortest first; the first run, which fills the caches, does not count.
fn run_times(lkm: &Path, module: &Path) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for number in 0..=RUNS {
        let mut command = Command::new(lkm);
        command.arg("run").arg(module).arg("who=world").stdout(Stdio::null());
        let start = Instant::now();
        process::run(&mut command)?;
        if number > 0 {
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}
