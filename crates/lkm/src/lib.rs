//! The `lkm` command as a library: see, check, run and trace Linux kernel modules anywhere.
#![forbid(unsafe_code)]

pub mod cli;
mod commands;
#[cfg(feature = "machine")]
pub mod embedded;
mod facts;
mod output;
#[cfg(feature = "machine")]
pub mod run;
#[cfg(feature = "machine")]
mod style;
#[cfg(feature = "machine")]
mod terminal;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::CommandFactory;
use clap::FromArgMatches;

use crate::cli::Cli;
use crate::cli::Command;

/// Runs the command that the process's arguments name.
///
/// Exit codes: 0 success, 1 what was asked for failed (the module was refused, oopsed, left something behind ...),
/// 2 the command line is wrong. The commands of `modutils` have their own.
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = commands::run(args.get(1..).unwrap_or_default()) {
        return code;
    }
    let matches = commands::listed(Cli::command()).try_get_matches_from(args);
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; a reader that has gone away is none either.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    match cli.command {
        #[cfg(feature = "machine")]
        Command::Run(arguments) => run::main(&arguments),
        Command::Profiles => output::print(&profiles()),
        Command::Facts(arguments) => facts::main(&arguments),
    }
}

/// The list of profiles: name, architecture, release.
fn profiles() -> String {
    let profiles = lkm_kernel::Profile::all();
    let width = profiles.iter().map(|profile| profile.name.len()).max().unwrap_or(0);
    let line = |profile: &lkm_kernel::Profile| {
        format!("{:width$}  {:<7}  {}\n", profile.name, profile.arch.name(), profile.release)
    };
    profiles.iter().map(line).collect()
}
