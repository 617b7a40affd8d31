//! What a program costs: time by the clock, processor time, memory.

use std::process::Command;
use std::process::Stdio;
use std::time::Instant;

use crate::Result;

/// Runs a program some times, its output thrown away, and prints a line of JSON for each run: seconds by the clock, of the
/// processor for the program and for the system on its behalf, KiB of memory at most, how it ended.
pub fn main(runs: usize, program: &str, arguments: &[String]) -> Result<()> {
    for _ in 0..runs {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let start = Instant::now();
        let child = command.spawn()?;
        let mut status = 0;
        // SAFETY: all zeros are a valid value of this structure of numbers.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: the child is ours and has not been waited for, both pointers are valid for the call.
        let waited = unsafe { libc::wait4(child.id() as libc::pid_t, &mut status, 0, &mut usage) };
        let wall = start.elapsed().as_secs_f64();
        if waited < 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        let code = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -1 };
        println!(
            "{{\"wall\":{wall:.6},\"user\":{:.6},\"system\":{:.6},\"memory\":{},\"code\":{code}}}",
            seconds(usage.ru_utime),
            seconds(usage.ru_stime),
            usage.ru_maxrss
        );
    }
    Ok(())
}
