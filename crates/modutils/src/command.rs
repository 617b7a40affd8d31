//! A command described as data: parsing, `--help`, manual pages and completions all come from the same table.

use std::ffi::OsStr;
use std::ffi::OsString;

use crate::Context;
use crate::getopt::Getopt;
use crate::getopt::Opt;
use crate::getopt::Spec;

/// One command of the program.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// The name it is called by.
    pub name: &'static str,
    /// What it is for, in a few words without a dot.
    pub about: &'static str,
    /// What follows the name, a line for each form: `[options] filename [name=value ...]`.
    pub synopsis: &'static [&'static str],
    /// Paragraphs for the manual page, separated by empty lines: what it does, exit codes, files, environment.
    pub description: &'static str,
    /// Its options, in the order in which they are shown.
    pub options: &'static [Spec],
    /// From arguments, without the name, to exit code.
    pub(crate) run: fn(&mut Context<'_>, &[OsString]) -> u8,
}

/// Arguments taken apart: what is left when [`Command::parse`] has dealt with the options of every command.
#[derive(Debug)]
pub(crate) struct Parsed<'a> {
    /// The command's own options in the order in which they were given.
    pub(crate) options: Vec<Opt<'a>>,
    /// What is no option.
    pub(crate) operands: Vec<&'a OsStr>,
    /// The `-s` and `-v` among them by their letters.
    pub(crate) messages: Vec<u8>,
}

/// `-s`: messages to the system log.
pub(crate) const SYSLOG: Spec = Spec::flag(b's', "syslog", "print to syslog, not stderr");
/// `-v`: more messages.
pub(crate) const VERBOSE: Spec = Spec::flag(b'v', "verbose", "enables more messages");
/// `-V`: the version.
pub(crate) const VERSION: Spec = Spec::flag(b'V', "version", "show version");
/// `-h`: the help.
pub(crate) const HELP: Spec = Spec::flag(b'h', "help", "show this help");

impl Command {
    /// Takes arguments apart. `--syslog` and `--verbose` take effect where they stand. `--version`, `--help` and what
    /// getopt refuses end the command: then the error is its exit code, and everything has been printed.
    pub(crate) fn parse<'a>(
        &self,
        context: &mut Context<'_>,
        args: &'a [OsString],
    ) -> Result<Parsed<'a>, u8> {
        let mut getopt = Getopt::new(self.options, args, context.posix);
        let mut options = Vec::new();
        let mut messages = Vec::new();
        for option in getopt.by_ref() {
            match option {
                Ok(Opt { key: b's', .. }) => {
                    messages.push(b's');
                    context.use_syslog();
                }
                Ok(Opt { key: b'v', .. }) => {
                    messages.push(b'v');
                    context.set_verbose();
                }
                Ok(Opt { key: b'V', .. }) => {
                    context.version();
                    return Err(0);
                }
                Ok(Opt { key: b'h', .. }) => {
                    context.print(self.help().as_bytes());
                    return Err(0);
                }
                Ok(option) => options.push(option),
                Err(message) => {
                    context.complain_bytes(&[context.program(), b": ", &message].concat());
                    return Err(1);
                }
            }
        }
        Ok(Parsed { options, operands: getopt.operands(), messages })
    }

    /// What `--help` prints.
    pub fn help(&self) -> String {
        let mut text = String::from("Usage:\n");
        for line in self.synopsis {
            text.push_str(&format!("\t{} {line}\n", self.name));
        }
        text.push_str("Options:\n");
        let shown = || self.options.iter().filter(|spec| !spec.help.is_empty());
        let width = shown().map(|spec| spec.forms().len()).max().unwrap_or(0);
        for spec in shown() {
            let indent = format!("\n\t{:width$}  ", "");
            text.push_str(&format!("\t{:width$}  {}\n", spec.forms(), spec.help.replace('\n', &indent)));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use crate::COMMANDS;
    use crate::testing::Fake;

    #[test]
    fn every_command_prints_its_help_and_refuses_what_it_does_not_know() {
        for command in COMMANDS {
            for option in ["-h", "--help"] {
                let (code, out, err) = Fake::default().run(&[command.name, option]);
                assert_eq!((code, err.as_str()), (0, ""), "{}", command.name);
                assert!(out.starts_with(&format!("Usage:\n\t{} ", command.name)), "{out}");
                for spec in command.options {
                    assert!(spec.help.is_empty() || out.contains(&spec.forms()), "{spec:?}");
                }
            }
            let (code, out, err) = Fake::default().run(&[command.name, "--nonsense"]);
            assert_eq!((code, out.as_str()), (1, ""));
            assert!(
                err.starts_with(&format!("{}: unrecognized option '--nonsense'\n", command.name)),
                "{err}"
            );
        }
    }

    #[test]
    fn keys_and_names_of_options_are_unique() {
        for command in COMMANDS {
            for (at, spec) in command.options.iter().enumerate() {
                let others = &command.options[at + 1..];
                assert!(
                    !spec.short || others.iter().all(|other| !other.short || other.key != spec.key),
                    "{spec:?}"
                );
                assert!(
                    spec.long.is_empty() || others.iter().all(|other| other.long != spec.long),
                    "{spec:?}"
                );
            }
        }
    }
}
