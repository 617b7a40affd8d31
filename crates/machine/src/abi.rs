//! How functions of the kernel get their arguments, in registers, on the stack and from a `va_list`.

use lkm_link::Arch;

use crate::cpu::Cpu;
use crate::cpu::Register;

/// A source of arguments in the order of a C parameter list.
pub(crate) trait Arguments {
    /// The next argument as wide as a register: `int`, `long`, a pointer. Upper bits of an `int` are undefined.
    fn word(&mut self, cpu: &dyn Cpu) -> u64;
    /// The next `long long`.
    fn double_word(&mut self, cpu: &dyn Cpu) -> u64;
}

fn read_u32(cpu: &dyn Cpu, address: u64) -> u64 {
    let mut bytes = [0; 4];
    // An unreadable stack gives zeros: the guest's own accesses to it are what faults.
    let _ = cpu.read(address, &mut bytes);
    u64::from(u32::from_le_bytes(bytes))
}

fn read_u64(cpu: &dyn Cpu, address: u64) -> u64 {
    let mut bytes = [0; 8];
    let _ = cpu.read(address, &mut bytes);
    u64::from_le_bytes(bytes)
}

/// Arguments of the call that is being made. x86_64: rdi rsi rdx rcx r8 r9, then the stack above the return address.
/// ARM (AAPCS): r0 to r3, then the stack; 64-bit values take an even pair or an aligned place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallArguments {
    arch: Arch,
    next: u8,
    stack: u64,
}

impl CallArguments {
    /// At the first instruction of the called function.
    pub(crate) fn at_entry(arch: Arch, cpu: &dyn Cpu) -> CallArguments {
        let sp = cpu.get(Register::Sp);
        let stack = match arch {
            Arch::X86_64 => sp.wrapping_add(8),
            Arch::Arm => sp,
        };
        CallArguments { arch, next: 0, stack }
    }
}

impl Arguments for CallArguments {
    fn word(&mut self, cpu: &dyn Cpu) -> u64 {
        let (registers, size) = match self.arch {
            Arch::X86_64 => (6, 8),
            Arch::Arm => (4, 4),
        };
        if self.next < registers {
            self.next += 1;
            return cpu.get(Register::Argument(self.next - 1));
        }
        let at = self.stack;
        self.stack = at.wrapping_add(size);
        if size == 8 { read_u64(cpu, at) } else { read_u32(cpu, at) }
    }

    fn double_word(&mut self, cpu: &dyn Cpu) -> u64 {
        if self.arch == Arch::X86_64 {
            return self.word(cpu);
        }
        self.next += self.next & 1;
        if self.next < 4 {
            self.next += 2;
            return cpu.get(Register::Argument(self.next - 2))
                | cpu.get(Register::Argument(self.next - 1)) << 32;
        }
        let at = self.stack.wrapping_add(7) & !7;
        self.stack = at.wrapping_add(8);
        read_u64(cpu, at)
    }
}

/// A walk over a `va_list` in guest memory, which stays as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum VaList {
    /// x86_64: `{ u32 gp_offset, u32 fp_offset, void *overflow_arg_area, void *reg_save_area }`, passed as a pointer.
    X86_64 {
        /// Next general register in the save area.
        gp_offset: u32,
        /// Next argument on the stack.
        overflow: u64,
        /// Registers saved by the prologue.
        save: u64,
    },
    /// ARM: a plain pointer, passed by value.
    Arm {
        /// Next argument.
        next: u64,
    },
}

impl VaList {
    /// From a `va_list` as it is passed as an argument.
    pub(crate) fn from_argument(arch: Arch, cpu: &dyn Cpu, value: u64) -> VaList {
        match arch {
            Arch::X86_64 => VaList::X86_64 {
                gp_offset: read_u32(cpu, value) as u32,
                overflow: read_u64(cpu, value.wrapping_add(8)),
                save: read_u64(cpu, value.wrapping_add(16)),
            },
            Arch::Arm => VaList::Arm { next: value },
        }
    }

    /// From a pointer to a `va_list`, as `struct va_format` has it.
    pub(crate) fn from_pointer(arch: Arch, cpu: &dyn Cpu, pointer: u64) -> VaList {
        match arch {
            Arch::X86_64 => VaList::from_argument(arch, cpu, pointer),
            Arch::Arm => VaList::Arm { next: read_u32(cpu, pointer) },
        }
    }
}

impl Arguments for VaList {
    fn word(&mut self, cpu: &dyn Cpu) -> u64 {
        match self {
            VaList::X86_64 { gp_offset, overflow, save } => {
                // Six registers of eight bytes.
                if *gp_offset < 48 {
                    let at = save.wrapping_add(u64::from(*gp_offset));
                    *gp_offset += 8;
                    return read_u64(cpu, at);
                }
                let at = *overflow;
                *overflow = at.wrapping_add(8);
                read_u64(cpu, at)
            }
            VaList::Arm { next } => {
                let at = *next;
                *next = at.wrapping_add(4);
                read_u32(cpu, at)
            }
        }
    }

