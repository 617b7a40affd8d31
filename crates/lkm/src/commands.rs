//! The commands of `modutils` as commands of `lkm`: `lkm insmod`, `lkm modprobe` and the others take what follows them
//! exactly as the programs do.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the command if the first of the arguments (the program's name is none) is the name of one. `lkm help insmod` is
/// `lkm insmod --help`.
pub(crate) fn run(args: &[OsString]) -> Option<ExitCode> {
    let is_one = |name: &OsString| modutils::COMMANDS.iter().any(|command| name == command.name);
    let code = match args {
        [help, name] if help == "help" && is_one(name) => modutils::main(&[name.clone(), "--help".into()]),
        [name, ..] if is_one(name) => modutils::main(args),
        _ => return None,
    };
    Some(ExitCode::from(code))
}

/// The definition of the command line with these commands among the others, for the help.
pub(crate) fn listed(command: clap::Command) -> clap::Command {
    command.subcommands(modutils::COMMANDS.iter().map(|other| {
        let mut about = other.about.to_owned();
        if let Some(first) = about.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        clap::Command::new(other.name).about(about)
    }))
}
