//! Links modules with one of several linkers, for `cargo xtask bench` to count and compare.

mod floor;
mod memory;
mod mutants;
mod ours;
mod peer;
mod tree;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::process::ExitCode;

use crate::tree::Exports;
use crate::tree::Tree;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const USAGE: &str = "usage: lkm-bench link|mutants LINKER SYMVERS PATH [FIRST]
LINKER: lkm, kmod-loader, kmod-loader-anywhere, floor";

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
    exports: Exports,
}

impl Linker {
    fn new(name: &str, symvers: &Path) -> Result<Self> {
        let exports = match name {
            "lkm" | "floor" => tree::exports(symvers, ours::EXPORTS_BASE)?,
            "kmod-loader" | "kmod-loader-anywhere" => {
                let anywhere = name == "kmod-loader-anywhere";
                peer::prepare(tree::exports(symvers, peer::EXPORTS_BASE)?, anywhere);
                Exports::default()
            }
            _ => return Err(USAGE.into()),
        };
        Ok(Self { name: name.to_owned(), exports })
    }

    fn link(&self, file: &[u8]) -> std::result::Result<(), String> {
        match self.name.as_str() {
            "lkm" => ours::link(file, &self.exports),
            "floor" => {
                // SAFETY: only the distribution's own modules are given to it.
                black_box(unsafe { floor::link(file, &self.exports, ours::BASE) });
                Ok(())
            }
            _ => peer::link(file),
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let [command, name, symvers, path, rest @ ..] = arguments else { return Err(USAGE.into()) };
    let linker = Linker::new(name, Path::new(symvers))?;
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
