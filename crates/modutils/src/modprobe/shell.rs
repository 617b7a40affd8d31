//! Commands of `install` and `remove` lines.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::Fatal;
use super::Session;
use crate::explain;
use lkm_tree::config::Command;

/// What stands for the parameters in a command.
const PARAMETERS: &[u8] = b"$CMDLINE_OPTS";

impl Session<'_, '_> {
    /// Runs a command by the shell, as system(3) does. False if it did not do what it should, which has been told.
    pub(super) fn run_command(
        &mut self,
        kind: &str,
        name: &[u8],
        line: &Command,
        options: &[u8],
    ) -> Result<bool, Fatal> {
        let command = with_parameters(&line.command, options);
        self.context.flush();
        let mut shell = std::process::Command::new("/bin/sh");
        shell.arg("-c").arg(OsString::from_vec(command.clone()));
        shell.env("MODPROBE_MODULE", OsStr::from_bytes(name));
        if let Some(options) = &self.request.child_options {
            shell.env("MODPROBE_OPTIONS", options);
        }
        let status = shell.status();
        let how = match &status {
            Ok(status) if status.success() => return Ok(true),
            Ok(status) => how_it_ended(*status),
            Err(error) => error.to_string(),
        };
        let result = if kind == "remove" {
            self.give_up(&[b"Error running remove command for ", name])
        } else {
            let parts: [&[u8]; 6] =
                [b"Error running install command '", &command, b"' for module ", name, b": ", how.as_bytes()];
            self.context.error(&parts);
            Ok(false)
        };
        self.explain_command(name, &command, line, status);
        result
    }

    fn explain_command(
        &mut self,
        module: &[u8],
        command: &[u8],
        line: &Command,
        status: io::Result<ExitStatus>,
    ) {
        let failure = explain::CommandFailure { module, command, origin: &line.origin, status };
        explain::refusal(self.context, explain::Attempt::Command(failure));
    }
}

fn how_it_ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("retcode {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or(0)),
    }
}

/// The command with the parameters in the place of every `$CMDLINE_OPTS`.
pub(super) fn with_parameters(command: &[u8], options: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(command.len());
    let mut rest = command;
    while let Some((byte, after)) = rest.split_first() {
        match rest.strip_prefix(PARAMETERS) {
            Some(after) => {
                result.extend_from_slice(options);
                rest = after;
            }
            None => {
                result.push(*byte);
                rest = after;
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_put_into_the_command() {
        let cases = [
            ("a $CMDLINE_OPTS b", "x=1", "a x=1 b"),
            ("$CMDLINE_OPTS$CMDLINE_OPTS", "y", "yy"),
            ("$CMDLINE_OPT", "y", "$CMDLINE_OPT"),
            ("a $CMDLINE_OPTS", "$CMDLINE_OPTS", "a $CMDLINE_OPTS"),
            ("a", "", "a"),
        ];
        for (command, options, expected) in cases {
            assert_eq!(with_parameters(command.as_bytes(), options.as_bytes()), expected.as_bytes());
        }
    }
}
