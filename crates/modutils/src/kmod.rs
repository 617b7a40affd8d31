//! `kmod`: the program of which the others are links in most distributions; `kmod list` and `kmod static-nodes`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use crate::Context;
use crate::command;
use crate::command::Command;
use crate::getopt::Getopt;
use crate::getopt::Opt;
use crate::getopt::Spec;
use crate::lsmod;

mod static_nodes;

pub(crate) const COMMAND: Command = Command {
    name: "kmod",
    about: "the other commands, and static-nodes",
    synopsis: &["[options] command [options of the command]"],
    description: "One program that is all of the commands: a link to it with the name of a command is that command, and so is kmod
with the name as its first argument. Two commands have no link:

kmod list prints what lsmod prints.

kmod static-nodes prints the device nodes that can be made before their modules are loaded, because opening them loads
the module. They are listed in modules.devname beside the modules of the running kernel; if there is no such file it
warns and succeeds. --format chooses between human (for people, the default), tmpfiles (lines for
systemd-tmpfiles) and devname (lines as in the file); --output writes to a file, whose directories are made if need be.",
    options: OPTIONS,
    run,
};

const OPTIONS: &[Spec] = &[command::VERSION, command::HELP];

/// From arguments, without the name, to exit code.
type Run = fn(&mut Context<'_>, &[OsString]) -> u8;

/// What kmod can do besides being the commands that have links: name, purpose, what does it.
const COMMANDS: &[(&str, &str, Run)] = &[
    ("help", "show this help", |context, _| {
        help(context);
        0
    }),
    ("list", "list the loaded modules", lsmod::run),
    ("static-nodes", static_nodes::COMMAND.about, static_nodes::run),
];

fn run(context: &mut Context<'_>, args: &[OsString]) -> u8 {
    // What follows the command's name is for the command.
    let mut getopt = Getopt::new(OPTIONS, args, true);
    match getopt.next() {
        None => {}
        Some(Ok(Opt { key: b'V', .. })) => {
            context.version();
            return 0;
        }
        Some(Ok(_)) => {
            help(context);
            return 0;
        }
        Some(Err(message)) => {
            context.complain_bytes(&[context.program(), b": ", &message].concat());
            return 1;
        }
    }
    let operands = getopt.operands().len();
    let Some((name, rest)) = args.get(args.len() - operands..).and_then(<[OsString]>::split_first) else {
        context.complain("missing command");
        help(context);
        return 1;
    };
    let own = COMMANDS.iter().find(|(own, ..)| own.as_bytes() == name.as_bytes()).map(|row| row.2);
    let run = own.or_else(|| {
        crate::COMMANDS.iter().find(|other| other.name.as_bytes() == name.as_bytes()).map(|other| other.run)
    });
    match run {
        Some(run) => {
            context.set_program(name);
            run(context, rest)
        }
        None => {
            context.complain_bytes(&[b"invalid command '", name.as_bytes(), b"'"].concat());
            help(context);
            1
        }
    }
}

fn help(context: &mut Context<'_>) {
    let mut text = COMMAND.help();
    text.push_str("\nCommands:\n");
    for (name, about, _) in COMMANDS {
        text.push_str(&format!("  {name:<12} {about}\n"));
    }
    for command in crate::COMMANDS.iter().filter(|command| command.name != COMMAND.name) {
        text.push_str(&format!("  {:<12} {}\n", command.name, command.about));
    }
    context.print(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use crate::testing::Fake;

    #[test]
    fn commands_of_its_own_and_all_others() {
        let fake = Fake { modules: Some("a 1 0 - Live 0x0\n".into()), ..Fake::default() };
        let list = fake.run(&["lsmod"]);
        assert_eq!(fake.run(&["/usr/bin/kmod", "list"]), list);
        assert_eq!(fake.run(&["kmod", "lsmod"]), list);
        assert_eq!(fake.run(&["kmod", "--", "list"]), list);
        assert_eq!(fake.run(&["kmod", "list", "x"]), (1, String::new(), "Usage: list\n".into()));
        assert_eq!(fake.run(&["kmod", "rmmod"]).2, "rmmod: ERROR: missing module name.\n");
        assert_eq!(fake.run(&["kmod", "-V"]), fake.run(&["rmmod", "-V"]));
    }

    #[test]
    fn usage() {
        let (code, help, err) = Fake::default().run(&["kmod", "-h", "nonsense"]);
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(help.contains("  static-nodes ") && help.contains("  insmod "), "{help}");
        assert_eq!(Fake::default().run(&["kmod", "help", "--foo"]), (0, help.clone(), String::new()));
        assert_eq!(Fake::default().run(&["kmod"]), (1, help.clone(), "missing command\n".into()));
        let unknown = "invalid command 'lis'\n".to_owned();
        assert_eq!(Fake::default().run(&["kmod", "lis", "-V"]), (1, help, unknown));
        let option = "/x/kmod: unrecognized option '--list'\n".to_owned();
        assert_eq!(Fake::default().run(&["/x/kmod", "--list"]), (1, String::new(), option));
    }
}
