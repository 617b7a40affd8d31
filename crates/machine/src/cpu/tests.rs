use core::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

use lkm_link::Arch;

use super::Access;
use super::Attempt;
use super::Cpu;
use super::Exit;
use super::Limits;
use super::Register;
use super::Watcher;

const ALL: Limits = Limits { instructions: 1_000_000, deadline: None };
const X86_CODE: u64 = 0xffff_ffff_c000_0000;
const X86_DATA: u64 = 0xffff_8880_0000_0000;
const ARM_CODE: u64 = 0xbf00_0000;
const ARM_DATA: u64 = 0xc400_0000;

fn x86(code: &[u8]) -> Box<dyn Cpu> {
    machine(Arch::X86_64, X86_CODE, X86_DATA, code)
}

fn arm(words: &[u32]) -> Box<dyn Cpu> {
    let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    machine(Arch::Arm, ARM_CODE, ARM_DATA, &code)
}

fn machine(arch: Arch, code_at: u64, data_at: u64, code: &[u8]) -> Box<dyn Cpu> {
    let mut cpu = super::new(arch).expect("engine");
    cpu.map(code_at, 0x1000, Access::READ_WRITE).expect("code");
    cpu.write(code_at, code).expect("code");
    cpu.protect(code_at, 0x1000, Access::READ_EXECUTE).expect("protect");
    cpu.map(data_at, 0x2000, Access::READ_WRITE).expect("data");
    cpu.trap_range(code_at - 0x100_0000, code_at);
    cpu.set(Register::Pc, code_at);
    cpu.set(Register::Sp, data_at + 0x1000);
    cpu
}

#[test]
fn x86_call_into_the_trap_range_and_back() {
    // call -0x1000 (to code - 0x1000 + 5); mov eax, 7; hlt
    let mut cpu = x86(&[0xe8, 0x00, 0xf0, 0xff, 0xff, 0xb8, 7, 0, 0, 0, 0xf4]);
    let trap = X86_CODE + 5 - 0x1000;
    assert_eq!(cpu.run(ALL).exit, Exit::Trap(trap));
    assert_eq!(cpu.get(Register::Pc), trap);
    let sp = cpu.get(Register::Sp);
    let mut back = [0; 8];
    cpu.read(sp, &mut back).expect("stack");
    assert_eq!(u64::from_le_bytes(back), X86_CODE + 5);
    cpu.set(Register::Sp, sp + 8);
    cpu.set(Register::Pc, X86_CODE + 5);
    assert_eq!(cpu.run(ALL).exit, Exit::Halt);
    assert_eq!(cpu.get(Register::Return), 7);
    // A pc inside the range traps without running anything.
    cpu.set(Register::Pc, trap);
    assert_eq!(cpu.run(ALL).exit, Exit::Trap(trap));
}

#[test]
fn x86_faults_tell_the_exact_address() {
    let fault = |code: &[u8], rax: u64| {
        let mut cpu = x86(code);
        cpu.set(Register::Return, rax);
        let exit = cpu.run(ALL).exit;
        (exit, cpu.get(Register::Pc) - X86_CODE)
    };
    // nop; mov rcx, [rax+8]
    assert_eq!(
        fault(&[0x90, 0x48, 0x8b, 0x48, 0x08], 0x10),
        (Exit::Fault { attempt: Attempt::Read, address: 0x18, size: 8, mapped: false }, 1)
    );
    // mov dword [rax], 1 into the code
    assert_eq!(
        fault(&[0xc7, 0x00, 1, 0, 0, 0], X86_CODE + 0x123),
        (Exit::Fault { attempt: Attempt::Write, address: X86_CODE + 0x123, size: 4, mapped: true }, 0)
    );
    // mov byte [rax], 1 at an address that is not canonical, and differs from a mapped one above bit 52 only
    assert_eq!(
        fault(&[0xc6, 0x00, 1], X86_DATA & !(0xfff << 52)),
        (
            Exit::Fault {
                attempt: Attempt::Write,
                address: X86_DATA & !(0xfff << 52),
                size: 1,
                mapped: false
            },
            0
        )
    );
    // jmp rax to data
    let mut cpu = x86(&[0xff, 0xe0]);
    cpu.set(Register::Return, X86_DATA + 0x10);
    assert_eq!(
        cpu.run(ALL).exit,
        Exit::Fault { attempt: Attempt::Fetch, address: X86_DATA + 0x10, size: 0, mapped: true }
    );
    // jmp rax to the address that the emulator is given as the end
    let mut cpu = x86(&[0xff, 0xe0]);
    cpu.set(Register::Return, 0xffff_f000);
    let exit = cpu.run(ALL).exit;
    assert!(matches!(exit, Exit::Fault { attempt: Attempt::Fetch, mapped: false, .. }), "{exit:?}");
    // rep stosb over the end of the data
    let mut cpu = x86(&[0xf3, 0xaa]);
    cpu.set(Register::General(7), X86_DATA + 0x1f00);
    cpu.set(Register::General(1), 0x1000);
    assert_eq!(
        cpu.run(ALL).exit,
        Exit::Fault { attempt: Attempt::Write, address: X86_DATA + 0x2000, size: 1, mapped: false }
    );
}

