//! One program that is each of the commands, by the name it is called with or its first argument.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use lkm_syscall::Live;
use modutils::Context;
use modutils::Output;
use modutils::Style;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let mut out = Output::new();
    let mut err = io::stderr();
    let mut context = Context::new(&Live, &mut out, &mut err);
    match std::env::var_os("MODUTILS_STYLE").as_ref().map(|style| style.as_bytes()) {
        Some(b"busybox") => context.style = Style::Busybox,
        // Nothing but what kmod prints.
        Some(b"kmod") => context.explain = false,
        _ => {}
    }
    context.posix = std::env::var_os("POSIXLY_CORRECT").is_some();
    ExitCode::from(modutils::run(&mut context, &args))
}
