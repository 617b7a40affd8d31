//! The `lkm` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    lkm::main()
}
