//! Instructions of a program up to a system call, counted by running them one by one.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::process::Stdio;

use crate::Result;

/// `syscall`
const SYSCALL: u16 = 0x050f;
/// More than any of the programs that are measured has.
const LIMIT: u64 = 50_000_000;

/// Runs a program until it is about to make one of the system calls, and prints how many instructions that took. The calls are not made.
pub fn main(calls: &str, program: &str, arguments: &[String]) -> Result<()> {
    let calls: Vec<u64> = calls.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: the one call between fork and exec is a system call without memory.
    unsafe {
        command.pre_exec(|| match libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
    let mut child = command.spawn()?;
    let pid = child.id() as libc::pid_t;
    let mut steps = 0;
    let found = loop {
        let mut status = 0;
        // SAFETY: the child is ours, the pointer is valid for the call.
        if unsafe { libc::waitpid(pid, &mut status, 0) } < 0 {
            return Err(io::Error::last_os_error().into());
        }
        if !libc::WIFSTOPPED(status) || steps > LIMIT {
            break false;
        }
        // SAFETY: all zeros are a valid value of this structure of numbers.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        // SAFETY: the child is stopped; the structure is the one that the request fills.
        unsafe { libc::ptrace(libc::PTRACE_GETREGS, pid, 0, &mut registers) };
        if calls.contains(&registers.rax) {
            // SAFETY: the child is stopped; a word of its memory is returned.
            let word = unsafe { libc::ptrace(libc::PTRACE_PEEKTEXT, pid, registers.rip, 0) };
            if word as u16 == SYSCALL {
                break true;
            }
        }
        steps += 1;
        // SAFETY: the child is stopped.
        if unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, pid, 0, 0) } < 0 {
            return Err(io::Error::last_os_error().into());
        }
    };
    let _ = child.kill();
    let _ = child.wait();
    if !found {
        return Err(format!("{program} ended without the call").into());
    }
    println!("{steps}");
    Ok(())
}