#[test]
fn a_load_that_came_first_does_not_open_a_page_for_stores() {
    // mov cl, [rax]; mov [rax], cl
    let mut cpu = x86(&[0x8a, 0x08, 0x88, 0x08]);
    cpu.set(Register::Return, X86_CODE);
    assert!(matches!(cpu.run(ALL).exit, Exit::Fault { attempt: Attempt::Write, address: X86_CODE, .. }));
    // ldrb r1, [r0]; strb r1, [r0]
    let mut cpu = arm(&[0xe5d0_1000, 0xe5c0_1000]);
    cpu.set(Register::Return, ARM_CODE);
    assert!(matches!(cpu.run(ALL).exit, Exit::Fault { attempt: Attempt::Write, address: ARM_CODE, .. }));
    assert_eq!(cpu.get(Register::Pc), ARM_CODE + 4);
}

#[test]
fn exceptions_of_x86() {
    assert_eq!(x86(&[0x0f, 0x0b]).run(ALL).exit, Exit::Undefined);
    assert_eq!(x86(&[0xcc]).run(ALL).exit, Exit::Breakpoint);
    // xor ecx, ecx; div ecx
    assert_eq!(x86(&[0x31, 0xc9, 0xf7, 0xf1]).run(ALL).exit, Exit::DivideError);
    // nop; vpxor xmm0, xmm1, xmm2: must not run
    let mut cpu = x86(&[0x90, 0xc5, 0xf1, 0xef, 0xc2, 0xf4]);
    assert_eq!(cpu.run(ALL).exit, Exit::Unsupported { address: X86_CODE + 1 });
}

#[test]
fn arm_trap_fault_and_wait() {
    // bl -0x1000; wfe; mov r0, #7; wfi
    let mut cpu = arm(&[0xebff_fbfe, 0xe320_f002, 0xe3a0_0007, 0xe320_f003]);
    let trap = ARM_CODE - 0x1000;
    assert_eq!(cpu.run(ALL).exit, Exit::Trap(trap));
    assert_eq!(cpu.get(Register::Link), ARM_CODE + 4);
    cpu.set(Register::Pc, ARM_CODE + 4);
    let exit = cpu.run(ALL).exit;
    assert_eq!((exit, cpu.get(Register::Pc)), (Exit::Halt, ARM_CODE + 16));
    assert_eq!(cpu.get(Register::Return), 7);
    // ldr r1, [r0, #8]
    let mut cpu = arm(&[0xe590_1008]);
    cpu.set(Register::Return, 0x10);
    assert_eq!(
        cpu.run(ALL).exit,
        Exit::Fault { attempt: Attempt::Read, address: 0x18, size: 4, mapped: false }
    );
    assert_eq!(cpu.get(Register::Pc), ARM_CODE);
    // udf, as BUG() is made of
    let mut cpu = arm(&[0xe7f0_01f2]);
    assert_eq!(cpu.run(ALL).exit, Exit::Undefined);
    assert_eq!(cpu.get(Register::Pc), ARM_CODE);
}

#[test]
fn endless_loops_end() {
    let half = Limits { instructions: 10_000, deadline: None };
    assert_eq!(x86(&[0xeb, 0xfe]).run(half).exit, Exit::Limit);
    assert_eq!(arm(&[0xeaff_fffe]).run(half).exit, Exit::Limit);
    let soon = Limits { instructions: u64::MAX, deadline: Some(Instant::now() + Duration::from_millis(20)) };
    assert_eq!(x86(&[0xeb, 0xfe]).run(soon).exit, Exit::Deadline);
}

