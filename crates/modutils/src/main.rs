//! One program that is each of the commands, by the name it is called with or its first argument.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    ExitCode::from(modutils::main(&args))
}
