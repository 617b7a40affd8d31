//! One program that is each of the commands, by the name it is called with or its first argument.

use std::ffi::OsString;
use std::io;
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
    if std::env::var_os("MODUTILS_STYLE").is_some_and(|style| style == "busybox") {
        context.style = Style::Busybox;
    }
    context.posix = std::env::var_os("POSIXLY_CORRECT").is_some();
    ExitCode::from(modutils::run(&mut context, &args))
}