#[test]
fn special_registers_keep_their_values() {
    let mut cpu = arm(&[]);
    cpu.set(Register::PerCpu, 0xc123_4000);
    cpu.set(Register::Current, 0xc765_4000);
    assert_eq!((cpu.get(Register::PerCpu), cpu.get(Register::Current)), (0xc123_4000, 0xc765_4000));
    // mrc p15, 0, r0, c13, c0, 4; mrc p15, 0, r1, c13, c0, 3; wfi
    let mut cpu = arm(&[0xee1d_0f90, 0xee1d_1f70, 0xe320_f003]);
    cpu.set(Register::PerCpu, 0xc123_4000);
    cpu.set(Register::Current, 0xc765_4000);
    assert_eq!(cpu.run(ALL).exit, Exit::Halt);
    assert_eq!((cpu.get(Register::General(0)), cpu.get(Register::General(1))), (0xc123_4000, 0xc765_4000));
    // mov rax, gs:[0x10]; hlt
    let mut cpu = x86(&[0x65, 0x48, 0x8b, 0x04, 0x25, 0x10, 0, 0, 0, 0xf4]);
    cpu.write(X86_DATA + 0x110, &0x1122_3344_5566_7788_u64.to_le_bytes()).expect("data");
    cpu.set(Register::PerCpu, X86_DATA + 0x100);
    assert_eq!(cpu.run(ALL).exit, Exit::Halt);
    assert_eq!(cpu.get(Register::Return), 0x1122_3344_5566_7788);
}

#[derive(Debug)]
struct NotAt(u64, Cell<u32>);

impl Watcher for NotAt {
    fn allows(&self, address: u64, size: u64, _write: bool) -> bool {
        self.1.set(self.1.get() + 1);
        address + size <= self.0 || address > self.0
    }
}

#[test]
fn watched_accesses_name_the_instruction() {
    // mov [rax], ecx; nop; mov [rax+4], ecx; inc eax; hlt
    let mut cpu = x86(&[0x89, 0x08, 0x90, 0x89, 0x48, 0x04, 0xff, 0xc0, 0xf4]);
    let watcher = Rc::new(NotAt(X86_DATA + 0x105, Cell::new(0)));
    cpu.watch(X86_DATA, 0x1000, Rc::<NotAt>::clone(&watcher)).expect("watch");
    cpu.set(Register::Return, X86_DATA + 0x100);
    assert_eq!(cpu.run(ALL).exit, Exit::Halt);
    assert_eq!(watcher.1.get(), 2);
    let violations = cpu.violations();
    assert_eq!(violations.len(), 1);
    assert_eq!(violations[0].pc, X86_CODE + 3);
    assert_eq!((violations[0].address, violations[0].size, violations[0].write), (X86_DATA + 0x104, 4, true));
    assert!(cpu.violations().is_empty());

    // str r1, [r0]; nop; ldr r1, [r0, #4]; wfi
    let mut cpu = arm(&[0xe580_1000, 0xe1a0_0000, 0xe590_1004, 0xe320_f003]);
    cpu.watch(ARM_DATA, 0x1000, Rc::new(NotAt(ARM_DATA + 0x105, Cell::new(0)))).expect("watch");
    cpu.set(Register::Return, ARM_DATA + 0x100);
    assert_eq!(cpu.run(ALL).exit, Exit::Halt);
    let violations = cpu.violations();
    assert_eq!(violations.len(), 1);
    assert_eq!((violations[0].pc, violations[0].write), (ARM_CODE + 8, false));
}

#[test]
fn code_that_is_replaced_is_run_as_it_is_then() {
    let mut cpu = x86(&[0xb8, 1, 0, 0, 0, 0xf4]);
    assert_eq!(cpu.run(ALL).exit, Exit::Halt);
    cpu.unmap(X86_CODE, 0x1000).expect("unmap");
    cpu.map(X86_CODE, 0x1000, Access::READ_EXECUTE).expect("map");
    cpu.write(X86_CODE, &[0xb8, 2, 0, 0, 0, 0xf4]).expect("write");
    cpu.set(Register::Pc, X86_CODE);
    assert_eq!(cpu.run(ALL).exit, Exit::Halt);
    assert_eq!(cpu.get(Register::Return), 2);
    // The kernel patches code in place, too.
    cpu.write(X86_CODE, &[0xb8, 3, 0, 0, 0, 0xf4]).expect("write");
    cpu.set(Register::Pc, X86_CODE);
    assert_eq!(cpu.run(ALL).exit, Exit::Halt);
    assert_eq!(cpu.get(Register::Return), 3);
}

#[test]
fn saved_registers_come_back() {
    let mut cpu = arm(&[0xe3a0_0007, 0xe320_f003]);
    cpu.set(Register::General(4), 44);
    let saved = cpu.save();
    assert_eq!(cpu.run(ALL).exit, Exit::Halt);
    cpu.set(Register::General(4), 0);
    cpu.restore(&saved);
    assert_eq!(
        (cpu.get(Register::General(4)), cpu.get(Register::Return), cpu.get(Register::Pc)),
        (44, 0, ARM_CODE)
    );
}
