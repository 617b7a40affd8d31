//! Writing results, quietly where nobody reads on.

use std::io::ErrorKind;
use std::io::Write;
use std::process::ExitCode;

/// Writes `text` to standard output. A closed pipe is success, as in `lkm run x.ko | head`; a full disk is not.
pub(crate) fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "lkm: cannot write the result: {error}");
            ExitCode::FAILURE
        }
    }
}
