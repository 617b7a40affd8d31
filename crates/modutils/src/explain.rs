//! Why something was refused: lines behind the message of a command.
//!
//! The first line of a refusal is kmod's and stays as it is. Behind it stand, each at most as often as told here,
//!
//! ```text
//! insmod: ERROR: could not insert module hello.ko: Unknown symbol in module
//!   kernel: hello: Unknown symbol foo (err -2)          what the kernel logged during the call, line by line
//!   cause: foo is exported by the module bar, ...       one line: why
//!   try: modprobe bar                                   one line: what to do about it
//! ```
//!
//! They are left out with `--quiet`, and where [`Context::explain`] is off. In the system log they are messages of
//! their own, without the two blanks.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use lkm_module::Errno;
use lkm_syscall::InitFlags;
use lkm_syscall::LogMark;
use lkm_syscall::LogRecord;
use lkm_tree::config::Origin;
use lkm_tree::index::binary::IndexError;

use crate::Context;

mod alike;
mod cause;
mod file;
mod load;
mod lookup;
mod parameters;
mod remove;
mod said;
mod shown;
mod symbols;
mod system;
#[cfg(test)]
mod tests;
mod tree;

use cause::Cause;
use shown::shown;
use system::System;

/// Lines of the kernel's log that are shown from the start and from the end of what a call left there.
const LINES: usize = 5;

