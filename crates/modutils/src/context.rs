//! What a command works with: the kernel, its two outputs, and how messages look.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;

use lkm_module::Errno;
use lkm_syscall::LogMark;
use lkm_syscall::Syscalls;

use crate::path::base_name;

/// Whose habits a command has where two families of tools differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// kmod's.
    #[default]
    Kmod,
    /// busybox's (1.36), in `insmod`: no options; after any failure of `finit_module` the file is unpacked and tried
    /// again by `init_module`; its messages; the errno as exit code.
    Busybox,
}

/// What a command works with.
pub struct Context<'a> {
    /// The kernel that is asked.
    pub kernel: &'a dyn Syscalls,
    /// Standard output.
    pub out: &'a mut dyn Write,
    /// Where messages go.
    pub err: &'a mut dyn Write,
    /// Whose habits `insmod` has.
    pub style: Style,
    /// Options end at the first operand (`POSIXLY_CORRECT`).
    pub posix: bool,
    /// The directory with a directory for each kernel release.
    pub module_root: &'a str,
    /// `modprobe` takes `softdep` and `install` lines for no more than kmod does (`--strict-kmod`).
    pub strict: bool,
    /// Refusals are explained behind their messages.
    pub explain: bool,
    program: Vec<u8>,
    /// What first went wrong with standard output; nothing more is written to it.
    failure: Option<io::Error>,
    syslog: Option<UnixDatagram>,
    verbose: bool,
    quiet: bool,
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("kernel", &self.kernel)
            .field("style", &self.style)
            .finish_non_exhaustive()
    }
}

/// How grave a message is, as in `syslog`.
#[derive(Clone, Copy)]
enum Priority {
    Fatal = 2,
    Error = 3,
    Warning = 4,
    Info = 6,
}

impl<'a> Context<'a> {
    /// kmod's style, permuted options, modules in `/lib/modules`.
    pub fn new(kernel: &'a dyn Syscalls, out: &'a mut dyn Write, err: &'a mut dyn Write) -> Context<'a> {
        Context {
            kernel,
            out,
            err,
            style: Style::Kmod,
            posix: false,
            module_root: "/lib/modules",
            strict: false,
            explain: true,
            program: Vec::new(),
            failure: None,
            syslog: None,
            verbose: false,
            quiet: false,
        }
    }

    /// The program's name as it was called, which messages about options start with.
    pub(crate) fn program(&self) -> &[u8] {
        &self.program
    }

    pub(crate) fn set_program(&mut self, name: &OsStr) {
        self.program = name.as_bytes().to_vec();
    }

    /// Messages also tell what is done.
    pub(crate) fn set_verbose(&mut self) {
        self.verbose = true;
    }

    /// Whether messages tell what is done.
    pub(crate) fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// Whether messages tell what is done from here on.
    pub(crate) fn set_info(&mut self, told: bool) {
        self.verbose = told;
    }

    /// No messages and no explanations from here on.
    pub(crate) fn set_quiet(&mut self) {
        self.quiet = true;
        self.explain = false;
    }

    /// Messages go to the system log from here on; without one they stay where they are.
    pub(crate) fn use_syslog(&mut self) {
        let socket = UnixDatagram::unbound().and_then(|socket| socket.connect("/dev/log").map(|()| socket));
        self.syslog = socket.ok();
    }

    /// Writes to standard output. What cannot be written shows in [`Context::finish`].
    pub(crate) fn print(&mut self, bytes: &[u8]) {
        if self.failure.is_none() {
            self.failure = self.out.write_all(bytes).err();
        }
    }

    /// Nobody gets what is printed any more: a reader is gone, a disk is full.
    pub(crate) fn output_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Writes what was printed, before something else does.
    pub(crate) fn flush(&mut self) {
        if self.failure.is_none() {
            self.failure = self.out.flush().err();
        }
    }

    /// The exit code of a command that would have given `code`, if all that was printed has arrived.
    pub(crate) fn finish(&mut self, code: u8) -> u8 {
        /// What a shell says of a program that died of SIGPIPE.
        const BROKEN_PIPE: u8 = 128 + 13;
        self.flush();
        match self.failure.take() {
            None => code,
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => BROKEN_PIPE,
            Some(error) => {
                let number = error.raw_os_error().and_then(|number| u16::try_from(number).ok());
                let text = number.map_or("Input/output error", |number| Errno::from_raw(number).text());
                self.error(&[b"could not write the output: ", text.as_bytes()]);
                code.max(1)
            }
        }
    }

    /// A line on standard error as it is.
    pub(crate) fn complain(&mut self, line: &str) {
        self.complain_bytes(line.as_bytes());
    }

    /// A line on standard error as it is, whatever bytes it has.
    pub(crate) fn complain_bytes(&mut self, line: &[u8]) {
        // On a terminal the two outputs appear in the order in which they were written.
        self.flush();
        let _ = self.err.write_all(&[line, b"\n"].concat());
    }

    /// An error: `PROGRAM: ERROR: TEXT`, or in the system log.
    pub(crate) fn error(&mut self, parts: &[&[u8]]) {
        self.log(Priority::Error, b"ERROR: ", &parts.concat());
    }

    /// An error that ends the command: `PROGRAM: FATAL: TEXT`.
    pub(crate) fn fatal(&mut self, parts: &[&[u8]]) {
        self.log(Priority::Fatal, b"FATAL: ", &parts.concat());
    }

    /// Something that went wrong while the command goes on: `PROGRAM: WARNING: TEXT`.
    pub(crate) fn warning(&mut self, parts: &[&[u8]]) {
        self.log(Priority::Warning, b"WARNING: ", &parts.concat());
    }

    /// What is done, if it was asked for.
    pub(crate) fn info(&mut self, parts: &[&[u8]]) {
        if self.verbose {
            self.log(Priority::Info, b"INFO: ", &parts.concat());
        }
    }

    /// A line of explanation behind an error, or a message of its own in the system log.
    pub(crate) fn detail(&mut self, label: &str, text: &str) {
        if !self.explain {
            return;
        }
        if self.syslog.is_some() {
            self.log(Priority::Error, b"", format!("{label}: {text}").as_bytes());
        } else {
            self.complain(&format!("  {label}: {text}"));
        }
    }

    /// The end of the kernel's log, taken before a call that may be refused; `None` if refusals are not explained.
    pub(crate) fn log_mark(&self) -> Option<LogMark> {
        self.explain.then(|| self.kernel.log_mark())
    }

    fn log(&mut self, priority: Priority, prefix: &[u8], text: &[u8]) {
        const DAEMON: u8 = 3 << 3;
        if self.quiet {
            return;
        }
        let program = base_name(&self.program).to_vec();
        if let Some(syslog) = &self.syslog {
            let start = format!("<{}>", DAEMON | priority as u8);
            if syslog.send(&[start.as_bytes(), &program, b": ", text].concat()).is_ok() {
                return;
            }
        }
        self.complain_bytes(&[&program, &b": "[..], prefix, text].concat());
    }

    /// What `--version` prints: the two lines of the kmod whose behaviour this is, which scripts take apart, then
    /// what it really is.
    pub(crate) fn version(&mut self) {
        let text = concat!(
            "kmod version 30\n+ZSTD +XZ +ZLIB -LIBCRYPTO -EXPERIMENTAL\nmodutils ",
            env!("CARGO_PKG_VERSION"),
            "\n"
        );
        self.print(text.as_bytes());
    }
}
