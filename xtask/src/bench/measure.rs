//! How things are measured.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use crate::error::Context;
use crate::error::Error;
use crate::error::Result;
use crate::process;

/// The C library would copy by an instruction that repeats itself, which valgrind counts once a byte.
const TUNABLES: &str =
    "glibc.cpu.x86_rep_movsb_threshold=0x7fffffff:glibc.cpu.x86_rep_stosb_threshold=0x7fffffff";

/// Instructions of a program by valgrind, which may have arguments (or a program that starts it) before those added here. How the
/// program ends does not matter.
pub(super) fn instructions(valgrind: &mut Command, program: &OsStr, arguments: &[OsString]) -> Result<u64> {
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    valgrind.arg(program).args(arguments).env("GLIBC_TUNABLES", TUNABLES);
    let output = process::capture(valgrind)?;
    output
        .stderr
        .lines()
        .find_map(|line| line.split_once("Collected :"))
        .and_then(|(_, number)| number.trim().parse().ok())
        .with_context(|| format!("{} said no number:\n{}", process::describe(valgrind), output.stderr))
}

/// Instructions of a program up to the first of the system calls (their numbers, separated by commas), which is not made. `before` runs
/// what it gets as arguments.
pub(super) fn steps(
    before: &mut Command,
    bench: &Path,
    calls: &str,
    program: &OsStr,
    arguments: &[OsString],
) -> Result<u64> {
    before.arg(bench).args(["steps", calls]).arg(program).args(arguments);
    let output = process::output(before)?;
    output.trim().parse().ok().context("the bench program's answer is not as expected")
}

/// One run of a program.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Run {
    /// Seconds by the clock.
    pub(super) wall: f64,
    /// Seconds of the processors, for the program.
    user: f64,
    /// The same, for the system on its behalf.
    system: f64,
    /// KiB of memory at most.
    pub(super) memory: u64,
    /// How it ended; -1 by a signal.
    code: i32,
}

impl Run {
    /// Seconds of the processors.
    pub(super) fn processor(&self) -> f64 {
        self.user + self.system
    }
}

/// Runs a program once by the bench program.
pub(super) fn run(bench: &Path, program: &OsStr, arguments: &[OsString]) -> Result<Run> {
    let mut command = Command::new(bench);
    command.args(["measure", "1"]).arg(program).args(arguments);
    let output = process::output(&mut command)?;
    let run: Run = serde_json::from_str(&output).context("the bench program's answer is not as expected")?;
    if run.code != 0 {
        let shown = process::capture(Command::new(program).args(arguments))?;
        return Err(Error::new(format!("{} failed: {}", program.display(), shown.stderr)));
    }
    Ok(run)
}

/// The middle one of some values.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert!(median(Vec::new()).is_nan());
    }
}
