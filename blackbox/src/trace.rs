//! Follows a program and all it starts from system call to system call, and answers those about modules in the kernel's place.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::io::IoSlice;
use std::io::IoSliceMut;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::ptrace::Options;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::sys::uio::RemoteIoVec;
use nix::sys::uio::process_vm_readv;
use nix::sys::uio::process_vm_writev;
use nix::sys::wait::WaitPidFlag;
use nix::sys::wait::WaitStatus;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::kernel::Kernel;

/// A program that runs longer than this is ended.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most that a program hands over at once.
const MODULE_LIMIT: usize = 1 << 24;
const STRING_LIMIT: usize = 1 << 16;

/// Numbers of x86_64's system calls.
mod number {
    pub(super) const UNAME: u64 = 63;
    pub(super) const INIT_MODULE: u64 = 175;
    pub(super) const DELETE_MODULE: u64 = 176;
    pub(super) const FINIT_MODULE: u64 = 313;
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself, with this code.
    Code(i32),
    /// By a signal.
    Signal(Signal),
    /// It did not come to an end.
    Never,
}

/// What happens when the call that is under way ends.
enum Pending {
    Nothing,
    /// The call was not made; this is its result.
    Result(i64),
    /// The release in the structure at this address is changed.
    Uname(u64),
}

/// Follows the process, which has asked to be traced and is about to execute the program, until everything has ended.
/// `root` is where the kernel shows its files.
pub(crate) fn follow(main: Pid, kernel: &mut Kernel, root: &Path) -> io::Result<End> {
    let (done, watch) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if watch.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            return kill(main, Signal::SIGKILL).is_ok();
        }
        false
    });
    let end = until_the_end(main, kernel, root);
    drop(done);
    match watchdog.join() {
        Ok(true) => end.map(|_| End::Never),
        _ => end,
    }
}

fn until_the_end(main: Pid, kernel: &mut Kernel, root: &Path) -> io::Result<End> {
    let mut calls: BTreeMap<Pid, Option<Pending>> = BTreeMap::new();
    let mut end = None;
    loop {
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        let status = match waitpid(None, Some(flags)) {
            Err(Errno::ECHILD) => break,
            Err(Errno::EINTR) => continue,
            status => status?,
        };
        let (pid, signal) = match status {
            WaitStatus::Exited(pid, code) => {
                calls.remove(&pid);
                if pid == main {
                    end = Some(End::Code(code));
                    // What it left behind in the background does not belong to its answer.
                    kill_all(calls.keys());
                }
                continue;
            }
            WaitStatus::Signaled(pid, signal, _) => {
                calls.remove(&pid);
                if pid == main {
                    end = Some(End::Signal(signal));
                    kill_all(calls.keys());
                }
                continue;
            }
            WaitStatus::PtraceSyscall(pid) => {
                let entry = calls.entry(pid).or_default();
                let pending = match entry.take() {
                    None => {
                        *entry = Some(gone(enter(pid, kernel, root))?.unwrap_or(Pending::Nothing));
                        None
                    }
                    pending => pending,
                };
                if let Some(pending) = pending {
                    gone(leave(pid, &pending, kernel))?;
                }
                (pid, None)
            }
            WaitStatus::PtraceEvent(pid, ..) => (pid, None),
            // The program itself, stopped by execve before it may be followed further.
            WaitStatus::Stopped(pid, Signal::SIGTRAP) if !calls.contains_key(&pid) => {
                let follow = Options::PTRACE_O_TRACEFORK
                    | Options::PTRACE_O_TRACEVFORK
                    | Options::PTRACE_O_TRACECLONE
                    | Options::PTRACE_O_TRACEEXEC;
                ptrace::setoptions(
                    pid,
                    follow | Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL,
                )?;
                calls.insert(pid, None);
                (pid, None)
            }
            WaitStatus::Stopped(pid, Signal::SIGSTOP) if !calls.contains_key(&pid) => {
                calls.insert(pid, None);
                (pid, None)
            }
            WaitStatus::Stopped(pid, signal) => (pid, Some(signal)),
            _ => continue,
        };
        gone(ptrace::syscall(pid, signal).map_err(io::Error::from))?;
    }
    end.ok_or_else(|| io::Error::other("the program was lost"))
}

