//! What `cargo xtask bench` counts and compares: links modules with one of several linkers, and runs other programs.

mod floor;
mod measure;
mod memory;
mod mutants;
mod ours;
mod peer;
mod steps;
mod tree;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::process::ExitCode;

use lkm_link::Arch;

use crate::tree::Exports;
use crate::tree::Tree;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const USAGE: &str = "usage: lkm-bench link|mutants LINKER ARCH SYMVERS PATH [FIRST]
       lkm-bench measure RUNS PROGRAM [ARGUMENT...]
       lkm-bench steps CALL[,CALL...] PROGRAM [ARGUMENT...]
LINKER: lkm, kmod-loader, kmod-loader-anywhere, floor
ARCH: x86_64, arm (not for kmod-loader)";

fn main() -> ExitCode {
    match run(&env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What links a module.
struct Linker {
    name: String,
    arch: Arch,
    exports: Exports,
}

impl Linker {
    fn new(name: &str, arch: &str, symvers: &Path) -> Result<Self> {
        let arch = match arch {
            "x86_64" => Arch::X86_64,
            "arm" => Arch::Arm,
            _ => return Err(USAGE.into()),
        };
        let exports = match name {
            "lkm" | "floor" => tree::exports(symvers, ours::exports_base(arch))?,
            "kmod-loader" | "kmod-loader-anywhere" if arch == Arch::X86_64 => {
                let anywhere = name == "kmod-loader-anywhere";
                peer::prepare(tree::exports(symvers, peer::EXPORTS_BASE)?, anywhere);
                Exports::default()
            }
            _ => return Err(USAGE.into()),
        };
        Ok(Self { name: name.to_owned(), arch, exports })
    }

    fn link(&self, file: &[u8]) -> std::result::Result<(), String> {
        match (self.name.as_str(), self.arch) {
            ("lkm", arch) => ours::link(file, arch, &self.exports),
            ("floor", Arch::X86_64) => {
                // SAFETY: only the distribution's own modules are given to it.
                black_box(unsafe { floor::link(file, &self.exports, ours::base(self.arch)) });
                Ok(())
            }
            ("floor", Arch::Arm) => {
                // SAFETY: likewise.
                black_box(unsafe { floor::link_arm(file, &self.exports, ours::base(self.arch) as u32) });
                Ok(())
            }
            _ => peer::link(file),
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    if let [command, runs, program, rest @ ..] = arguments
        && command == "measure"
    {
        return measure::main(runs.parse()?, program, rest);
    }
    if let [command, calls, program, rest @ ..] = arguments
        && command == "steps"
    {
        return steps::main(calls, program, rest);
    }
    let [command, name, arch, symvers, path, rest @ ..] = arguments else { return Err(USAGE.into()) };
    let linker = Linker::new(name, arch, Path::new(symvers))?;
    let path = Path::new(path);
    match (command.as_str(), rest) {
        ("link", []) => link(&linker, &Tree::read(path)?),
        ("mutants", []) => {
            let count = mutants::all(&fs::read(path)?).len();
            let program = env::current_exe()?;
            let tally = mutants::run(count, |from| {
                let mut command = Command::new(&program);
                command.args(arguments).arg(from.to_string());
                command
            })?;
            println!(
                "{{\"mutants\":{count},\"linked\":{},\"refused\":{},\"panics\":{},\"crashes\":{},\"hangs\":{}}}",
                tally.linked, tally.refused, tally.panics, tally.crashes, tally.hangs
            );
            Ok(())
        }
        ("mutants", [from]) => {
            let file = fs::read(path)?;
            Ok(mutants::child(&file, from.parse()?, |changed| linker.link(changed).is_ok())?)
        }
        _ => Err(USAGE.into()),
    }
}

fn link(linker: &Linker, tree: &Tree) -> Result<()> {
    let results = lkm_bench_measured(linker, tree);
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in results.iter().filter_map(|result| result.as_ref().err()) {
        *reasons.entry(reason).or_default() += 1;
    }
    let linked = results.iter().filter(|result| result.is_ok()).count();
    println!("{{\"modules\":{},\"linked\":{linked}}}", results.len());
    for (reason, count) in reasons {
        eprintln!("{count:6} {reason}");
    }
    Ok(())
}

/// All that is counted: valgrind is told to count from its start to its end.
#[inline(never)]
#[unsafe(no_mangle)]
fn lkm_bench_measured(linker: &Linker, tree: &Tree) -> Vec<std::result::Result<(), String>> {
    tree.modules.iter().map(|(_, file)| linker.link(black_box(file))).collect()
}
