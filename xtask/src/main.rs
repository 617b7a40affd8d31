//! What one does with this repository besides building it: `cargo xtask COMMAND`.
#![forbid(unsafe_code)]

mod bench;
mod demo;
mod depmod;
mod error;
mod facts;
mod fixtures;
mod initramfs;
mod licences;
mod lookups;
mod package;
mod packages;
mod paths;
mod process;
mod sessions;
mod setup;
mod test;
mod trees;
mod truth;

use std::process::ExitCode;

use crate::error::Error;
use crate::error::Result;
use crate::setup::Purpose;

const USAGE: &str = "\
usage: cargo xtask COMMAND

    demo                  load a real module for ARM and one for x86_64 into the embedded kernel
    test                  everything that has to hold; --list shows the steps, --only and --skip choose
    setup                 install what is missing for all of this
    fixtures [--bless]    rebuild the fixture modules and compare (or replace) the committed ones
    truth                 hold the loader against real kernels under QEMU
    sessions              hold the commands against kmod's and busybox's on real kernels
    package [--target T]  the static program of the commands, manual pages, completions, a Debian package
    bench [link|commands] the tables of costs

Each command installs what it needs. Downloads are kept in .cache, or where LKM_CACHE says.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let Some((command, rest)) = arguments.split_first() else {
        println!("{USAGE}");
        return Ok(());
    };
    match command.as_str() {
        "demo" => demo::main(rest),
        "test" => test::main(rest),
        "setup" => setup::run(Purpose::ALL).map(|()| println!("Everything needed is there.")),
        "fixtures" => {
            setup::run(&[Purpose::Fixtures])?;
            fixtures::main(rest)
        }
        "truth" => {
            setup::run(&[Purpose::Truth])?;
            truth::main(rest).map_err(|error| Error::new(error.to_string()))
        }
        "sessions" => {
            setup::run(&[Purpose::Sessions])?;
            sessions::main(rest)
        }
        "package" => {
            setup::run(&[Purpose::Package])?;
            package::main(rest)
        }
        "bench" => bench::main(rest),
        "help" | "-h" | "--help" => {
            println!("{USAGE}");
            Ok(())
        }
        other => Err(Error::new(format!("there is no command {other}\n\n{USAGE}"))),
    }
}

/// Cargo, as the one that runs this, in the repository.
fn cargo() -> std::process::Command {
    let mut command = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(paths::root());
    command
}