    fn double_word(&mut self, cpu: &dyn Cpu) -> u64 {
        match self {
            VaList::X86_64 { .. } => self.word(cpu),
            VaList::Arm { next } => {
                let at = next.wrapping_add(7) & !7;
                *next = at.wrapping_add(8);
                read_u64(cpu, at)
            }
        }
    }
}

/// Prepares a call into the guest: registers, stack, return address. `sp` is free below; the value of it is rounded
/// as the ABI wants. `None` if the stack cannot be written.
pub(crate) fn enter(
    arch: Arch,
    cpu: &mut dyn Cpu,
    sp: u64,
    function: u64,
    arguments: &[u64],
    return_to: u64,
) -> Option<()> {
    let (registers, size) = match arch {
        Arch::X86_64 => (6, 8),
        Arch::Arm => (4, 4),
    };
    let on_stack = arguments.get(registers..).unwrap_or_default();
    let mut sp = sp.wrapping_sub(on_stack.len() as u64 * size) & !15;
    for (n, &value) in (0_u64..).zip(on_stack) {
        cpu.write(sp.wrapping_add(n * size), value.to_le_bytes().get(..size as usize)?).ok()?;
    }
    for (n, &value) in (0_u8..).zip(arguments.iter().take(registers)) {
        cpu.set(Register::Argument(n), value);
    }
    match arch {
        Arch::X86_64 => {
            sp = sp.wrapping_sub(8);
            cpu.write(sp, &return_to.to_le_bytes()).ok()?;
            cpu.set(Register::Pc, function);
        }
        Arch::Arm => {
            cpu.set(Register::Link, return_to);
            const THUMB: u64 = 1 << 5;
            let flags = cpu.get(Register::Flags) & !THUMB;
            cpu.set(Register::Flags, if function & 1 != 0 { flags | THUMB } else { flags });
            cpu.set(Register::Pc, function & !1);
        }
    }
    cpu.set(Register::Sp, sp);
    Some(())
}

/// Returns from the function at whose first instruction the processor stands.
pub(crate) fn leave(arch: Arch, cpu: &mut dyn Cpu, value: u64) {
    cpu.set(Register::Return, value);
    if arch == Arch::Arm {
        cpu.set(Register::ReturnHigh, value >> 32);
    }
    leave_without_value(arch, cpu);
}

/// The same without a return value: no register changes but the stack and program counter.
pub(crate) fn leave_without_value(arch: Arch, cpu: &mut dyn Cpu) {
    match arch {
        Arch::X86_64 => {
            let sp = cpu.get(Register::Sp);
            cpu.set(Register::Pc, read_u64(cpu, sp));
            cpu.set(Register::Sp, sp.wrapping_add(8));
        }
        Arch::Arm => {
            const THUMB: u64 = 1 << 5;
            let link = cpu.get(Register::Link);
            let flags = cpu.get(Register::Flags) & !THUMB;
            cpu.set(Register::Flags, if link & 1 != 0 { flags | THUMB } else { flags });
            cpu.set(Register::Pc, link & !1);
        }
    }
}

/// Where the function at whose first instruction the processor stands was called from: the return address.
pub(crate) fn caller(arch: Arch, cpu: &dyn Cpu) -> u64 {
    match arch {
        Arch::X86_64 => read_u64(cpu, cpu.get(Register::Sp)),
        Arch::Arm => cpu.get(Register::Link) & !1,
    }
}

#[cfg(test)]
mod tests {
    use lkm_link::Arch;

    use crate::testing::Guest;

    const FORMAT: &str = "%d %llx %s %u %llx %c %ld %llx %d";
    const EXPECTED: &str = "-1 1122334455667788 text 2 99aabbccddeeff00 c 3 102030405060708 -4";

    fn run(arch: Arch, which: u64) -> (u64, String) {
        Guest::new(arch).run(which, FORMAT, "%d<%pV|%pV>%d", None)
    }

    #[test]
    fn arguments_of_every_width_in_registers_and_on_the_stack() {
        for arch in [Arch::X86_64, Arch::Arm] {
            assert_eq!(run(arch, 0), (EXPECTED.len() as u64, EXPECTED.to_owned()), "{arch:?}");
        }
    }

    #[test]
    fn a_list_of_arguments() {
        for arch in [Arch::X86_64, Arch::Arm] {
            assert_eq!(run(arch, 1), (EXPECTED.len() as u64, EXPECTED.to_owned()), "{arch:?}");
        }
    }

    #[test]
    fn a_format_in_a_format_is_not_used_up() {
        let expected = format!("7<{EXPECTED}|{EXPECTED}>8");
        for arch in [Arch::X86_64, Arch::Arm] {
            assert_eq!(run(arch, 2), (expected.len() as u64, expected.clone()), "{arch:?}");
        }
    }
}
