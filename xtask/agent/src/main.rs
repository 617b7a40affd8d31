//! PID 1 of a kernel under QEMU: a system call executor without any device, driver or libc.
//!
//! The host has a breakpoint on [`agent_stop`]. Whenever it stops there, it reads the answers out of [`MAILBOX`],
//! writes the next batch of system calls into it and sets the program counter to `agent_go`. Nothing but memory
//! carries the conversation, so that it works on every machine that QEMU has.
#![no_std]
#![no_main]

use core::arch::asm;
use core::arch::global_asm;
use core::ptr::addr_of_mut;
use core::ptr::read_volatile;
use core::ptr::write_volatile;

/// Steps in a batch.
const STEPS: usize = 1024;
/// Bytes for path names, file contents and answers.
const DATA: usize = 16 << 20;
/// No system call: reads a file descriptor until its end, as one would with `read` in a loop.
const READ_ALL: usize = 0xffff_0001;

/// One system call; the host lays it out the same way.
#[repr(C)]
struct Step {
    /// Its number, or [`READ_ALL`].
    number: usize,
    arguments: [usize; 6],
    /// Bit i: argument i is the index of an earlier step, whose result is to be used.
    references: usize,
    /// What the kernel returned.
    result: isize,
}

#[repr(C)]
struct Mailbox {
    count: usize,
    steps: [Step; STEPS],
    data: [u8; DATA],
}

/// Zero in the file, so that it costs no space there.
#[unsafe(no_mangle)]
static mut MAILBOX: Mailbox = Mailbox {
    count: 0,
    steps: [const { Step { number: 0, arguments: [0; 6], references: 0, result: 0 } }; STEPS],
    data: [0; DATA],
};

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start: xor ebp, ebp",
    "and rsp, -16",
    "call {run}",
    ".globl agent_stop",
    "agent_stop: nop",
    ".globl agent_go",
    "agent_go: ret",
    run = sym run,
);

#[cfg(target_arch = "arm")]
global_asm!(
    ".globl _start",
    "_start: mov fp, #0",
    "bic sp, sp, #7",
    "bl {run}",
    ".globl agent_stop",
    "agent_stop: nop",
    ".globl agent_go",
    "agent_go: bx lr",
    run = sym run,
);

unsafe extern "C" {
    /// Where the host stops this program.
    fn agent_stop();
}

#[cfg(target_arch = "x86_64")]
const READ: usize = 0;
#[cfg(target_arch = "arm")]
const READ: usize = 3;

/// # Safety
/// The host answers for what it asks the kernel to do with this program's memory.
#[cfg(target_arch = "x86_64")]
unsafe fn system_call(number: usize, a: &[usize; 6]) -> isize {
    let result;
    // SAFETY: the registers are those of the kernel's calling convention; rcx and r11 are all it destroys.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
             in("r10") a[3], in("r8") a[4], in("r9") a[5], lateout("rcx") _, lateout("r11") _);
    }
    result
}

/// # Safety
/// The host answers for what it asks the kernel to do with this program's memory.
#[cfg(target_arch = "arm")]
unsafe fn system_call(number: usize, a: &[usize; 6]) -> isize {
    let result;
    // SAFETY: the registers are those of the kernel's calling convention (EABI).
    unsafe {
        asm!("svc 0", in("r7") number, inlateout("r0") a[0] as isize => result, in("r1") a[1], in("r2") a[2],
             in("r3") a[3], in("r4") a[4], in("r5") a[5]);
    }
    result
}

/// # Safety
/// `arguments` are a file descriptor, a buffer and its size.
unsafe fn read_all(arguments: &[usize; 6]) -> isize {
    let [fd, buffer, size, ..] = *arguments;
    let mut done = 0;
    while done < size {
        // SAFETY: as for this function.
        let got = unsafe { system_call(READ, &[fd, buffer + done, size - done, 0, 0, 0]) };
        if got < 0 {
            return got;
        }
        if got == 0 {
            break;
        }
        done += got as usize;
    }
    done as isize
}

extern "C" fn run() -> ! {
    let mailbox = addr_of_mut!(MAILBOX);
    // SAFETY: the mailbox is used by this one thread, and by the host only while the thread stands at `agent_stop`.
    unsafe {
        // The host cannot write to pages that are not there yet.
        let start = mailbox.cast::<u8>();
        let mut at = 0;
        while at < size_of::<Mailbox>() {
            write_volatile(start.add(at), 0);
            at += 4096;
        }
        loop {
            agent_stop();
            let count = read_volatile(addr_of_mut!((*mailbox).count)).min(STEPS);
            let steps = addr_of_mut!((*mailbox).steps).cast::<Step>();
            let mut index = 0;
            while index < count {
                let step = steps.add(index);
                let number = read_volatile(addr_of_mut!((*step).number));
                let references = read_volatile(addr_of_mut!((*step).references));
                let mut arguments = read_volatile(addr_of_mut!((*step).arguments));
                let mut argument = 0;
                while argument < 6 {
                    if references >> argument & 1 == 1 {
                        let of = steps.add(arguments[argument].min(STEPS - 1));
                        arguments[argument] = read_volatile(addr_of_mut!((*of).result)) as usize;
                    }
                    argument += 1;
                }
                let result = match number {
                    READ_ALL => read_all(&arguments),
                    _ => system_call(number, &arguments),
                };
                write_volatile(addr_of_mut!((*step).result), result);
                index += 1;
            }
        }
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
