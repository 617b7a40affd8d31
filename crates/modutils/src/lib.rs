//! The commands of module loading: `insmod`, `rmmod`, `lsmod`, `modinfo`, `modprobe`, `depmod`, `kmod`.
//!
//! They take the options, print the texts and give the exit codes of kmod's commands, so that scripts do not notice
//! which they call. [`main`] is all of a program; [`run`] is the same with outputs and a kernel of the caller's: what a
//! command asks of the kernel goes through [`lkm_syscall::Syscalls`].
//!
//! What differs on purpose is listed in `DIFFERENCES.md` beside this crate's manifest.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use lkm_syscall::Live;

mod command;
mod context;
mod depmod;
mod explain;
pub mod getopt;
mod insmod;
mod kmod;
mod lsmod;
mod modinfo;
mod modprobe;
mod output;
mod path;
mod rmmod;
mod sparse;
#[cfg(test)]
mod testing;

pub use command::Command;
pub use context::Context;
pub use context::Style;
pub use output::Output;
pub use path::module_name;

/// The commands, in the order in which they are listed.
pub const COMMANDS: &[Command] = &[
    insmod::COMMAND,
    rmmod::COMMAND,
    lsmod::COMMAND,
    modinfo::COMMAND,
    modprobe::COMMAND,
    depmod::COMMAND,
    kmod::COMMAND,
];

/// Runs the command that the arguments name, for the kernel that runs this program, with its standard outputs. Gives the
/// exit code.
///
/// `MODUTILS_STYLE` in the environment says whose habits the commands have: `busybox` for `insmod` ([`Style::Busybox`]),
/// `kmod` for refusals without explanations and for what kmod makes of `softdep` and `install` lines. `POSIXLY_CORRECT` ends options at the first operand.
pub fn main(args: &[OsString]) -> u8 {
    let mut out = Output::new();
    let mut err = std::io::stderr();
    let mut context = Context::new(&Live, &mut out, &mut err);
    match std::env::var_os("MODUTILS_STYLE").as_ref().map(|style| style.as_bytes()) {
        Some(b"busybox") => context.style = Style::Busybox,
        // Nothing but what kmod prints.
        Some(b"kmod") => {
            context.explain = false;
            context.strict = true;
        }
        _ => {}
    }
    context.posix = std::env::var_os("POSIXLY_CORRECT").is_some();
    run(&mut context, args)
}

/// Runs the command that the first argument names, by its last path component, or, if that is none, the second.
/// Gives the exit code.
pub fn run(context: &mut Context<'_>, args: &[OsString]) -> u8 {
    let code = dispatch(context, args);
    // What cannot be written is a failure even if everything else went well.
    context.finish(code)
}

fn dispatch(context: &mut Context<'_>, args: &[OsString]) -> u8 {
    let Some((program, rest)) = args.split_first() else { return 1 };
    if let Some(command) = find(program) {
        context.set_program(program);
        return (command.run)(context, rest);
    }
    context.set_program(program);
    let Some((name, rest)) = rest.split_first() else {
        context.complain("missing command");
        help(context);
        return 1;
    };
    if let Some(command) = find(name) {
        context.set_program(name);
        return (command.run)(context, rest);
    }
    match name.as_bytes() {
        b"-h" | b"--help" | b"help" => {
            help(context);
            0
        }
        b"-V" | b"--version" => {
            context.version();
            0
        }
        _ => {
            context.complain(&format!("invalid command '{}'", name.to_string_lossy()));
            1
        }
    }
}

fn find(name: &std::ffi::OsStr) -> Option<&'static Command> {
    let name = path::base_name(name.as_bytes());
    COMMANDS.iter().find(|command| command.name.as_bytes() == name)
}

fn help(context: &mut Context<'_>) {
    let mut text = String::from("Usage:\n\tmodutils COMMAND [options] [arguments]\n\nCommands:\n");
    for command in COMMANDS {
        text.push_str(&format!("  {:<12} {}\n", command.name, command.about));
    }
    text.push_str("\nA link of a command's name to this program is that command.\n");
    context.print(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use crate::testing::Fake;

    #[test]
    fn the_command_is_the_name_of_the_program_or_the_first_argument() {
        let fake = Fake { modules: Some("a 1 0 - Live 0x0\n".into()), ..Fake::default() };
        let list = "Module                  Size  Used by\na                          1  0\n";
        for args in [&["lsmod"][..], &["/sbin/lsmod"], &["modutils", "lsmod"], &["x/y", "lsmod"]] {
            assert_eq!(fake.run(args), (0, list.into(), String::new()), "{args:?}");
        }
        assert_eq!(fake.run(&["modutils", "nonsense"]).0, 1);
        assert_eq!(fake.run(&["modutils", "nonsense"]).2, "invalid command 'nonsense'\n");
        let (code, out, err) = fake.run(&["modutils"]);
        assert_eq!((code, err.as_str()), (1, "missing command\n"));
        for command in crate::COMMANDS {
            assert!(out.contains(&format!("\n  {:<12} {}\n", command.name, command.about)), "{out}");
        }
        assert_eq!(fake.run(&["modutils", "--help"]), (0, out, String::new()));
    }
}
