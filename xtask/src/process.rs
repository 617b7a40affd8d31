//! Running other programs.

use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;

use crate::error::Context;
use crate::error::Error;
use crate::error::Result;

/// The lines of a failed program's output that are worth repeating.
const TAIL: usize = 30;

/// The command as one would type it.
pub(crate) fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| quote(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Runs a program that writes to our own output; fails unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if status.success() { Ok(()) } else { Err(Error::new(format!("{} failed: {status}", describe(command)))) }
}

/// Runs a program that writes to our own output.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    command.stdin(Stdio::null()).status().with_context(|| format!("cannot run {}", describe(command)))
}

/// What a program wrote.
#[derive(Debug)]
pub(crate) struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// Its standard error, likewise.
    pub stderr: String,
}

/// Runs a program and collects its output, however it ends.
pub(crate) fn capture(command: &mut Command) -> Result<Output> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {}", describe(command)))?;
    Ok(Output {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs a program quietly and returns its standard output; fails with the end of its output unless it succeeds.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = capture(command)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let mut message = format!("{} failed: {}", describe(command), output.status);
    for line in tail(&output.stdout).into_iter().chain(tail(&output.stderr)) {
        message.push_str("\n    ");
        message.push_str(line);
    }
    Err(Error::new(message))
}

fn tail(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_so_that_a_shell_reads_them_back() {
        let mut command = Command::new("printf");
        command.args(["%s", "two words", "it's", ""]);
        let shown = describe(&command);
        assert_eq!(shown, r"printf %s 'two words' 'it'\''s' ''");
        let printed = output(Command::new("sh").args(["-c", &shown])).unwrap();
        assert_eq!(printed, "two wordsit's");
    }

    #[test]
    fn a_failure_repeats_what_the_program_said() {
        let error =
            output(Command::new("sh").args(["-c", "echo reason >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("\n    reason"), "{error}");
        assert!(output(&mut Command::new("/nonexistent/program")).is_err());
    }
}