/// What was tried and refused.
#[derive(Debug)]
pub(crate) enum Attempt<'a> {
    /// To load a module.
    Load(Load<'a>),
    /// To unload the module of this name.
    Remove(&'a [u8], Errno),
    /// The same, but the kernel was not asked, because something was found that it would refuse for. The message names
    /// that.
    NotRemoved(&'a [u8]),
    /// To find a module by a name or alias that nothing in the directory (`/lib/modules/VERSION`) fits.
    LookUp(&'a [u8], &'a Path),
    /// To read the index at this path.
    Index(&'a Path, &'a IndexError),
    /// To run the command of an `install` or `remove` line.
    Command(CommandFailure<'a>),
    /// To load a module that a line of the configuration forbids; the module that needs it, if it is not the one asked
    /// for.
    Denied(&'a [u8], &'a Origin, Option<&'a [u8]>),
    /// To read a file as a module.
    Read(&'a Path, Errno),
}

/// A module that was not loaded.
#[derive(Debug)]
pub(crate) struct Load<'a> {
    /// Its file.
    pub(crate) path: &'a Path,
    /// The directory (`/lib/modules/VERSION`) whose index named the file; `None` if the user did.
    pub(crate) directory: Option<&'a Path>,
    /// The module that was asked for, if this is one that it needs.
    pub(crate) needed_by: Option<&'a [u8]>,
    /// Its parameters as the kernel got them.
    pub(crate) parameters: &'a [u8],
    /// What the kernel was told to overlook.
    pub(crate) flags: InitFlags,
    /// What the call gave, or reading the file.
    pub(crate) errno: Errno,
    /// [`Context::log_mark`] from before the call; `None` if the kernel was not asked.
    pub(crate) log: Option<LogMark>,
}

impl<'a> Load<'a> {
    /// A file that the user named.
    pub(crate) fn of_file(
        path: &'a OsStr,
        parameters: &'a [u8],
        flags: InitFlags,
        errno: Errno,
        log: Option<LogMark>,
    ) -> Load<'a> {
        Load { path: path.as_ref(), directory: None, needed_by: None, parameters, flags, errno, log }
    }
}

/// A command that did not do what it should.
#[derive(Debug)]
pub(crate) struct CommandFailure<'a> {
    /// The module that it stands for.
    pub(crate) module: &'a [u8],
    /// The command line.
    pub(crate) command: &'a [u8],
    /// Where it stands.
    pub(crate) origin: &'a Origin,
    /// How it ended, or why it was not started.
    pub(crate) status: io::Result<ExitStatus>,
}

/// Prints why, behind the message that told of it. The message itself is the caller's.
pub(crate) fn refusal(context: &mut Context<'_>, mut attempt: Attempt<'_>) {
    if !context.explain {
        return;
    }
    let mark = match &mut attempt {
        // The mark is used up, but that there was one still tells that the kernel was asked.
        Attempt::Load(load) => load.log.as_mut().map(|mark| std::mem::replace(mark, LogMark::sequence(0))),
        _ => None,
    };
    // What cannot be opened was not given to the kernel either.
    let readable = |load: &Load<'_>| std::fs::File::open(load.path).is_ok();
    let asked = matches!(&attempt, Attempt::Load(load) if readable(load));
    let log = mark.filter(|_| asked).map(|mark| context.kernel.log_since(mark));
    let cause = cause(context, &attempt, log.as_ref().and_then(|log| log.as_deref().ok()));
    match &log {
        Some(Ok(records)) => records_shown(records).iter().for_each(|line| context.detail("kernel", line)),
        Some(Err(errno)) if !cause.as_ref().is_some_and(Cause::is_about_the_caller) => {
            context.detail(
                "kernel",
                &format!("its log could not be read ({}); dmesg, as root, shows it", errno.text()),
            );
        }
        _ => {}
    }
    if let Some(cause) = cause {
        if !is_said(&attempt, &cause) {
            context.detail("cause", &cause.to_string());
        }
        if let Some(cure) = cause.cure() {
            context.detail("try", &cure);
        }
    }
}

/// The message has said it.
fn is_said(attempt: &Attempt<'_>, cause: &Cause) -> bool {
    match cause {
        Cause::Holders(..) | Cause::NotLoaded(_) => matches!(attempt, Attempt::NotRemoved(_)),
        Cause::NoSuchName(_) => true,
        _ => false,
    }
}

fn cause(context: &Context<'_>, attempt: &Attempt<'_>, log: Option<&[LogRecord]>) -> Option<Cause> {
    let system = |directory| System::new(context.kernel, context.module_root, directory);
    match attempt {
        Attempt::Load(load) => load::cause(&system(load.directory), load, log),
        Attempt::Remove(name, errno) => remove::cause(&system(None), name, *errno),
        Attempt::NotRemoved(name) => remove::cause(&system(None), name, Errno::EAGAIN),
        Attempt::LookUp(name, directory) => lookup::cause(&system(Some(directory)), name),
        Attempt::Index(path, error) => Some(tree::index_cause(error, path, system(path.parent()).release())),
        Attempt::Command(failure) => Some(command(failure)),
        Attempt::Denied(name, origin, needed_by) => {
            Some(Cause::Denied(origin_shown(origin), shown(name), needed_by.map(shown)))
        }
        Attempt::Read(path, errno) => file::cause(path, *errno, None),
    }
}

fn command(failure: &CommandFailure<'_>) -> Cause {
    let origin = origin_shown(failure.origin);
    let words: Vec<&[u8]> =
        failure.command.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
    if let [b"/bin/false" | b"/usr/bin/false" | b"false"] = words[..] {
        return Cause::CommandForbids(origin, shown(failure.module));
    }
    match &failure.status {
        Err(error) => Cause::CommandNotStarted(origin, error.to_string()),
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => Cause::CommandFailed(origin, code, shown(failure.module)),
            (None, signal) => Cause::CommandKilled(origin, signal.unwrap_or(0)),
        },
    }
}

fn origin_shown(origin: &Origin) -> String {
    shown(origin.to_string().as_bytes())
}

/// The lines of the log that are shown: all, or the first and the last.
fn records_shown(records: &[LogRecord]) -> Vec<String> {
    let lines: Vec<&[u8]> = records
        .iter()
        .flat_map(|record| record.text.split(|&byte| byte == b'\n'))
        .filter(|line| !line.is_empty())
        .collect();
    let texts = |lines: &[&[u8]]| lines.iter().map(|line| shown(line)).collect::<Vec<_>>();
    match (lines.get(..LINES), lines.len().checked_sub(LINES).and_then(|from| lines.get(from..))) {
        (Some(first), Some(last)) if lines.len() > 2 * LINES => {
            let left_out = format!("... {} more lines, see dmesg", lines.len() - 2 * LINES);
            [texts(first), vec![left_out], texts(last)].concat()
        }
        _ => texts(&lines),
    }
}
