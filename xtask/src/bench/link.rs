//! What linking costs: lkm, the least that it can cost, and the published crate that does part of it.

use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Instant;

use serde::Deserialize;

use super::measure;
use crate::demo;
use crate::error::Context;
use crate::error::Result;
use crate::packages;
use crate::packages::Flavour;
use crate::packages::Kernel;
use crate::packages::Package;
use crate::paths;
use crate::process;

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

/// The trees and what is compared on them: crates that refuse an architecture are not asked.
const TREES: [(Flavour, &str, usize); 2] =
    [(packages::CLOUD_AMD64, "x86_64", 4), (packages::ARMMP, "arm", 2)];

/// Prints the tables; adds the bars that are missed.
pub(super) fn run(program: &Path, missed: &mut Vec<String>) -> Result<()> {
    let lkm = demo::build()?;
    for (flavour, arch, linkers) in TREES {
        let kernel = flavour.kernel()?;
        let symvers = symvers(&kernel)?;
        println!("\nLinking all modules of {}, from file to relocated bytes", kernel.release);
        println!("{:<46} {:>14} {:>8} {:>8}", "", "instructions", "linked", "refused");
        for (name, title, counted) in &LINKERS[..linkers] {
            let arguments: [OsString; 5] =
                ["link".into(), name.into(), arch.into(), symvers.clone().into(), kernel.modules().into()];
            let linked: Linked = answer(Command::new(program).args(&arguments))?;
            let refused = linked.modules - linked.linked;
            let mut shown = "-".to_owned();
            if *counted {
                let instructions = measure::instructions(
                    Command::new("valgrind").arg("--toggle-collect=lkm_bench_measured"),
                    program.as_os_str(),
                    &arguments,
                )?;
                shown = format!("{:.1} M", instructions as f64 / 1e6);
                if *name == "lkm" && arch == "x86_64" && instructions > LINK_BAR {
                    missed.push(format!("linking takes {instructions} instructions (bar: {LINK_BAR})"));
                }
            }
            println!("{title:<46} {shown:>14} {:>8} {refused:>8}", linked.linked);
            if *name == "lkm" && refused != 0 {
                missed.push(format!("{refused} modules of {} do not link", linked.modules));
            }
        }
    }

    println!("\nhello.ko with one field changed (bench/src/mutants.rs says which and how)");
    println!(
        "{:<46} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "", "mutants", "linked", "refused", "panics", "crashes", "hangs"
    );
    for (name, arch, flavour) in [
        ("lkm", "x86_64", packages::CLOUD_AMD64),
        ("lkm", "arm", packages::ARMMP),
        ("kmod-loader", "x86_64", packages::CLOUD_AMD64),
    ] {
        let module = paths::root().join("fixtures").join(arch).join("hello.ko");
        let symvers = symvers(&flavour.kernel()?)?;
        let tally: Tally =
            answer(Command::new(program).args(["mutants", name, arch]).arg(symvers).arg(module))?;
        println!(
            "{:<46} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
            format!("{name}, {arch}"),
            tally.mutants,
            tally.linked,
            tally.refused,
            tally.panics,
            tally.crashes,
            tally.hangs
        );
        let bad = tally.panics + tally.crashes + tally.hangs;
        if name == "lkm" && bad != 0 {
            missed.push(format!("{bad} mutants for {arch} ended badly"));
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
    Ok(())
}

/// The list of what a kernel and its modules export.
fn symvers(kernel: &Kernel) -> Result<PathBuf> {
    let name = format!("linux-headers-{}", kernel.release);
    let headers = Package::new(kernel.package.arch, name.as_str(), kernel.package.version.clone());
    Ok(headers.unpack()?.join("usr/src").join(name).join("Module.symvers"))
}

fn answer<T: serde::de::DeserializeOwned>(command: &mut Command) -> Result<T> {
    serde_json::from_str(&process::output(command)?).context("the bench program's answer is not as expected")
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