fn kill_all<'a>(processes: impl Iterator<Item = &'a Pid>) {
    for &process in processes {
        // One that has ended already is meant too.
        let _ = kill(process, Signal::SIGKILL);
    }
}

/// A process that was killed meanwhile is no failure: its end is told next.
fn gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => Ok(None),
        result => result.map(Some),
    }
}

fn enter(pid: Pid, kernel: &mut Kernel, root: &Path) -> io::Result<Pending> {
    let mut registers = ptrace::getregs(pid)?;
    let [first, second, third] = [registers.rdi, registers.rsi, registers.rdx];
    let result = match registers.orig_rax {
        number::UNAME => return Ok(Pending::Uname(first)),
        number::INIT_MODULE => {
            let image = read(pid, first, (second as usize).min(MODULE_LIMIT));
            match (image, read_string(pid, third)) {
                (Ok(image), Ok(parameters)) => kernel.init_module(&image, &parameters),
                _ => kernel.fault("init_module"),
            }
        }
        number::FINIT_MODULE => {
            let file = fs::read(format!("/proc/{pid}/fd/{}", first as i32));
            match read_string(pid, second) {
                Ok(parameters) => kernel.finit_module(file, &parameters, third),
                Err(_) => kernel.fault("finit_module"),
            }
        }
        number::DELETE_MODULE => match read_string(pid, first) {
            Ok(name) => kernel.delete_module(&String::from_utf8_lossy(&name), second),
            Err(_) => kernel.fault("delete_module"),
        },
        _ => return Ok(Pending::Nothing),
    };
    kernel.show(root)?;
    // No such call: the real kernel does nothing.
    registers.orig_rax = u64::MAX;
    ptrace::setregs(pid, registers)?;
    Ok(Pending::Result(result))
}

fn leave(pid: Pid, pending: &Pending, kernel: &Kernel) -> io::Result<()> {
    match *pending {
        Pending::Nothing => Ok(()),
        Pending::Result(result) => {
            let mut registers = ptrace::getregs(pid)?;
            registers.rax = result.cast_unsigned();
            Ok(ptrace::setregs(pid, registers)?)
        }
        Pending::Uname(address) => {
            // The fields of `struct utsname` are 65 bytes each; the release is the third.
            let mut field = [0; 65];
            let release = kernel.release.as_bytes();
            field[..release.len()].copy_from_slice(release);
            write(pid, address + 130, &field)
        }
    }
}

fn read(pid: Pid, address: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let remote = RemoteIoVec { base: address as usize, len };
    let got = process_vm_readv(pid, &mut [IoSliceMut::new(&mut bytes)], &[remote])?;
    bytes.truncate(got);
    Ok(bytes)
}

fn read_string(pid: Pid, address: u64) -> io::Result<Vec<u8>> {
    let mut string = Vec::new();
    // In pieces that end with a page, since what is behind the string's page may not be mapped.
    while string.len() < STRING_LIMIT {
        let at = address + string.len() as u64;
        let piece = read(pid, at, 4096 - (at % 4096) as usize)?;
        if piece.is_empty() {
            break;
        }
        if let Some(end) = piece.iter().position(|&byte| byte == 0) {
            string.extend_from_slice(&piece[..end]);
            break;
        }
        string.extend_from_slice(&piece);
    }
    Ok(string)
}

fn write(pid: Pid, address: u64, bytes: &[u8]) -> io::Result<()> {
    let remote = RemoteIoVec { base: address as usize, len: bytes.len() };
    process_vm_writev(pid, &[IoSlice::new(bytes)], &[remote])?;
    Ok(())
}
